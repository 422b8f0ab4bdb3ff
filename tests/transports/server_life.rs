//! A server from serving to the end of its last connection.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use evloop::{Server, TaskError, Transport, create_server, get_running_loop};

use crate::common::own_process;
use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, run, turns, within};
use crate::probe::{Call, Probe, block};

/// A server whose connections are traced, and their transports.
async fn traced(trace: &Trace) -> (Server, Rc<RefCell<Vec<Transport>>>) {
    let transports = Rc::new(RefCell::new(Vec::new()));
    let factory = {
        let (trace, transports) = (trace.clone(), Rc::clone(&transports));
        move || {
            let transports = Rc::clone(&transports);
            Probe::new(&trace).doing(move |call, transport| {
                if let Call::Made = call {
                    transports.borrow_mut().push(transport.clone());
                }
            })
        }
    };
    let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
    (server, transports)
}

fn quiet() -> Probe {
    Probe::new(&Trace::default())
}

fn connect(server: &Server) -> Peer {
    Peer::connect(server.sockets()[0].as_inet().unwrap())
}

/// Whether a future is ready now.
async fn is_ready<F: Future>(future: F) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

#[test]
fn close_stops_accepting_and_touches_no_connection() {
    run(async {
        let trace = Trace::default();
        let (server, _) = traced(&trace).await;
        let address = server.sockets()[0].as_inet().unwrap();
        let peer = connect(&server);
        trace.until("made").await;
        server.close();
        server.close();
        assert!(!server.is_serving());
        assert!(server.sockets().is_empty());
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        peer.send(b"abc");
        trace.until("data abc").await;
    });
}

#[test]
fn a_connection_that_nobody_accepted_is_reset_by_close() {
    run(async {
        let trace = Trace::default();
        let (server, _) = traced(&trace).await;
        let peer = connect(&server);
        server.close();
        server.wait_closed().await.unwrap();
        let outcome = in_thread(move || peer.receive_all_or_error()).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(trace, []);
    });
}

#[test]
fn a_server_closed_from_its_factory_still_serves_that_connection() {
    run(async {
        let trace = Trace::default();
        let closing: Rc<RefCell<Option<Server>>> = Rc::default();
        let factory = {
            let (trace, closing) = (trace.clone(), Rc::clone(&closing));
            move || {
                if let Some(server) = closing.borrow_mut().take() {
                    server.close();
                }
                Probe::new(&trace)
            }
        };
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let peer = connect(&server);
        *closing.borrow_mut() = Some(server.clone());
        peer.send(b"abc");
        trace.until("data abc").await;
        assert!(!is_ready(server.wait_closed()).await);
        peer.finish();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
        assert_eq!(trace, ["made", "data abc", "eof", "lost"]);
    });
}

#[test]
fn wait_closed_waits_for_close_and_for_the_last_connection() {
    run(async {
        let trace = Trace::default();
        let (server, _) = traced(&trace).await;
        let first = connect(&server);
        let second = connect(&server);
        trace.until_count("made", 2).await;
        let handle = get_running_loop().unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (server, trace) = (server.clone(), trace.clone());
                handle.create_task(async move {
                    server.wait_closed().await.unwrap();
                    trace.say("over");
                })
            })
            .collect();
        // One that gives up takes nothing from the others.
        waiters[0].cancel();
        turns(2).await;
        first.finish();
        trace.until("lost").await;
        turns(2).await;
        server.close();
        turns(2).await;
        assert!(!trace.has("over"));
        second.finish();
        trace.until_count("over", 2).await;
        assert_eq!(trace.count("lost"), 2);
        server.wait_closed().await.unwrap();
    });
}

