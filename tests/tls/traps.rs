//! What bit users of TLS in event loops, each named after the thread where it was told, as in
//! `tests/pitfalls/`.

use std::cell::{Cell, RefCell};
use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use evloop::{
    CloseReason, ClosedBecause, LoopHandle, Protocol, StreamReader, StreamWriter, Transport,
    connect_accepted_socket, create_server, get_running_loop, open_connection, start_server,
};
use futures::future::join;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::common::own_process::{self, resident_kib};
use crate::common::trace::Trace;
use crate::common::{pattern, run, turns, within};
use crate::pairs::{KINDS, Ours, address_of, pair, scripted, sockets};
use crate::probe::{Call, Probe, block};
use crate::scripted::{self, End, Scripted, TLS12, TLS13};
use crate::support::{Small, client_context, server_context};

fn reason(transport: &Transport) -> Option<CloseReason> {
    transport.get_extra_info(ClosedBecause)
}

/// Streams, our side being this one, and the peer.
async fn streams(ours: Ours) -> (StreamReader, StreamWriter, Scripted) {
    assert_eq!(ours, Ours::Client);
    let (mut peer, socket) = scripted(ours, TLS13);
    let connecting = open_connection(socket)
        .ssl(client_context())
        .server_hostname("localhost");
    let (connected, shaken) = join(connecting.into_future(), peer.shake_hands()).await;
    shaken.unwrap();
    let (reader, writer) = connected.unwrap();
    (reader, writer, peer)
}

/// A close waited for an answer that TLS 1.3 need not give, for 30 seconds or for ever.
#[test]
fn aiohttp_11091_a_close_that_nobody_answers_is_over_soon() {
    run(async {
        let (_reader, writer, mut peer) = streams(Ours::Client).await;
        let begun = std::time::Instant::now();
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap();
        // By default: two seconds.
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(peer.read_to_end().await, (Vec::new(), End::Clean));
    });
}

/// A close before the end of the other side is noticed was ignored, and nothing said goodbye.
#[test]
fn aiohttp_1925_a_close_beside_the_end_of_the_peer() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            let goodbye = peer.close_notify();
            peer.send(&goodbye).await;
            // It is in our socket, and we have not looked yet.
            transport.write(b"last words");
            transport.close();
            assert_eq!(
                peer.read_to_end().await,
                (b"last words".to_vec(), End::Clean)
            );
            trace.until("lost").await;
            assert_eq!(trace.count("lost"), 1);
        }
    });
}

/// `is_closing` was false when the connection was lost already.
#[test]
fn cpython_101353_is_closing_after_a_loss() {
    run(async {
        for (ours, version) in KINDS {
            let closing = Rc::new(RefCell::new(None));
            let seen = Rc::clone(&closing);
            let trace = Trace::default();
            let probe = Probe::new(&trace).doing(move |call, transport| {
                if let Call::Lost(_) = call {
                    *seen.borrow_mut() = Some(transport.is_closing());
                }
            });
            let (transport, peer) = pair(ours, version, probe).await;
            peer.reset();
            trace.until("lost ConnectionReset").await;
            assert_eq!(*closing.borrow(), Some(true));
            assert!(transport.is_closing());
            // And what is written then is nobody's.
            transport.write(b"nothing");
            transport.write_eof().unwrap_or_default();
            transport.close();
            assert_eq!(transport.get_write_buffer_size(), 0);
            assert_eq!(reason(&transport), Some(CloseReason::Reset));
        }
    });
}

