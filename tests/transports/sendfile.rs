//! Files, sent as they are: by the system, and where it cannot, by reading and writing.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::future::IntoFuture;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use evloop::{
    CloseReason, ClosedBecause, CreateServer, EventLoop, NoRunningLoop, SendfileError, Server,
    Transport, create_connection, create_server, get_running_loop, sendfile, sleep, timeout,
};
use futures::executor::block_on;
use futures::future::{Either, select};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use socket2::SockRef;

use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::{PATIENCE, Peer, in_thread, listener, pattern, run, turns, within};
use crate::probe::{Call, Probe, block, connected};

const SHORT: Duration = Duration::from_millis(20);
pub(crate) const MIB: usize = 1024 * 1024;
/// More than two sockets of the loopback hold.
pub(crate) const LARGE: usize = 32 * MIB;

/// Who brings the bytes from the file to the socket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    System,
    Reading,
}

pub(crate) const WAYS: [Way; 2] = [Way::System, Way::Reading];

impl Way {
    /// A connection whose socket takes files in this way.
    async fn connected(self, probe: Probe) -> (Transport, Peer) {
        let (listener, address) = listener();
        let ours = TcpStream::connect(address).unwrap();
        if self == Self::Reading {
            refuse_files(&ours);
        }
        let (transport, _) = create_connection(move || probe, ours).await.unwrap();
        (transport, Peer::accept(&listener))
    }

    async fn quiet(self) -> (Transport, Peer) {
        self.connected(Probe::new(&Trace::default())).await
    }
}

/// The system sends no file to a socket in this mode, which changes nothing else of it.
pub(crate) fn refuse_files(socket: &impl std::os::fd::AsFd) {
    let flags = fcntl_getfl(socket).unwrap();
    fcntl_setfl(socket, flags | OFlags::APPEND).unwrap();
}

/// Made once: it takes its time.
pub(crate) fn large() -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(LARGE));
    &BYTES
}

/// A file with these bytes, which is gone with its last descriptor.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let folder = Folder::new();
    let path = folder.path("file");
    std::fs::write(&path, bytes).unwrap();
    File::open(&path).unwrap()
}

pub(crate) fn position(mut file: &File) -> u64 {
    file.stream_position().unwrap()
}

/// Compares what comes with `expected`, to its end.
fn expect_all(peer: &Peer, expected: &[u8]) {
    let mut piece = vec![0; 16 * 1024];
    let mut rest = expected;
    loop {
        let n = (&peer.0).read(&mut piece).unwrap();
        if n == 0 {
            break;
        }
        let (now, later) = rest.split_at_checked(n).expect("no more than there is");
        assert!(
            piece[..n] == *now,
            "other bytes before the last {}",
            later.len()
        );
        rest = later;
    }
    assert_eq!(rest.len(), 0, "bytes are missing");
}

#[test]
fn a_large_file_arrives_whole_at_a_slow_reader_and_hardly_anything_waits_in_memory() {
    let file = file_of(large());
    for way in WAYS {
        run(async {
            let (transport, peer) = way.quiet().await;
            SockRef::from(&peer.0)
                .set_recv_buffer_size(64 * 1024)
                .unwrap();
            let received = thread::spawn(move || expect_all(&peer, large()));
            let over = Rc::new(Cell::new(false));
            let (seen, watched) = (Rc::clone(&over), transport.clone());
            let most = get_running_loop().unwrap().create_task(async move {
                let mut most = 0;
                while !seen.get() {
                    most = watched.get_write_buffer_size().max(most);
                    turns(1).await;
                }
                most
            });
            let sent = sendfile(&transport, &file).await.unwrap();
            over.set(true);
            assert_eq!(sent, LARGE as u64);
            assert_eq!(transport.get_write_buffer_size(), 0);
            assert_eq!(position(&file), sent);
            transport.close();
            in_thread(move || received.join().unwrap()).await;
            let most = most.await.unwrap();
            match way {
                Way::System => assert_eq!(most, 0),
                Way::Reading => assert!(most <= 64 * 1024, "{most} bytes waited"),
            }
        });
    }
}

