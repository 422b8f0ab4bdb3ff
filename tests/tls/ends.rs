//! The end of a connection: in both orders, in good order and not, and what it is called.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::{
    CloseReason, ClosedBecause, TlsError, Transport, connect_accepted_socket, create_server,
    get_running_loop, sleep, timeout,
};
use futures::future::join;

use crate::common::own_process::{self, held};
use crate::common::trace::Trace;
use crate::common::{pattern, run, turns, within};
use crate::pairs::{KINDS, Ours, address_of, pair, scripted};
use crate::probe::{Call, Probe, block};
use crate::scripted::{self, End, Scripted, TLS12, TLS13};
use crate::support::server_context;

fn reason(transport: &Transport) -> Option<CloseReason> {
    transport.get_extra_info(ClosedBecause)
}

/// We close: everything is sent, then `close_notify`, then the end of our side. The peer answers.
#[test]
fn a_close_that_is_answered() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            transport.write(pattern(50_000));
            transport.close();
            assert!(transport.is_closing());
            assert_eq!(peer.read_to_end().await, (pattern(50_000), End::Clean));
            // Not before the peer has answered.
            turns(10).await;
            assert_eq!(trace, ["made"]);
            let answer = peer.close_notify();
            peer.send(&answer).await;
            trace.until("lost").await;
            assert_eq!(trace, ["made", "lost"]);
            assert_eq!(reason(&transport), Some(CloseReason::Closed));
        }
    });
}

/// The same where the peer ends the connection without a word: everything of ours was said.
#[test]
fn a_close_that_is_answered_by_the_end_alone() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            transport.close();
            assert_eq!(peer.read_to_end().await, (Vec::new(), End::Clean));
            drop(peer);
            trace.until("lost").await;
            assert_eq!(trace, ["made", "lost"]);
            assert_eq!(reason(&transport), Some(CloseReason::Closed));
        }
    });
}

/// What a peer says that has heard us close is thrown away: it may even be a reset.
#[test]
fn a_close_that_is_answered_by_data_or_a_reset() {
    run(async {
        for (ours, version) in KINDS {
            for reset in [false, true] {
                let trace = Trace::default();
                let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
                transport.close();
                assert_eq!(peer.read_to_end().await, (Vec::new(), End::Clean));
                if reset {
                    peer.reset();
                } else {
                    peer.write(&pattern(500_000)).await;
                    let goodbye = peer.close_notify();
                    peer.send(&goodbye).await;
                }
                trace.until("lost").await;
                assert_eq!(trace, ["made", "lost"]);
                assert_eq!(reason(&transport), Some(CloseReason::Closed));
            }
        }
    });
}

/// A server's side of a connection that waits for hardly any time at its end.
async fn impatient(
    version: &'static rustls::SupportedProtocolVersion,
    probe: Probe,
) -> (Transport, Scripted) {
    let (mut peer, socket) = scripted(Ours::Server, version);
    let connecting = connect_accepted_socket(move || probe, socket)
        .ssl(server_context("server"))
        .ssl_shutdown_timeout(Duration::from_millis(100));
    let (connected, shaken) = join(connecting.into_future(), peer.shake_hands()).await;
    shaken.unwrap();
    (connected.unwrap().0, peer)
}

/// A peer of TLS 1.3 need not answer, and we wait for `ssl_shutdown_timeout` at most. Not less,
/// either.
#[test]
fn a_close_that_is_never_answered() {
    run(async {
        for version in [TLS12, TLS13] {
            let trace = Trace::default();
            let (transport, mut peer) = impatient(version, Probe::new(&trace)).await;
            transport.write(b"goodbye");
            let begun = Instant::now();
            transport.close();
            assert_eq!(peer.read_to_end().await, (b"goodbye".to_vec(), End::Clean));
            trace.until("lost").await;
            assert!(begun.elapsed() >= Duration::from_millis(100));
            assert!(begun.elapsed() < Duration::from_secs(10));
            assert_eq!(reason(&transport), Some(CloseReason::Closed));
        }
    });
}