/// A peer that goes before the handshake is done left the client waiting.
#[test]
fn asyncio_472_a_peer_that_closes_early() {
    run(async {
        let (socket, theirs) = sockets();
        drop(theirs);
        let connecting = open_connection(socket)
            .ssl(client_context())
            .server_hostname("localhost");
        let error = within("an end", connecting.into_future())
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

/// `eof_received` that returns true only brought a warning, and no half of a connection.
#[test]
fn cpython_82918_streams_end_one_direction_at_a_time() {
    run(async {
        let callback = |mut reader: StreamReader, writer: StreamWriter| async move {
            let data = reader.read_to_end(usize::MAX).await?;
            // After the peer's end.
            writer.write(&data);
            writer.drain().await
        };
        let server = start_server(callback, ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .await
            .unwrap();
        let (mut reader, writer) = open_connection(address_of(&server))
            .ssl(client_context())
            .await
            .unwrap();
        writer.write(b"all of it");
        assert!(writer.can_write_eof());
        writer.write_eof().unwrap();
        let answer = within("the answer", reader.read_to_end(1000))
            .await
            .unwrap();
        assert_eq!(answer, b"all of it");
    });
}

/// The end without `close_notify` was taken for a clean one. A stream's reader has what came, and
/// then the error.
#[test]
fn uvloop_385_a_cut_off_stream_is_an_error_behind_its_data() {
    run(async {
        let (mut reader, writer, mut peer) = streams(Ours::Client).await;
        peer.write(b"HTTP/1.0 200 OK\r\n").await;
        peer.finish();
        assert_eq!(reader.readline().await.unwrap(), b"HTTP/1.0 200 OK\r\n");
        let error = reader.read(100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(CloseReason::of(&error), Some(CloseReason::Truncated));
        assert!(writer.drain().await.is_err());
        // And in good order.
        let (mut reader, _writer, mut peer) = streams(Ours::Client).await;
        let mut bytes = peer.encrypt(b"all");
        bytes.extend(peer.close_notify());
        peer.send(&bytes).await;
        peer.finish();
        assert_eq!(reader.read_to_end(100).await.unwrap(), b"all");
    });
}

/// The marks were ignored under TLS. What counts is what was written and the system does not have:
/// ours as we got it, and the records in which it waits.
#[test]
fn cpython_90645_the_marks_count_plaintext_and_records_together() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            let stuck = block(&transport);
            assert!(stuck > 0);
            assert_eq!(trace, ["made"]);
            // Nothing goes any more, so each byte is counted once.
            transport.write(pattern(10_000));
            let before = transport.get_write_buffer_size();
            transport.write(b"12345");
            assert_eq!(transport.get_write_buffer_size(), before + 5);
            turns(3).await;
            assert_eq!(transport.get_write_buffer_size(), before + 5);
            // Lower than what waits: paused at once; higher again: resumed.
            transport.set_write_buffer_limits(before, 1000).unwrap();
            trace.until("pause").await;
            transport
                .set_write_buffer_limits(1 << 40, before + 5)
                .unwrap();
            trace.until("resume").await;
            transport.set_write_buffer_limits(before + 4, 1000).unwrap();
            trace.until_count("pause", 2).await;
            transport.set_write_buffer_limits(before + 4, 0).unwrap();
            turns(3).await;
            assert_eq!(trace, ["made", "pause", "resume", "pause"]);
            while !trace.lines().ends_with(&["resume".to_owned()]) {
                let _ = peer.hear().await.unwrap();
            }
            assert_eq!(transport.get_write_buffer_size(), 0);
            assert_eq!(trace, ["made", "pause", "resume", "pause", "resume"]);
        }
    });
}

/// `drain` with a mark of zero, over and over.
#[test]
fn cpython_102792_drain_with_a_high_mark_of_zero() {
    run(async {
        let (_reader, writer, mut peer) = streams(Ours::Client).await;
        writer.transport().set_write_buffer_limits(0, None).unwrap();
        let data = pattern(2 << 20);
        let writing = async {
            for piece in data.chunks(10_000) {
                writer.write(piece);
                writer.drain().await.unwrap();
                assert_eq!(writer.transport().get_write_buffer_size(), 0);
            }
            writer.write_eof().unwrap();
        };
        let (_, received) = join(writing, peer.read_to_close_notify()).await;
        assert!(received == data);
    });
}

/// `writelines` did not look at the marks. Here it is as if the pieces were written one by one.
#[test]
fn cpython_127656_writelines_looks_at_the_marks_under_tls() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            block(&transport);
            // Nothing goes any more.
            transport.write(b"-");
            let before = transport.get_write_buffer_size();
            let high = before + 2 * LINE;
            transport.set_write_buffer_limits(high, 0).unwrap();
            let lines: Vec<_> = pattern(3 * LINE);
            let mut lines = lines.chunks(LINE);
            transport.writelines(lines.by_ref().take(2));
            assert_eq!(transport.get_write_buffer_size(), high);
            turns(3).await;
            assert_eq!(trace, ["made"], "at the mark");
            transport.writelines(lines);
            assert_eq!(transport.get_write_buffer_size(), before + 3 * LINE);
            trace.until("pause").await;
            let mut received = Vec::new();
            while !trace.has("resume") {
                received.extend(peer.hear().await.unwrap());
            }
            transport.close();
            received.extend(peer.read_to_close_notify().await);
            assert!(received.ends_with(&pattern(3 * LINE)), "out of order");
            assert_eq!(trace, ["made", "pause", "resume"]);
        }
    });
}

