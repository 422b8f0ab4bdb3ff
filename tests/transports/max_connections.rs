//! `max_connections`: who has to wait, where, and for how long.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use evloop::{
    ConnectionLimit, Endpoint, LoopGroup, Server, SockName, StreamReader, StreamWriter, Transport,
    create_server, reuse_port_sockets, sleep, start_server,
};
use futures::channel::oneshot;
use socket2::SockRef;

use crate::common::trace::Trace;
use crate::common::{PATIENCE, Peer, in_thread, listener, run, turns, wait_for, within};
use crate::probe::{Call, Probe, block};

/// A server whose connections are traced, and their transports.
async fn limited(
    trace: &Trace,
    endpoint: impl Into<Endpoint>,
    limit: usize,
) -> (Server, Rc<RefCell<Vec<Transport>>>) {
    let transports = Rc::new(RefCell::new(Vec::new()));
    let (trace, all) = (trace.clone(), Rc::clone(&transports));
    let factory = move || {
        let all = Rc::clone(&all);
        Probe::new(&trace).doing(move |call, transport| {
            if let Call::Made = call {
                all.borrow_mut().push(transport.clone());
            }
        })
    };
    let server = create_server(factory, endpoint).max_connections(limit);
    (server.await.unwrap(), transports)
}

fn connect(server: &Server) -> Peer {
    Peer::connect(server.sockets()[0].as_inet().unwrap())
}

#[test]
fn beyond_the_limit_a_client_waits_until_another_one_is_gone() {
    run(async {
        let trace = Trace::default();
        let (server, _) = limited(&trace, ("127.0.0.1", 0), 2).await;
        let (first, second) = (connect(&server), connect(&server));
        trace.until_count("made", 2).await;
        // The kernel has it, and what it sends.
        let third = connect(&server);
        third.send(b"third");
        second.send(b"second");
        trace.until("data second").await;
        turns(5).await;
        assert_eq!(trace, ["made", "made", "data second"]);
        first.finish();
        trace.until("data third").await;
        let expected = ["made", "made", "data second", "eof", "lost", "made"];
        assert_eq!(trace.lines()[..6], expected);
        // And so on.
        let fourth = connect(&server);
        second.finish();
        trace.until_count("made", 4).await;
        drop((third, fourth));
    });
}

#[test]
fn a_crowd_is_served_through_one_place_one_after_the_other() {
    run(async {
        let trace = Trace::default();
        let (server, _) = limited(&trace, ("127.0.0.1", 0), 1).await;
        let peers: Vec<_> = (0..20).map(|_| connect(&server)).collect();
        for (i, peer) in peers.iter().enumerate() {
            trace.until_count("made", i + 1).await;
            assert_eq!((trace.count("made"), trace.count("lost")), (i + 1, i));
            peer.finish();
        }
        trace.until_count("lost", peers.len()).await;
    });
}

#[test]
fn a_connection_that_is_being_closed_keeps_its_place_until_it_is_over() {
    run(async {
        let trace = Trace::default();
        let (server, transports) = limited(&trace, ("127.0.0.1", 0), 1).await;
        let _slow = connect(&server);
        trace.until("made").await;
        let transport = transports.borrow()[0].clone();
        block(&transport);
        transport.close();
        let _next = connect(&server);
        turns(5).await;
        assert_eq!(trace, ["made"]);
        transport.abort();
        trace.until_count("made", 2).await;
        assert_eq!(trace, ["made", "lost", "made"]);
    });
}

#[test]
fn a_client_that_gives_up_while_it_waits_takes_no_place_for_long() {
    run(async {
        let trace = Trace::default();
        let (server, _) = limited(&trace, ("127.0.0.1", 0), 1).await;
        let first = connect(&server);
        trace.until("made").await;
        drop(connect(&server));
        connect(&server).reset();
        let last = connect(&server);
        last.send(b"last");
        first.finish();
        trace.until("data last").await;
    });
}

/// Else those who wait at the second address would wait as long as somebody waits at the first.
#[test]
fn every_listener_has_its_turn() {
    run(async {
        let trace = Trace::default();
        let hosts = (["127.0.0.1", "127.0.0.2"], 0);
        let (server, transports) = limited(&trace, hosts, 1).await;
        let sockets = server.sockets();
        let to = |i: usize| Peer::connect(sockets[i].as_inet().unwrap());
        let _peers: Vec<_> = (0..4).flat_map(|_| [to(0), to(1)]).collect();
        let mut served = [0; 2];
        for made in 1..=4 {
            trace.until_count("made", made).await;
            let transport = transports.borrow()[made - 1].clone();
            let at = transport.get_extra_info(SockName).unwrap();
            served[usize::from(at == sockets[1])] += 1;
            transport.abort();
        }
        assert!(served[0] > 0 && served[1] > 0, "{served:?}");
    });
}

