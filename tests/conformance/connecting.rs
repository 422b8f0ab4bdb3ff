//! Connects: that succeed, that fail, and to whom.

use std::time::Duration;

use evloop::{PeerCredentials, PeerName, Protocol, SockName, timeout};

use crate::cast::What::Made;
use crate::cast::{Actor, Streams};
use crate::net::{Net, Side, Terms, outcome};
use crate::worlds::everywhere;

struct Idle;

impl Protocol for Idle {}

#[test]
fn where_nobody_has_ever_listened_nobody_answers() {
    everywhere(&["ConnectionRefused"], async |net| {
        // A port, or a path, that was somebody's.
        let served = net.serve(Side::There, Terms::default(), || Idle).await;
        let address = served.address.clone();
        net.there(async move { served.server.close() }).await;
        net.say(outcome(net.connect(&address, || Idle).await));
    });
}

#[test]
fn who_is_bound_and_does_not_listen_refuses() {
    everywhere(&["ConnectionRefused", "ok"], async |net| {
        let terms = Terms {
            start_serving: false,
            ..Terms::default()
        };
        let served = net.serve(Side::There, terms, || Idle).await;
        net.say(outcome(net.connect(&served.address, || Idle).await));
        let server = served.server.clone();
        net.there(async move { server.start_serving().await })
            .await
            .unwrap();
        net.say(outcome(net.connect(&served.address, || Idle).await));
    });
}

#[test]
fn each_end_is_the_others_peer() {
    everywhere(&["true", "true"], async |net| {
        let (here, there) = net.streams().await;
        let ours = (
            here.writer.get_extra_info(SockName),
            here.writer.get_extra_info(PeerName),
        );
        let theirs = net.there(async move {
            (
                there.writer.get_extra_info(SockName),
                there.writer.get_extra_info(PeerName),
            )
        });
        let theirs = theirs.await;
        net.say((ours.0 == theirs.1).to_string());
        net.say((ours.1 == theirs.0).to_string());
    });
}

#[test]
fn the_server_is_where_it_says_it_is() {
    everywhere(&["true"], async |net| {
        let served = net.serve(Side::There, Terms::default(), || Idle).await;
        let (transport, _) = net.connect(&served.address, || Idle).await.unwrap();
        net.say((transport.get_extra_info(PeerName) == Some(served.address)).to_string());
    });
}

#[test]
fn an_address_is_served_once() {
    everywhere(&["AddrInUse"], async |net| {
        let served = net.serve(Side::Here, Terms::default(), || Idle).await;
        let again = net
            .serve_at(&served.address, Terms::default(), || Idle)
            .await;
        net.say(outcome(again));
    });
}

#[test]
fn an_address_is_free_again_when_its_server_is_closed() {
    everywhere(&["ok", "ok"], async |net| {
        let served = net.serve(Side::Here, Terms::default(), || Idle).await;
        served.server.close();
        let again = net
            .serve_at(&served.address, Terms::default(), || Idle)
            .await;
        net.say(outcome(again));
        let address = served.address;
        let other = net.clone();
        let connected = net.there(async move { other.connect(&address, || Idle).await });
        net.say(outcome(connected.await.map(drop)));
    });
}

#[test]
fn forty_that_connect_at_once_are_all_served() {
    everywhere(&["40 connected", "40 served"], async |net| {
        let greet = {
            let net = net.clone();
            move || Actor::new(&net, "served")
        };
        let served = net.serve(Side::There, Terms::default(), greet).await;
        let connects = (0..40).map(|_| net.connect(&served.address, || Idle));
        let connected = futures::future::join_all(connects).await;
        let count = connected.iter().filter(|outcome| outcome.is_ok()).count();
        net.trace().until_count("served made", 40).await;
        net.forget("served made");
        net.say(format!("{count} connected"));
        net.say(format!("{} served", net.trace().count("served made")));
    });
}

#[test]
fn a_connect_that_is_given_up_harms_nobody() {
    everywhere(&["TimedOut", "ok"], async |net| {
        let served = net.serve(Side::There, Terms::default(), || Idle).await;
        let connect = Box::pin(net.connect(&served.address, || Idle));
        net.say(match timeout(Duration::ZERO, connect).await {
            // A unix socket may be connected at once; what comes of it is dropped either way.
            Ok(Ok(_)) | Err(_) => "TimedOut",
            Ok(Err(_)) => "failed",
        });
        net.say(outcome(net.connect(&served.address, || Idle).await));
    });
}

/// A server that has one connection and takes no second one; a second one waits for it.
async fn crowded(net: &Net) -> (crate::net::Served, evloop::Transport) {
    let terms = Terms {
        max_connections: 1,
        ..Terms::default()
    };
    let factory = {
        let net = net.clone();
        move || Actor::new(&net, "served").on(Made, |transport| transport.write(b"hello"))
    };
    let served = net.serve(Side::There, terms, factory).await;
    let first = Actor::new(net, "first").enough(5);
    let (first, _) = net.connect(&served.address, || first).await.unwrap();
    net.trace().until("first \"hello\"").await;
    for line in ["served made", "served eof", "served lost: None"] {
        net.forget(line);
    }
    (served, first)
}

#[test]
fn who_is_one_too_many_waits_until_there_is_room() {
    let story = [
        "first made",
        "first \"hello\"",
        "nothing yet",
        "second \"hello\"",
    ];
    everywhere(&story, async |net| {
        let (served, first) = crowded(&net).await;
        let second = Actor::new(&net, "second").enough(5);
        net.forget("second made");
        net.forget("first lost: None");
        let connect = net.connect(&served.address, || second);
        let wait = async {
            net.settle().await;
            net.say("nothing yet");
            first.close();
            net.trace().until("second \"hello\"").await;
        };
        let (second, ()) = futures::join!(connect, wait);
        drop(second.unwrap());
    });
}

