//! Protocols: what they are told, in which order, and what they may do meanwhile.

use std::cell::RefCell;
use std::rc::Rc;

use evloop::{BufferedProtocol, Protocol, Transport, get_running_loop};

use crate::cast::What::{Data, Eof, Lost, Made, Pause, Resume};
use crate::cast::{Actor, Buffered, End, Streams};
use crate::common::trace::Trace;
use crate::net::{Net, Side, Terms, read};
use crate::worlds::everywhere;

/// A connection of this actor with streams that write `message` and close when they have read the
/// end, and go on until the actor's connection is lost.
async fn told(net: &Net, actor: Actor, message: &'static [u8]) {
    let (_transport, there) = net.link(actor, Streams::default()).await;
    let peer = net.there(async move {
        let End { mut reader, writer } = there;
        writer.write(message);
        drop(reader.read_to_end(None).await);
        writer.close();
    });
    net.trace().until("we lost: None").await;
    peer.await;
}

/// The same with streams that write `message` and close at once.
async fn told_and_left(net: &Net, actor: Actor, message: &'static [u8]) {
    let (_transport, there) = net.link(actor, Streams::default()).await;
    let peer = net.there(async move {
        there.writer.write(message);
        there.writer.close();
        there
    });
    net.trace().until("we lost: None").await;
    drop(peer.await);
}

#[test]
fn a_connection_is_made_brings_bytes_ends_and_is_lost() {
    let story = ["we made", "we \"hello\"", "we eof", "we lost: None"];
    everywhere(&story, async |net| {
        told_and_left(&net, Actor::new(&net, "we"), b"hello").await;
    });
}

#[test]
fn a_buffered_protocol_is_told_the_same() {
    let story = ["we made", "we \"hello\"", "we eof", "we lost: None"];
    everywhere(&story, async |net| {
        // Its buffer is smaller than what comes.
        let role = Buffered::new(Actor::new(&net, "we"), 2);
        let (_transport, there) = net.link(role, Streams::default()).await;
        net.there(async move {
            there.writer.write(b"hello");
            there.writer.close();
        })
        .await;
        net.trace().until("we lost: None").await;
    });
}

#[test]
fn connection_made_comes_before_the_connect_returns_and_bytes_come_after_it() {
    let story = ["we made", "soon", "returned", "we \"hello\""];
    everywhere(&story, async |net| {
        let greet = {
            let net = net.clone();
            move || Actor::new(&net, "they").on(Made, |transport| transport.write(b"hello"))
        };
        let served = net.serve(Side::There, Terms::default(), greet).await;
        let trace = net.trace().clone();
        let actor = Actor::new(&net, "we").enough(5).on(Made, move |_| {
            let trace = trace.clone();
            let handle = get_running_loop().unwrap();
            drop(handle.call_soon(move || trace.say("soon")));
        });
        let connection = net.connect(&served.address, || actor).await.unwrap();
        net.say("returned");
        net.trace().until("we \"hello\"").await;
        drop(connection);
        net.forget("they made");
    });
}

#[test]
fn true_from_eof_received_keeps_our_half_open() {
    let story = [
        "we made",
        "we \"hello\"",
        "we eof",
        "we lost: None",
        "\"bye\"",
    ];
    everywhere(&story, async |net| {
        let actor = Actor::new(&net, "we").keeping_open().on(Eof, |transport| {
            let transport = transport.clone();
            let handle = get_running_loop().unwrap();
            drop(handle.call_soon(move || {
                transport.write(b"bye");
                transport.close();
            }));
        });
        let (_transport, there) = net.link(actor, Streams::default()).await;
        let got = net.there(async move {
            let End { mut reader, writer } = there;
            writer.write(b"hello");
            writer.write_eof().unwrap();
            reader.read_to_end(None).await
        });
        net.trace().until("we lost: None").await;
        net.say(read(got.await));
    });
}

#[test]
fn false_from_eof_received_sends_what_was_written_and_closes() {
    let story = ["we made", "we eof", "we lost: None", "\"written before\""];
    everywhere(&story, async |net| {
        let actor = Actor::new(&net, "we").on(Eof, |transport| transport.write(b"written before"));
        let (_transport, there) = net.link(actor, Streams::default()).await;
        let got = net.there(async move {
            let End { mut reader, writer } = there;
            writer.write_eof().unwrap();
            reader.read_to_end(None).await
        });
        net.trace().until("we lost: None").await;
        net.say(read(got.await));
    });
}