/// Plaintext stayed in the engine while the consumer's buffer was small, and no event told of it.
#[test]
fn rustls_2382_a_small_buffer_behind_many_records_at_once() {
    run(async {
        for (ours, version) in KINDS {
            let received = Rc::new(RefCell::new(Vec::new()));
            let (transport, mut peer) = pair(ours, version, Probe::new(&Trace::default())).await;
            let protocol: Rc<RefCell<dyn Protocol>> =
                Rc::new(RefCell::new(Small::<16>::new(&received)));
            transport.set_protocol(protocol);
            // The last of them ends before, at and behind where a receive does.
            for size in (50_000..=80_000).step_by(1000) {
                let data = pattern(size);
                let mut records = Vec::new();
                for piece in data.chunks(10_000) {
                    records.extend(peer.encrypt(piece));
                }
                let before = get_running_loop().unwrap().metrics().events;
                // All of it is there before the loop looks.
                io::Write::write_all(&mut peer.socket, &records).unwrap();
                within("all of it", async {
                    while received.borrow().len() < size {
                        turns(1).await;
                    }
                })
                .await;
                assert!(received.take() == data);
                let events = get_running_loop().unwrap().metrics().events - before;
                assert_eq!(events, 1, "{ours:?} {version:?} {size}");
            }
        }
    });
}

/// After the goodbye there was no end of the connection's half behind it: the peer waited for ever.
#[test]
fn bun_34498_behind_each_goodbye_there_is_an_end() {
    run(async {
        for ours in [Ours::Client, Ours::Server] {
            for peer_is_first in [false, true] {
                let trace = Trace::default();
                let probe = Probe::new(&trace).keeping_open();
                let (transport, mut peer) = pair(ours, TLS13, probe).await;
                let goodbye = peer.close_notify();
                if peer_is_first {
                    peer.send(&goodbye).await;
                    peer.finish();
                    trace.until("eof").await;
                    transport.write(b"still here");
                    assert_eq!(peer.read(10).await, b"still here");
                }
                transport.write_eof().unwrap();
                // The connection need not be closed for that, nor the other side have ended.
                let end = within("the end", peer.read_to_end()).await;
                assert_eq!(end, (Vec::new(), End::Clean));
                if !peer_is_first {
                    assert_eq!(trace, ["made"]);
                    peer.send(&goodbye).await;
                    peer.finish();
                    trace.until("eof").await;
                }
                transport.close();
                trace.until("lost").await;
                assert_eq!(trace, ["made", "eof", "lost"]);
            }
        }
    });
}

