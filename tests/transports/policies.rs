//! What a server demands of its connections, and the one word for why a connection is over.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::io::{self, ErrorKind, Read};
use std::iter::repeat_n;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::{
    Address, CloseReason, ClosedBecause, ConnectionEnd, CreateServer, EventLoop, ExceptionContext,
    ReadError, Server, ShutdownPhase, StreamReader, StreamWriter, Transport, create_server,
    create_unix_server, get_running_loop, sleep, start_server, start_unix_server,
};

use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::{PATIENCE, Peer, in_thread, run, turns};
use crate::probe::{Call, Probe, block, connected};

/// The system takes more of it each time it is asked, but never all.
const MORE_THAN_FITS: usize = 64 * 1024 * 1024;
const SHORT: Duration = Duration::from_millis(50);
const ANYWHERE: (&str, u16) = ("127.0.0.1", 0);

/// A server whose connections write down why they are over, and their transports.
async fn watched(
    trace: &Trace,
    terms: impl FnOnce(CreateServer) -> CreateServer,
    reaction: impl FnMut(&Call<'_>, &Transport) + Clone + 'static,
) -> (Server, Rc<RefCell<Vec<Transport>>>) {
    let transports = Rc::new(RefCell::new(Vec::new()));
    let (trace, all) = (trace.clone(), Rc::clone(&transports));
    let factory = move || {
        let (all, inner, mut reaction) = (Rc::clone(&all), trace.clone(), reaction.clone());
        Probe::new(&trace).doing(move |call, transport| {
            match call {
                Call::Made => all.borrow_mut().push(transport.clone()),
                Call::Lost(error) => {
                    let told = error.as_ref().and_then(|error| CloseReason::of(error));
                    let reason = transport.get_extra_info(ClosedBecause);
                    inner.say(format!("because {reason:?}, told {told:?}"));
                }
                _ => {}
            }
            reaction(call, transport);
        })
    };
    let server = terms(create_server(factory, ANYWHERE)).await.unwrap();
    (server, transports)
}

fn connect(server: &Server) -> Peer {
    Peer::connect(server.sockets()[0].as_inet().unwrap())
}

fn nothing(_: &Call<'_>, _: &Transport) {}

#[test]
fn a_connection_on_which_nothing_happens_is_ended() {
    run(async {
        let trace = Trace::default();
        let (server, _) = watched(&trace, |server| server.idle_timeout(SHORT), nothing).await;
        let peer = connect(&server);
        trace.until_count("made", 1).await;
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
        let because = "because Some(IdleTimeout), told Some(IdleTimeout)";
        trace.until(because).await;
        assert_eq!(trace, ["made", "lost TimedOut", because]);
    });
}

/// Its time begins with it, and not with the turn in which others came before it.
#[test]
fn what_others_take_at_their_beginning_is_not_idle_time_of_the_next() {
    run(async {
        let trace = Trace::default();
        let lives = Rc::new(RefCell::new(Vec::new()));
        let (said, all) = (trace.clone(), Rc::clone(&lives));
        let mut n = 0;
        let factory = move || {
            if n == 0 {
                // Both are accepted in one turn, and this is long.
                std::thread::sleep(2 * SHORT);
            }
            n += 1;
            let (began, all) = (Instant::now(), Rc::clone(&all));
            Probe::new(&said).doing(move |call, _| {
                if let Call::Lost(_) = call {
                    all.borrow_mut().push(began.elapsed());
                }
            })
        };
        let server = create_server(factory, ANYWHERE).idle_timeout(SHORT);
        let server = server.await.unwrap();
        let _peers = (connect(&server), connect(&server));
        trace.until_count("lost TimedOut", 2).await;
        for life in &*lives.borrow() {
            assert!(*life >= SHORT, "{lives:?}");
        }
    });
}

/// The peer may have spoken meanwhile, and it is we who do not listen.
#[test]
fn time_in_which_reading_is_paused_is_not_idle() {
    run(async {
        let trace = Trace::default();
        let mut first = true;
        let pause_the_first = move |call: &Call<'_>, transport: &Transport| {
            if matches!(call, Call::Data(b"pause")) && first {
                transport.pause_reading();
                first = false;
            }
        };
        let (server, transports) =
            watched(&trace, |server| server.idle_timeout(SHORT), pause_the_first).await;
        let paused = connect(&server);
        paused.send(b"pause");
        trace.until("data pause").await;
        for n in 1..4 {
            let _idle = connect(&server);
            trace.until_count("lost TimedOut", n).await;
        }
        assert!(!transports.borrow()[0].is_closing());
        // A whole period follows: longer than what is left to one that came before.
        let _before = connect(&server);
        trace.until_count("made", 5).await;
        sleep(SHORT / 2).await.unwrap();
        transports.borrow()[0].resume_reading();
        trace.until_count("lost TimedOut", 4).await;
        assert!(!transports.borrow()[0].is_closing());
        trace.until_count("lost TimedOut", 5).await;
        drop(paused);
    });
}

#[test]
fn a_peer_that_takes_nothing_for_too_long_is_left() {
    run(async {
        let trace = Trace::default();
        let write_much = |call: &Call<'_>, transport: &Transport| {
            if let Call::Made = call {
                transport.write(vec![b'-'; MORE_THAN_FITS]);
            }
        };
        let (server, transports) =
            watched(&trace, |server| server.write_timeout(SHORT), write_much).await;
        let peer = connect(&server);
        let because = "because Some(WriteTimeout), told Some(WriteTimeout)";
        trace.until(because).await;
        assert_eq!(transports.borrow()[0].get_write_buffer_size(), 0);
        drop(peer);
    });
}

