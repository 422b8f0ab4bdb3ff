//! Reading: pausing and resuming, and changing the protocol.

use std::cell::RefCell;
use std::rc::Rc;

use evloop::{Protocol, Transport, get_running_loop};

use crate::common::trace::Trace;
use crate::common::{Peer, run, turns};
use crate::probe::{Call, Probe, connected};

/// A connection whose bytes come after those that were sent elsewhere before: when they are
/// here, the others could be.
struct Witness {
    trace: Trace,
    transport: Transport,
    peer: Peer,
}

impl Witness {
    async fn new() -> Self {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        Self {
            trace,
            transport,
            peer,
        }
    }

    async fn testify(&self) {
        let before = self.trace.count("data w");
        self.peer.send(b"w");
        self.trace.until_count("data w", before + 1).await;
        assert!(self.transport.is_reading());
        turns(2).await;
    }
}

#[test]
fn what_is_sent_while_reading_is_paused_is_delivered_on_resume() {
    run(async {
        let trace = Trace::default();
        let witness = Witness::new().await;
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.pause_reading();
        transport.pause_reading();
        assert!(!transport.is_reading());
        peer.send(b"abc");
        witness.testify().await;
        assert_eq!(trace, ["made"]);
        transport.resume_reading();
        transport.resume_reading();
        assert!(transport.is_reading());
        assert_eq!(trace, ["made"], "not inside resume_reading");
        trace.until("data abc").await;
        // No second edge was needed for what comes later.
        peer.send(b"def");
        trace.until("data def").await;
        assert_eq!(trace, ["made", "data abc", "data def"]);
    });
}

#[test]
fn reading_paused_in_connection_made_stays_paused() {
    run(async {
        let trace = Trace::default();
        let witness = Witness::new().await;
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Made = call {
                transport.pause_reading();
            }
        });
        let (transport, peer) = connected(probe).await;
        assert!(!transport.is_reading());
        peer.send(b"abc");
        witness.testify().await;
        assert_eq!(trace, ["made"]);
        transport.resume_reading();
        trace.until("data abc").await;
    });
}

#[test]
fn reading_paused_and_resumed_in_connection_made_goes_on() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Made = call {
                transport.pause_reading();
                transport.resume_reading();
            }
        });
        let (_transport, peer) = connected(probe).await;
        peer.send(b"abc");
        trace.until("data abc").await;
        assert_eq!(trace, ["made", "data abc"]);
    });
}

#[test]
fn pause_inside_data_received_stops_before_the_next_chunk() {
    run(async {
        let trace = Trace::default();
        let witness = Witness::new().await;
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Data(_) = call {
                transport.pause_reading();
            }
        });
        let (transport, peer) = connected(probe).await;
        let sent = peer.fill();
        assert!(sent > 256 * 1024, "more than one read takes");
        trace.until("data").await;
        witness.testify().await;
        assert_eq!(trace, ["made", "data"]);
        transport.resume_reading();
        trace.until_count("data", 2).await;
    });
}

#[test]
fn the_end_is_seen_after_resume_and_once() {
    run(async {
        let trace = Trace::default();
        let witness = Witness::new().await;
        let (transport, peer) = connected(Probe::new(&trace).keeping_open()).await;
        transport.pause_reading();
        peer.send(b"abc");
        peer.finish();
        witness.testify().await;
        assert_eq!(trace, ["made"]);
        transport.resume_reading();
        trace.until("eof").await;
        assert!(transport.is_reading());
        transport.pause_reading();
        assert!(!transport.is_reading());
        transport.resume_reading();
        witness.testify().await;
        assert_eq!(trace, ["made", "data abc", "eof"]);
        transport.close();
        trace.until("lost").await;
    });
}

#[test]
fn resume_reading_again_and_again_does_not_read_more_often() {
    run(async {
        let trace = Trace::default();
        let turn = Trace::default();
        let probe = {
            let turn = turn.clone();
            Probe::new(&trace).doing(move |call, transport| match call {
                Call::Made => transport.pause_reading(),
                Call::Data(_) => {
                    turn.say("read");
                    for _ in 0..3 {
                        transport.pause_reading();
                        transport.resume_reading();
                    }
                }
                _ => {}
            })
        };
        let (transport, peer) = connected(probe).await;
        let sent = peer.fill();
        assert!(sent >= 1 << 20, "several reads' worth, not {sent}");
        let tick = turn.clone();
        let ticks = get_running_loop().unwrap().create_task(async move {
            loop {
                tick.say("turn");
                turns(1).await;
            }
        });
        transport.resume_reading();
        turn.until_count("read", 4).await;
        ticks.cancel();
        let most = turn
            .lines()
            .split(|line| line == "turn")
            .map(<[String]>::len)
            .max();
        // One for an event, one for having stopped early in the turn before.
        assert!(most <= Some(2), "{turn:?}");
    });
}

#[test]
fn set_protocol_inside_data_received_gives_the_next_chunk_to_the_new_one() {
    struct Old {
        trace: Trace,
        next: Option<Rc<RefCell<dyn Protocol>>>,
        transport: Option<Transport>,
    }
    impl Protocol for Old {
        fn connection_made(&mut self, transport: Transport) {
            self.transport = Some(transport);
        }
        fn data_received(&mut self, data: &[u8]) {
            let transport = self.transport.clone().unwrap();
            transport.set_protocol(self.next.take().unwrap());
            // We are still here, and our fields are.
            self.trace.say(format!("old {}", data.escape_ascii()));
        }
    }
    impl Drop for Old {
        fn drop(&mut self) {
            self.trace.say("old dropped");
        }
    }
    run(async {
        let trace = Trace::default();
        let (listener, address) = crate::common::listener();
        let old = Old {
            trace: trace.clone(),
            next: None,
            transport: None,
        };
        let (transport, old) = evloop::create_connection(|| old, address).await.unwrap();
        let peer = Peer::accept(&listener);
        let new = Rc::new(RefCell::new(
            Probe::new(&trace).named("new ").on(&transport),
        ));
        let new: Rc<RefCell<dyn Protocol>> = new;
        old.borrow_mut().next = Some(Rc::clone(&new));
        drop(old);
        peer.send(b"1");
        trace.until("old dropped").await;
        assert!(Rc::ptr_eq(&transport.get_protocol().unwrap(), &new));
        peer.send(b"2");
        trace.until("new data 2").await;
        transport.close();
        trace.until("new lost").await;
        assert!(transport.get_protocol().is_none());
        // No connection_made for the new one.
        assert_eq!(trace, ["old 1", "old dropped", "new data 2", "new lost"]);
        // After the end it is ignored, and nothing is kept.
        transport.set_protocol(Rc::clone(&new));
        assert!(transport.get_protocol().is_none());
        assert_eq!(Rc::strong_count(&new), 1);
    });
}

#[test]
fn the_protocol_is_let_go_with_the_connection() {
    run(async {
        let trace = Trace::default();
        let (listener, address) = crate::common::listener();
        let probe = Probe::new(&trace);
        let (transport, protocol) = evloop::create_connection(|| probe, address).await.unwrap();
        let weak = Rc::downgrade(&protocol);
        drop(protocol);
        assert!(weak.upgrade().is_some());
        transport.close();
        trace.until("lost").await;
        turns(1).await;
        assert!(weak.upgrade().is_none());
        drop(listener);
    });
}