/// A peer that reads nothing: `close` waits for it, and `abort` does not.
#[test]
fn a_close_that_cannot_be_sent() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            block(&transport);
            transport.close();
            turns(20).await;
            assert_eq!(trace, ["made"]);
            transport.abort();
            trace.until("lost").await;
            assert_eq!(reason(&transport), Some(CloseReason::Aborted));
            // Whatever the system has still: it ends.
            let (_, end) = peer.read_to_end().await;
            assert_ne!(end, End::Clean);
        }
    });
}

/// It takes a while until everything is sent, and none of it is lost.
#[test]
fn a_close_with_much_to_send() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            let data = pattern(8 << 20);
            transport.write(data.clone());
            transport.close();
            let (received, end) = peer.read_to_end().await;
            assert_eq!(end, End::Clean);
            assert!(received == data);
            let answer = peer.close_notify();
            peer.send(&answer).await;
            trace.until("lost").await;
            assert_eq!(reason(&transport), Some(CloseReason::Closed));
        }
    });
}

/// The peer says that it has ended, and still reads: TLS 1.3 lets us answer.
#[test]
fn the_peer_ends_first_and_we_go_on() {
    run(async {
        for ours in [Ours::Client, Ours::Server] {
            let trace = Trace::default();
            let probe = Probe::new(&trace).keeping_open();
            let (transport, mut peer) = pair(ours, TLS13, probe).await;
            assert!(transport.can_write_eof());
            let mut bytes = peer.encrypt(b"question");
            bytes.extend(peer.close_notify());
            peer.send(&bytes).await;
            trace.until("eof").await;
            transport.write(b"answer");
            assert_eq!(peer.read(6).await, b"answer");
            assert!(!transport.is_closing());
            transport.write(b"more");
            transport.close();
            assert_eq!(peer.read_to_end().await, (b"more".to_vec(), End::Clean));
            trace.until("lost").await;
            assert_eq!(trace, ["made", "data question", "eof", "lost"]);
            assert_eq!(reason(&transport), Some(CloseReason::PeerEof));
        }
    });
}

/// The other order: we end first, and read on.
#[test]
fn we_end_first_and_read_on() {
    run(async {
        for ours in [Ours::Client, Ours::Server] {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, TLS13, Probe::new(&trace)).await;
            transport.write(b"question");
            transport.write_eof().unwrap();
            assert_eq!(peer.read_to_close_notify().await, b"question");
            assert!(transport.try_write(b"no more").is_err());
            peer.write(b"answer").await;
            trace.until("data answer").await;
            assert!(!transport.is_closing());
            let goodbye = peer.close_notify();
            peer.send(&goodbye).await;
            peer.finish();
            trace.until("lost").await;
            assert_eq!(trace, ["made", "data answer", "eof", "lost"]);
            assert_eq!(reason(&transport), Some(CloseReason::PeerEof));
            assert_eq!(peer.read_to_end().await, (Vec::new(), End::Clean));
        }
    });
}

/// With TLS 1.2 an end is the end of both directions, whatever `eof_received` says.
#[test]
fn half_an_end_there_is_not_with_tls_1_2() {
    run(async {
        for ours in [Ours::Client, Ours::Server] {
            let trace = Trace::default();
            let probe = Probe::new(&trace).keeping_open();
            let (transport, mut peer) = pair(ours, TLS12, probe).await;
            assert!(!transport.can_write_eof());
            let error = transport.write_eof().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let goodbye = peer.close_notify();
            peer.send(&goodbye).await;
            trace.until("lost").await;
            assert_eq!(trace, ["made", "eof", "lost"]);
            assert_eq!(peer.read_to_end().await, (Vec::new(), End::Clean));
            assert_eq!(reason(&transport), Some(CloseReason::PeerEof));
        }
    });
}

/// What was said behind `close_notify` was not said.
#[test]
fn bytes_behind_close_notify() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            let mut bytes = peer.encrypt(b"data");
            bytes.extend(peer.close_notify());
            bytes.extend(pattern(1000));
            peer.send(&bytes).await;
            trace.until("lost").await;
            assert_eq!(trace, ["made", "data data", "eof", "lost"]);
            assert_eq!(reason(&transport), Some(CloseReason::PeerEof));
        }
    });
}