/// Who pauses reading is sent no more than a bounded amount, and goes on where it was.
#[test]
fn whoever_pauses_reading_keeps_the_peer_waiting() {
    if !own_process::enter("traps::whoever_pauses_reading_keeps_the_peer_waiting") {
        return;
    }
    run(async {
        for (ours, version) in KINDS {
            let received = Rc::new(RefCell::new(Vec::with_capacity(20 << 20)));
            let kept = Rc::clone(&received);
            let probe = Probe::new(&Trace::default()).doing(move |call, _| {
                if let Call::Data(data) = call {
                    kept.borrow_mut().extend_from_slice(data);
                }
            });
            let (transport, mut peer) = pair(ours, version, probe).await;
            transport.pause_reading();
            assert!(!transport.is_reading());
            let data = pattern(20 << 20);
            let mut records = Vec::new();
            for piece in data.chunks(1 << 20) {
                records.extend(peer.encrypt(piece));
            }
            let before = resident_kib();
            let sent = peer.send_what_is_taken(&records).await;
            let rest = &records[sent..];
            assert!(!rest.is_empty(), "all was taken");
            assert!(received.borrow().is_empty());
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < 2048, "{grown} KiB were kept");
            transport.resume_reading();
            peer.send(rest).await;
            within("all of it", async {
                while received.borrow().len() < data.len() {
                    turns(1).await;
                }
            })
            .await;
            assert!(*received.borrow() == data);
        }
    });
}

/// Paused in `connection_made`, and in the middle of what came.
#[test]
fn pausing_in_a_callback_holds_at_once() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let probe = Probe::new(&trace).doing(|call, transport| {
                if let Call::Made | Call::Data(_) = call {
                    transport.pause_reading();
                }
            });
            let (transport, mut peer) = pair(ours, version, probe).await;
            peer.write(b"first").await;
            turns(10).await;
            assert_eq!(trace, ["made"]);
            transport.resume_reading();
            trace.until("data first").await;
            let mut bytes = peer.encrypt(b"second");
            bytes.extend(peer.close_notify());
            peer.send(&bytes).await;
            peer.finish();
            turns(10).await;
            assert_eq!(trace, ["made", "data first"]);
            transport.resume_reading();
            trace.until("data second").await;
            turns(10).await;
            assert_eq!(trace, ["made", "data first", "data second"]);
            transport.resume_reading();
            trace.until("lost").await;
            assert_eq!(trace, ["made", "data first", "data second", "eof", "lost"]);
        }
    });
}

/// Another protocol takes over, also one that brings a buffer.
#[test]
fn another_protocol_above_the_same_tls() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let probe = Probe::new(&trace).named("first ");
            let (transport, mut peer) = pair(ours, version, probe).await;
            peer.write(b"a").await;
            trace.until("first data a").await;
            let second = Probe::new(&trace).named("second ").on(&transport);
            let second: Rc<RefCell<dyn Protocol>> = Rc::new(RefCell::new(second));
            transport.set_protocol(second);
            peer.write(b"b").await;
            trace.until("second data b").await;
            drop(peer);
            trace.until("second lost UnexpectedEof").await;
            assert_eq!(trace.lines().len(), 4, "{trace:?}");
        }
    });
}

/// An idle connection that keeps an interest in writing spins. A second of nothing is nothing.
#[test]
fn nefarious2_111_an_idle_connection_wakes_nobody() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            transport.write(b"hello");
            assert_eq!(peer.read(5).await, b"hello");
            turns(5).await;
            let handle = get_running_loop().unwrap();
            let before = handle.metrics();
            evloop::sleep(Duration::from_secs(1)).await.unwrap();
            let after = handle.metrics();
            assert_eq!(after.events, before.events);
            // The sleep itself.
            assert!(after.polls - before.polls <= 2, "{before:?} {after:?}");
            drop(transport);
        }
    });
}

/// The socket belongs to TLS: taken out, it would be of use to nobody.
#[test]
fn there_is_no_socket_to_detach() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            let error = transport.detach().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            transport.write(b"goes on");
            assert_eq!(peer.read(7).await, b"goes on");
            assert_eq!(trace, ["made"]);
        }
    });
}

/// What the system would send as it is has to be encrypted first.
#[test]
fn a_file_is_read_and_encrypted() {
    run(async {
        let data = pattern(3 << 20);
        let folder = crate::common::folder::Folder::new();
        let path = folder.path("file");
        std::fs::write(&path, &data).unwrap();
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            transport.write(b"header");
            let file = std::fs::File::open(&path).unwrap();
            let sending = async {
                let sent = evloop::sendfile(&transport, &file).await.unwrap();
                assert_eq!(sent, 3 << 20);
                transport.write(b"trailer");
                transport.close();
            };
            let ((), (received, end)) = join(sending, peer.read_to_end()).await;
            assert_eq!(end, End::Clean);
            assert!(received == [b"header", &data[..], b"trailer"].concat());
            let file = std::fs::File::open(&path).unwrap();
            let (transport, _peer) = pair(ours, version, Probe::new(&trace)).await;
            let error = evloop::sendfile(&transport, &file).fallback(false).await;
            assert_eq!(
                io::Error::from(error.unwrap_err()).kind(),
                ErrorKind::Unsupported
            );
        }
    });
}

