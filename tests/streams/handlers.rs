//! `start_server`: every kind of callback, and what becomes of one that fails.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use evloop::{
    PanicError, PeerName, Server, SockName, StreamReader, StreamWriter, Transport,
    get_running_loop, start_server,
};

use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, run, turns, within};

fn connect(server: &Server) -> Peer {
    Peer::connect(server.sockets()[0].as_inet().unwrap())
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    while let data @ [_, ..] = &*reader.read(1 << 16).await? {
        writer.write(data);
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

#[test]
fn an_async_callback_becomes_a_task_for_each_connection() {
    run(async {
        let server = start_server(echo, ("127.0.0.1", 0)).await.unwrap();
        let first = connect(&server);
        let second = connect(&server);
        in_thread(move || {
            second.send(b"two");
            assert_eq!(second.receive(3), b"two");
            first.send(b"one");
            first.finish();
            assert_eq!(first.receive_all(), b"one");
            second.finish();
            assert_eq!(second.receive_all(), b"");
        })
        .await;
        server.close();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
    });
}

#[test]
fn a_plain_callback_is_called_and_may_keep_both_halves() {
    run(async {
        let kept = Rc::new(RefCell::new(Vec::new()));
        let keep = Rc::clone(&kept);
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |reader: StreamReader, writer: StreamWriter| {
            writer.write(b"welcome\n");
            keep.borrow_mut().push((reader, writer));
            said.say("kept");
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let peer = connect(&server);
        trace.until("kept").await;
        assert_eq!(peer.receive(8), b"welcome\n");
        peer.send(b"hello\n");
        let (mut reader, writer) = kept.borrow_mut().pop().unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"hello\n");
        drop(writer);
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
    });
}

#[test]
fn a_closure_with_a_state_of_its_own_serves_many() {
    run(async {
        let mut number = 0;
        let callback = move |_: StreamReader, writer: StreamWriter| {
            number += 1;
            writer.write(number.to_string().as_bytes());
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        for number in 1..=3 {
            // The writer was dropped with the end of the callback.
            let peer = connect(&server);
            let received = in_thread(move || peer.receive_all()).await;
            assert_eq!(received, number.to_string().as_bytes());
        }
    });
}

/// What a failing callback does to its connection, and to others.
async fn failing(server: Server, trace: Trace, bad_line: &[u8], report: &str) {
    let handle = get_running_loop().unwrap();
    let reported = Rc::new(RefCell::new(Vec::new()));
    let peers = Rc::clone(&reported);
    let said = trace.clone();
    handle.set_exception_handler(move |_, context| {
        let transport = context.get::<Transport>().expect("the transport");
        assert!(transport.is_closing());
        peers.borrow_mut().push(transport.get_extra_info(PeerName));
        said.say(format!(
            "{}: {}",
            context.message(),
            context.exception().unwrap()
        ));
    });
    let good = connect(&server);
    good.send(b"good\n");
    trace.until("good").await;
    let bad = connect(&server);
    let name = evloop::Address::from(bad.0.local_addr().unwrap());
    bad.send(bad_line);
    // What was written before is sent, then the end.
    let received = in_thread(move || bad.receive_all()).await;
    assert_eq!(received, b"before\n");
    trace.until(report).await;
    turns(3).await;
    assert_eq!(trace.count(report), 1);
    assert_eq!(*reported.borrow(), [Some(name)]);
    // The other one is still there.
    good.send(b"still good\n");
    assert_eq!(in_thread(move || good.receive(11)).await, b"still good\n");
    server.close();
    server.close_clients();
    within("the last connection", server.wait_closed())
        .await
        .unwrap();
}

const REPORT: &str = "Unhandled exception in client_connected_cb";

/// Says "before" and fails on a bad line, else says "good" and echoes.
async fn judge(
    mut reader: StreamReader,
    writer: StreamWriter,
    trace: Trace,
    fail: fn() -> io::Result<()>,
) -> io::Result<()> {
    let line = reader.readline().await?;
    if line == b"bad\n" {
        writer.write(b"before\n");
        fail()?;
    }
    trace.say("good");
    echo(reader, writer).await
}

#[test]
fn an_async_callback_that_returns_an_error_is_reported_once_and_closed() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let fail = || Err(io::Error::other("out of tea"));
        let callback = move |reader, writer| judge(reader, writer, said.clone(), fail);
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        failing(server, trace, b"bad\n", &format!("{REPORT}: out of tea")).await;
    });
}

#[test]
fn an_async_callback_that_panics_is_reported_once_and_closed() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback =
            move |reader, writer| judge(reader, writer, said.clone(), || panic!("on purpose"));
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        failing(
            server,
            trace,
            b"bad\n",
            &format!("{REPORT}: panicked: on purpose"),
        )
        .await;
    });
}

/// A plain callback knows nothing of what will come: it fails for every second connection.
fn every_second(
    trace: Trace,
    fail: fn() -> Result<(), String>,
) -> impl FnMut(StreamReader, StreamWriter) -> Result<(), String> + 'static {
    let mut number = 0;
    move |reader, writer| {
        number += 1;
        if number == 2 {
            writer.write(b"before\n");
            fail()?;
        }
        let trace = trace.clone();
        let handle = get_running_loop().map_err(|error| error.to_string())?;
        drop(handle.create_task(async move {
            let judged = judge(reader, writer, trace, || Ok(()));
            judged.await.unwrap();
        }));
        Ok(())
    }
}