/// No event tells of the little that it takes: the system has to be asked.
#[test]
fn a_peer_that_is_slow_but_takes_something_is_waited_for() {
    const PAUSE: Duration = Duration::from_millis(20);
    const TIMEOUT: Duration = Duration::from_millis(300);
    run(async {
        let trace = Trace::default();
        let write_much = |call: &Call<'_>, transport: &Transport| {
            if let Call::Made = call {
                transport.write(vec![b'-'; MORE_THAN_FITS]);
            }
        };
        let (server, _) = watched(&trace, |server| server.write_timeout(TIMEOUT), write_much).await;
        let peer = connect(&server);
        let peer = in_thread(move || {
            let began = Instant::now();
            while began.elapsed() < 5 * TIMEOUT {
                peer.receive(64 * 1024);
                std::thread::sleep(PAUSE);
            }
            peer
        });
        let peer = peer.await;
        assert_eq!(trace, ["made", "pause"]);
        drop(peer);
    });
}

/// Also when it was closed, and waits only for what is left.
#[test]
fn a_closing_connection_has_its_write_timeout_too() {
    run(async {
        let trace = Trace::default();
        let write_and_close = |call: &Call<'_>, transport: &Transport| {
            if let Call::Made = call {
                transport.write(vec![b'-'; MORE_THAN_FITS]);
                transport.close();
            }
        };
        let (server, _) = watched(
            &trace,
            |server| server.write_timeout(SHORT),
            write_and_close,
        )
        .await;
        let peer = connect(&server);
        trace
            .until("because Some(WriteTimeout), told Some(WriteTimeout)")
            .await;
        drop(peer);
    });
}

/// Nobody listens to it any more, so it is of no account that reading is paused.
#[test]
fn a_closing_connection_is_idle_though_its_reading_was_paused() {
    run(async {
        let trace = Trace::default();
        let pause_and_close = |call: &Call<'_>, transport: &Transport| {
            if let Call::Made = call {
                transport.pause_reading();
                transport.write(vec![b'-'; MORE_THAN_FITS]);
                transport.close();
            }
        };
        let (server, _) =
            watched(&trace, |server| server.idle_timeout(SHORT), pause_and_close).await;
        let peer = connect(&server);
        trace
            .until("because Some(IdleTimeout), told Some(IdleTimeout)")
            .await;
        drop(peer);
    });
}