#[test]
fn close_in_connection_made() {
    everywhere(&["we made", "we lost: None"], async |net| {
        told(
            &net,
            Actor::new(&net, "we").on(Made, Transport::close),
            b"never read",
        )
        .await;
    });
}

#[test]
fn close_in_data_received() {
    everywhere(&["we made", "we \"x\"", "we lost: None"], async |net| {
        told(
            &net,
            Actor::new(&net, "we").enough(1).on(Data, Transport::close),
            b"x",
        )
        .await;
    });
}

#[test]
fn close_in_eof_received() {
    everywhere(
        &["we made", "we \"x\"", "we eof", "we lost: None"],
        async |net| {
            let actor = Actor::new(&net, "we")
                .keeping_open()
                .on(Eof, Transport::close);
            told_and_left(&net, actor, b"x").await;
        },
    );
}

#[test]
fn close_and_abort_in_connection_lost() {
    everywhere(&["we made", "we eof", "we lost: None"], async |net| {
        let actor = Actor::new(&net, "we").on(Lost, |transport| {
            transport.write(b"late");
            transport.close();
            transport.abort();
            transport.resume_reading();
        });
        told_and_left(&net, actor, b"").await;
        net.settle().await;
    });
}

/// Writes more than the system takes to a peer that then reads it all; the scene is played at
/// `pause` or `resume`.
async fn under_pressure(net: &Net, actor: Actor, last: &str) {
    let (transport, there) = net.link(actor, Streams::default()).await;
    transport.write(vec![1; net.plenty()]);
    net.trace().until("we pause").await;
    let peer = net.there(async move {
        let mut there = there;
        drop(there.reader.read_to_end(None).await);
    });
    net.trace().until(last).await;
    transport.close();
    net.trace().until("we lost: None").await;
    peer.await;
}

#[test]
fn pressure_is_told_once_and_its_end_once() {
    everywhere(
        &["we made", "we pause", "we resume", "we lost: None"],
        async |net| {
            under_pressure(&net, Actor::new(&net, "we"), "we resume").await;
        },
    );
}

#[test]
fn close_in_pause_writing_sends_what_was_written() {
    everywhere(
        &["we made", "we pause", "we resume", "we lost: None"],
        async |net| {
            let actor = Actor::new(&net, "we").on(Pause, Transport::close);
            under_pressure(&net, actor, "we lost: None").await;
        },
    );
}

#[test]
fn close_in_resume_writing() {
    everywhere(
        &["we made", "we pause", "we resume", "we lost: None"],
        async |net| {
            let actor = Actor::new(&net, "we").on(Resume, Transport::close);
            under_pressure(&net, actor, "we lost: None").await;
        },
    );
}

#[test]
fn write_in_resume_writing_pauses_again() {
    let story = [
        "we made",
        "we pause",
        "we resume",
        "we pause",
        "we resume",
        "we lost: None",
    ];
    everywhere(&story, async |net| {
        let again = RefCell::new(Some(vec![2; net.plenty()]));
        let actor = Actor::new(&net, "we").on(Resume, move |transport| match again.take() {
            Some(more) => transport.write(more),
            None => transport.close(),
        });
        under_pressure(&net, actor, "we lost: None").await;
    });
}

#[test]
fn abort_in_data_received() {
    everywhere(&["we made", "we \"x\"", "we lost: None"], async |net| {
        told(
            &net,
            Actor::new(&net, "we").enough(1).on(Data, Transport::abort),
            b"x",
        )
        .await;
    });
}

#[test]
fn abort_in_pause_writing() {
    everywhere(&["we made", "we pause", "we lost: None"], async |net| {
        let actor = Actor::new(&net, "we").on(Pause, Transport::abort);
        under_pressure(&net, actor, "we lost: None").await;
    });
}

#[test]
fn connection_lost_is_told_by_the_loop_and_not_by_close() {
    everywhere(
        &["we made", "closing", "closed", "we lost: None"],
        async |net| {
            let (transport, there) = net.link(Actor::new(&net, "we"), Streams::default()).await;
            net.say("closing");
            transport.close();
            transport.close();
            transport.abort();
            net.say("closed");
            net.trace().until("we lost: None").await;
            drop(there);
        },
    );
}