/// The end without `close_notify`, also in the middle of a record: an error, behind what was there.
#[test]
fn an_end_without_close_notify_is_a_truncation() {
    run(async {
        for (ours, version) in KINDS {
            for in_the_middle in [false, true] {
                let trace = Trace::default();
                let lost = Rc::new(RefCell::new(None));
                let kept = Rc::clone(&lost);
                let probe = Probe::new(&trace).doing(move |call, _| {
                    if let Call::Lost(error) = call {
                        *kept.borrow_mut() = error.clone();
                    }
                });
                let (transport, mut peer) = pair(ours, version, probe).await;
                let mut bytes = peer.encrypt(b"all that came");
                if in_the_middle {
                    bytes.extend(&peer.encrypt(b"and some more")[..10]);
                }
                peer.send(&bytes).await;
                peer.finish();
                trace.until("lost UnexpectedEof").await;
                assert_eq!(trace, ["made", "data all that came", "lost UnexpectedEof"]);
                assert_eq!(reason(&transport), Some(CloseReason::Truncated));
                let error = lost.take().unwrap();
                assert_eq!(TlsError::of(&error), Some(&TlsError::Truncated));
                assert_eq!(CloseReason::of(&error), Some(CloseReason::Truncated));
                let (_, end) = peer.read_to_end().await;
                assert_ne!(end, End::Reset);
            }
        }
    });
}

#[test]
fn a_reset_is_a_reset() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, peer) = pair(ours, version, Probe::new(&trace)).await;
            peer.reset();
            trace.until("lost ConnectionReset").await;
            assert_eq!(trace, ["made", "lost ConnectionReset"]);
            assert!(transport.is_closing());
            assert_eq!(reason(&transport), Some(CloseReason::Reset));
        }
    });
}

/// A peer refuses what we are in the middle of it all.
#[test]
fn an_alert_of_the_peer_is_a_failure() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            // It takes our record for a forged one, and says so.
            let plain = [23, 3, 3, 0, 32].into_iter().chain([7; 32]);
            let mut forged = &plain.collect::<Vec<u8>>()[..];
            peer.tls.read_tls(&mut forged).unwrap();
            peer.tls.process_new_packets().unwrap_err();
            peer.flush().await;
            trace.until("lost ConnectionAborted").await;
            assert_eq!(trace, ["made", "lost ConnectionAborted"]);
            assert_eq!(reason(&transport), Some(CloseReason::TlsFailed));
        }
    });
}

/// Everything at once, from inside of callbacks.
#[test]
fn closing_in_every_callback_is_told_once() {
    run(async {
        for (ours, version) in KINDS {
            for aborts in [false, true] {
                for place in ["made", "data", "eof"] {
                    let trace = Trace::default();
                    let probe = Probe::new(&trace)
                        .keeping_open()
                        .doing(move |call, transport| {
                            let now = match call {
                                Call::Made => "made",
                                Call::Data(_) => "data",
                                Call::Eof => "eof",
                                _ => return,
                            };
                            if now == place && aborts {
                                transport.abort();
                            } else if now == place {
                                transport.write(b"bye");
                                transport.close();
                                transport.close();
                            }
                        });
                    let (mut peer, socket) = scripted(ours, version);
                    let speaking = async {
                        // Whoever is aborted at once does not come to its end.
                        if peer.shake_hands().await.is_ok() {
                            let mut bytes = peer.encrypt(b"data");
                            bytes.extend(peer.close_notify());
                            peer.send(&bytes).await;
                        }
                        peer
                    };
                    let (_, mut peer) = join(ours.connect(socket, probe), speaking).await;
                    trace.until("lost").await;
                    turns(5).await;
                    assert_eq!(trace.count("made"), 1);
                    assert_eq!(trace.count("lost"), 1);
                    assert_eq!(trace.lines().last().unwrap(), "lost");
                    if !aborts && place != "made" {
                        assert_eq!(peer.read_to_end().await, (b"bye".to_vec(), End::Clean));
                    }
                }
            }
        }
    });
}

/// While reading is paused the end is not seen, and a close ends all the same.
#[test]
fn a_close_while_reading_is_paused() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            transport.pause_reading();
            peer.write(&pattern(300_000)).await;
            transport.write(b"bye");
            transport.close();
            assert_eq!(peer.read_to_end().await, (b"bye".to_vec(), End::Clean));
            let goodbye = peer.close_notify();
            peer.send(&goodbye).await;
            trace.until("lost").await;
            assert_eq!(trace, ["made", "lost"]);
        }
    });
}