/// The policies of a server see through TLS.
#[test]
fn the_policies_of_a_server_hold_under_tls() {
    run(async {
        for why in [
            CloseReason::IdleTimeout,
            CloseReason::WriteTimeout,
            CloseReason::WriteBufferFull,
        ] {
            let trace = Trace::default();
            let made = trace.clone();
            let kept = Rc::new(RefCell::new(None));
            let keep = Rc::clone(&kept);
            let factory = move || {
                let keep = Rc::clone(&keep);
                Probe::new(&made).doing(move |call, transport| {
                    if let Call::Made = call {
                        *keep.borrow_mut() = Some(transport.clone());
                        if why != CloseReason::IdleTimeout {
                            let limit = transport.set_write_buffer_limits(1 << 40, 0);
                            limit.unwrap();
                            transport.write(vec![0; 32 << 20]);
                        }
                    }
                })
            };
            let server = create_server(factory, ("127.0.0.1", 0)).ssl(server_context("server"));
            let limit = Duration::from_millis(100);
            let server = match why {
                CloseReason::IdleTimeout => server.idle_timeout(limit),
                CloseReason::WriteTimeout => server.write_timeout(limit),
                _ => server.max_write_buffer(1 << 20),
            };
            let server = server.await.unwrap();
            let config = scripted::client_config(TLS13);
            let mut peer = Scripted::connect(address_of(&server), config);
            peer.shake_hands().await.unwrap();
            let line = match why {
                CloseReason::WriteBufferFull => "lost ConnectionAborted",
                _ => "lost TimedOut",
            };
            trace.until(line).await;
            assert_eq!(trace, ["made", line]);
            assert_eq!(reason(&kept.take().unwrap()), Some(why));
            assert_ne!(peer.read_to_end().await.1, End::Clean);
            server.close();
            within("the end", server.wait_closed()).await.unwrap();
        }
    });
}

/// Those that are in use, by the ways that a server has to end them.
#[test]
fn cpython_113538_a_server_closes_and_aborts_clients_under_tls() {
    run(async {
        for way in ["close", "abort", "shutdown"] {
            let trace = Trace::default();
            let (server, address) = crate::pairs::server_of_probes(&trace).await;
            let mut peer = Scripted::connect(address, scripted::client_config(TLS13));
            peer.shake_hands().await.unwrap();
            trace.until("made").await;
            server.close();
            let shutting_down = async {
                match way {
                    "close" => server.close_clients(),
                    "abort" => server.abort_clients(),
                    _ => drop(server.shutdown().await.unwrap()),
                }
            };
            let ((), (_, end)) = join(shutting_down, async {
                let end = peer.read_to_end().await;
                drop(peer);
                end
            })
            .await;
            assert_eq!(end == End::Clean, way != "abort", "{way}: {end:?}");
            within("the end", server.wait_closed()).await.unwrap();
            assert_eq!(trace, ["made", "lost"]);
        }
    });
}

