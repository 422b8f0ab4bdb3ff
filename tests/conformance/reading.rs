//! Streams, read.

use std::time::Duration;

use evloop::{sleep, timeout};

use crate::cast::Streams;
use crate::net::{outcome, read};
use crate::worlds::everywhere;

#[test]
fn bytes_come_in_their_order_and_then_the_end() {
    everywhere(&["\"hello, world\"", "the end"], async |net| {
        let (mut here, there) = net.streams().await;
        net.there(async move {
            there.writer.write(b"hello, ");
            there.writer.write(b"world");
            there.writer.close();
        })
        .await;
        net.say(read(here.reader.readexactly(12).await));
        net.say(read(here.reader.read(100).await));
    });
}

#[test]
fn the_end_is_told_each_time() {
    everywhere(
        &["the end", "the end", "only the end of 3", "only the end"],
        async |net| {
            let (mut here, there) = net.streams().await;
            net.there(async move { there.writer.close() }).await;
            net.say(read(here.reader.read(1).await));
            net.say(read(here.reader.read_to_end(None).await));
            net.say(read(here.reader.readexactly(3).await));
            net.say(read(here.reader.readuntil(b"\n").await));
        },
    );
}

#[test]
fn a_read_of_nothing_does_not_wait() {
    everywhere(&["the end", "the end"], async |net| {
        let (mut here, _there) = net.streams().await;
        net.say(read(here.reader.read(0).await));
        net.say(read(here.reader.readexactly(0).await));
    });
}

#[test]
fn a_read_gives_what_there_is_and_no_more_than_was_asked_for() {
    everywhere(&["\"abc\"", "\"de\""], async |net| {
        let (mut here, there) = net.streams().await;
        let there = net
            .there(async move {
                there.writer.write(b"abcde");
                there
            })
            .await;
        net.settle().await;
        // Everything is in the system by now, and a first read has it all in the buffer.
        let first = here.reader.readexactly(3).await;
        net.say(read(first));
        let mut rest = Vec::new();
        while rest.len() < 2 {
            let piece = here.reader.read(2 - rest.len()).await.unwrap();
            assert!(!piece.is_empty());
            rest.extend(piece);
        }
        net.say(crate::net::bytes(&rest));
        drop(there);
    });
}

#[test]
fn readexactly_waits_for_all_of_it() {
    everywhere(&["\"abcdef\"", "\"gh\""], async |net| {
        let (mut here, there) = net.streams().await;
        let written = net.there(async move {
            for piece in ["ab", "cd", "efgh"] {
                there.writer.write(piece);
                sleep(Duration::from_millis(5)).await.unwrap();
            }
            there
        });
        net.say(read(here.reader.readexactly(6).await));
        net.say(read(here.reader.readexactly(2).await));
        drop(written.await);
    });
}

#[test]
fn readexactly_says_what_there_was_before_the_end() {
    everywhere(&["only \"abc\" of 5", "the end"], async |net| {
        let (mut here, there) = net.streams().await;
        net.there(async move {
            there.writer.write(b"abc");
            there.writer.close();
        })
        .await;
        net.say(read(here.reader.readexactly(5).await));
        net.say(read(here.reader.read(1).await));
    });
}

#[test]
fn readline_gives_each_line_and_then_the_rest() {
    everywhere(
        &["\"one\\n\"", "\"two\\n\"", "\"rest\"", "the end"],
        async |net| {
            let (mut here, there) = net.streams().await;
            net.there(async move {
                there.writer.write(b"one\ntwo\nrest");
                there.writer.close();
            })
            .await;
            for _ in 0..4 {
                net.say(read(here.reader.readline().await));
            }
        },
    );
}

#[test]
fn a_separator_may_come_in_two_pieces() {
    everywhere(&["\"ab\\r\\n\"", "only \"c\""], async |net| {
        let (mut here, there) = net.streams().await;
        let written = net.there(async move {
            there.writer.write(b"ab\r");
            sleep(Duration::from_millis(5)).await.unwrap();
            there.writer.write(b"\nc");
            there.writer.close();
        });
        net.say(read(here.reader.readuntil(b"\r\n").await));
        net.say(read(here.reader.readuntil(b"\r\n").await));
        written.await;
    });
}

#[test]
fn a_line_over_the_limit_stays_where_it_is() {
    everywhere(
        &["over the limit", "\"abcdefgh\\n\"", "\"ok\\n\""],
        async |net| {
            let (mut here, there) = net.link(Streams { limit: 4 }, Streams::default()).await;
            net.there(async move {
                there.writer.write(b"abcdefgh\nok\n");
                there.writer.close();
            })
            .await;
            net.say(read(here.reader.readline().await));
            net.say(read(here.reader.readexactly(9).await));
            net.say(read(here.reader.readline().await));
        },
    );
}

