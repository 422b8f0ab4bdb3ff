//! Streams, written to.

use std::io::ErrorKind;
use std::time::Duration;

use evloop::{sleep, timeout};

use crate::common::pattern;
use crate::net::{bytes, outcome, read};
use crate::worlds::everywhere;

#[test]
fn writes_of_one_step_arrive_in_their_order() {
    everywhere(&["\"abcdefg\""], async |net| {
        let (here, mut there) = net.streams().await;
        here.writer.write(b"ab");
        here.writer.write(b"");
        here.writer.writelines(["cd", "", "e"]);
        here.writer.write(vec![b'f', b'g']);
        here.writer.close();
        let got = net.there(async move { there.reader.read_to_end(None).await });
        net.say(read(got.await));
    });
}

#[test]
fn an_answer_may_follow_the_end_of_the_question() {
    everywhere(&["can", "question", "\"answer\"", "the end"], async |net| {
        let (mut here, mut there) = net.streams().await;
        let trace = net.trace().clone();
        net.say(if here.writer.can_write_eof() {
            "can"
        } else {
            "cannot"
        });
        here.writer.write(b"question");
        here.writer.write_eof().unwrap();
        let answered = net.there(async move {
            let question = there.reader.read_to_end(None).await.unwrap();
            trace.say(String::from_utf8(question).unwrap());
            there.writer.write(b"answer");
            there.writer.close();
        });
        net.say(read(here.reader.readexactly(6).await));
        net.say(read(here.reader.read(1).await));
        answered.await;
    });
}

#[test]
fn where_a_half_cannot_be_ended_alone_write_eof_says_so() {
    everywhere(&["true", "ok"], async |net| {
        let (here, there) = net.streams().await;
        net.say(here.writer.can_write_eof().to_string());
        net.say(outcome(here.writer.write_eof()));
        drop(there);
    });
}

#[test]
fn behind_write_eof_nothing_can_be_written() {
    everywhere(&["ok", "ok", "BrokenPipe", "false"], async |net| {
        let (here, there) = net.streams().await;
        net.say(outcome(here.writer.write_eof()));
        net.say(outcome(here.writer.write_eof()));
        net.say(outcome(here.writer.transport().try_write(b"x")));
        net.say(here.writer.is_closing().to_string());
        drop(there);
    });
}

#[test]
fn write_eof_waits_for_what_was_written() {
    everywhere(&["everything came", "\"thanks\""], async |net| {
        let (mut here, mut there) = net.streams().await;
        let plenty = net.plenty();
        let trace = net.trace().clone();
        here.writer.write(vec![1; plenty]);
        here.writer.write_eof().unwrap();
        let answered = net.there(async move {
            if there.reader.read_to_end(None).await.unwrap().len() == plenty {
                trace.say("everything came");
            }
            there.writer.write(b"thanks");
            there.writer.close();
        });
        net.say(read(here.reader.read_to_end(None).await));
        answered.await;
    });
}

#[test]
fn close_sends_what_was_written() {
    everywhere(&["everything came", "ok"], async |net| {
        let (here, mut there) = net.streams().await;
        let sent = pattern(net.plenty());
        let expected = sent.clone();
        let trace = net.trace().clone();
        here.writer.write(sent);
        here.writer.close();
        net.there(async move {
            if there.reader.read_to_end(None).await.unwrap() == expected {
                trace.say("everything came");
            }
        })
        .await;
        net.say(outcome(here.writer.wait_closed().await));
    });
}

#[test]
fn a_writer_that_is_dropped_sends_what_was_written() {
    everywhere(&["everything came"], async |net| {
        let (here, mut there) = net.streams().await;
        let plenty = net.plenty();
        here.writer.write(vec![1; plenty]);
        drop(here);
        let got = net.there(async move { there.reader.read_to_end(None).await.unwrap().len() });
        if got.await == plenty {
            net.say("everything came");
        }
    });
}

#[test]
fn what_is_written_while_a_close_still_sends_is_sent_too() {
    everywhere(&["4 more"], async |net| {
        let (here, mut there) = net.streams().await;
        let plenty = net.plenty();
        here.writer.write(vec![1; plenty]);
        here.writer.close();
        here.writer.write(b"tail");
        let got = net.there(async move { there.reader.read_to_end(None).await.unwrap().len() });
        net.say(format!("{} more", got.await - plenty));
    });
}

#[test]
fn what_is_written_after_the_end_is_ignored() {
    everywhere(&["ok", "0", "ok", "the end"], async |net| {
        let (here, mut there) = net.streams().await;
        here.writer.close();
        let got = net.there(async move { there.reader.read_to_end(None).await });
        net.say(outcome(here.writer.wait_closed().await));
        here.writer.write(b"late");
        net.say(here.writer.transport().get_write_buffer_size().to_string());
        net.say(outcome(here.writer.write_eof()));
        net.say(read(got.await));
    });
}

#[test]
fn drain_without_pressure_does_not_wait() {
    everywhere(&["ok"], async |net| {
        let (here, there) = net.streams().await;
        here.writer.write(b"x");
        net.say(outcome(timeout(Duration::ZERO, here.writer.drain()).await));
        drop(there);
    });
}

