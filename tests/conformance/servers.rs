//! Servers: how they begin, what they bound, and how they end.

use std::time::Duration;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use evloop::{ClientConnectedCb, Protocol, ShutdownPhase, StreamReader, StreamWriter, timeout};

use crate::cast::What::Made;
use crate::cast::{Actor, Role, Streams};
use crate::net::{Net, Served, Side, Terms, outcome, read};
use crate::worlds::everywhere;

struct Idle;

impl Protocol for Idle {}

/// A server there, on these terms, of actors called "served"; and a client of it that is called
/// "we" and reads nothing.
async fn one_client(net: &Net, terms: Terms) -> (Served, evloop::Transport) {
    let factory = {
        let net = net.clone();
        move || Actor::new(&net, "served").keeping_open()
    };
    let served = net.serve(Side::There, terms, factory).await;
    let client = Actor::new(net, "we").keeping_open();
    let (client, _) = net.connect(&served.address, || client).await.unwrap();
    net.trace().until("served made").await;
    net.forget("we made");
    net.forget("served made");
    (served, client)
}

#[test]
fn a_server_serves_until_it_is_closed() {
    everywhere(&["true 1", "false 0", "ok"], async |net| {
        let Served { server, .. } = net.serve(Side::Here, Terms::default(), || Idle).await;
        net.say(format!(
            "{} {}",
            server.is_serving(),
            server.sockets().len()
        ));
        server.close();
        server.close();
        net.say(format!(
            "{} {}",
            server.is_serving(),
            server.sockets().len()
        ));
        net.say(outcome(server.wait_closed().await));
    });
}

#[test]
fn a_server_may_begin_later() {
    everywhere(&["false 1", "true 1", "ok"], async |net| {
        let terms = Terms {
            start_serving: false,
            ..Terms::default()
        };
        let Served { server, .. } = net.serve(Side::Here, terms, || Idle).await;
        net.say(format!(
            "{} {}",
            server.is_serving(),
            server.sockets().len()
        ));
        server.start_serving().await.unwrap();
        net.say(format!(
            "{} {}",
            server.is_serving(),
            server.sockets().len()
        ));
        net.say(outcome(server.start_serving().await));
    });
}

#[test]
fn a_closed_server_does_not_begin_again() {
    everywhere(&["NotConnected", "NotConnected"], async |net| {
        let Served { server, .. } = net.serve(Side::Here, Terms::default(), || Idle).await;
        server.close();
        net.say(outcome(server.start_serving().await));
        net.say(outcome(server.serve_forever().await));
    });
}

#[test]
fn serve_forever_ends_when_the_server_is_closed() {
    everywhere(&["Cancelled"], async |net| {
        let Served { server, .. } = net.serve(Side::Here, Terms::default(), || Idle).await;
        let close = async {
            net.settle().await;
            server.close();
        };
        let (served, ()) = futures::join!(server.serve_forever(), close);
        let error = served.unwrap_err();
        let cancelled = error.get_ref().and_then(|error| error.downcast_ref());
        net.say(match cancelled {
            Some(evloop::TaskError::Cancelled) => "Cancelled".to_owned(),
            _ => format!("{error:?}"),
        });
    });
}

#[test]
fn only_one_may_await_serve_forever() {
    everywhere(&["ResourceBusy"], async |net| {
        let Served { server, .. } = net.serve(Side::Here, Terms::default(), || Idle).await;
        let mut first = Box::pin(server.serve_forever());
        assert!(timeout(Duration::ZERO, &mut first).await.is_err());
        net.say(outcome(server.serve_forever().await));
    });
}

#[test]
fn dropping_serve_forever_closes_the_server() {
    everywhere(&["false"], async |net| {
        let Served { server, .. } = net.serve(Side::Here, Terms::default(), || Idle).await;
        assert!(
            timeout(Duration::ZERO, server.serve_forever())
                .await
                .is_err()
        );
        net.say(server.is_serving().to_string());
    });
}

#[test]
fn connections_go_on_when_their_server_is_closed() {
    let story = [
        "closed",
        "served \"still here\"",
        "served eof",
        "served lost: None",
        "over",
    ];
    everywhere(&story, async |net| {
        let factory = {
            let net = net.clone();
            move || Actor::new(&net, "served").enough(10)
        };
        let served = net.serve(Side::There, Terms::default(), factory).await;
        let (client, _) = net.connect(&served.address, || Idle).await.unwrap();
        net.trace().until("served made").await;
        net.forget("served made");
        let server = served.server.clone();
        let trace = net.trace().clone();
        let over = net.there(async move {
            server.close();
            trace.say("closed");
            server.wait_closed().await.unwrap();
            trace.say("over");
        });
        net.trace().until("closed").await;
        client.write(b"still here");
        net.trace().until("served \"still here\"").await;
        client.close();
        over.await;
    });
}

