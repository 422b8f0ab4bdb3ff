//! How connections end: in good order, by a reset, by an abort; and what is left of them.

use std::time::Duration;

use evloop::{ClosedBecause, PeerName, Transport, sleep};

use crate::cast::What::{Data, Made};
use crate::cast::{Actor, End, Streams};
use crate::net::{Net, outcome, read};
use crate::worlds::everywhere;

/// A connection of streams with a peer that has never read what it was sent, and then closes: the
/// system says so with a reset, behind the five bytes that the peer has sent.
async fn reset_behind_hello(net: &Net) -> End {
    let actor = Actor::new(net, "they").on(Made, |transport| {
        transport.pause_reading();
        transport.write(b"hello");
    });
    let (here, there) = net.link(Streams::default(), actor).await;
    net.forget("they made");
    net.forget("they lost: None");
    here.writer.write(b"never read");
    net.settle().await;
    net.there(async move { there.abort() }).await;
    here
}

#[test]
fn what_came_before_a_reset_is_read_before_it_is_told() {
    everywhere(
        &["\"hello\"", "ConnectionReset", "ConnectionReset"],
        async |net| {
            let mut here = reset_behind_hello(&net).await;
            net.settle().await;
            net.say(read(here.reader.readexactly(5).await));
            net.say(read(here.reader.readexactly(5).await));
            net.say(read(here.reader.read(1).await));
        },
    );
}

#[test]
fn a_reset_is_told_to_everyone_each_time() {
    let story = [
        "ConnectionReset",
        "ConnectionReset",
        "ConnectionReset",
        "true",
        "Some(Reset)",
    ];
    everywhere(&story, async |net| {
        let here = reset_behind_hello(&net).await;
        net.say(outcome(here.writer.wait_closed().await));
        net.say(outcome(here.writer.wait_closed().await));
        net.say(outcome(here.writer.drain().await));
        net.say(here.writer.is_closing().to_string());
        net.say(format!("{:?}", here.writer.get_extra_info(ClosedBecause)));
    });
}

#[test]
fn a_reset_ends_a_read_that_waits() {
    everywhere(&["ConnectionReset"], async |net| {
        let mut here = reset_behind_hello(&net).await;
        here.reader.readexactly(5).await.unwrap();
        net.say(read(here.reader.readuntil(b"never").await));
    });
}

#[test]
fn a_reset_ends_a_drain_that_waits() {
    everywhere(&["ConnectionReset", "0"], async |net| {
        let actor = Actor::new(&net, "they").on(Made, Transport::pause_reading);
        let (here, there) = net.link(Streams::default(), actor).await;
        net.forget("they made");
        net.forget("they lost: None");
        here.writer.write(vec![1; net.plenty()]);
        let abort = async {
            net.settle().await;
            net.there(async move { there.abort() }).await;
        };
        let (drained, ()) = futures::join!(here.writer.drain(), abort);
        net.say(outcome(drained));
        net.say(here.writer.transport().get_write_buffer_size().to_string());
    });
}

#[test]
fn a_protocol_is_told_of_a_reset_once_and_last() {
    everywhere(
        &["we made", "we \"hello\"", "we lost: ConnectionReset"],
        async |net| {
            let actor = Actor::new(&net, "they").on(Made, |transport| {
                transport.pause_reading();
                transport.write(b"hello");
            });
            let (transport, there) = net.link(Actor::new(&net, "we").enough(5), actor).await;
            net.forget("they made");
            net.forget("they lost: None");
            transport.write(b"never read");
            net.trace().until("we \"hello\"").await;
            net.settle().await;
            net.there(async move { there.abort() }).await;
            net.trace().until("we lost: ConnectionReset").await;
            transport.write(b"late");
            transport.close();
            transport.abort();
            net.settle().await;
        },
    );
}

#[test]
fn a_close_with_unread_bytes_resets_the_peer() {
    everywhere(&["ConnectionReset"], async |net| {
        let (mut here, there) = net.streams().await;
        let transport = there.writer.transport().clone();
        transport.pause_reading();
        net.settle().await;
        here.writer.write(b"never read");
        net.settle().await;
        net.there(async move {
            there.writer.close();
            there
        })
        .await;
        net.say(read(here.reader.read(1).await));
    });
}