/// However a connection ends, and in whichever phase the loop does: no descriptor stays.
#[test]
fn the_end_of_the_loop_in_every_phase_leaves_nothing() {
    if !own_process::enter("ends::the_end_of_the_loop_in_every_phase_leaves_nothing") {
        return;
    }
    // Whatever is opened once is.
    let whole = |phase| {
        let token = Rc::new(());
        let held_by_protocol = Rc::clone(&token);
        let mut peers = Vec::new();
        run(async {
            for (ours, version) in KINDS {
                let probe = Probe::new(&Trace::default()).doing({
                    let held = Rc::clone(&held_by_protocol);
                    move |_, _| drop(Rc::clone(&held))
                });
                if phase == "handshaking" {
                    let (mut peer, socket) = scripted(ours, version);
                    let connecting = async move { drop(ours.connect(socket, probe).await) };
                    drop(get_running_loop().unwrap().create_task(connecting));
                    peer.flush().await;
                    turns(3).await;
                    peers.push(peer);
                    continue;
                }
                let (transport, mut peer) = pair(ours, version, probe).await;
                match phase {
                    "open" => {}
                    "writing" => drop(block(&transport)),
                    "closing" => {
                        block(&transport);
                        transport.close();
                    }
                    "parting" => {
                        transport.close();
                        turns(3).await;
                    }
                    "failing" => {
                        peer.send(&[23, 3, 3, 0xff, 0xff]).await;
                        turns(3).await;
                    }
                    _ => unreachable!(),
                }
                peers.push(peer);
            }
        });
        drop(held_by_protocol);
        assert_eq!(Rc::strong_count(&token), 1, "{phase}: a protocol is left");
    };
    let phases = [
        "handshaking",
        "open",
        "writing",
        "closing",
        "parting",
        "failing",
    ];
    phases.into_iter().for_each(whole);
    let before = held();
    for phase in phases {
        whole(phase);
        assert_eq!(held(), before, "{phase}");
    }
}

/// A client that only writes has never read the tickets that a server of TLS 1.3 gave it. Were they
/// unread when it closes, the system would reset the connection, and the tail be lost.
#[test]
fn a_client_that_only_writes_loses_no_tail() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Made = call {
                transport.pause_reading();
                transport.write(pattern(1 << 20));
                transport.close();
            }
        });
        let (mut peer, socket) = scripted(Ours::Client, TLS13);
        let speaking = async {
            peer.shake_hands().await.unwrap();
            let (data, end) = peer.read_to_end().await;
            assert_eq!(end, End::Clean);
            assert!(data == pattern(1 << 20));
            let goodbye = peer.close_notify();
            peer.send(&goodbye).await;
        };
        join(Ours::Client.connect(socket, probe), speaking)
            .await
            .0
            .unwrap();
        within("the end", trace.until("lost")).await;
        assert_eq!(trace, ["made", "lost"]);
    });
}

/// A peer that takes nothing, and ends its side without `close_notify`: the connection is lost, and
/// nobody waits for it to take the rest.
#[test]
fn a_truncation_with_much_unsent_leaves_nothing() {
    if !own_process::enter("ends::a_truncation_with_much_unsent_leaves_nothing") {
        return;
    }
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let before = held();
            let (transport, peer) = pair(ours, version, Probe::new(&trace)).await;
            block(&transport);
            peer.finish();
            trace.until("lost UnexpectedEof").await;
            drop(transport);
            // One descriptor is the peer's.
            within("ours to be gone", async {
                while held() != (before.0 + 1, before.1) {
                    turns(1).await;
                }
            })
            .await;
            drop(peer);
        }
    });
}

/// The same with a peer that breaks the rules, which is told so if it reads; it has some time.
#[test]
fn a_failure_with_much_unsent_leaves_nothing() {
    if !own_process::enter("ends::a_failure_with_much_unsent_leaves_nothing") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let before = held();
        let (transport, mut peer) = impatient(TLS13, Probe::new(&trace)).await;
        block(&transport);
        peer.send(&[23, 3, 3, 0xff, 0xff]).await;
        trace.until("lost InvalidData").await;
        drop(transport);
        within("ours to be gone", async {
            while held() != (before.0 + 1, before.1) {
                sleep(Duration::from_millis(10)).await.unwrap();
            }
        })
        .await;
    });
}