#[test]
fn a_turn_of_the_loop_sends_a_quarter_of_a_mebibyte_at_most() {
    run(async {
        let file = file_of(&pattern(4 * MIB));
        let (transport, peer) = Way::System.quiet().await;
        let received = thread::spawn(move || peer.receive(4 * MIB).len());
        let over = Rc::new(Cell::new(false));
        let seen = Rc::clone(&over);
        let others = get_running_loop().unwrap().create_task(async move {
            let mut count = 0;
            while !seen.get() {
                count += 1;
                turns(1).await;
            }
            count
        });
        sendfile(&transport, &file).await.unwrap();
        over.set(true);
        assert!(others.await.unwrap() >= 16);
        assert_eq!(in_thread(move || received.join().unwrap()).await, 4 * MIB);
    });
}

#[test]
fn offset_and_count_choose_a_part_and_the_position_follows() {
    let all = pattern(100_000);
    let end = all.len() as u64;
    // From where, how many, and which part that is.
    let cases = [
        (0, None, 0..end),
        (70_000, None, 70_000..end),
        (0, Some(1), 0..1),
        (10, Some(65_536), 10..65_546),
        (99_990, Some(1000), 99_990..end),
        (end, None, end..end),
        (end + 5, Some(7), end..end),
        (u64::MAX, None, end..end),
    ];
    for way in WAYS {
        for (offset, count, part) in cases.clone() {
            run(async {
                let case = format!("{way:?} {offset} {count:?}");
                let (transport, peer) = way.quiet().await;
                let mut file = file_of(&all);
                file.seek(io::SeekFrom::Start(33)).unwrap();
                let mut job = sendfile(&transport, &file).offset(offset);
                if let Some(count) = count {
                    job = job.count(count);
                }
                let outcome = job.await;
                transport.close();
                let (from, to) = (part.start, part.end);
                if offset == u64::MAX {
                    // No system counts so far.
                    assert_eq!(outcome.unwrap_err().source.kind(), ErrorKind::InvalidInput);
                } else {
                    assert_eq!(outcome.unwrap(), to - from, "{case}");
                }
                let expected = &all[from as usize..to as usize];
                let received = in_thread(move || peer.receive_all()).await;
                assert!(received == expected, "{case}");
                let moved = if from == to { 33 } else { to };
                assert_eq!(position(&file), moved, "{case}");
            });
        }
    }
}

#[test]
fn an_empty_file_is_sent_at_once() {
    for way in WAYS {
        run(async {
            let (transport, _peer) = way.quiet().await;
            assert_eq!(sendfile(&transport, &file_of(b"")).await.unwrap(), 0);
        });
    }
}

#[test]
fn what_was_written_before_goes_first_and_what_is_written_after_behind() {
    for way in WAYS {
        run(async {
            let (transport, peer) = way.quiet().await;
            let file = file_of(&pattern(MIB));
            let before = {
                let mut total = 0;
                transport.set_write_buffer_limits(1 << 40, 0).unwrap();
                while transport.get_write_buffer_size() == 0 {
                    transport.write(vec![b'-'; 64 * 1024]);
                    total += 64 * 1024;
                }
                total
            };
            let received = thread::spawn(move || peer.receive_all());
            transport.write(b"head");
            assert_eq!(sendfile(&transport, &file).await.unwrap(), MIB as u64);
            transport.write(b"tail");
            transport.close();
            let received = in_thread(move || received.join().unwrap()).await;
            let mut expected = vec![b'-'; before];
            expected.extend(b"head");
            expected.extend(pattern(MIB));
            expected.extend(b"tail");
            assert!(received == expected, "{way:?}");
        });
    }
}

#[test]
fn it_begins_on_an_open_connection_only_and_with_a_count_that_is_one() {
    run(async {
        let file = file_of(b"hello");
        let said = |outcome: Result<u64, SendfileError>| {
            let error = outcome.unwrap_err();
            assert_eq!(error.sent, 0);
            (error.source.kind(), error.source.to_string())
        };
        let (transport, _peer) = Way::System.quiet().await;
        let outcome = sendfile(&transport, &file).count(0).await;
        let message = "count must be a positive integer (got 0)".to_owned();
        assert_eq!(said(outcome), (ErrorKind::InvalidInput, message));
        transport.write_eof().unwrap();
        let outcome = sendfile(&transport, &file).await;
        let message = "Cannot call sendfile() after write_eof()".to_owned();
        assert_eq!(said(outcome), (ErrorKind::BrokenPipe, message));
        transport.close();
        let outcome = sendfile(&transport, &file).await;
        let message = "Transport is closing".to_owned();
        assert_eq!(said(outcome), (ErrorKind::NotConnected, message));
        assert_eq!(position(&file), 0);
    });
}