#[test]
fn a_close_with_everything_read_is_an_end() {
    everywhere(&["\"ok\"", "the end", "Some(Closed)"], async |net| {
        let (mut here, there) = net.streams().await;
        here.writer.write(b"question");
        let peer = net.there(async move {
            let End { mut reader, writer } = there;
            reader.readexactly(8).await.unwrap();
            writer.write(b"ok");
            writer.close();
            drop(writer.wait_closed().await);
            writer.get_extra_info(ClosedBecause)
        });
        net.say(read(here.reader.readexactly(2).await));
        net.say(read(here.reader.read(1).await));
        here.writer.close();
        let why = peer.await;
        net.say(format!("{why:?}"));
    });
}

#[test]
fn an_abort_with_everything_read_is_an_end_for_the_peer() {
    everywhere(&["\"ok\"", "the end"], async |net| {
        let (mut here, there) = net.streams().await;
        here.writer.write(b"question");
        let peer = net.there(async move {
            let End { mut reader, writer } = there;
            reader.readexactly(8).await.unwrap();
            writer.write(b"ok");
            writer
        });
        net.say(read(here.reader.readexactly(2).await));
        let writer = peer.await;
        net.there(async move { writer.transport().abort() }).await;
        net.say(read(here.reader.read(1).await));
    });
}

#[test]
fn a_write_to_a_peer_that_has_closed_ends_the_connection() {
    everywhere(
        &["the end", "false", "BrokenPipe", "BrokenPipe"],
        async |net| {
            let (mut here, there) = net.streams().await;
            net.there(async move { there.writer.close() }).await;
            net.say(read(here.reader.read(1).await));
            net.say(here.writer.is_closing().to_string());
            while !here.writer.is_closing() {
                here.writer.write(b"anybody there?");
                sleep(Duration::from_millis(20)).await.unwrap();
            }
            net.say(outcome(here.writer.wait_closed().await));
            net.say(outcome(here.writer.drain().await));
        },
    );
}

#[test]
fn after_the_peers_end_and_a_loss_reads_are_at_the_end_first() {
    everywhere(&["\"last\"", "BrokenPipe"], async |net| {
        let (mut here, there) = net.streams().await;
        net.there(async move {
            there.writer.write(b"last");
            there.writer.close();
        })
        .await;
        // What a write that fails finds unread in the system is lost.
        net.settle().await;
        while !here.writer.is_closing() {
            here.writer.write(b"anybody there?");
            sleep(Duration::from_millis(20)).await.unwrap();
        }
        drop(here.writer.wait_closed().await);
        net.say(read(here.reader.readexactly(4).await));
        net.say(read(here.reader.read(1).await));
    });
}

#[test]
fn an_abort_gives_up_a_close_that_still_sends() {
    everywhere(&["waits", "ok", "0", "Some(Aborted)"], async |net| {
        let (here, there) = net.streams().await;
        here.writer.write(vec![1; net.plenty()]);
        here.writer.close();
        net.settle().await;
        if here.writer.transport().get_write_buffer_size() > 0 {
            net.say("waits");
        }
        here.writer.transport().abort();
        net.say(outcome(here.writer.wait_closed().await));
        net.say(here.writer.transport().get_write_buffer_size().to_string());
        net.say(format!("{:?}", here.writer.get_extra_info(ClosedBecause)));
        drop(there);
    });
}

#[test]
fn both_may_close_at_once() {
    everywhere(&["ok", "ok"], async |net| {
        let (here, there) = net.streams().await;
        let close = |end: End| async move {
            end.writer.write(b"x");
            end.writer.close();
            outcome(end.writer.wait_closed().await)
        };
        // What the other one wrote may not have been read: then it is a reset, but ours was a close.
        let other = net.there(close(there));
        let ours = close(here).await;
        net.say(ours);
        net.say(other.await);
    });
}

