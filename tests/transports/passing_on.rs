//! Bytes that a protocol writes on as they came: they are sent from where they were received, and
//! nobody can tell.

use std::cell::RefCell;
use std::rc::Rc;

use evloop::{EventLoop, Transport};

use crate::common::trace::Trace;
use crate::common::{in_thread, pattern, run};
use crate::probe::{Call, Probe, block, connected};

/// A probe that does something with what comes, once.
fn once(trace: &Trace, mut write: impl FnMut(&Transport, &[u8]) + 'static) -> Probe {
    Probe::new(trace).doing(move |call, transport| {
        if let Call::Data(data) = call {
            write(transport, data);
        }
    })
}

#[test]
fn they_arrive_whole_and_in_their_place() {
    type Write = fn(&Transport, &[u8]);
    let writes: [(&str, Write, String); 9] = [
        ("alone", |to, data| to.write(data), "hello".into()),
        (
            "before more",
            |to, data| {
                to.write(data);
                to.write(b"");
                to.write(b"!");
            },
            "hello!".into(),
        ),
        (
            "behind something",
            |to, data| {
                to.write(b"<");
                to.try_write(data).unwrap();
            },
            "<hello".into(),
        ),
        (
            "twice",
            |to, data| {
                to.write(data);
                to.write(data);
            },
            "hellohello".into(),
        ),
        (
            "in parts, the last one first",
            |to, data| {
                to.write(&data[3..]);
                to.write(&data[..3]);
            },
            "lohel".into(),
        ),
        (
            "before a vector that is given away",
            |to, data| {
                to.write(data);
                to.write(vec![b'-'; 600]);
            },
            format!("hello{}", "-".repeat(600)),
        ),
        (
            "behind a vector that is given away",
            |to, data| {
                to.write(vec![b'-'; 600]);
                to.write(data);
            },
            format!("{}hello", "-".repeat(600)),
        ),
        (
            "before more than leaves without a copy",
            |to, data| {
                to.write(data);
                to.write(&[b'-'; 70_000]);
            },
            format!("hello{}", "-".repeat(70_000)),
        ),
        (
            "among lines",
            |to, data| to.writelines([data, b", ", &data[..4]]),
            "hello, hell".into(),
        ),
    ];
    for (name, write, expected) in writes {
        run(async move {
            let (_transport, peer) = connected(once(&Trace::default(), write)).await;
            peer.send(b"hello");
            let (peer, received) = in_thread(move || {
                let received = peer.receive(expected.len());
                (peer, received == expected.as_bytes())
            })
            .await;
            assert!(received, "{name}");
            peer.send(b"bye");
        });
    }
}

#[test]
fn whoever_asks_where_they_are_sends_them_first() {
    type Ask = fn(&Transport);
    let ask: [(&str, Ask); 6] = [
        ("get_write_buffer_size", |transport| {
            assert_eq!(transport.get_write_buffer_size(), 0);
            transport.close();
        }),
        ("set_write_buffer_limits", |transport| {
            transport.set_write_buffer_limits(0, None).unwrap();
            transport.close();
        }),
        ("write_eof", |transport| transport.write_eof().unwrap()),
        ("close", Transport::close),
        ("abort", Transport::abort),
        ("a panic", |_| panic!("expected")),
    ];
    for (name, ask) in ask {
        run(async move {
            let trace = Trace::default();
            trace.catch_reports();
            let probe = once(&trace, move |transport, data| {
                transport.write(data);
                ask(transport);
            });
            let (_transport, peer) = connected(probe).await;
            peer.send(b"hello");
            let received = in_thread(move || {
                let received = peer.receive(5);
                peer.finish();
                received
            });
            assert_eq!(received.await, b"hello", "{name}");
            let lost = if name == "a panic" {
                "lost Other"
            } else {
                "lost"
            };
            trace.until(lost).await;
        });
    }
}

#[test]
fn above_the_mark_they_are_sent_at_once() {
    run(async {
        let trace = Trace::default();
        let probe = once(&trace, |transport, data| {
            transport.write(data);
            assert_eq!(transport.get_write_buffer_size(), 0);
        });
        let (transport, peer) = connected(probe).await;
        transport.set_write_buffer_limits(1, None).unwrap();
        peer.send(b"hello");
        assert_eq!(in_thread(move || peer.receive(5)).await, b"hello");
        assert!(!trace.has("pause"));
    });
}

#[test]
fn behind_a_backlog_they_wait_their_turn() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(once(&trace, |to, data| to.write(data))).await;
        transport.write(b"first");
        let waiting = block(&transport);
        peer.send(b"hello");
        trace.until("data hello").await;
        assert_eq!(transport.get_write_buffer_size(), waiting + 5);
        transport.close();
        let received = in_thread(move || peer.receive_all()).await;
        assert!(received.starts_with(b"first-"));
        assert!(received.ends_with(b"-hello"));
    });
}

#[test]
fn what_the_system_does_not_take_is_kept() {
    run(async {
        let (_transport, peer) =
            connected(once(&Trace::default(), |to, data| to.write(data))).await;
        let sent = pattern(16 << 20);
        let equal = in_thread(move || {
            // The peer receives nothing until it has sent everything.
            peer.send(&sent);
            peer.receive(sent.len()) == sent
        });
        assert!(equal.await);
    });
}

#[test]
fn they_may_go_to_another_transport() {
    run(async {
        let (other, other_peer) = connected(Probe::new(&Trace::default())).await;
        let probe = once(&Trace::default(), move |transport, data| {
            other.write(data);
            transport.write(&data[1..]);
            other.write(b"!");
        });
        let (_transport, peer) = connected(probe).await;
        peer.send(b"hello");
        let received = in_thread(move || (peer.receive(4), other_peer.receive(6)));
        let (back, on) = received.await;
        assert_eq!(back, b"ello");
        assert_eq!(on, b"hello!");
    });
}

#[test]
fn they_may_go_to_a_transport_of_another_loop() {
    let mut idle = EventLoop::new().unwrap();
    let (other, other_peer) = idle.run_until_complete(connected(Probe::new(&Trace::default())));
    run(async {
        let probe = once(&Trace::default(), move |_, data| other.write(data));
        let (_transport, peer) = connected(probe).await;
        peer.send(b"hello");
        assert_eq!(in_thread(move || other_peer.receive(5)).await, b"hello");
    });
}

#[test]
fn they_are_gone_with_a_connection_that_is_lost_in_the_same_step() {
    run(async {
        let trace = Trace::default();
        let kept: Rc<RefCell<Option<Transport>>> = Rc::default();
        let husk = Rc::clone(&kept);
        let probe = once(&trace, move |transport, data| {
            transport.abort();
            transport.write(data);
            *husk.borrow_mut() = Some(transport.clone());
        });
        let (_transport, peer) = connected(probe).await;
        peer.send(b"hello");
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
        trace.until("lost").await;
        let husk = kept.take().unwrap();
        assert_eq!(husk.get_write_buffer_size(), 0);
    });
}
