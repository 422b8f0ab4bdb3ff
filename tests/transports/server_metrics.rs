//! `Server::metrics`: how many came, and why they went.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use evloop::{CloseReason, Protocol, Server, ServerMetrics, Transport, create_server, sleep};

use crate::common::trace::Trace;
use crate::common::{Peer, run, within};
use crate::probe::{Call, Probe};

fn connect(server: &Server) -> Peer {
    Peer::connect(server.sockets()[0].as_inet().unwrap())
}

async fn until(is_so: impl Fn() -> bool) {
    within("the number", async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await.unwrap();
        }
    })
    .await;
}

#[test]
fn every_connection_is_counted_with_the_reason_of_its_end() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || {
            Probe::new(&made).doing(|call, transport| {
                if let Call::Data(data) = call {
                    match *data {
                        b"close" => transport.close(),
                        b"abort" => transport.abort(),
                        _ => panic!("no idea"),
                    }
                }
            })
        };
        trace.catch_reports();
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let metrics = server.metrics();
        type End = fn(&Peer);
        let ends: [(End, CloseReason); 5] = [
            (Peer::finish, CloseReason::PeerEof),
            (|peer| peer.send(b"close"), CloseReason::Closed),
            (|peer| peer.send(b"abort"), CloseReason::Aborted),
            (|peer| peer.send(b"what"), CloseReason::HandlerFailed),
            (|_| {}, CloseReason::Reset),
        ];
        let count = || (metrics.accepted(), metrics.open(), metrics.closed());
        for (number, (end, reason)) in (1..).zip(ends) {
            let peer = connect(&server);
            until(|| metrics.accepted() == number).await;
            assert_eq!(count(), (number, 1, number - 1));
            end(&peer);
            if reason == CloseReason::Reset {
                peer.reset();
            }
            until(|| metrics.closed() == number).await;
            assert_eq!(count(), (number, 0, number));
            assert_eq!(metrics.closed_because(reason), 1, "{reason:?}");
        }
        let told = format!("{metrics:?}");
        assert_eq!(told, "ServerMetrics { accepted: 5, open: 0, .. }");
    });
}

#[test]
fn one_that_has_no_protocol_is_reported_and_not_counted() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let factory = || -> Probe { panic!("no protocol today") };
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let _peer = connect(&server);
        let report = "report: Exception in protocol factory: panicked: no protocol today";
        trace.until(report).await;
        let metrics = server.metrics();
        assert_eq!((metrics.accepted(), metrics.closed()), (0, 0));
    });
}

#[test]
fn those_that_the_loops_end_takes_along_are_counted_and_any_thread_may_ask() {
    struct Quiet(Option<Transport>);

    impl Protocol for Quiet {
        fn connection_made(&mut self, transport: Transport) {
            self.0 = Some(transport);
        }
    }

    let (metrics, _peer): (ServerMetrics, Peer) = run(async {
        let server = create_server(|| Quiet(None), ("127.0.0.1", 0))
            .await
            .unwrap();
        let (metrics, peer) = (server.metrics(), connect(&server));
        until(|| metrics.accepted() == 1).await;
        (metrics, peer)
    });
    let asked = Arc::new(metrics);
    let told = thread::spawn(move || (asked.open(), asked.closed_because(CloseReason::LoopClosed)));
    assert_eq!(told.join().unwrap(), (0, 1));
}