#[test]
fn nothing_is_received_while_reading_is_paused() {
    let story = [
        "we made",
        "false",
        "resumed",
        "we \"hello\"",
        "we eof",
        "we lost: None",
    ];
    everywhere(&story, async |net| {
        let actor = Actor::new(&net, "we").on(Made, Transport::pause_reading);
        let (transport, there) = net.link(actor, Streams::default()).await;
        let peer = net.there(async move {
            there.writer.write(b"hello");
            there.writer.close();
            there
        });
        net.settle().await;
        net.say(transport.is_reading().to_string());
        net.say("resumed");
        transport.resume_reading();
        net.trace().until("we lost: None").await;
        drop(peer.await);
    });
}

#[test]
fn pausing_twice_is_pausing_once() {
    everywhere(&["we made", "false", "true", "we \"x\""], async |net| {
        let actor = Actor::new(&net, "we").enough(1);
        let (transport, there) = net.link(actor, Streams::default()).await;
        transport.pause_reading();
        transport.pause_reading();
        net.say(transport.is_reading().to_string());
        transport.resume_reading();
        net.say(transport.is_reading().to_string());
        let there = net.there(async move {
            there.writer.write(b"x");
            there
        });
        net.trace().until("we \"x\"").await;
        drop(there.await);
    });
}

#[test]
fn pausing_after_each_message_keeps_the_next_one_back() {
    let story = ["we made", "we \"a\"", "we \"b\"", "we eof", "we lost: None"];
    everywhere(&story, async |net| {
        let actor = Actor::new(&net, "we").enough(1).on(Data, |transport| {
            transport.pause_reading();
            let transport = transport.clone();
            let handle = get_running_loop().unwrap();
            drop(handle.call_soon(move || transport.resume_reading()));
        });
        let (_transport, there) = net.link(actor, Streams::default()).await;
        let trace = net.trace().clone();
        let peer = net.there(async move {
            there.writer.write(b"a");
            trace.until("we \"a\"").await;
            there.writer.write(b"b");
            there.writer.close();
            there
        });
        net.trace().until("we lost: None").await;
        drop(peer.await);
    });
}

#[test]
fn bytes_go_to_the_protocol_that_was_set_while_others_were_received() {
    let story = [
        "we made",
        "we \"a\"",
        "next \"b\"",
        "next eof",
        "next lost: None",
    ];
    everywhere(&story, async |net| {
        let next = Rc::new(RefCell::new(Actor::new(&net, "next")));
        let actor = Actor::new(&net, "we").enough(1).on(Data, move |transport| {
            transport.set_protocol(next.clone());
        });
        let (_transport, there) = net.link(actor, Streams::default()).await;
        let trace = net.trace().clone();
        let peer = net.there(async move {
            there.writer.write(b"a");
            trace.until("we \"a\"").await;
            there.writer.write(b"b");
            there.writer.close();
            there
        });
        net.trace().until("next lost: None").await;
        drop(peer.await);
    });
}

#[test]
fn a_buffered_protocol_may_follow_a_plain_one() {
    let story = [
        "we made",
        "we \"a\"",
        "next \"bcd\"",
        "next eof",
        "next lost: None",
    ];
    everywhere(&story, async |net| {
        let next = Buffered::new(Actor::new(&net, "next"), 2);
        let next = Rc::new(RefCell::new(next));
        let actor = Actor::new(&net, "we").enough(1).on(Data, move |transport| {
            transport.set_protocol(next.clone());
        });
        let (_transport, there) = net.link(actor, Streams::default()).await;
        let trace = net.trace().clone();
        let peer = net.there(async move {
            there.writer.write(b"a");
            trace.until("we \"a\"").await;
            there.writer.write(b"bcd");
            there.writer.close();
            there
        });
        net.trace().until("next lost: None").await;
        drop(peer.await);
    });
}

#[test]
fn get_protocol_is_the_one_that_was_set() {
    everywhere(&["the second", "none"], async |net| {
        let (transport, there) = net.link(Actor::new(&net, "we"), Streams::default()).await;
        let second: Rc<RefCell<dyn Protocol>> = Rc::new(RefCell::new(Actor::new(&net, "second")));
        transport.set_protocol(second.clone());
        let same = transport
            .get_protocol()
            .is_some_and(|now| Rc::ptr_eq(&now, &second));
        net.forget("we made");
        net.say(if same { "the second" } else { "another" });
        drop(second);
        transport.close();
        net.trace().until("second lost: None").await;
        net.settle().await;
        net.forget("second lost: None");
        net.say(transport.get_protocol().map_or("none", |_| "some"));
        drop(there);
    });
}