#[test]
fn nobody_else_writes_meanwhile() {
    for way in WAYS {
        run(async {
            let (transport, peer) = way.quiet().await;
            let file = file_of(large());
            let mut sending = pin!(sendfile(&transport, &file).into_future());
            assert!(futures::poll!(&mut sending).is_pending());
            let message = "unable to write; sendfile is in progress";
            let error = transport.try_write(b"no").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy);
            assert_eq!(error.to_string(), message);
            let refused = [
                transport.write_eof().unwrap_err(),
                sendfile(&transport, &file).await.unwrap_err().source,
            ];
            assert_eq!(refused.map(|error| error.to_string()), [message; 2]);
            for write in [
                |transport: &Transport| transport.write(b"no"),
                |transport: &Transport| transport.writelines(["no"]),
            ] {
                let payload = catch_unwind(AssertUnwindSafe(|| write(&transport))).unwrap_err();
                assert_eq!(*payload.downcast::<String>().unwrap(), message);
            }
            let received = thread::spawn(move || expect_all(&peer, large()));
            assert_eq!(sending.await.unwrap(), LARGE as u64);
            transport.write_eof().unwrap();
            in_thread(move || received.join().unwrap()).await;
        });
    }
}

#[test]
fn the_protocol_hears_nothing_meanwhile_and_what_it_missed_afterwards() {
    for way in WAYS {
        run(async {
            let trace = Trace::default();
            let (transport, peer) = way.connected(Probe::new(&trace)).await;
            block(&transport);
            transport.set_write_buffer_limits(0, None).unwrap();
            trace.until("pause").await;
            let file = file_of(large());
            let mut sending = pin!(sendfile(&transport, &file).into_future());
            assert!(futures::poll!(&mut sending).is_pending());
            assert!(!transport.is_reading());
            peer.send(b"hello");
            let received = thread::spawn(move || {
                let n = peer.receive_all().len();
                (n, peer)
            });
            assert_eq!(sending.await.unwrap(), LARGE as u64);
            assert_eq!(trace, ["made", "pause"]);
            assert!(transport.is_reading());
            trace.until("data hello").await;
            trace.until("resume").await;
            transport.close();
            let (n, _peer) = in_thread(move || received.join().unwrap()).await;
            assert!(n > LARGE);
            trace.until("lost").await;
            assert_eq!(trace.lines().len(), 5, "{trace:?}");
        });
    }
}

#[test]
fn reading_that_was_paused_stays_so() {
    run(async {
        let (transport, _peer) = Way::System.quiet().await;
        transport.pause_reading();
        sendfile(&transport, &file_of(b"hello")).await.unwrap();
        assert!(!transport.is_reading());
    });
}

#[test]
fn a_peer_that_resets_midway_is_an_error_that_says_how_much_went() {
    for way in WAYS {
        run(async {
            let trace = Trace::default();
            let (transport, peer) = way.connected(Probe::new(&trace)).await;
            let file = file_of(large());
            let resets = thread::spawn(move || {
                peer.receive(MIB);
                peer.reset();
            });
            let error = sendfile(&transport, &file).await.unwrap_err();
            let broken = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(broken.contains(&error.source.kind()), "{error}");
            assert!((MIB as u64..LARGE as u64).contains(&error.sent), "{error}");
            assert_eq!(position(&file), error.sent);
            assert!(error.to_string().contains(&error.sent.to_string()));
            trace
                .until(&format!("lost {:?}", error.source.kind()))
                .await;
            let kind = error.source.kind();
            assert_eq!(io::Error::from(error).kind(), kind);
            // A husk takes what is written, and ignores it.
            transport.write(b"too late");
            resets.join().unwrap();
        });
    }
}