/// The place of a connection without a protocol is free at once.
#[test]
fn a_factory_that_panics_takes_no_place() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let made = trace.clone();
        let mut calls = 0;
        let factory = move || {
            calls += 1;
            assert!(calls > 2, "no protocol today");
            Probe::new(&made)
        };
        let server = create_server(factory, ("127.0.0.1", 0)).max_connections(1);
        let server = server.await.unwrap();
        let _peers = [connect(&server), connect(&server), connect(&server)];
        trace.until("made").await;
        let report = "report: Exception in protocol factory: panicked: no protocol today";
        assert_eq!(trace, [report, report, "made"]);
    });
}

#[test]
fn those_who_wait_are_reset_when_the_server_is_closed() {
    run(async {
        let trace = Trace::default();
        let (server, _) = limited(&trace, ("127.0.0.1", 0), 1).await;
        let first = connect(&server);
        trace.until("made").await;
        let waiting = connect(&server);
        server.close();
        let outcome = in_thread(move || waiting.receive_all_or_error()).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
        first.finish();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
        assert_eq!(trace, ["made", "eof", "lost"]);
    });
}

#[test]
fn a_server_of_streams_has_the_limit_too() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |mut reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                said.say("begins");
                let line = reader.readline().await?;
                writer.write(line);
                said.say("ends");
                writer.drain().await
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0))
            .max_connections(1)
            .await
            .unwrap();
        let peers: Vec<_> = (0..3).map(|_| connect(&server)).collect();
        for (i, peer) in peers.into_iter().enumerate() {
            trace.until_count("begins", i + 1).await;
            assert_eq!((trace.count("begins"), trace.count("ends")), (i + 1, i));
            peer.send(b"hello\n");
            assert_eq!(in_thread(move || peer.receive_all()).await, b"hello\n");
        }
    });
}

// ------------------------------------------------------------------------------ of several

/// Servers that have the limit in common, each with a trace of its own.
async fn sharing(limit: &ConnectionLimit, count: usize) -> Vec<(Server, Trace)> {
    let mut servers = Vec::new();
    for _ in 0..count {
        let trace = Trace::default();
        let made = trace.clone();
        let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0));
        let server = server.max_connections(limit.clone()).await.unwrap();
        servers.push((server, trace));
    }
    servers
}

#[test]
fn one_limit_may_be_that_of_several_servers() {
    run(async {
        let limit = ConnectionLimit::new(1);
        let servers = sharing(&limit, 2).await;
        let [(one, at_one), (two, at_two)] = &servers[..] else {
            unreachable!("there are two");
        };
        let first = connect(one);
        at_one.until("made").await;
        assert_eq!((limit.taken(), limit.max()), (1, 1));
        let second = connect(two);
        turns(5).await;
        assert_eq!(at_two.lines(), Vec::<String>::new());
        first.finish();
        at_two.until("made").await;
        assert_eq!(at_one.lines(), ["made", "eof", "lost"]);
        second.finish();
        at_two.until("lost").await;
        assert_eq!(limit.taken(), 0);
    });
}

/// Two servers accept from one socket, so for the second one nobody is left.
#[test]
fn a_place_goes_to_the_first_that_has_somebody_to_let_in() {
    run(async {
        let limit = ConnectionLimit::new(1);
        let servers = sharing(&limit, 2).await;
        let [(one, at_one), (two, at_two)] = &servers[..] else {
            unreachable!("there are two");
        };
        let (listener, address) = listener();
        let at_both = Trace::default();
        for listener in [listener.try_clone().unwrap(), listener] {
            let made = at_both.clone();
            let server = create_server(move || Probe::new(&made), listener);
            server.max_connections(limit.clone()).await.unwrap();
        }
        let first = connect(one);
        at_one.until("made").await;
        let of_both = Peer::connect(address);
        turns(5).await;
        let last = connect(two);
        turns(5).await;
        first.finish();
        at_both.until("made").await;
        assert_eq!(at_two.lines(), Vec::<String>::new());
        of_both.finish();
        at_two.until("made").await;
        assert_eq!(at_both.lines(), ["made", "eof", "lost"]);
        last.finish();
        at_two.until("lost").await;
    });
}