#[test]
fn everyone_who_drains_waits_for_the_reader() {
    everywhere(&["nobody yet", "ok ok ok"], async |net| {
        let (here, mut there) = net.streams().await;
        let plenty = net.plenty();
        here.writer.write(vec![1; plenty]);
        let writer = &here.writer;
        let mut drains = Box::pin(futures::future::join3(
            writer.drain(),
            writer.drain(),
            writer.drain(),
        ));
        if timeout(Duration::from_millis(30), &mut drains)
            .await
            .is_err()
        {
            net.say("nobody yet");
        }
        let reads = net.there(async move { there.reader.readexactly(plenty).await.map(drop) });
        let (one, two, three) = drains.await;
        net.say([one, two, three].map(outcome).join(" "));
        reads.await.unwrap();
    });
}

#[test]
fn drain_after_a_close_says_that_the_connection_is_over() {
    everywhere(&["ConnectionReset", "ConnectionReset"], async |net| {
        let (here, there) = net.streams().await;
        let other = net.there(async move {
            let mut there = there;
            there.reader.read(1).await.map(drop)
        });
        here.writer.close();
        here.writer.wait_closed().await.unwrap();
        net.say(outcome(here.writer.drain().await));
        net.say(outcome(here.writer.drain().await));
        other.await.unwrap();
    });
}

#[test]
fn a_drain_that_waits_ends_with_the_abort() {
    everywhere(
        &["ConnectionAborted", "ConnectionAborted", "ok"],
        async |net| {
            let (here, there) = net.streams().await;
            here.writer.write(vec![1; net.plenty()]);
            let abort = async {
                net.settle().await;
                here.writer.transport().abort();
            };
            let (drained, ()) = futures::join!(here.writer.drain(), abort);
            net.say(outcome(drained));
            net.say(outcome(here.writer.drain().await));
            net.say(outcome(here.writer.wait_closed().await));
            drop(there);
        },
    );
}

#[test]
fn a_drain_goes_on_while_a_close_sends() {
    everywhere(&["ok", "ok"], async |net| {
        let (here, mut there) = net.streams().await;
        let plenty = net.plenty();
        here.writer.write(vec![1; plenty]);
        here.writer.close();
        let reads = net.there(async move {
            sleep(Duration::from_millis(20)).await.unwrap();
            there.reader.read_to_end(None).await.unwrap().len()
        });
        net.say(outcome(here.writer.drain().await));
        assert_eq!(reads.await, plenty);
        net.say(outcome(here.writer.wait_closed().await));
    });
}

#[test]
fn whoever_goes_on_writing_to_a_peer_that_is_gone_is_told() {
    everywhere(&["broken"], async |net| {
        let (here, there) = net.streams().await;
        net.there(async move { there.writer.close() }).await;
        let error = loop {
            here.writer.write(vec![0; 100]);
            if let Err(error) = here.writer.drain().await {
                break error;
            }
            sleep(Duration::from_millis(20)).await.unwrap();
        };
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => net.say("broken"),
            kind => net.say(format!("{kind:?}")),
        }
    });
}

#[test]
fn everyone_who_waits_for_the_end_is_told() {
    everywhere(&["ok ok", "ok"], async |net| {
        let (here, mut there) = net.streams().await;
        let other = net.there(async move { there.reader.read(1).await.map(drop) });
        let close = async { here.writer.close() };
        let writer = &here.writer;
        let (one, two, ()) = futures::join!(writer.wait_closed(), writer.wait_closed(), close);
        net.say([one, two].map(outcome).join(" "));
        net.say(outcome(writer.wait_closed().await));
        other.await.unwrap();
    });
}

#[test]
fn both_sides_may_write_much_at_once() {
    everywhere(&["ok true", "ok true"], async |net| {
        let (here, there) = net.streams().await;
        let plenty = net.plenty();
        let exchange = move |end: crate::cast::End, mine: u8| async move {
            let crate::cast::End { mut reader, writer } = end;
            let send = async {
                writer.write(vec![mine; plenty]);
                writer.drain().await
            };
            let (sent, got) = futures::join!(send, reader.readexactly(plenty));
            let all = got.unwrap().iter().all(|byte| *byte == 3 - mine);
            writer.close();
            // The other side may not have read everything yet.
            drop(reader.read_to_end(None).await);
            format!("{} {all}", outcome(sent))
        };
        let other = net.there(exchange(there, 2));
        let ours = exchange(here, 1).await;
        net.say(ours);
        net.say(other.await);
    });
}

#[test]
fn question_and_answer_a_hundred_times() {
    everywhere(&["100 answers"], async |net| {
        let (mut here, there) = net.streams().await;
        let echo = net.there(async move {
            let crate::cast::End { mut reader, writer } = there;
            while let Ok(line) = reader.readline().await {
                if line.is_empty() {
                    break;
                }
                writer.write(&line);
                writer.drain().await.unwrap();
            }
        });
        for number in 0..100 {
            let question = format!("question {number}\n");
            here.writer.write(&question);
            assert_eq!(here.reader.readline().await.unwrap(), question.as_bytes());
        }
        net.say("100 answers");
        here.writer.close();
        echo.await;
    });
}

#[test]
fn the_peers_end_leaves_our_half_open() {
    everywhere(&["the end", "false", "everything came"], async |net| {
        let (mut here, mut there) = net.streams().await;
        let plenty = net.plenty();
        let got = net.there(async move {
            there.writer.write_eof().unwrap();
            there.reader.read_to_end(None).await.unwrap().len()
        });
        net.say(bytes(&here.reader.read(1).await.unwrap()));
        net.say(here.writer.is_closing().to_string());
        here.writer.write(vec![1; plenty]);
        here.writer.close();
        if got.await == plenty {
            net.say("everything came");
        }
    });
}
