//! In which order the callbacks of a connection come.

use evloop::{EventLoop, create_connection, create_server, get_running_loop};

use crate::common::trace::Trace;
use crate::common::{Peer, listener, run};
use crate::probe::{Call, Probe, connect, connected};

fn saying_soon(trace: &Trace) -> impl FnMut(&Call<'_>, &evloop::Transport) + 'static {
    let trace = trace.clone();
    move |call, _| {
        if let Call::Made = call {
            let trace = trace.clone();
            let handle = get_running_loop().unwrap();
            handle.call_soon(move || trace.say("soon, from made"));
        }
    }
}

#[test]
fn a_client_is_made_then_told_of_data_then_of_the_end_each_once() {
    run(async {
        let trace = Trace::default();
        let (listener, address) = listener();
        // The bytes are there before the client has read anything.
        let peer = std::thread::spawn(move || {
            let peer = Peer::accept(&listener);
            peer.send(b"abc");
            peer
        });
        let probe = Probe::new(&trace).doing(saying_soon(&trace));
        let (transport, _) = connect(probe, address).await;
        trace.say("connected");
        trace.until("data abc").await;
        peer.join().unwrap().finish();
        trace.until("lost").await;
        assert_eq!(
            trace,
            [
                "made",
                "soon, from made",
                "connected",
                "data abc",
                "eof",
                "lost"
            ]
        );
        assert!(transport.is_closing());
    });
}

#[test]
fn a_connection_to_a_server_is_made_then_told_of_data_then_of_the_end_each_once() {
    run(async {
        let trace = Trace::default();
        let factory = {
            let trace = trace.clone();
            move || {
                trace.say("factory");
                Probe::new(&trace).doing(saying_soon(&trace))
            }
        };
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let peer = Peer::connect(server.sockets()[0].as_inet().unwrap());
        peer.send(b"abc");
        trace.until("data abc").await;
        peer.finish();
        trace.until("lost").await;
        assert_eq!(peer.receive_all(), b"");
        server.close();
        server.wait_closed().await.unwrap();
        assert_eq!(
            trace,
            [
                "factory",
                "made",
                "soon, from made",
                "data abc",
                "eof",
                "lost"
            ]
        );
    });
}

#[test]
fn the_protocol_is_made_after_the_connect_and_given_back_with_the_transport() {
    run(async {
        let trace = Trace::default();
        let (listener, address) = listener();
        let made = trace.clone();
        let factory = move || {
            made.say("factory");
            Probe::new(&made)
        };
        let (transport, protocol) = create_connection(factory, address).await.unwrap();
        let current: std::rc::Rc<std::cell::RefCell<dyn evloop::Protocol>> = protocol;
        assert!(std::rc::Rc::ptr_eq(
            &transport.get_protocol().unwrap(),
            &current
        ));
        assert_eq!(trace, ["factory", "made"]);
        drop(listener);
    });
}

#[test]
fn true_from_eof_received_keeps_the_writing_side_open() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace).keeping_open()).await;
        peer.finish();
        trace.until("eof").await;
        assert!(!transport.is_closing());
        assert!(transport.is_reading());
        transport.write(b"still here");
        transport.close();
        trace.until("lost").await;
        assert_eq!(peer.receive_all(), b"still here");
        assert_eq!(trace, ["made", "eof", "lost"]);
    });
}

#[test]
fn false_from_eof_received_sends_what_was_written_and_closes() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Eof = call {
                transport.write(b"goodbye");
            }
        });
        let (_, peer) = connected(probe).await;
        peer.finish();
        trace.until("lost").await;
        assert_eq!(peer.receive_all(), b"goodbye");
        assert_eq!(trace, ["made", "eof", "lost"]);
    });
}

#[test]
fn connection_lost_comes_from_the_queue_behind_what_is_there() {
    run(async {
        let trace = Trace::default();
        let (transport, _peer) = connected(Probe::new(&trace)).await;
        let handle = get_running_loop().unwrap();
        for end in [evloop::Transport::close, evloop::Transport::abort] {
            let trace = trace.clone();
            handle.call_soon(move || trace.say("before"));
            end(&transport);
        }
        let after = trace.clone();
        handle.call_soon(move || after.say("after"));
        trace.until("after").await;
        assert_eq!(trace, ["made", "before", "lost", "before", "after"]);
    });
}

#[test]
fn two_connections_have_their_callbacks_each() {
    run(async {
        let trace = Trace::default();
        let (one, first) = connected(Probe::new(&trace).named("1 ")).await;
        let (_two, second) = connected(Probe::new(&trace).named("2 ")).await;
        second.send(b"b");
        trace.until("2 data b").await;
        first.send(b"a");
        trace.until("1 data a").await;
        one.close();
        trace.until("1 lost").await;
        second.send(b"c");
        trace.until("2 data c").await;
        assert_eq!(
            trace,
            [
                "1 made", "2 made", "2 data b", "1 data a", "1 lost", "2 data c"
            ]
        );
    });
}

/// A run that is stopped before it begins is one turn that looks at the system as any other.
#[test]
fn an_event_of_the_turn_that_stops_is_delivered_once() {
    let (listener, address) = listener();
    let trace = Trace::default();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let (transport, _) = event_loop.run_until_complete(connect(Probe::new(&trace), address));
    let peer = Peer::accept(&listener);
    peer.send(b"abc");
    let deadline = std::time::Instant::now() + crate::common::PATIENCE;
    while !trace.has("data abc") {
        assert!(std::time::Instant::now() < deadline, "{trace:?}");
        handle.stop();
        event_loop.run_forever();
    }
    for _ in 0..3 {
        handle.stop();
        event_loop.run_forever();
    }
    assert_eq!(trace, ["made", "data abc"]);
    transport.close();
    event_loop.run_until_complete(trace.until("lost"));
}