#[test]
fn wait_closed_waits_for_close_when_there_is_no_connection() {
    run(async {
        let trace = Trace::default();
        let (server, _) = traced(&trace).await;
        let peer = connect(&server);
        trace.until("made").await;
        peer.finish();
        trace.until("lost").await;
        let waiting = server.clone();
        let waiting = get_running_loop()
            .unwrap()
            .create_task(async move { waiting.wait_closed().await });
        turns(3).await;
        assert!(!waiting.done());
        server.close();
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn close_clients_flushes_and_closes_every_connection() {
    run(async {
        let trace = Trace::default();
        let (server, transports) = traced(&trace).await;
        let peers = [connect(&server), connect(&server)];
        trace.until_count("made", 2).await;
        for transport in transports.borrow().iter() {
            transport.write(b"goodbye");
        }
        server.close();
        server.close_clients();
        for peer in peers {
            assert_eq!(in_thread(move || peer.receive_all()).await, b"goodbye");
        }
        within("the connections", server.wait_closed())
            .await
            .unwrap();
        assert_eq!(trace, ["made", "made", "lost", "lost"]);
    });
}

#[test]
fn abort_clients_ends_a_connection_whose_peer_does_not_read() {
    run(async {
        let trace = Trace::default();
        let (server, transports) = traced(&trace).await;
        let _peer = connect(&server);
        trace.until("made").await;
        let transport = transports.borrow()[0].clone();
        block(&transport);
        server.close();
        server.close_clients();
        turns(3).await;
        assert!(!is_ready(server.wait_closed()).await);
        server.abort_clients();
        within("the connection", server.wait_closed())
            .await
            .unwrap();
        assert_eq!(trace, ["made", "lost"]);
    });
}

#[test]
fn dropping_a_server_keeps_it_serving() {
    run(async {
        let trace = Trace::default();
        let (server, _) = traced(&trace).await;
        let address = server.sockets()[0].as_inet().unwrap();
        drop(server);
        turns(1).await;
        let _peer = Peer::connect(address);
        trace.until("made").await;
    });
}

/// The server and its listeners hold each other; the end of either has to end both.
#[test]
fn the_factory_is_let_go_when_the_server_is_closed_and_when_its_loop_ends() {
    for close in [true, false] {
        let held = Rc::new(());
        let weak = Rc::downgrade(&held);
        run(async move {
            let factory = move || {
                let _ = &held;
                Probe::new(&Trace::default())
            };
            let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
            if close {
                server.close();
            }
        });
        assert!(weak.upgrade().is_none(), "close: {close}");
    }
}

#[test]
fn after_the_end_of_its_loop_a_server_says_that_it_does_not_serve() {
    let (serving, bound) = run(async {
        let server = |start| create_server(quiet, ("127.0.0.1", 0)).start_serving(start);
        (server(true).await.unwrap(), server(false).await.unwrap())
    });
    for server in [serving, bound] {
        assert!(!server.is_serving());
        assert_eq!(server.sockets(), []);
        let error = futures::executor::block_on(server.start_serving()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
}

#[test]
fn serve_forever_starts_serving_and_ends_as_cancelled_when_the_server_is_closed() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || Probe::new(&made);
        let server = create_server(factory, ("127.0.0.1", 0))
            .start_serving(false)
            .await
            .unwrap();
        let forever = server.serve_forever();
        let forever = get_running_loop().unwrap().create_task(forever);
        turns(1).await;
        assert!(server.is_serving());
        let _peer = connect(&server);
        trace.until("made").await;
        let second = server.serve_forever().await.unwrap_err();
        assert_eq!(second.kind(), ErrorKind::ResourceBusy);
        assert!(server.is_serving(), "the second one has closed nothing");
        server.close();
        let error = forever.await.unwrap().unwrap_err();
        assert_eq!(error.downcast::<TaskError>().unwrap(), TaskError::Cancelled);
        let closed = server.serve_forever().await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::NotConnected);
    });
}

#[test]
fn dropping_serve_forever_closes_the_server_and_its_connections_go_on() {
    run(async {
        let trace = Trace::default();
        let (server, _) = traced(&trace).await;
        let peer = connect(&server);
        trace.until("made").await;
        let forever = get_running_loop()
            .unwrap()
            .create_task(server.serve_forever());
        turns(1).await;
        forever.cancel();
        assert!(forever.await.is_err());
        assert!(!server.is_serving());
        assert!(server.sockets().is_empty());
        peer.send(b"abc");
        trace.until("data abc").await;
        peer.finish();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
    });
}

#[test]
fn a_serve_forever_that_was_never_polled_closes_nothing() {
    run(async {
        let (server, _) = traced(&Trace::default()).await;
        drop(server.serve_forever());
        assert!(server.is_serving());
    });
}

/// Nobody tells the loop that a descriptor is free which was never its own, and no event comes:
/// what is left is the timer.
#[test]
fn a_server_short_of_descriptors_tries_again_by_itself_and_reports_once() {
    let name = "server_life::a_server_short_of_descriptors_tries_again_by_itself_and_reports_once";
    if !own_process::enter_with_descriptors(name, 64) {
        return;
    }
    run(async {
        let trace = Trace::default();
        let reports = trace.clone();
        let handle = get_running_loop().unwrap();
        handle.set_exception_handler(move |_, context| reports.say(context.message()));
        let (server, _) = traced(&trace).await;
        let _peer = connect(&server);
        let mut files = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        let report = "socket.accept() out of system resource";
        trace.until(report).await;
        let reported = Instant::now();
        drop(files);
        trace.until("made").await;
        // A second, and not in each turn.
        let paused = reported.elapsed();
        assert!(paused > Duration::from_millis(500), "{paused:?}");
        assert_eq!(trace, [report, "made"]);
    });
}

#[test]
fn one_turn_accepts_64_connections_at_most() {
    run(async {
        let accepted = Rc::new(Cell::new(0));
        let counter = Rc::clone(&accepted);
        let factory = move || {
            counter.set(counter.get() + 1);
            quiet()
        };
        let server = create_server(factory, ("127.0.0.1", 0)).backlog(256);
        let server = server.await.unwrap();
        // No turn passes meanwhile, so all of them wait in the kernel.
        let peers: Vec<_> = (0..150).map(|_| connect(&server)).collect();
        let mut before = 0;
        while before < peers.len() {
            turns(1).await;
            assert!(accepted.get() - before <= 64, "{}", accepted.get());
            before = accepted.get();
        }
    });
}

#[test]
fn three_hundred_connections_at_once_are_all_served() {
    run(async {
        let trace = Trace::default();
        let echo = trace.clone();
        let factory = move || {
            Probe::new(&echo).doing(|call, transport| {
                if let Call::Data(data) = call {
                    transport.write(data);
                }
            })
        };
        let server = create_server(factory, ("127.0.0.1", 0))
            .backlog(512)
            .await
            .unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        in_thread(move || {
            let peers: Vec<_> = (0..300).map(|_| Peer::connect(address)).collect();
            for (i, peer) in peers.iter().enumerate() {
                peer.send(format!("{i:04}").as_bytes());
            }
            for (i, peer) in peers.iter().enumerate() {
                assert_eq!(peer.receive(4), format!("{i:04}").as_bytes());
            }
        })
        .await;
        server.close();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
        assert_eq!(trace.count("made"), 300);
        assert_eq!(trace.count("lost"), 300);
    });
}