#[test]
fn a_connection_with_nothing_to_send_has_no_write_timeout() {
    run(async {
        let trace = Trace::default();
        let answer = |call: &Call<'_>, transport: &Transport| {
            if let Call::Data(data) = call {
                transport.write(data);
            }
        };
        let timeouts = |server: CreateServer| server.write_timeout(SHORT).idle_timeout(4 * SHORT);
        let (server, _) = watched(&trace, timeouts, answer).await;
        let peer = connect(&server);
        peer.send(b"hello");
        trace
            .until("because Some(IdleTimeout), told Some(IdleTimeout)")
            .await;
        assert_eq!(peer.receive_all(), b"hello");
    });
}

#[test]
fn whoever_lets_too_much_wait_loses_the_connection() {
    const MOST: usize = 1024 * 1024;
    run(async {
        let trace = Trace::default();
        let flood = |call: &Call<'_>, transport: &Transport| {
            if let Call::Made = call {
                let chunk = [b'-'; 64 * 1024];
                // More than any system takes at once.
                for _ in 0..1024 {
                    transport.write(&chunk);
                    assert!(transport.get_write_buffer_size() <= MOST);
                }
            }
        };
        let (server, _) = watched(&trace, |server| server.max_write_buffer(MOST), flood).await;
        let peer = connect(&server);
        let because = "because Some(WriteBufferFull), told Some(WriteBufferFull)";
        trace.until(because).await;
        assert!(trace.lines().contains(&"lost ConnectionAborted".to_owned()));
        drop(peer);
    });
}

/// What waits at most is the high mark and one write.
#[test]
fn whoever_drains_has_room_enough_with_the_high_mark_and_one_write() {
    const HIGH: usize = 64 * 1024;
    const WRITE: usize = 128 * 1024;
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let handler = move |_reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                assert_eq!(writer.transport().get_write_buffer_limits().1, HIGH);
                for _ in 0..MORE_THAN_FITS / WRITE {
                    writer.write(vec![b'-'; WRITE]);
                    writer.drain().await?;
                }
                said.say("all is written");
                io::Result::Ok(())
            }
        };
        let server = start_server(handler, ANYWHERE).max_write_buffer(HIGH + WRITE);
        let server = server.await.unwrap();
        let peer = connect(&server);
        let received = in_thread(move || peer.receive_all());
        assert_eq!(received.await.len(), MORE_THAN_FITS);
        assert!(trace.has("all is written"));
    });
}

/// However it is written, nothing is kept for a connection that is over, and nothing said.
#[test]
fn one_write_that_is_too_much_is_the_end_at_once() {
    run(async {
        type Write = fn(&Transport);
        let ways: [Write; 2] = [
            |transport| transport.write(vec![b'-'; MORE_THAN_FITS]),
            |transport| transport.writelines(repeat_n([b'-'; 64 * 1024], 1024)),
        ];
        for write in ways {
            let trace = Trace::default();
            let flood = move |call: &Call<'_>, transport: &Transport| {
                if let Call::Made = call {
                    write(transport);
                    assert_eq!(transport.get_write_buffer_size(), 0);
                }
            };
            let limit = |server: CreateServer| server.max_write_buffer(1024);
            let (server, _) = watched(&trace, limit, flood).await;
            let peer = connect(&server);
            let because = "because Some(WriteBufferFull), told Some(WriteBufferFull)";
            trace.until(because).await;
            assert_eq!(trace, ["made", "lost ConnectionAborted", because]);
            drop(peer);
        }
    });
}

#[test]
fn servers_of_every_kind_have_policies() {
    run(async {
        let folder = Folder::new();
        let trace = Trace::default();
        let inner = trace.clone();
        let protocol = create_unix_server(move || Probe::new(&inner), folder.path("a"));
        let protocol = protocol.idle_timeout(SHORT).write_timeout(SHORT);
        let _protocol = protocol.max_write_buffer(1).await.unwrap();
        let handler = |mut reader: StreamReader, writer: StreamWriter| async move {
            let _open = writer;
            drop(reader.read(1).await);
        };
        let streams = start_unix_server(handler, folder.path("b")).idle_timeout(SHORT);
        let _streams = streams.write_timeout(SHORT).max_write_buffer(1).await;
        for name in ["a", "b"] {
            let mut peer = UnixStream::connect(folder.path(name)).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            let ended = in_thread(move || peer.read(&mut [0]).unwrap());
            assert_eq!(ended.await, 0);
        }
        trace.until("lost TimedOut").await;
    });
}

