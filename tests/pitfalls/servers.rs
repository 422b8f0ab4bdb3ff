//! Servers: what ends them, what they wait for, and what a failing handler costs.

use std::cell::RefCell;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    Server, StreamReader, StreamWriter, create_server, get_running_loop, start_server, timeout,
};

use crate::common::own_process::{self, descriptors};
use crate::common::program::{self, Program};
use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, run, turns, within};
use crate::probe::Probe;

fn connect(server: &Server) -> Peer {
    Peer::connect(server.sockets()[0].as_inet().unwrap())
}

/// Whether `wait_closed` has to wait.
async fn waits(server: &Server) -> bool {
    turns(3).await;
    crate::support::now(server.wait_closed()).await.is_none()
}

/// Versions of Python differ in whether it waits for a client that does nothing. It does, and
/// there are two calls to end that.
#[test]
fn cpython_104344_wait_closed_with_idle_client() {
    run(async {
        for abort in [false, true] {
            let trace = Trace::default();
            let said = trace.clone();
            let callback = move |mut reader: StreamReader, writer: StreamWriter| {
                said.say("connected");
                let said = said.clone();
                async move {
                    let _open = writer;
                    let line = reader.readline().await.unwrap_or_default();
                    said.say(format!("line of {}", line.len()));
                }
            };
            let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
            let _idle = connect(&server);
            trace.until("connected").await;
            server.close();
            assert!(waits(&server).await);
            if abort {
                server.abort_clients();
            } else {
                server.close_clients();
            }
            within("the end", server.wait_closed()).await.unwrap();
            // The handler was told an end.
            trace.until("line of 0").await;
        }
    });
}

/// A limit to the wait takes nothing from the next one.
#[test]
fn cpython_120866_wait_closed_with_a_deadline() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || Probe::new(&made);
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let peer = connect(&server);
        trace.until("made").await;
        server.close();
        for _ in 0..2 {
            let limit = Duration::from_millis(1);
            assert!(timeout(limit, server.wait_closed()).await.is_err());
        }
        peer.finish();
        within("the end", server.wait_closed()).await.unwrap();
    });
}

/// It used to return at once when the server had no client, whether closed or not.
#[test]
fn cpython_79033_wait_closed_before_close() {
    run(async {
        let factory = || Probe::new(&Trace::default());
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        assert!(waits(&server).await);
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
        within("the end again", server.wait_closed()).await.unwrap();
    });
}

/// A handler that never ends, with a client that never reads.
#[test]
fn cpython_113538_a_server_whose_handlers_are_stuck() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |_reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                crate::support::block(&writer);
                said.say("stuck");
                pending::<()>().await;
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let _deaf = connect(&server);
        trace.until("stuck").await;
        server.close();
        server.close_clients();
        assert!(waits(&server).await);
        server.abort_clients();
        within("the end", server.wait_closed()).await.unwrap();
    });
}

/// The end of serving is not the end of those who are served.
#[test]
fn zuvloop_179_cancelling_serve_forever_keeps_the_clients() {
    run(async {
        let callback = |mut reader: StreamReader, writer: StreamWriter| async move {
            while let Some(line) = reader.lines().next().await? {
                writer.write(&line);
                writer.drain().await?;
            }
            io::Result::Ok(())
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let peer = connect(&server);
        let handle = get_running_loop().unwrap();
        let forever = handle.create_task(server.serve_forever());
        let peer = in_thread(move || {
            peer.send(b"before\n");
            assert_eq!(peer.receive(7), b"before\n");
            peer
        })
        .await;
        forever.cancel();
        assert!(forever.await.is_err());
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        in_thread(move || {
            peer.send(b"after\n");
            assert_eq!(peer.receive(6), b"after\n");
        })
        .await;
        within("the end", server.wait_closed()).await.unwrap();
    });
}

fn boom() {
    panic!("boom");
}

const REPORT: &str = "report: Unhandled exception in client_connected_cb: ";

/// The client sees the end, the failure is reported once, and the server can end.
async fn a_failure_costs_one_connection(server: Server, trace: Trace, report: &str) {
    let peer = connect(&server);
    assert_eq!(in_thread(move || peer.receive_all()).await, b"");
    server.close();
    within("the end", server.wait_closed()).await.unwrap();
    assert_eq!(trace, [format!("{REPORT}{report}").as_str()]);
}

/// A plain callback that failed left its connection open, and the server waited for it for ever.
#[test]
fn cpython_155941_a_plain_callback_that_fails() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let callback = |_: StreamReader, _: StreamWriter| Err(io::Error::other("boom"));
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        a_failure_costs_one_connection(server, trace, "boom").await;
    });
}