#[test]
fn a_transport_that_is_kept_answers_and_ignores() {
    let story = [
        "true",
        "false",
        "ok",
        "ok",
        "(25, 100)",
        "the same peer",
        "true",
    ];
    everywhere(&story, async |net| {
        let (here, there) = net.streams().await;
        let transport = here.writer.transport().clone();
        let peer = transport.get_extra_info(PeerName);
        here.writer.close();
        let other = net.there(async move {
            let mut there = there;
            drop(there.reader.read_to_end(None).await);
        });
        here.writer.wait_closed().await.unwrap();
        drop(here);
        transport.pause_reading();
        transport.resume_reading();
        transport.write(b"late");
        net.say(transport.is_closing().to_string());
        net.say(transport.is_reading().to_string());
        net.say(outcome(transport.write_eof().or_else(|error| {
            // The same as before the end.
            if transport.can_write_eof() {
                Err(error)
            } else {
                Ok(())
            }
        })));
        net.say(outcome(transport.set_write_buffer_limits(100, None)));
        net.say(format!("{:?}", transport.get_write_buffer_limits()));
        let same = transport.get_extra_info(PeerName) == peer;
        net.say(if same {
            "the same peer"
        } else {
            "another peer"
        });
        net.say(transport.get_protocol().is_none().to_string());
        other.await;
    });
}

#[test]
fn why_a_connection_is_over_can_be_asked() {
    everywhere(&["None", "Some(PeerEof)"], async |net| {
        let (transport, there) = net.link(Actor::new(&net, "we"), Streams::default()).await;
        net.forget("we made");
        net.forget("we eof");
        net.forget("we lost: None");
        net.say(format!("{:?}", transport.get_extra_info(ClosedBecause)));
        let peer = net.there(async move {
            there.writer.close();
            there
        });
        net.trace().until("we lost: None").await;
        net.say(format!("{:?}", transport.get_extra_info(ClosedBecause)));
        drop(peer.await);
    });
}

#[test]
fn a_handler_that_fails_is_the_reason() {
    everywhere(&["Some(HandlerFailed)"], async |net| {
        let actor = Actor::new(&net, "we")
            .enough(1)
            .on(Data, |_| panic!("on purpose"));
        let (transport, there) = net.link(actor, Streams::default()).await;
        let peer = net.there(async move {
            there.writer.write(b"x");
            there
        });
        net.trace().until("we lost: Other").await;
        for line in net.said() {
            net.forget(&line);
        }
        net.say(format!("{:?}", transport.get_extra_info(ClosedBecause)));
        drop(peer.await);
    });
}

#[test]
fn a_reset_behind_the_peers_end_is_told_at_once() {
    everywhere(&["the end", "false", "BrokenPipe"], async |net| {
        let (mut here, there) = net.streams().await;
        there.writer.transport().pause_reading();
        net.settle().await;
        here.writer.write(b"never read");
        let there = net
            .there(async move {
                there.writer.write_eof().unwrap();
                there
            })
            .await;
        net.say(read(here.reader.read(1).await));
        net.settle().await;
        net.say(here.writer.is_closing().to_string());
        net.there(async move { there.writer.transport().abort() })
            .await;
        net.say(outcome(here.writer.wait_closed().await));
    });
}

#[test]
fn when_both_halves_have_ended_there_is_nothing_to_reset() {
    everywhere(&["the end", "false", "ok"], async |net| {
        let (mut here, there) = net.streams().await;
        there.writer.transport().pause_reading();
        net.settle().await;
        here.writer.write(b"never read");
        here.writer.write_eof().unwrap();
        net.settle().await;
        let there = net
            .there(async move {
                there.writer.write_eof().unwrap();
                there
            })
            .await;
        net.say(read(here.reader.read(1).await));
        net.settle().await;
        net.there(async move { there.writer.transport().abort() })
            .await;
        net.settle().await;
        net.say(here.writer.is_closing().to_string());
        here.writer.close();
        net.say(outcome(here.writer.wait_closed().await));
    });
}