#[test]
fn who_waits_to_be_accepted_is_reset_when_the_server_closes() {
    let story = [
        "first made",
        "first \"hello\"",
        "closed",
        "second lost: ConnectionReset",
    ];
    everywhere(&story, async |net| {
        let (served, _first) = crowded(&net).await;
        let second = Actor::new(&net, "second");
        net.forget("second made");
        let connect = net.connect(&served.address, || second);
        let server = served.server.clone();
        let wait = async {
            net.settle().await;
            net.say("closed");
            net.there(async move { server.close() }).await;
        };
        let (second, ()) = futures::join!(connect, wait);
        match second {
            Ok(_) => net.trace().until("second lost: ConnectionReset").await,
            Err(_) => net.say(format!("second: {}", outcome(second))),
        }
    });
}

#[test]
fn bytes_that_come_before_the_accept_are_not_lost() {
    everywhere(&["\"early\"", "the end"], async |net| {
        let (mut here, there) = net.streams().await;
        net.there(async move {
            there.writer.write(b"early");
            there.writer.close();
        })
        .await;
        net.settle().await;
        net.say(crate::net::read(here.reader.readexactly(5).await));
        net.say(crate::net::read(here.reader.read(1).await));
    });
}

#[test]
fn a_client_that_writes_and_leaves_at_once_is_heard() {
    let story = [
        "served made",
        "served \"hello\"",
        "served eof",
        "served lost: None",
    ];
    everywhere(&story, async |net| {
        let factory = {
            let net = net.clone();
            move || Actor::new(&net, "served")
        };
        let served = net.serve(Side::There, Terms::default(), factory).await;
        let hasty = Actor::new(&net, "hasty").on(Made, |transport| {
            transport.write(b"hello");
            transport.close();
        });
        let connected = net.connect(&served.address, || hasty).await;
        drop(connected.unwrap());
        net.trace().until("served lost: None").await;
        net.forget("hasty made");
        net.forget("hasty lost: None");
    });
}

#[test]
fn streams_may_be_made_on_both_ends_with_limits_of_their_own() {
    everywhere(&["\"abc\"", "\"abc\""], async |net| {
        let (mut here, there) = net.link(Streams { limit: 1 }, Streams { limit: 2 }).await;
        here.writer.write(b"abc");
        let other = net.there(async move {
            let mut there = there;
            let got = there.reader.readexactly(3).await.unwrap();
            there.writer.write(&got);
            (there, crate::net::bytes(&got))
        });
        net.say(crate::net::read(here.reader.readexactly(3).await));
        let (there, got) = other.await;
        net.say(got);
        drop(there);
    });
}

#[test]
fn of_a_peer_on_the_network_nobody_knows_who_runs_it() {
    everywhere(&["nobody knows"], async |net| {
        let (here, there) = net.streams().await;
        net.say(match here.writer.get_extra_info(PeerCredentials) {
            Some(_) => "somebody",
            None => "nobody knows",
        });
        drop(there);
    });
}

#[test]
fn a_socket_can_be_taken_out() {
    everywhere(&["\"unread\"", "the end"], async |net| {
        let (here, there) = net.streams().await;
        let there = net
            .there(async move {
                there.writer.write(b"unread");
                there
            })
            .await;
        net.settle().await;
        let crate::cast::End { reader, writer } = here;
        match writer.detach(reader) {
            Ok(detached) => {
                net.say(crate::net::bytes(&detached.unread));
                net.say(crate::net::bytes(&detached.unsent));
            }
            Err(error) => net.say(crate::net::failure(&error)),
        }
        drop(there);
    });
}

#[test]
fn an_address_that_is_bound_twice_is_served_once() {
    everywhere(&["ok", "ok", "AddrInUse"], async |net| {
        let terms = Terms {
            start_serving: false,
            ..Terms::default()
        };
        let first = net.serve(Side::Here, terms.clone(), || Idle).await;
        let second = net.serve_at(&first.address, terms, || Idle).await;
        match second {
            Ok(second) => {
                net.say("ok");
                net.say(outcome(first.server.start_serving().await));
                net.say(outcome(second.server.start_serving().await));
            }
            Err(error) => net.say(crate::net::failure(&error)),
        }
    });
}

#[test]
fn who_finds_the_queue_of_a_unix_socket_full_is_told_at_once() {
    everywhere(&["\"hello\"", "\"hello\"", "WouldBlock"], async |net| {
        let terms = Terms {
            backlog: 1,
            max_connections: 1,
            ..Terms::default()
        };
        let factory = {
            let net = net.clone();
            move || {
                Actor::new(&net, "served").on(Made, |transport| {
                    transport.write(b"hello");
                    transport.close();
                })
            }
        };
        for line in ["served made", "served lost: None", "we made"] {
            net.forget(line);
        }
        let served = net.serve(Side::There, terms, factory).await;
        let visits = (0..3).map(|_| async {
            let (protocol, end) = crate::cast::Role::enter(Streams::default());
            match net.connect(&served.address, protocol).await {
                Ok(_) => {
                    let mut end = end.await.unwrap();
                    crate::net::read(end.reader.read_to_end(None).await)
                }
                Err(error) => crate::net::failure(&error),
            }
        });
        for greeting in futures::future::join_all(visits).await {
            net.say(greeting);
        }
    });
}