#[test]
fn a_stream_s_reads_and_drains_report_the_policy() {
    run(async {
        let trace = Trace::default();
        let inner = trace.clone();
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let trace = inner.clone();
            async move {
                let error = reader.read(1).await.unwrap_err();
                trace.say(format!("read {:?}", CloseReason::of(&error).unwrap()));
                let error = writer.drain().await.unwrap_err();
                trace.say(format!("drain {:?}", CloseReason::of(&error).unwrap()));
                let error = writer.wait_closed().await.unwrap_err();
                trace.say(format!("closed {:?}", CloseReason::of(&error).unwrap()));
            }
        };
        let server = start_server(handler, ANYWHERE).idle_timeout(SHORT);
        let server = server.await.unwrap();
        let _peer = connect(&server);
        trace.until("closed IdleTimeout").await;
        let expected = [
            "read IdleTimeout",
            "drain IdleTimeout",
            "closed IdleTimeout",
        ];
        assert_eq!(trace, expected);
    });
}

#[test]
fn every_read_that_waits_is_told_the_policy() {
    run(async {
        let trace = Trace::default();
        let (mut n, inner) = (0, trace.clone());
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            n += 1;
            let (which, trace) = (n, inner.clone());
            async move {
                let _open = writer;
                let whole = match which {
                    1 => reader.readexactly(1).await,
                    2 => reader.readline().await,
                    3 => reader.readuntil(b"--").await,
                    _ => reader.read(usize::MAX).await.map_err(ReadError::Io),
                };
                let Err(ReadError::Io(error)) = whole else {
                    panic!("{whole:?}");
                };
                trace.say(format!("{which} {:?}", CloseReason::of(&error)));
            }
        };
        let server = start_server(handler, ANYWHERE).idle_timeout(SHORT);
        let server = server.await.unwrap();
        for which in 1..=4 {
            let _peer = connect(&server);
            trace.until(&format!("{which} Some(IdleTimeout)")).await;
        }
    });
}

#[test]
fn a_drain_that_waits_is_told_the_policy() {
    run(async {
        let trace = Trace::default();
        let inner = trace.clone();
        let handler = move |_reader: StreamReader, writer: StreamWriter| {
            let trace = inner.clone();
            async move {
                writer.write(vec![b'-'; MORE_THAN_FITS]);
                let error = writer.drain().await.unwrap_err();
                trace.say(format!("drain {:?}", CloseReason::of(&error)));
            }
        };
        let server = start_server(handler, ANYWHERE).write_timeout(SHORT);
        let server = server.await.unwrap();
        let peer = connect(&server);
        trace.until("drain Some(WriteTimeout)").await;
        drop(peer);
    });
}

#[test]
fn a_time_of_zero_is_refused_by_its_name() {
    run(async {
        let server = || create_server(|| Probe::new(&Trace::default()), ANYWHERE);
        let zero = Duration::ZERO;
        for (server, name) in [
            (server().idle_timeout(zero), "idle_timeout"),
            (server().write_timeout(zero), "write_timeout"),
        ] {
            let error = server.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(name), "{error}");
        }
    });
}

/// A time that the clock cannot tell never comes.
#[test]
fn endless_times_are_no_times() {
    run(async {
        let trace = Trace::default();
        let endless = |server: CreateServer| {
            server
                .idle_timeout(Duration::MAX)
                .write_timeout(Duration::MAX)
                .max_write_buffer(usize::MAX)
        };
        let (server, transports) = watched(&trace, endless, nothing).await;
        let peer = connect(&server);
        trace.until_count("made", 1).await;
        block(&transports.borrow()[0]);
        turns(5).await;
        assert_eq!(trace, ["made"]);
        drop(peer);
    });
}

// The one word.