/// A reader and a writer in two tasks, each of which needs what the other one does: both go on.
#[test]
fn tokio_3200_two_tasks_on_one_connection() {
    run(async {
        let callback = |mut reader: StreamReader, writer: StreamWriter| async move {
            loop {
                let data = reader.read(50_000).await?;
                if data.is_empty() {
                    return io::Result::Ok(());
                }
                writer.write(data);
                writer.drain().await?;
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .await
            .unwrap();
        let (mut reader, writer) = open_connection(address_of(&server))
            .ssl(client_context())
            .await
            .unwrap();
        let data = pattern(4 << 20);
        let writing = async {
            for piece in data.chunks(70_000) {
                writer.write(piece);
                writer.drain().await.unwrap();
            }
            writer.write_eof().unwrap();
        };
        let reading = within("all of it", reader.read_to_end(usize::MAX));
        let ((), received) = join(writing, reading).await;
        assert!(received.unwrap() == data);
    });
}

/// What a crowd of handshakes has come to.
#[derive(Debug)]
struct Crowd {
    resolver: Arc<dyn ResolvesServerCert>,
    /// Whose hello was answered. A certificate is looked for once in each.
    answered: AtomicUsize,
}

impl ResolvesServerCert for Crowd {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.resolver.resolve(hello)
    }
}

/// Somebody else, who wants a turn each time, and looks how much was done between two of them.
fn tick(handle: &LoopHandle, done: Rc<dyn Fn() -> usize>, before: usize, most: Rc<Cell<usize>>) {
    let now = done();
    most.set(most.get().max(now - before));
    let here = handle.clone();
    handle.call_soon(move || tick(&here, done, now, most));
}

/// A crowd that comes at once is served, each of them, and the others have their turns meanwhile:
/// from one to the next there is one step of a handshake from the events and one from the visits.
#[test]
fn h2o_2872_a_crowd_of_handshakes() {
    run(async {
        let mut config = scripted::server_config(TLS13, "server");
        let crowd = Arc::new(Crowd {
            resolver: Arc::clone(&config.cert_resolver),
            answered: AtomicUsize::new(0),
        });
        config.cert_resolver = Arc::clone(&crowd) as Arc<dyn ResolvesServerCert>;
        let trace = Trace::default();
        let made = trace.clone();
        let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
            .ssl(Arc::new(config))
            .backlog(200)
            .await
            .unwrap();
        let address = address_of(&server);
        let connect = |_| Scripted::connect(address, scripted::client_config(TLS13));
        let mut peers: Vec<_> = (0..CROWD).map(connect).collect();

        // Of each of the two steps, all are there before the loop looks.
        for peer in &mut peers {
            let hello = peer.records();
            io::Write::write_all(&mut peer.socket, &hello).unwrap();
        }
        let handle = get_running_loop().unwrap();
        let (hellos, ends) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counted = Arc::clone(&crowd);
        let answered = move || counted.answered.load(Ordering::Relaxed);
        let counted = trace.clone();
        let done = move || counted.count("made");
        tick(&handle, Rc::new(answered), 0, Rc::clone(&hellos));
        tick(&handle, Rc::new(done), 0, Rc::clone(&ends));
        within("an answer to each", async {
            while crowd.answered.load(Ordering::Relaxed) < CROWD {
                turns(1).await;
            }
        })
        .await;
        let mut last = Vec::new();
        for peer in &mut peers {
            last.push(peer.shake_hands_but_for_the_last().await);
        }
        for (peer, records) in peers.iter_mut().zip(last) {
            io::Write::write_all(&mut peer.socket, &records).unwrap();
        }
        trace.until_count("made", CROWD).await;
        assert_eq!(trace.lines().len(), CROWD, "somebody was lost");
        assert_eq!(crowd.answered.load(Ordering::Relaxed), CROWD);
        let most = (hellos.get(), ends.get());
        assert!(most.0 <= 2 && most.1 <= 2, "{most:?} steps in one turn");
    });
}

/// A configuration with a provider of the user's own is taken as it is, and nothing is installed
/// for the process.
#[test]
fn rustls_1938_two_providers_are_no_matter() {
    run(async {
        let (mut peer, socket) = scripted(Ours::Server, TLS12);
        let config = scripted::server_config(TLS12, "server");
        let probe = Probe::new(&Trace::default());
        let accepting = connect_accepted_socket(move || probe, socket).ssl(Arc::new(config));
        let (accepted, shaken) = join(accepting.into_future(), peer.shake_hands()).await;
        shaken.unwrap();
        assert!(!accepted.unwrap().0.is_closing());
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    });
}

const CROWD: usize = 100;
/// Bytes of one line.
const LINE: usize = 4000;