/// Our side has ended already, so there is no way to complain.
#[test]
fn garbage_behind_our_own_end() {
    run(async {
        for ours in [Ours::Client, Ours::Server] {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, TLS13, Probe::new(&trace)).await;
            transport.write_eof().unwrap();
            turns(3).await;
            peer.tls.refresh_traffic_keys().unwrap();
            peer.flush().await;
            peer.write(b"fine").await;
            trace.until("data fine").await;
            peer.send(&[23, 3, 3, 0xff, 0xff]).await;
            trace.until("lost InvalidData").await;
            assert_eq!(trace, ["made", "data fine", "lost InvalidData"]);
            assert_eq!(reason(&transport), Some(CloseReason::TlsFailed));
        }
    });
}

/// The same where we have closed: it is over, and nobody is told of anything.
#[test]
fn a_close_that_is_answered_by_garbage() {
    run(async {
        let reports = Trace::default();
        reports.catch_reports();
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            transport.write(b"bye");
            transport.close();
            assert_eq!(peer.read_to_end().await, (b"bye".to_vec(), End::Clean));
            let begun = Instant::now();
            peer.send(&pattern(100_000)).await;
            trace.until("lost").await;
            assert!(begun.elapsed() < Duration::from_secs(1));
            assert_eq!(trace, ["made", "lost"]);
            assert_eq!(reason(&transport), Some(CloseReason::Closed));
        }
        assert_eq!(reports, []);
    });
}

/// The end of our side, asked for while much is unsent, and a close behind it: all of it arrives,
/// and then the end.
#[test]
fn an_end_and_a_close_behind_much_that_is_unsent() {
    run(async {
        for ours in [Ours::Client, Ours::Server] {
            for closes in [false, true] {
                let trace = Trace::default();
                let (transport, mut peer) = pair(ours, TLS13, Probe::new(&trace)).await;
                let data = pattern(6 << 20);
                transport.write(&data);
                transport.write_eof().unwrap();
                if closes {
                    transport.close();
                }
                let (received, end) = peer.read_to_end().await;
                assert_eq!(end, End::Clean);
                assert!(received == data);
                if !closes {
                    peer.write(b"answer").await;
                    trace.until("data answer").await;
                }
                let goodbye = peer.close_notify();
                peer.send(&goodbye).await;
                trace.until("lost").await;
                let wanted = if closes {
                    CloseReason::Closed
                } else {
                    CloseReason::PeerEof
                };
                assert_eq!(reason(&transport), Some(wanted));
            }
        }
    });
}

/// `resume_writing` that closes, and `pause_writing` that aborts.
#[test]
fn cpython_156512_ends_in_the_callbacks_of_flow_control() {
    run(async {
        for (ours, version) in KINDS {
            for aborts in [false, true] {
                let trace = Trace::default();
                let probe = Probe::new(&trace).doing(move |call, transport| match call {
                    Call::Pause if aborts => transport.abort(),
                    Call::Resume => transport.close(),
                    _ => {}
                });
                let (transport, mut peer) = pair(ours, version, probe).await;
                let data = pattern(6 << 20);
                transport.write(&data);
                let (received, end) = peer.read_to_end().await;
                drop(peer);
                trace.until("lost").await;
                if aborts {
                    assert_eq!(trace, ["made", "pause", "lost"]);
                    assert_ne!(end, End::Clean);
                } else {
                    assert_eq!(trace, ["made", "pause", "resume", "lost"]);
                    assert_eq!(end, End::Clean);
                    assert!(received == data);
                }
            }
        }
    });
}