#[test]
fn a_server_that_is_closed_while_it_waits_is_passed_over() {
    run(async {
        let limit = ConnectionLimit::new(1);
        let servers = sharing(&limit, 3).await;
        let first = connect(&servers[0].0);
        servers[0].1.until("made").await;
        let _closed = connect(&servers[1].0);
        turns(5).await;
        let _last = connect(&servers[2].0);
        turns(5).await;
        servers[1].0.close();
        first.finish();
        servers[2].1.until("made").await;
        assert_eq!(servers[1].1.lines(), Vec::<String>::new());
    });
}

#[test]
fn a_loop_that_ends_gives_its_places_back() {
    let limit = ConnectionLimit::new(1);
    for _ in 0..2 {
        let _peer = run(async {
            let servers = sharing(&limit, 1).await;
            let peer = connect(&servers[0].0);
            servers[0].1.until("made").await;
            peer
        });
        assert_eq!(limit.taken(), 0);
    }
}

/// A free place is first offered where they have waited longest, and that may be a loop that hangs.
#[test]
fn a_loop_that_hangs_keeps_no_place_from_the_others() {
    let limit = ConnectionLimit::new(1);
    let (tell_address, address) = oneshot::channel();
    let (tell_arrived, arrived) = oneshot::channel();
    let (tell_hangs, hangs) = oneshot::channel();
    let (release, released) = channel::<()>();
    let of_other = limit.clone();
    let other = thread::spawn(move || {
        run(async move {
            let servers = sharing(&of_other, 1).await;
            let address = servers[0].0.sockets()[0].as_inet().unwrap();
            tell_address.send(address).unwrap();
            arrived.await.unwrap();
            turns(5).await;
            tell_hangs.send(()).unwrap();
            assert!(released.recv().is_err(), "nothing is sent");
        });
    });
    run(async move {
        let servers = sharing(&limit, 2).await;
        let [(one, at_one), (two, at_two)] = &servers[..] else {
            unreachable!("there are two");
        };
        let first = connect(one);
        at_one.until("made").await;
        let _at_other = Peer::connect(within("an address", address).await.unwrap());
        tell_arrived.send(()).unwrap();
        within("the other loop", hangs).await.unwrap();
        let _second = connect(two);
        turns(5).await;
        first.finish();
        at_two.until("made").await;
        assert_eq!(at_one.lines(), ["made", "eof", "lost"]);
        drop(release);
    });
    other.join().unwrap();
}

/// Nobody waits at one loop while there is a place that another one would have.
#[test]
fn loops_that_share_a_port_share_the_limit() {
    const CLIENTS: usize = 40;
    static AT_A_TIME: AtomicUsize = AtomicUsize::new(0);
    static AT_MOST: AtomicUsize = AtomicUsize::new(0);
    let limit = ConnectionLimit::new(1);
    let sockets = reuse_port_sockets(&[([127, 0, 0, 1], 0).into()], 3).unwrap();
    let address = SockRef::from(&sockets[0][0]).local_addr().unwrap();
    let address = address.as_socket().unwrap();
    let served = AtomicUsize::new(0);
    let (served, limit) = (&served, &limit);
    thread::scope(|scope| {
        let done = LoopGroup::new(3).unwrap();
        scope.spawn(move || {
            done.run_with(sockets, |_, sockets| async move {
                let greet = |mut reader: StreamReader, writer: StreamWriter| async move {
                    let others = AT_A_TIME.fetch_add(1, Ordering::SeqCst);
                    AT_MOST.fetch_max(others + 1, Ordering::SeqCst);
                    writer.write(b"welcome");
                    // Nobody leaves before all have come.
                    reader.read_to_end(10).await?;
                    AT_A_TIME.fetch_sub(1, Ordering::SeqCst);
                    writer.close();
                    writer.wait_closed().await
                };
                for socket in sockets {
                    start_server(greet, socket)
                        .max_connections(limit.clone())
                        .await?;
                }
                within("all clients", async {
                    while served.load(Ordering::SeqCst) < CLIENTS {
                        sleep(Duration::from_millis(1)).await?;
                    }
                    Ok::<_, io::Error>(())
                })
                .await
            })
            .unwrap();
        });
        let connect = || wait_for("the servers", || TcpStream::connect(address).ok());
        let clients: Vec<_> = (0..CLIENTS).map(|_| connect()).collect();
        for client in clients {
            scope.spawn(move || {
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut client = client;
                client.read_exact(&mut [0; 7]).unwrap();
                served.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!((AT_MOST.load(Ordering::SeqCst), limit.taken()), (1, 0));
}

#[test]
fn a_limit_of_none_is_invalid_input_and_named() {
    run(async {
        let factory = || Probe::new(&Trace::default());
        let server = create_server(factory, ("127.0.0.1", 0)).max_connections(0);
        let error = server.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("max_connections"), "{error}");
    });
}