#[test]
fn a_connection_that_we_close_midway_is_an_error_as_well() {
    type End = fn(&Transport);
    let ends: [(End, CloseReason); 3] = [
        (Transport::close, CloseReason::Closed),
        (Transport::abort, CloseReason::Aborted),
        (|transport| drop(transport.detach()), CloseReason::Detached),
    ];
    for way in WAYS {
        for (end, reason) in ends {
            run(async {
                let (transport, peer) = way.quiet().await;
                let file = file_of(large());
                let mut sending = pin!(sendfile(&transport, &file).into_future());
                let received = in_thread(move || {
                    peer.receive(MIB);
                    peer
                });
                let peer = match select(&mut sending, pin!(received)).await {
                    Either::Right((peer, _)) => peer,
                    Either::Left((outcome, _)) => panic!("{outcome:?}"),
                };
                end(&transport);
                let error = sending.await.unwrap_err();
                assert_eq!(CloseReason::of(&error.source), Some(reason), "{error}");
                assert_eq!(error.source.kind(), ErrorKind::ConnectionAborted);
                assert_eq!(position(&file), error.sent);
                // What has arrived is the beginning of the file.
                let rest = in_thread(move || peer.receive_all_or_error()).await;
                let rest = rest.unwrap_or_default();
                let arrived = MIB..=error.sent as usize;
                assert!(rest.is_empty() || arrived.contains(&(MIB + rest.len())));
                assert!(large()[MIB..].starts_with(&rest));
            });
        }
    }
}

#[test]
fn cancelled_midway_it_has_sent_what_the_position_says_and_the_connection_goes_on() {
    for way in WAYS {
        run(async {
            let trace = Trace::default();
            let (transport, peer) = way.connected(Probe::new(&trace)).await;
            let file = file_of(large());
            let sending = Box::pin(sendfile(&transport, &file).into_future());
            let received = in_thread(move || {
                peer.receive(MIB);
                peer
            });
            let peer = match select(sending, pin!(received)).await {
                Either::Right((peer, sending)) => {
                    drop(sending);
                    peer
                }
                Either::Left((outcome, _)) => panic!("{outcome:?}"),
            };
            let sent = position(&file) as usize;
            assert!((MIB..LARGE).contains(&sent), "{sent}");
            assert!(transport.is_reading());
            transport.write(b" and on");
            peer.send(b"answer");
            trace.until("data answer").await;
            transport.close();
            let rest = in_thread(move || peer.receive_all()).await;
            let mut expected = large()[MIB..sent].to_vec();
            expected.extend(b" and on");
            assert!(rest == expected, "{way:?}");
        });
    }
}

#[test]
fn dropped_before_it_began_it_has_done_nothing() {
    run(async {
        let (transport, peer) = Way::System.quiet().await;
        let file = file_of(b"hello");
        drop(sendfile(&transport, &file));
        drop(sendfile(&transport, &file).into_future());
        transport.write(b"fine");
        turns(1).await;
        assert_eq!(peer.receive(4), b"fine");
        assert!(transport.is_reading());
    });
}

#[test]
fn without_the_fallback_what_the_system_cannot_send_is_unsupported() {
    run(async {
        let (transport, peer) = Way::Reading.quiet().await;
        let file = file_of(b"hello");
        let error = sendfile(&transport, &file)
            .fallback(false)
            .await
            .unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::Unsupported);
        assert_eq!(error.sent, 0);
        assert_eq!(sendfile(&transport, &file).await.unwrap(), 5);
        assert_eq!(peer.receive(5), b"hello");
        // And what it can send it sends.
        let (transport, peer) = Way::System.quiet().await;
        let sent = sendfile(&transport, &file).fallback(false).await;
        assert_eq!(sent.unwrap(), 5);
        assert_eq!(peer.receive(5), b"hello");
    });
}