/// What a transport says when it is over because of `end`.
async fn reason_of(end: impl FnOnce(&Transport, Peer)) -> Option<CloseReason> {
    let trace = Trace::default();
    let (transport, peer) = connected(telling_its_end(&trace)).await;
    turns(2).await;
    assert_eq!(transport.get_extra_info(ClosedBecause), None);
    end(&transport, peer);
    trace.until("over").await;
    transport.get_extra_info(ClosedBecause)
}

fn telling_its_end(trace: &Trace) -> Probe {
    let inner = trace.clone();
    Probe::new(trace).doing(move |call, _| {
        if let Call::Lost(_) = call {
            inner.say("over");
        }
    })
}

#[test]
fn each_end_has_its_reason() {
    run(async {
        let closed = reason_of(|transport, _peer| transport.close()).await;
        assert_eq!(closed, Some(CloseReason::Closed));
        let aborted = reason_of(|transport, _| transport.abort()).await;
        assert_eq!(aborted, Some(CloseReason::Aborted));
        let ended = reason_of(|_, peer| peer.finish()).await;
        assert_eq!(ended, Some(CloseReason::PeerEof));
        let reset = reason_of(|_, peer| peer.reset()).await;
        assert_eq!(reset, Some(CloseReason::Reset));
        let detached = reason_of(|transport, _| drop(transport.detach().unwrap())).await;
        assert_eq!(detached, Some(CloseReason::Detached));
    });
}

#[test]
fn a_close_that_waits_is_not_over_yet_and_a_reset_meanwhile_is_the_reason() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(telling_its_end(&trace)).await;
        block(&transport);
        transport.close();
        assert_eq!(transport.get_extra_info(ClosedBecause), None);
        peer.reset();
        trace.until("over").await;
        let reason = transport.get_extra_info(ClosedBecause);
        assert_eq!(reason, Some(CloseReason::Reset));
    });
}

/// However it fails, and though its writer is dropped first, which closes in good order.
#[test]
fn a_failed_handler_is_the_reason_also_in_the_report() {
    run(async {
        let trace = Trace::default();
        report_reasons(&trace);
        let transports = Rc::new(RefCell::new(Vec::new()));
        let (mut n, all) = (0, Rc::clone(&transports));
        let handler = move |_reader: StreamReader, writer: StreamWriter| {
            all.borrow_mut().push(writer.transport().clone());
            n += 1;
            let panics = n == 2;
            async move {
                assert!(!panics, "expected by this test");
                drop(writer);
                Err::<(), _>(io::Error::other("expected by this test"))
            }
        };
        let server = start_server(handler, ANYWHERE).await.unwrap();
        let all = Rc::clone(&transports);
        let plain = move |_reader: StreamReader, writer: StreamWriter| {
            all.borrow_mut().push(writer.transport().clone());
            Err::<(), _>(io::Error::other("expected by this test"))
        };
        let plain = start_server(plain, ANYWHERE).await.unwrap();
        for (n, server) in [&server, &server, &plain].into_iter().enumerate() {
            let peer = connect(server);
            assert_eq!(in_thread(move || peer.receive_all()).await, b"");
            trace.until_count("report Some(HandlerFailed)", n + 1).await;
            turns(2).await;
            let reason = transports.borrow()[n].get_extra_info(ClosedBecause);
            assert_eq!(reason, Some(CloseReason::HandlerFailed), "{n}");
        }
    });
}

/// What happens when a connection is over is not what has ended it.
#[test]
fn a_handler_that_fails_after_the_end_is_not_the_reason() {
    run(async {
        let trace = Trace::default();
        report_reasons(&trace);
        let kept = Rc::new(RefCell::new(None));
        let inner = Rc::clone(&kept);
        let handler = move |_reader: StreamReader, writer: StreamWriter| {
            *inner.borrow_mut() = Some(writer.transport().clone());
            async move {
                writer.close();
                writer.wait_closed().await?;
                Err::<(), _>(io::Error::other("expected by this test"))
            }
        };
        let server = start_server(handler, ANYWHERE).await.unwrap();
        let _peer = connect(&server);
        trace.until("report Some(Closed)").await;
        let transport: Transport = kept.borrow_mut().take().unwrap();
        let reason = transport.get_extra_info(ClosedBecause);
        assert_eq!(reason, Some(CloseReason::Closed));
    });
}