#[test]
fn a_line_over_the_limit_can_be_skipped() {
    everywhere(&["9 skipped", "\"ok\\n\""], async |net| {
        let (mut here, there) = net.link(Streams { limit: 4 }, Streams::default()).await;
        net.there(async move {
            there.writer.write(b"abcdefgh\nok\n");
            there.writer.close();
        })
        .await;
        let skipped = here.reader.skip_line().await.unwrap();
        net.say(format!("{skipped} skipped"));
        net.say(read(here.reader.readline().await));
    });
}

#[test]
fn at_eof_is_true_when_everything_was_read() {
    everywhere(&["false", "false", "true"], async |net| {
        let (mut here, there) = net.streams().await;
        net.say(here.reader.at_eof().to_string());
        net.there(async move {
            there.writer.write(b"ab");
            there.writer.close();
        })
        .await;
        net.settle().await;
        here.reader.readexactly(1).await.unwrap();
        net.say(here.reader.at_eof().to_string());
        here.reader.read_to_end(None).await.unwrap();
        net.say(here.reader.at_eof().to_string());
    });
}

#[test]
fn read_to_end_has_everything_though_the_limit_is_small() {
    everywhere(&["100000 bytes, in order: true"], async |net| {
        let (mut here, there) = net.link(Streams { limit: 100 }, Streams::default()).await;
        let sent = crate::common::pattern(100_000);
        let copy = sent.clone();
        net.there(async move {
            there.writer.write(copy);
            there.writer.close();
        })
        .await;
        let got = here.reader.read_to_end(None).await.unwrap();
        net.say(format!("{} bytes, in order: {}", got.len(), got == sent));
    });
}

#[test]
fn lines_end_with_the_stream() {
    everywhere(&["\"a\\n\"", "\"b\"", "no more"], async |net| {
        let (mut here, there) = net.streams().await;
        net.there(async move {
            there.writer.write(b"a\nb");
            there.writer.close();
        })
        .await;
        let mut lines = here.reader.lines();
        while let Some(line) = lines.next().await.unwrap() {
            net.say(crate::net::bytes(&line));
        }
        net.say("no more");
    });
}

#[test]
fn a_close_of_ours_ends_a_read_that_waits() {
    everywhere(&["only the end of 5"], async |net| {
        let (mut here, there) = net.streams().await;
        let close = async {
            net.settle().await;
            here.writer.close();
        };
        let (outcome, ()) = futures::join!(here.reader.readexactly(5), close);
        net.say(read(outcome));
        drop(there);
    });
}

#[test]
fn an_abort_of_ours_ends_a_read_that_waits() {
    everywhere(&["the end"], async |net| {
        let (mut here, there) = net.streams().await;
        let abort = async {
            net.settle().await;
            here.writer.transport().abort();
        };
        let (outcome, ()) = futures::join!(here.reader.read(5), abort);
        net.say(read(outcome));
        drop(there);
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_and_loses_nothing() {
    everywhere(
        &["the writer waits", "everything came", "ok"],
        async |net| {
            let (mut here, there) = net.link(Streams { limit: 100 }, Streams::default()).await;
            let plenty = net.plenty();
            let trace = net.trace().clone();
            let written = net.there(async move {
                there.writer.write(vec![7; plenty]);
                let mut drain = Box::pin(there.writer.drain());
                if timeout(Duration::ZERO, &mut drain).await.is_err() {
                    trace.say("the writer waits");
                }
                let drained = drain.await;
                there.writer.close();
                outcome(drained)
            });
            net.settle().await;
            let got = here.reader.read_to_end(None).await.unwrap();
            if got.len() == plenty {
                net.say("everything came");
            }
            let drained = written.await;
            net.say(drained);
        },
    );
}

#[test]
fn a_reader_that_is_full_stops_reading_and_goes_on_when_it_is_read() {
    everywhere(&["true", "false", "true"], async |net| {
        let (mut here, there) = net.link(Streams { limit: 10 }, Streams::default()).await;
        net.say(here.writer.transport().is_reading().to_string());
        let there = net
            .there(async move {
                there.writer.write(vec![1; 1000]);
                there
            })
            .await;
        net.settle().await;
        net.say(here.writer.transport().is_reading().to_string());
        here.reader.readexactly(1000).await.unwrap();
        net.say(here.writer.transport().is_reading().to_string());
        drop(there);
    });
}