#[test]
fn a_pipe_is_read_to_its_end() {
    run(async {
        let (transport, peer) = Way::System.quiet().await;
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (pipe, mut writer) = (File::from(reader), File::from(writer));
        let outcome = sendfile(&transport, &pipe).fallback(false).await;
        let kind = outcome.unwrap_err().source.kind();
        assert_eq!(kind, ErrorKind::Unsupported);
        let fed = thread::spawn(move || writer.write_all(&pattern(MIB)).unwrap());
        let received = thread::spawn(move || expect_all(&peer, &pattern(MIB)));
        let outcome = sendfile(&transport, &pipe).offset(1).await;
        let kind = outcome.unwrap_err().source.kind();
        assert_eq!(kind, ErrorKind::NotSeekable);
        let sent = within("the pipe", sendfile(&transport, &pipe).into_future()).await;
        assert_eq!(sent.unwrap(), MIB as u64);
        transport.close();
        in_thread(move || received.join().unwrap()).await;
        fed.join().unwrap();
    });
}

/// Its size is said to be 0, and nobody knows it before it is read.
#[test]
#[cfg(target_os = "linux")]
fn a_file_of_the_system_s_own_is_sent() {
    run(async {
        let (transport, peer) = Way::System.quiet().await;
        let path = "/proc/self/limits";
        let file = File::open(path).unwrap();
        let expected = std::fs::read(path).unwrap();
        let sent = sendfile(&transport, &file).await.unwrap();
        assert_eq!(sent, expected.len() as u64);
        transport.close();
        let received = in_thread(move || peer.receive_all()).await;
        assert_eq!(received, expected);
    });
}

#[test]
fn a_file_that_cannot_be_read_costs_the_connection_nothing() {
    for way in WAYS {
        run(async {
            let trace = Trace::default();
            let (transport, peer) = way.connected(Probe::new(&trace)).await;
            let folder = Folder::new();
            let error = sendfile(&transport, &File::open(&folder).unwrap()).await;
            let kind = error.unwrap_err().source.kind();
            assert_eq!(kind, ErrorKind::IsADirectory);
            let path = folder.path("file");
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).open(path).unwrap();
            let error = sendfile(&transport, &file).await.unwrap_err();
            assert_eq!(
                error.source.raw_os_error(),
                Some(Errno::BADF.raw_os_error())
            );
            transport.write(b"fine");
            peer.send(b"answer");
            trace.until("data answer").await;
            assert_eq!(peer.receive(4), b"fine");
        });
    }
}

#[test]
fn a_unix_socket_takes_files_too() {
    for way in WAYS {
        run(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            if way == Way::Reading {
                refuse_files(&ours);
            }
            let probe = || Probe::new(&Trace::default());
            let (transport, _) = create_connection(probe, ours).await.unwrap();
            let file = file_of(&pattern(4 * MIB));
            let received = thread::spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).unwrap();
                all
            });
            let handle = get_running_loop().unwrap();
            let sent = handle.sendfile(&transport, &file).await.unwrap();
            assert_eq!(sent, 4 * MIB as u64);
            transport.close();
            let received = in_thread(move || received.join().unwrap()).await;
            assert!(received == pattern(4 * MIB), "{way:?}");
        });
    }
}

/// Sends a file through each connection of a server with such policies, and says what came of it.
/// The server, and its last connection.
async fn file_server(
    trace: &Trace,
    policies: impl FnOnce(CreateServer) -> CreateServer,
    file: impl Fn() -> File + 'static,
    limit: Duration,
) -> (Server, Rc<RefCell<Option<Transport>>>) {
    let (inner, file) = (trace.clone(), Rc::new(file));
    let last = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&last);
    let protocol = move || {
        let (say, file, kept) = (inner.clone(), Rc::clone(&file), Rc::clone(&kept));
        Probe::new(&inner).doing(move |call, transport| {
            let said = match call {
                Call::Made => {
                    kept.replace(Some(transport.clone()));
                    let (say, file, transport) = (say.clone(), file(), transport.clone());
                    drop(get_running_loop().unwrap().create_task(async move {
                        say.say(match timeout(limit, sendfile(&transport, &file)).await {
                            Ok(Ok(sent)) => {
                                transport.close();
                                format!("sent {sent}")
                            }
                            Ok(Err(error)) => format!("{:?}", CloseReason::of(&error.source)),
                            Err(_) => "cancelled".to_owned(),
                        });
                    }));
                    return;
                }
                Call::Lost(_) => transport.get_extra_info(ClosedBecause),
                _ => return,
            };
            say.say(format!("because {said:?}"));
        })
    };
    let server = policies(create_server(protocol, ("127.0.0.1", 0)));
    (server.await.unwrap(), last)
}