fn report_reasons(trace: &Trace) {
    let trace = trace.clone();
    let handle = get_running_loop().unwrap();
    handle.set_exception_handler(move |_, context: &ExceptionContext| {
        trace.say(format!("report {:?}", context.get::<CloseReason>()));
    });
}

#[test]
fn a_protocol_that_panics_is_the_reason_also_in_the_report() {
    run(async {
        let trace = Trace::default();
        report_reasons(&trace);
        let (transport, peer) = connected(Probe::new(&Trace::default()).doing(|call, _| {
            assert!(!matches!(call, Call::Data(_)), "expected by this test");
        }))
        .await;
        peer.send(b"!");
        trace.until("report Some(HandlerFailed)").await;
        turns(2).await;
        let reason = transport.get_extra_info(ClosedBecause);
        assert_eq!(reason, Some(CloseReason::HandlerFailed));
    });
}

/// Whoever reads the report may end the connection: it has its cause by then.
#[test]
fn an_exception_handler_that_aborts_does_not_replace_the_cause() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let handle = get_running_loop().unwrap();
        handle.set_exception_handler(move |_, context: &ExceptionContext| {
            said.say(format!("report {:?}", context.get::<CloseReason>()));
            context.get::<Transport>().unwrap().abort();
        });
        let probe = Probe::new(&trace).doing(|call, _| {
            assert!(!matches!(call, Call::Data(_)), "expected by this test");
        });
        let (transport, peer) = connected(probe).await;
        peer.send(b"!");
        trace.until("lost Other").await;
        let expected = ["made", "data !", "report Some(HandlerFailed)", "lost Other"];
        assert_eq!(trace, expected);
        let reason = transport.get_extra_info(ClosedBecause);
        assert_eq!(reason, Some(CloseReason::HandlerFailed));
    });
}

/// An end in good order that the same call began is no reason; one that is past stays.
#[test]
fn a_protocol_that_closes_and_panics_has_failed() {
    run(async {
        type End = fn(&Transport);
        let close_with_bytes_unsent: End = |transport| {
            block(transport);
            transport.close();
        };
        let cases: [(&str, End, &str, CloseReason); 5] = [
            (
                "data",
                close_with_bytes_unsent,
                "lost Other",
                CloseReason::HandlerFailed,
            ),
            // As in asyncio, an end that is on its way already is told as it began.
            ("data", Transport::close, "lost", CloseReason::HandlerFailed),
            ("data", Transport::abort, "lost", CloseReason::Aborted),
            ("eof", Transport::close, "lost", CloseReason::HandlerFailed),
            ("lost", Transport::close, "lost", CloseReason::PeerEof),
        ];
        for (at, end, lost, reason) in cases {
            let trace = Trace::default();
            report_reasons(&trace);
            let probe = Probe::new(&trace).doing(move |call, transport| {
                let name = match call {
                    Call::Data(_) => "data",
                    Call::Eof => "eof",
                    Call::Lost(_) => "lost",
                    _ => "",
                };
                if name == at {
                    end(transport);
                    panic!("expected by this test");
                }
            });
            let (transport, peer) = connected(probe).await;
            peer.send(b"!");
            trace.until("data !").await;
            if at != "data" {
                peer.finish();
            }
            trace.until(&format!("report {:?}", Some(reason))).await;
            trace.until(lost).await;
            assert_eq!(
                transport.get_extra_info(ClosedBecause),
                Some(reason),
                "{at}"
            );
        }
    });
}

/// A handler that hands the policy's error on has not ended the connection.
#[test]
fn the_report_has_the_reason_of_the_connection() {
    run(async {
        let trace = Trace::default();
        report_reasons(&trace);
        let handler = |mut reader: StreamReader, writer: StreamWriter| async move {
            let _open = writer;
            reader.read(1).await.map(drop)
        };
        let server = start_server(handler, ANYWHERE).idle_timeout(SHORT);
        let server = server.await.unwrap();
        let _peer = connect(&server);
        trace.until("report Some(IdleTimeout)").await;
    });
}