/// A protocol that panics over what came costs its connection, and the peer sees that it was no
/// good end.
#[test]
fn a_panic_over_data() {
    run(async {
        let reports = Trace::default();
        reports.catch_reports();
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let probe = Probe::new(&trace).doing(|call, _| {
                assert!(!matches!(call, Call::Data(_)), "on purpose");
            });
            let (transport, mut peer) = pair(ours, version, probe).await;
            peer.write(b"this one").await;
            trace.until("lost Other").await;
            turns(3).await;
            assert_eq!(trace, ["made", "data this one", "lost Other"]);
            assert_eq!(reason(&transport), Some(CloseReason::HandlerFailed));
            assert_ne!(peer.read_to_end().await.1, End::Clean);
        }
        assert_eq!(reports.lines().len(), 4, "{reports:?}");
    });
}

/// TLS has failed, the protocol has heard of it, and the peer has time to hear of it as well. As
/// long as there is a descriptor, the server counts it.
#[test]
fn a_failed_connection_keeps_its_place_until_it_is_closed() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .ssl_shutdown_timeout(Duration::from_secs(3600))
            .max_connections(1)
            .await
            .unwrap();
        let connect = || Scripted::connect(address_of(&server), scripted::client_config(TLS13));
        let mut first = connect();
        first.shake_hands().await.unwrap();
        trace.until("made").await;
        first.send(&[23, 3, 3, 0xff, 0xff]).await;
        trace.until("lost InvalidData").await;

        let mut second = connect();
        let early = timeout(Duration::from_millis(300), second.shake_hands()).await;
        assert!(early.is_err(), "there was a place");
        drop(first);
        within("a place", second.shake_hands()).await.unwrap();
        trace.until_count("made", 2).await;

        // Nor is the server over before its last connection.
        second.send(&[23, 3, 3, 0xff, 0xff]).await;
        trace.until_count("lost InvalidData", 2).await;
        server.close();
        let waiting = get_running_loop().unwrap().create_task({
            let server = server.clone();
            async move { server.wait_closed().await }
        });
        turns(10).await;
        assert!(!waiting.done());
        server.abort_clients();
        within("the end", waiting).await.unwrap().unwrap();
        drop(second);
    });
}

/// A peer that reads nothing and goes on talking does not keep a connection that we have closed:
/// what it says nobody hears.
#[test]
fn a_closing_connection_is_idle_whatever_comes() {
    run(async {
        for much in [false, true] {
            // A trickle, and what fills everything.
            for size in [1, 16_000] {
                let trace = Trace::default();
                let served = Rc::new(RefCell::new(None));
                let (made, serving) = (trace.clone(), Rc::clone(&served));
                let factory = move || {
                    let serving = Rc::clone(&serving);
                    Probe::new(&made).doing(move |_, transport| {
                        *serving.borrow_mut() = Some(transport.clone());
                    })
                };
                let server = create_server(factory, ("127.0.0.1", 0))
                    .ssl(server_context("server"))
                    .ssl_shutdown_timeout(Duration::from_secs(3600))
                    .idle_timeout(Duration::from_millis(300))
                    .await
                    .unwrap();
                let config = scripted::client_config(TLS13);
                let mut peer = Scripted::connect(address_of(&server), config);
                peer.shake_hands().await.unwrap();
                trace.until("made").await;
                let transport = served.take().unwrap();
                fill(&transport);
                if much {
                    transport.write(pattern(20 << 20));
                }
                transport.close();
                let begun = Instant::now();
                let mut talks = true;
                while transport.get_extra_info(ClosedBecause).is_none() {
                    let time = begun.elapsed();
                    let case = format!("{much}, {size}: {trace:?}");
                    assert!(time < Duration::from_secs(5), "{case}");
                    let record = peer.encrypt(&vec![0; size]);
                    // A part of a record would be another story.
                    talks = talks && peer.socket.write(&record).is_ok_and(|n| n == record.len());
                    sleep(Duration::from_millis(20)).await.unwrap();
                }
                // The system may have taken the little that there was: then all was said.
                let wanted = match reason(&transport) {
                    Some(CloseReason::Closed) if !much => "lost",
                    _ => "lost TimedOut",
                };
                trace.until(wanted).await;
                server.close();
                within("the end", server.wait_closed()).await.unwrap();
            }
        }
    });
}

/// Writes until the system takes no more. TLS has taken all of it.
fn fill(transport: &Transport) {
    transport.set_write_buffer_limits(1 << 40, 0).unwrap();
    while transport.get_write_buffer_size() == 0 {
        transport.write(&[0; 1000]);
    }
}