fn is_blocked(transport: &Transport) -> bool {
    assert!(!transport.is_closing());
    transport.get_write_buffer_size() > 0
}

fn connect(server: &Server) -> Peer {
    Peer::connect(server.sockets()[0].as_inet().unwrap())
}

#[test]
fn a_peer_that_takes_nothing_of_a_file_for_too_long_is_left() {
    run(async {
        let trace = Trace::default();
        let file = || file_of(large());
        let policies = |server: CreateServer| server.write_timeout(SHORT);
        let (server, _) = file_server(&trace, policies, file, PATIENCE).await;
        let peer = connect(&server);
        trace.until("Some(WriteTimeout)").await;
        trace.until("because Some(WriteTimeout)").await;
        drop(peer);
    });
}

/// Nothing waits for the peer any more then, so it owes nothing.
#[test]
fn a_peer_that_takes_nothing_is_forgiven_when_the_file_is_cancelled() {
    run(async {
        let trace = Trace::default();
        let file = || file_of(large());
        let policies =
            |server: CreateServer| server.write_timeout(25 * SHORT).idle_timeout(35 * SHORT);
        let (server, _) = file_server(&trace, policies, file, SHORT).await;
        let peer = connect(&server);
        trace.until("cancelled").await;
        trace.until("because Some(IdleTimeout)").await;
        drop(peer);
    });
}

#[test]
fn a_block_that_is_read_is_no_more_than_may_wait() {
    run(async {
        let trace = Trace::default();
        let pipe = || {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            // It ends with the pipe, whatever becomes of the test.
            thread::spawn(move || File::from(writer).write_all(large()));
            File::from(reader)
        };
        let policies = |server: CreateServer| server.max_write_buffer(10_000);
        let (server, last) = file_server(&trace, policies, pipe, PATIENCE).await;
        let peer = connect(&server);
        within("the system to take no more", async {
            while !last.borrow().as_ref().is_some_and(is_blocked) {
                turns(1).await;
            }
        })
        .await;
        let received = thread::spawn(move || expect_all(&peer, large()));
        trace.until(&format!("sent {LARGE}")).await;
        in_thread(move || received.join().unwrap()).await;
    });
}

#[test]
fn it_belongs_to_its_transport_s_loop() {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, _peer) =
        event_loop.run_until_complete(connected(Probe::new(&Trace::default())));
    let file = file_of(b"hello");
    let elsewhere = |outcome: Result<u64, SendfileError>| {
        let error = outcome.unwrap_err().source;
        assert!(
            error
                .get_ref()
                .is_some_and(<dyn Error + Send + Sync>::is::<NoRunningLoop>)
        );
    };
    elsewhere(block_on(sendfile(&transport, &file).into_future()));
    let mut other = EventLoop::new().unwrap();
    elsewhere(other.run_until_complete(sendfile(&transport, &file).into_future()));
    let outcome = other.run_until_complete(async {
        get_running_loop()
            .unwrap()
            .sendfile(&transport, &file)
            .await
    });
    elsewhere(outcome);
    // It was not touched.
    assert!(transport.is_reading());
    transport.write(b"fine");
}

#[test]
fn a_loop_that_ends_meanwhile_ends_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let file = Rc::new(file_of(large()));
    let sent = Rc::clone(&file);
    let (transport, peer) = event_loop.run_until_complete(async move {
        let (transport, peer) = Way::System.quiet().await;
        let sending = transport.clone();
        drop(
            get_running_loop()
                .unwrap()
                .create_task(async move { sendfile(&sending, &sent).await.map(drop) }),
        );
        sleep(Duration::ZERO).await.unwrap();
        sleep(Duration::ZERO).await.unwrap();
        (transport, peer)
    });
    event_loop.close();
    assert!(transport.is_closing());
    assert_eq!(Rc::strong_count(&file), 1);
    let received = peer.receive_all_or_error().unwrap_or_default();
    assert!(large().starts_with(&received));
}