#[test]
fn the_end_of_the_loop_is_a_reason() {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, writer_s) = event_loop.run_until_complete(async {
        let (transport, _peer) = connected(Probe::new(&Trace::default())).await;
        let kept = Rc::new(RefCell::new(None));
        let inner = Rc::clone(&kept);
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            *inner.borrow_mut() = Some(writer.transport().clone());
            async move {
                let _ = reader.read(1).await;
                drop(writer);
            }
        };
        let server = start_server(handler, ANYWHERE).await.unwrap();
        let _client = connect(&server);
        while kept.borrow().is_none() {
            turns(1).await;
        }
        // Both peers are gone when this block ends; the loop has not looked since.
        let writer_s = kept.borrow_mut().take().unwrap();
        (transport, writer_s)
    });
    drop(event_loop);
    for transport in [transport, writer_s] {
        let reason = transport.get_extra_info(ClosedBecause);
        assert_eq!(reason, Some(CloseReason::LoopClosed));
    }
}

#[test]
fn a_shutdown_tells_the_reason_of_each_end() {
    run(async {
        let trace = Trace::default();
        let (server, transports) = watched(&trace, |server| server, nothing).await;
        let (_closed, _aborted) = (connect(&server), connect(&server));
        trace.until_count("made", 2).await;
        block(&transports.borrow()[1]);
        let report = server.shutdown().close(SHORT).await.unwrap();
        let reasons = |phase| {
            let ends = report.ended_in(phase);
            ends.map(ConnectionEnd::reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(ShutdownPhase::Close), [Some(CloseReason::Closed)]);
        assert_eq!(reasons(ShutdownPhase::Abort), [Some(CloseReason::Aborted)]);
    });
}

/// Whatever ends a connection while it is waited for.
#[test]
fn a_shutdown_tells_the_reason_of_each_connection_that_ended_by_itself() {
    run(async {
        let trace = Trace::default();
        report_reasons(&trace);
        let react = |call: &Call<'_>, transport: &Transport| match call {
            Call::Data(b"flood") => transport.write(vec![b'-'; MORE_THAN_FITS]),
            Call::Data(b"block") => transport.write(vec![b'-'; MORE_THAN_FITS / 2]),
            Call::Data(b"panic") => panic!("expected by this test"),
            _ => {}
        };
        let terms = |server: CreateServer| {
            let server = server.idle_timeout(6 * SHORT).write_timeout(SHORT);
            server.max_write_buffer(MORE_THAN_FITS / 2)
        };
        let (server, _) = watched(&trace, terms, react).await;
        let peers: [Peer; 6] = std::array::from_fn(|_| connect(&server));
        let names = peers.each_ref().map(|peer| peer.0.local_addr().unwrap());
        trace.until_count("made", peers.len()).await;
        let shutdown = server.shutdown().drain(PATIENCE).into_future();
        let shutdown = get_running_loop().unwrap().create_task(shutdown);
        turns(1).await;
        let [ends, resets, floods, blocks, panics, _idle] = peers;
        ends.finish();
        resets.reset();
        floods.send(b"flood");
        blocks.send(b"block");
        panics.send(b"panic");
        let report = shutdown.await.unwrap().unwrap();
        let expected = [
            CloseReason::PeerEof,
            CloseReason::Reset,
            CloseReason::WriteBufferFull,
            CloseReason::WriteTimeout,
            CloseReason::HandlerFailed,
            CloseReason::IdleTimeout,
        ];
        for (name, reason) in names.into_iter().zip(expected) {
            let mut ends = report.ended_in(ShutdownPhase::Drain);
            let end = ends.find(|end| end.peer().and_then(Address::as_inet) == Some(name));
            let end = end.unwrap_or_else(|| panic!("no {reason:?} in {report}"));
            assert_eq!(end.reason(), Some(reason), "{end}");
            // An end in good order has no error.
            let told = end.error().map(|error| CloseReason::of(error));
            let expected = (reason != CloseReason::PeerEof).then_some(Some(reason));
            assert_eq!(told, expected, "{end}");
        }
        assert_eq!(report.connections().len(), expected.len());
    });
}
