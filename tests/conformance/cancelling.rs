//! Awaits that are given up in the middle.

use std::time::Duration;

use evloop::{Protocol, TimeoutError, timeout};

use crate::cast::Streams;
use crate::net::{Net, Served, Side, Terms, outcome, read};
use crate::worlds::everywhere;

struct Idle;

impl Protocol for Idle {}

/// Gives a wait up when everything that is under way has come.
async fn give_up<T>(net: &Net, wait: impl Future<Output = T>) {
    let wait = std::pin::pin!(wait);
    let pause = std::pin::pin!(net.settle());
    match futures::future::select(wait, pause).await {
        futures::future::Either::Left(_) => net.say("it was no wait"),
        futures::future::Either::Right(_) => net.say("given up"),
    }
}

#[test]
fn a_read_that_is_given_up_takes_nothing() {
    everywhere(&["given up", "\"abc\""], async |net| {
        let (mut here, there) = net.streams().await;
        give_up(&net, here.reader.read(3)).await;
        let there = net.there(async move {
            there.writer.write(b"abc");
            there
        });
        net.say(read(here.reader.readexactly(3).await));
        drop(there.await);
    });
}

#[test]
fn readexactly_that_is_given_up_leaves_what_it_had() {
    everywhere(&["given up", "\"abcdef\""], async |net| {
        let (mut here, there) = net.streams().await;
        let there = net
            .there(async move {
                there.writer.write(b"abc");
                there
            })
            .await;
        give_up(&net, here.reader.readexactly(6)).await;
        let there = net.there(async move {
            there.writer.write(b"def");
            there
        });
        net.say(read(here.reader.readexactly(6).await));
        drop(there.await);
    });
}

#[test]
fn readline_that_is_given_up_leaves_what_it_had() {
    everywhere(&["given up", "\"half a line\\n\""], async |net| {
        let (mut here, there) = net.streams().await;
        let there = net
            .there(async move {
                there.writer.write(b"half a ");
                there
            })
            .await;
        give_up(&net, here.reader.readline()).await;
        let there = net.there(async move {
            there.writer.write(b"line\n");
            there
        });
        net.say(read(here.reader.readline().await));
        drop(there.await);
    });
}

#[test]
fn read_to_end_that_is_given_up_leaves_what_it_had() {
    everywhere(&["given up", "3000 bytes"], async |net| {
        let (mut here, there) = net.link(Streams { limit: 100 }, Streams::default()).await;
        let there = net
            .there(async move {
                there.writer.write(vec![1; 2000]);
                there
            })
            .await;
        give_up(&net, here.reader.read_to_end(None)).await;
        let done = net.there(async move {
            there.writer.write(vec![2; 1000]);
            there.writer.close();
        });
        net.say(read(here.reader.read_to_end(None).await));
        done.await;
    });
}

#[test]
fn a_drain_that_is_given_up_holds_nobody_back() {
    everywhere(&["given up", "ok", "everything came"], async |net| {
        let (here, mut there) = net.streams().await;
        let plenty = net.plenty();
        here.writer.write(vec![1; plenty]);
        give_up(&net, here.writer.drain()).await;
        let reads = net.there(async move { there.reader.read_to_end(None).await.unwrap().len() });
        net.say(outcome(here.writer.drain().await));
        here.writer.close();
        if reads.await == plenty {
            net.say("everything came");
        }
    });
}

#[test]
fn one_of_several_drains_may_be_given_up() {
    everywhere(&["given up", "ok"], async |net| {
        let (here, mut there) = net.streams().await;
        let plenty = net.plenty();
        here.writer.write(vec![1; plenty]);
        let writer = &here.writer;
        let both = async {
            give_up(&net, writer.drain()).await;
            net.there(async move { there.reader.readexactly(plenty).await.map(drop) })
                .await
                .unwrap();
        };
        let (kept, ()) = futures::join!(writer.drain(), both);
        net.say(outcome(kept));
    });
}

#[test]
fn wait_closed_that_is_given_up_can_be_asked_again() {
    everywhere(&["given up", "given up", "ok"], async |net| {
        let (here, mut there) = net.streams().await;
        give_up(&net, here.writer.wait_closed()).await;
        give_up(&net, here.writer.wait_closed()).await;
        here.writer.close();
        let other = net.there(async move { there.reader.read(1).await.map(drop) });
        net.say(outcome(here.writer.wait_closed().await));
        other.await.unwrap();
    });
}

#[test]
fn the_wait_for_a_server_can_be_given_up() {
    everywhere(&["given up", "ok"], async |net| {
        let Served { server, .. } = net.serve(Side::Here, Terms::default(), || Idle).await;
        give_up(&net, server.wait_closed()).await;
        server.close();
        net.say(outcome(server.wait_closed().await));
    });
}

#[test]
fn a_handshake_or_a_connect_that_is_given_up_leaves_the_server_alone() {
    everywhere(&["served"], async |net| {
        let served = net.serve(Side::There, Terms::default(), || Idle).await;
        for polls in 0..6_u64 {
            let limit = Duration::from_micros(100 * polls);
            drop(timeout(limit, net.connect(&served.address, || Idle)).await);
        }
        if net.connect(&served.address, || Idle).await.is_ok() {
            net.say("served");
        }
    });
}

#[test]
fn a_limit_on_a_read_leaves_the_connection_as_it_was() {
    everywhere(&["Elapsed", "\"in the end\""], async |net| {
        let (mut here, there) = net.streams().await;
        let limit = Duration::from_millis(20);
        match timeout(limit, here.reader.readexactly(10)).await {
            Err(TimeoutError::Elapsed) => net.say("Elapsed"),
            other => net.say(format!("{other:?}")),
        }
        let there = net.there(async move {
            there.writer.write(b"in the end");
            there
        });
        net.say(read(here.reader.readexactly(10).await));
        drop(there.await);
    });
}