#[test]
fn cpython_155941_a_plain_callback_that_panics_and_keeps_its_writer() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let kept = Rc::new(RefCell::new(Vec::new()));
        let callback = move |_: StreamReader, writer: StreamWriter| {
            kept.borrow_mut().push(writer);
            boom();
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        a_failure_costs_one_connection(server, trace, "panicked: boom").await;
    });
}

/// What a handler raised was lost, or came when nobody could do anything about it.
#[test]
fn cpython_110894_an_async_callback_that_fails() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let callback = |_: StreamReader, writer: StreamWriter| async move {
            // Kept until the failure: without it the connection would end before.
            let _writer = writer;
            turns(1).await;
            io::Result::Err(io::Error::other("boom"))
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        a_failure_costs_one_connection(server, trace, "boom").await;
    });
}

#[test]
fn cpython_110894_an_async_callback_that_panics() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let callback = |_: StreamReader, writer: StreamWriter| async move {
            // Kept until the failure: without it the connection would end before.
            let _writer = writer;
            turns(1).await;
            boom();
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        a_failure_costs_one_connection(server, trace, "panicked: boom").await;
    });
}

/// Without descriptors it waits, says so once, and goes on with each one that is free again.
#[test]
fn cpython_151615_out_of_descriptors() {
    let example = program::example("tcp_echo_server");
    let arguments = [
        "-c",
        "ulimit -n 24; exec \"$0\" --port 0",
        example.to_str().unwrap(),
    ];
    let mut server = Program::start("sh", &arguments);
    let address = server.serving_on();
    let clients: Vec<Peer> = (0..60).map(|_| Peer::connect(address)).collect();
    for (i, client) in clients.iter().enumerate() {
        let message = format!("{i:04}");
        client.send(message.as_bytes());
        // It closes after each answer: the next client's turn.
        assert_eq!(client.receive_all(), message.as_bytes());
    }
    server.interrupt();
    let ended = server.wait();
    let reports = ended.stderr.matches("out of system resource").count();
    assert_eq!(reports, 1, "{}", ended.stderr);
}

fn has_ipv6() -> bool {
    let found = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !found {
        crate::common::peers::skip("this machine has no ::1");
    }
    found
}

/// Port 0 was another port in each family.
#[test]
fn cpython_89856_port_0_is_one_port_in_both_families() {
    if !has_ipv6() {
        return;
    }
    run(async {
        let factory = || Probe::new(&Trace::default());
        let hosts = ["127.0.0.1", "::1"];
        let server = create_server(factory, (hosts, 0)).await.unwrap();
        let ports: Vec<_> = server.sockets().iter().map(evloop::Address::port).collect();
        assert_eq!(ports.len(), 2);
        assert_eq!(ports[0], ports[1]);
    });
}

/// All interfaces are those that there are.
#[test]
fn cpython_75128_no_host_serves_every_family_that_there_is() {
    run(async {
        let factory = || Probe::new(&Trace::default());
        let server = create_server(factory, (None, 0)).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        if has_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    });
}

/// Twenty who leave with unread bytes, and twenty who leave in order: each is told, and nothing
/// of them is left.
#[test]
fn rloop_every_connection_that_was_made_is_lost() {
    if !own_process::enter("servers::rloop_every_connection_that_was_made_is_lost") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || {
            Probe::new(&made).doing(|call, transport| {
                if let crate::probe::Call::Made = call {
                    transport.write(b"unread");
                }
            })
        };
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let before = descriptors();
        for reset in [true, false] {
            let peers: Vec<Peer> = (0..20).map(|_| connect(&server)).collect();
            let expected = trace.count("made") + 20;
            trace.until_count("made", expected).await;
            for peer in peers {
                // A close with unread bytes is a reset.
                let _ = in_thread(move || {
                    if !reset {
                        peer.receive(6);
                    }
                })
                .await;
            }
            within("their ends", async {
                let lost = |line: &String| line.starts_with("lost");
                while trace.lines().iter().filter(|line| lost(line)).count() < expected {
                    turns(1).await;
                }
            })
            .await;
            turns(2).await;
            assert_eq!(descriptors(), before);
        }
    });
}