#[test]
fn close_clients_closes_them() {
    everywhere(&["ok"], async |net| {
        let (served, client) = one_client(&net, Terms::default()).await;
        for line in ["we eof", "we lost: None", "served eof", "served lost: None"] {
            net.forget(line);
        }
        let server = served.server.clone();
        let over = net.there(async move {
            server.close();
            server.close_clients();
            server.wait_closed().await
        });
        net.trace().until("we eof").await;
        net.trace().until("served lost: None").await;
        client.close();
        net.say(outcome(over.await));
    });
}

#[test]
fn abort_clients_drops_what_was_not_sent() {
    everywhere(&["served lost: None", "ok"], async |net| {
        let plenty = net.plenty();
        let factory = {
            let net = net.clone();
            move || {
                Actor::new(&net, "served").on(Made, move |transport| {
                    transport.write(vec![1; plenty]);
                })
            }
        };
        let served = net.serve(Side::There, Terms::default(), factory).await;
        let client = Actor::new(&net, "we").on(Made, evloop::Transport::pause_reading);
        let connection = net.connect(&served.address, || client).await.unwrap();
        net.trace().until("served pause").await;
        for line in ["we made", "served made", "served pause"] {
            net.forget(line);
        }
        let server = served.server.clone();
        let over = net.there(async move {
            server.close();
            server.abort_clients();
            server.wait_closed().await
        });
        net.say(outcome(over.await).clone());
        // The loss came before the server was over; it is told in this order here.
        let lost = net.said();
        assert_eq!(lost, ["served lost: None", "ok"]);
        drop(connection);
    });
}

#[test]
fn everyone_who_waits_for_a_server_is_told() {
    everywhere(&["ok ok"], async |net| {
        let Served { server, .. } = net.serve(Side::Here, Terms::default(), || Idle).await;
        let close = async {
            net.settle().await;
            server.close();
        };
        let (one, two, ()) = futures::join!(server.wait_closed(), server.wait_closed(), close);
        net.say([one, two].map(outcome).join(" "));
    });
}

#[test]
fn an_idle_connection_ends() {
    everywhere(&["served lost: TimedOut"], async |net| {
        let terms = Terms {
            idle_timeout: Some(Duration::from_millis(300)),
            ..Terms::default()
        };
        let (_served, client) = one_client(&net, terms).await;
        net.trace().until("served lost: TimedOut").await;
        net.forget("we eof");
        net.forget("we lost: truncated");
        drop(client);
    });
}

#[test]
fn a_connection_that_is_not_idle_does_not_end() {
    everywhere(&["served 10 bytes"], async |net| {
        let terms = Terms {
            idle_timeout: Some(Duration::from_secs(2)),
            ..Terms::default()
        };
        let (_served, client) = one_client(&net, terms).await;
        for _ in 0..10 {
            client.write(b"x");
            evloop::sleep(Duration::from_millis(300)).await.unwrap();
        }
        assert!(!client.is_closing());
        client.close();
        net.trace().until("served eof").await;
        net.forget("served eof");
        net.forget("served \"xxxxxxxxxx\"");
        net.forget("we lost: None");
        net.say("served 10 bytes");
    });
}

#[test]
fn who_does_not_read_for_too_long_is_dropped() {
    let story = ["served pause", "served lost: TimedOut"];
    everywhere(&story, async |net| {
        let terms = Terms {
            write_timeout: Some(Duration::from_millis(300)),
            ..Terms::default()
        };
        fed(&net, terms, "served lost: TimedOut").await;
    });
}

#[test]
fn who_lets_too_much_wait_is_dropped() {
    let story = ["served lost: ConnectionAborted"];
    everywhere(&story, async |net| {
        let terms = Terms {
            max_write_buffer: 100_000,
            ..Terms::default()
        };
        net.forget("served pause");
        fed(&net, terms, "served lost: ConnectionAborted").await;
    });
}

/// A server that sends more than the system takes to a client that does not read.
async fn fed(net: &Net, terms: Terms, last: &str) {
    let plenty = net.plenty();
    let factory = {
        let net = net.clone();
        move || {
            Actor::new(&net, "served").on(Made, move |transport| {
                transport.write(vec![1; plenty]);
            })
        }
    };
    net.forget("served made");
    net.forget("we made");
    let served = net.serve(Side::There, terms, factory).await;
    let client = Actor::new(net, "we").on(Made, evloop::Transport::pause_reading);
    let connection = net.connect(&served.address, || client).await.unwrap();
    net.trace().until(last).await;
    drop(connection);
}