#[test]
fn a_write_finds_a_reset_that_nobody_has_read() {
    everywhere(
        &["we made", "false", "we lost: ConnectionReset"],
        async |net| {
            let actor = Actor::new(&net, "we").on(Made, Transport::pause_reading);
            let peer = Actor::new(&net, "they").on(Made, Transport::pause_reading);
            let (transport, there) = net.link(actor, peer).await;
            net.forget("they made");
            net.forget("they lost: None");
            transport.write(b"never read");
            net.settle().await;
            net.there(async move { there.abort() }).await;
            net.settle().await;
            net.say(transport.is_closing().to_string());
            transport.write(b"x");
            while !net.said().iter().any(|line| line.starts_with("we lost: ")) {
                sleep(Duration::from_millis(1)).await.unwrap();
            }
        },
    );
}

#[test]
fn an_end_is_not_noticed_while_reading_is_paused_but_a_write_notices_the_loss() {
    let story = ["we made", "false", "we lost: BrokenPipe"];
    everywhere(&story, async |net| {
        let actor = Actor::new(&net, "we").on(Made, Transport::pause_reading);
        let (transport, there) = net.link(actor, Streams::default()).await;
        // A server's tickets are read, or their loss would be a reset.
        net.settle().await;
        net.there(async move { there.writer.transport().abort() })
            .await;
        net.settle().await;
        net.say(transport.is_closing().to_string());
        while !transport.is_closing() {
            transport.write(b"anybody there?");
            sleep(Duration::from_millis(20)).await.unwrap();
        }
        while !net.said().iter().any(|line| line.starts_with("we lost: ")) {
            sleep(Duration::from_millis(1)).await.unwrap();
        }
    });
}

#[test]
fn one_write_to_a_peer_that_has_closed_is_enough_to_be_told() {
    everywhere(&["the end", "true", "BrokenPipe"], async |net| {
        let (mut here, there) = net.streams().await;
        net.there(async move { there.writer.close() }).await;
        net.say(read(here.reader.read(1).await));
        here.writer.write(b"anybody there?");
        net.settle().await;
        net.say(here.writer.is_closing().to_string());
        net.say(outcome(here.writer.wait_closed().await));
    });
}

#[test]
fn a_peer_that_reads_and_leaves_and_a_close_of_ours_are_two_good_ends() {
    everywhere(&["the end", "ok", "ok"], async |net| {
        let (mut here, there) = net.streams().await;
        here.writer.write(b"hello");
        let other = net.there(async move {
            let End { mut reader, writer } = there;
            reader.readexactly(5).await.unwrap();
            writer.close();
            outcome(writer.wait_closed().await)
        });
        net.say(read(here.reader.read(1).await));
        here.writer.close();
        net.say(outcome(here.writer.wait_closed().await));
        net.say(other.await);
    });
}

#[test]
fn a_close_that_still_sends_is_ended_by_the_peers_reset() {
    everywhere(&["waits", "ConnectionReset", "0"], async |net| {
        let actor = Actor::new(&net, "they").on(Made, Transport::pause_reading);
        let (here, there) = net.link(Streams::default(), actor).await;
        net.forget("they made");
        net.forget("they lost: None");
        here.writer.write(vec![1; net.plenty()]);
        here.writer.close();
        net.settle().await;
        if here.writer.transport().get_write_buffer_size() > 0 {
            net.say("waits");
        }
        net.there(async move { there.abort() }).await;
        net.say(outcome(here.writer.wait_closed().await));
        net.say(here.writer.transport().get_write_buffer_size().to_string());
    });
}

#[test]
fn an_end_that_waits_behind_unsent_bytes_is_lost_with_them() {
    everywhere(&["ok", "ConnectionReset", "ConnectionReset"], async |net| {
        let actor = Actor::new(&net, "they").on(Made, Transport::pause_reading);
        let (mut here, there) = net.link(Streams::default(), actor).await;
        net.forget("they made");
        net.forget("they lost: None");
        here.writer.write(vec![1; net.plenty()]);
        net.say(outcome(here.writer.write_eof()));
        net.settle().await;
        net.there(async move { there.abort() }).await;
        net.say(outcome(here.writer.wait_closed().await));
        net.say(read(here.reader.read(1).await));
    });
}