#[test]
fn a_plain_callback_that_returns_an_error_is_reported_once_and_closed() {
    run(async {
        let trace = Trace::default();
        let callback = every_second(trace.clone(), || Err("out of tea".into()));
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        failing(server, trace, b"", &format!("{REPORT}: out of tea")).await;
    });
}

#[test]
fn a_plain_callback_that_panics_is_reported_once_and_closed() {
    run(async {
        let trace = Trace::default();
        let callback = every_second(trace.clone(), || panic!("on purpose"));
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        failing(
            server,
            trace,
            b"",
            &format!("{REPORT}: panicked: on purpose"),
        )
        .await;
    });
}

#[test]
fn the_report_of_a_panic_is_a_panic_error_and_of_an_error_the_error() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        get_running_loop()
            .unwrap()
            .set_exception_handler(move |_, context| {
                let error = context.exception().unwrap();
                if let Some(panic) = error.downcast_ref::<PanicError>() {
                    said.say(format!("panic {}", panic.message()));
                }
                if let Some(error) = error.downcast_ref::<io::Error>() {
                    said.say(format!("error {:?}", error.kind()));
                }
            });
        let mut number = 0;
        let callback = move |_: StreamReader, _: StreamWriter| {
            number += 1;
            assert!(number == 1, "on purpose");
            Err(io::Error::from(io::ErrorKind::NotFound))
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let _first = connect(&server);
        trace.until("error NotFound").await;
        let _second = connect(&server);
        trace.until("panic on purpose").await;
        assert_eq!(trace, ["error NotFound", "panic on purpose"]);
    });
}

#[test]
fn a_callback_that_keeps_its_writer_and_fails_is_closed_all_the_same() {
    run(async {
        let kept = Rc::new(RefCell::new(Vec::new()));
        let keep = Rc::clone(&kept);
        let trace = Trace::default();
        trace.catch_reports();
        let callback = move |_: StreamReader, writer: StreamWriter| {
            keep.borrow_mut().push(writer);
            Err(io::Error::other("out of tea"))
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let peer = connect(&server);
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
        assert!(kept.borrow()[0].is_closing());
        assert_eq!(
            trace,
            ["report: Unhandled exception in client_connected_cb: out of tea"]
        );
    });
}

#[test]
fn a_handler_that_returns_without_close_has_its_connection_closed() {
    async fn forgetful(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
        writer.write(&reader.readline().await?);
        Ok(())
    }
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let server = start_server(forgetful, ("127.0.0.1", 0)).await.unwrap();
        let peer = connect(&server);
        peer.send(b"a line\n");
        assert_eq!(in_thread(move || peer.receive_all()).await, b"a line\n");
        server.close();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
        assert_eq!(trace, []);
    });
}

#[test]
fn the_server_s_limit_is_each_reader_s() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |mut reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                let _open = writer;
                let error = reader.readline().await.unwrap_err();
                said.say(error.to_string());
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0))
            .limit(3)
            .await
            .unwrap();
        let peer = connect(&server);
        peer.send(b"abcdef\n");
        let text = "Separator is found, but chunk is longer than limit (6 bytes, limit 3)";
        trace.until(text).await;
    });
}

#[test]
fn the_server_s_side_knows_both_addresses() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |_: StreamReader, writer: StreamWriter| {
            let peer = writer.get_extra_info(PeerName).unwrap();
            let sock = writer.get_extra_info(SockName).unwrap();
            said.say(format!("{peer} -> {sock}"));
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let peer = connect(&server);
        let expected = format!(
            "{} -> {}",
            peer.0.local_addr().unwrap(),
            peer.0.peer_addr().unwrap()
        );
        trace.until(&expected).await;
    });
}

#[test]
fn the_options_of_create_server_are_start_server_s_too() {
    run(async {
        let server = start_server(echo, ("127.0.0.1", 0))
            .backlog(7)
            .reuse_address(true)
            .reuse_port(true)
            .start_serving(false)
            .limit(1000)
            .await
            .unwrap();
        assert!(!server.is_serving());
        let second = start_server(echo, server.sockets()[0].as_inet().unwrap()).reuse_port(true);
        drop(second.await.unwrap());
        server.start_serving().await.unwrap();
        assert!(server.is_serving());
    });
}

#[test]
fn a_reset_that_a_handler_does_not_expect_is_reported_and_costs_that_connection_only() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let server = start_server(echo, ("127.0.0.1", 0)).await.unwrap();
        let good = connect(&server);
        let bad = connect(&server);
        bad.send(b"x");
        let bad = in_thread(move || {
            assert_eq!(bad.receive(1), b"x");
            bad
        })
        .await;
        bad.reset();
        let code = io::Error::from_raw_os_error(libc::ECONNRESET);
        trace.until(&format!("report: {REPORT}: {code}")).await;
        in_thread(move || {
            good.send(b"y");
            assert_eq!(good.receive(1), b"y");
        })
        .await;
        assert_eq!(trace.lines().len(), 1);
    });
}