#[test]
fn a_shutdown_says_how_each_connection_ended() {
    everywhere(&["1 in all, 1 by close"], async |net| {
        let (served, client) = one_client(&net, Terms::default()).await;
        let server = served.server.clone();
        let report = net.there(async move {
            let report = server
                .shutdown()
                .drain(Duration::from_millis(50))
                .close(Duration::from_secs(10))
                .await
                .unwrap();
            let closed = report.ended_in(ShutdownPhase::Close).count();
            format!("{} in all, {closed} by close", report.connections().len())
        });
        net.trace().until("we eof").await;
        client.close();
        let report = report.await;
        for line in net.said() {
            net.forget(&line);
        }
        net.say(report);
    });
}

#[test]
fn a_factory_that_panics_is_reported_and_the_next_client_is_served() {
    let story = ["report: Exception in protocol factory", "served made"];
    everywhere(&story, async |net| {
        let mut first = true;
        let factory = {
            let net = net.clone();
            move || {
                assert!(!std::mem::take(&mut first), "on purpose");
                Actor::new(&net, "served")
            }
        };
        let served = net.serve(Side::There, Terms::default(), factory).await;
        // Under TLS it may be over before the handshake is.
        drop(net.connect(&served.address, || Idle).await);
        net.trace()
            .until("report: Exception in protocol factory")
            .await;
        let second = net.connect(&served.address, || Idle).await.unwrap();
        net.trace().until("served made").await;
        drop(second);
    });
}

/// What a client reads from a server with this handler.
async fn handled(net: &Net, callback: ClientConnectedCb) -> String {
    let served = net.handle(callback).await;
    let (protocol, end) = Streams::default().enter();
    net.connect(&served.address, protocol).await.unwrap();
    let mut end = end.await.unwrap();
    read(end.reader.read_to_end(None).await)
}

#[test]
fn a_handler_that_returns_leaves_an_end_behind_what_it_wrote() {
    everywhere(&["\"hello\""], async |net| {
        let callback = ClientConnectedCb::new(async |_: StreamReader, writer: StreamWriter| {
            writer.write(b"hello");
        });
        let got = handled(&net, callback).await;
        net.say(got);
    });
}

#[test]
fn a_handler_that_fails_is_reported_and_its_client_gets_what_it_wrote() {
    let report = "report: Unhandled exception in client_connected_cb";
    everywhere(&[report, "\"hello\""], async |net| {
        let callback = ClientConnectedCb::new(async |_: StreamReader, writer: StreamWriter| {
            writer.write(b"hello");
            Err::<(), _>(io::Error::other("on purpose"))
        });
        let got = handled(&net, callback).await;
        net.say(got);
    });
}

#[test]
fn a_handler_that_panics_is_reported_and_its_client_gets_what_it_wrote() {
    let report = "report: Unhandled exception in client_connected_cb";
    everywhere(&[report, "\"hello\""], async |net| {
        let callback = ClientConnectedCb::new(async |_: StreamReader, writer: StreamWriter| {
            writer.write(b"hello");
            if !writer.is_closing() {
                panic!("on purpose");
            }
        });
        let got = handled(&net, callback).await;
        net.say(got);
    });
}

#[test]
fn handlers_of_several_clients_run_side_by_side() {
    everywhere(&["\"b\"", "\"a\""], async |net| {
        // Each answers when it is asked to, and the second one is asked first.
        let callback =
            ClientConnectedCb::new(async |mut reader: StreamReader, writer: StreamWriter| {
                let question = reader.readexactly(1).await?;
                writer.write(&question);
                writer.drain().await
            });
        let served = net.handle(callback).await;
        let mut ends = Vec::new();
        for _ in 0..2 {
            let (protocol, end) = Streams::default().enter();
            net.connect(&served.address, protocol).await.unwrap();
            ends.push(end.await.unwrap());
        }
        for (mut end, question) in ends.into_iter().rev().zip(["b", "a"]) {
            end.writer.write(question);
            net.say(read(end.reader.read_to_end(None).await));
        }
    });
}

#[test]
fn a_server_may_be_closed_by_its_own_client() {
    everywhere(&["\"hello\"", "false 0", "ok"], async |net| {
        let own: Rc<RefCell<Option<Served>>> = Rc::default();
        let served = net.serve(Side::There, Terms::default(), {
            let (net, own) = (net.clone(), Rc::clone(&own));
            move || {
                let own = Rc::clone(&own);
                Actor::new(&net, "served").on(Made, move |transport| {
                    own.borrow().as_ref().expect("a server").server.close();
                    transport.write(b"hello");
                    transport.close();
                })
            }
        });
        let served = served.await;
        own.replace(Some(served.clone()));
        net.forget("served made");
        net.forget("served lost: None");
        let (protocol, end) = Streams::default().enter();
        net.connect(&served.address, protocol).await.unwrap();
        let mut end = end.await.unwrap();
        net.say(read(end.reader.read_to_end(None).await));
        drop(end);
        let server = served.server;
        net.say(format!(
            "{} {}",
            server.is_serving(),
            server.sockets().len()
        ));
        let over = net.there(async move { server.wait_closed().await });
        net.say(outcome(over.await));
        own.take();
    });
}