/// The line of a report, without what differs by the message.
const FATAL: &str = "we lost: Other";

#[test]
fn a_panic_in_data_received_is_reported_and_ends_the_connection() {
    let report = "report: Fatal error: protocol.data_received() call failed.";
    everywhere(&["we made", "we \"x\"", report, FATAL], async |net| {
        let actor = Actor::new(&net, "we")
            .enough(1)
            .on(Data, |_| panic!("on purpose"));
        fails(&net, actor).await;
    });
}

#[test]
fn a_panic_in_eof_received_is_reported_and_ends_the_connection() {
    let report = "report: Fatal error: protocol.eof_received() call failed.";
    everywhere(
        &["we made", "we \"x\"", "we eof", report, FATAL],
        async |net| {
            let actor = Actor::new(&net, "we")
                .enough(1)
                .on(Eof, |_| panic!("on purpose"));
            fails(&net, actor).await;
        },
    );
}

#[test]
fn a_panic_in_connection_lost_is_reported() {
    let report = "report: Fatal error: protocol.connection_lost() call failed.";
    everywhere(
        &["we made", "we \"x\"", "we eof", "we lost: None", report],
        async |net| {
            let actor = Actor::new(&net, "we")
                .enough(1)
                .on(Lost, |_| panic!("on purpose"));
            let (_transport, there) = net.link(actor, Streams::default()).await;
            let peer = net.there(async move {
                there.writer.write(b"x");
                there.writer.close();
                there
            });
            net.trace().until(report).await;
            drop(peer.await);
        },
    );
}

#[test]
fn a_buffer_without_room_ends_the_connection() {
    let report = "report: Fatal error: protocol.get_buffer() call failed.";
    everywhere(&["we made", report, FATAL], async |net| {
        let role = Buffered::new(Actor::new(&net, "we"), 0);
        let (_transport, there) = net.link(role, Streams::default()).await;
        let peer = net.there(async move {
            there.writer.write(b"x");
            there
        });
        net.trace().until(FATAL).await;
        drop(peer.await);
    });
}

async fn fails(net: &Net, actor: Actor) {
    let (_transport, there) = net.link(actor, Streams::default()).await;
    let peer = net.there(async move {
        there.writer.write(b"x");
        there.writer.close();
        there
    });
    net.trace().until(FATAL).await;
    drop(peer.await);
}

#[test]
fn a_panic_in_pause_writing_is_reported_and_the_connection_goes_on() {
    let story = [
        "we made",
        "we pause",
        "report: protocol.pause_writing() failed",
        "we resume",
        "we lost: None",
    ];
    everywhere(&story, async |net| {
        let actor = Actor::new(&net, "we").on(Pause, |_| panic!("on purpose"));
        under_pressure(&net, actor, "we resume").await;
    });
}

#[test]
fn a_buffered_protocol_gets_all_of_much() {
    everywhere(&["everything came"], async |net| {
        let plenty = net.plenty();
        let role = Counting {
            trace: net.trace().clone(),
            buffer: vec![0; 10_000],
            left: plenty,
        };
        let served = net.serve(Side::Here, Terms::default(), once(role)).await;
        let other = net.clone();
        let sent = net.there(async move {
            let connection = other.connect(&served.address, || Idle).await.unwrap();
            connection.0.write(vec![1; plenty]);
            connection.0.close();
            connection
        });
        net.trace().until("everything came").await;
        drop(sent.await);
    });
}

fn once<P>(protocol: P) -> impl FnMut() -> P {
    let mut protocol = Some(protocol);
    move || protocol.take().expect("one connection only")
}

struct Idle;

impl Protocol for Idle {}

struct Counting {
    trace: Trace,
    buffer: Vec<u8>,
    left: usize,
}

impl BufferedProtocol for Counting {
    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, nbytes: usize) {
        self.left -= nbytes;
        if self.left == 0 {
            self.trace.say("everything came");
        }
    }
}
