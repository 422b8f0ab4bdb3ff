//! The marks of flow control.

use crate::cast::What::Made;
use crate::cast::{Actor, Streams};
use crate::net::{Net, outcome};
use crate::worlds::everywhere;
use evloop::Transport;

#[test]
fn the_marks_follow_one_another() {
    let story = [
        "(16384, 65536)",
        "ok (25, 100)",
        "ok (10, 40)",
        "ok (0, 0)",
        "InvalidInput (0, 0)",
        "ok (16384, 65536)",
    ];
    everywhere(&story, async |net| {
        let (here, there) = net.streams().await;
        let transport = here.writer.transport();
        net.say(format!("{:?}", transport.get_write_buffer_limits()));
        let limits: [(Option<usize>, Option<usize>); 5] = [
            (Some(100), None),
            (None, Some(10)),
            (Some(0), None),
            (Some(10), Some(11)),
            (None, None),
        ];
        for (high, low) in limits {
            let set = outcome(transport.set_write_buffer_limits(high, low));
            net.say(format!("{set} {:?}", transport.get_write_buffer_limits()));
        }
        drop(there);
    });
}

/// A connection that is full, with a peer that does not read; and how much waits.
async fn full(net: &Net, marks: (Option<usize>, Option<usize>)) -> (Transport, Transport, usize) {
    let peer = Actor::new(net, "they").on(Made, Transport::pause_reading);
    let (transport, there) = net.link(Actor::new(net, "we"), peer).await;
    net.forget("they made");
    // The last of a handshake may still be waiting.
    net.settle().await;
    transport.set_write_buffer_limits(marks.0, marks.1).unwrap();
    transport.write(vec![1; net.plenty()]);
    net.settle().await;
    let waiting = transport.get_write_buffer_size();
    assert!(waiting > 0, "the system takes everything");
    (transport, there, waiting)
}

#[test]
fn as_much_as_the_mark_does_not_pause_and_more_does() {
    let story = [
        "we made",
        "we pause",
        "we resume",
        "at the mark",
        "above it",
        "we pause",
    ];
    everywhere(&story, async |net| {
        let (transport, _there, waiting) = full(&net, (None, None)).await;
        // Raising the marks ends the pause.
        transport
            .set_write_buffer_limits(2 * waiting, waiting)
            .unwrap();
        net.trace().until("we resume").await;
        transport.set_write_buffer_limits(waiting, 0).unwrap();
        net.settle().await;
        net.say("at the mark");
        net.settle().await;
        net.say("above it");
        transport.write(b"x");
        net.trace().until_count("we pause", 2).await;
    });
}

#[test]
fn lowering_the_marks_below_what_waits_pauses_from_the_queue() {
    let story = [
        "we made",
        "we pause",
        "we resume",
        "lowered",
        "we pause",
        "raised",
        "we resume",
    ];
    everywhere(&story, async |net| {
        let (transport, _there, waiting) = full(&net, (None, None)).await;
        transport.set_write_buffer_limits(waiting, waiting).unwrap();
        net.trace().until("we resume").await;
        transport
            .set_write_buffer_limits(waiting - 1, None)
            .unwrap();
        net.say("lowered");
        net.trace().until_count("we pause", 2).await;
        transport.set_write_buffer_limits(waiting, waiting).unwrap();
        net.say("raised");
        net.trace().until_count("we resume", 2).await;
    });
}

#[test]
fn with_marks_of_zero_every_byte_that_waits_pauses() {
    everywhere(&["we made", "we pause", "we resume", "0"], async |net| {
        let (transport, there, _) = full(&net, (Some(0), None)).await;
        net.there(async move { there.resume_reading() }).await;
        net.trace().until("we resume").await;
        net.say(transport.get_write_buffer_size().to_string());
    });
}

#[test]
fn what_waits_is_dropped_by_an_abort() {
    everywhere(
        &["we made", "we pause", "we lost: None", "0"],
        async |net| {
            let (transport, _there, _) = full(&net, (None, None)).await;
            transport.abort();
            net.trace().until("we lost: None").await;
            net.say(transport.get_write_buffer_size().to_string());
            net.forget("they lost: None");
            net.forget("they eof");
            net.forget("they lost: truncated");
        },
    );
}

#[test]
fn a_close_under_pressure_waits_until_everything_is_sent() {
    let story = [
        "we made",
        "we pause",
        "closing",
        "we resume",
        "we lost: None",
    ];
    everywhere(&story, async |net| {
        let peer = Actor::new(&net, "they").on(Made, Transport::pause_reading);
        let (transport, there) = net.link(Actor::new(&net, "we"), peer).await;
        for line in ["they made", "they eof", "they lost: None"] {
            net.forget(line);
        }
        net.forget(&format!("they {} bytes", net.plenty()));
        transport.write(vec![1; net.plenty()]);
        net.trace().until("we pause").await;
        transport.close();
        net.settle().await;
        net.say("closing");
        net.there(async move { there.resume_reading() }).await;
        net.trace().until("we lost: None").await;
        net.trace().until("they lost: None").await;
    });
}

#[test]
fn a_small_write_is_soon_sent() {
    everywhere(&["0"], async |net| {
        let (here, there) = net.link(Streams::default(), Streams::default()).await;
        here.writer.write(b"x");
        net.settle().await;
        net.say(here.writer.transport().get_write_buffer_size().to_string());
        drop(there);
    });
}
