//! A read that is dropped has taken nothing.

use std::future::Future;
use std::pin::Pin;

use evloop::{ReadError, StreamReader};

use crate::common::run;
use crate::support::now;

type Outcome<'a> = Pin<Box<dyn Future<Output = String> + 'a>>;
type Read = for<'a> fn(&'a mut StreamReader) -> Outcome<'a>;

/// Feeds the text byte by byte. After each byte a read is begun and dropped after one poll; what
/// the reads that are ready give is collected.
async fn byte_by_byte(text: &[u8], read: Read) -> Vec<String> {
    let mut reader = StreamReader::with_limit(4).unwrap();
    let mut outcomes = Vec::new();
    for byte in text {
        reader.feed_data(&[*byte]).unwrap();
        if let Some(outcome) = now(read(&mut reader)).await {
            outcomes.push(outcome);
        }
    }
    reader.feed_eof();
    while !reader.at_eof() {
        outcomes.push(read(&mut reader).await);
    }
    outcomes
}

/// The same, but the reads begin when everything is there.
async fn at_once(text: &[u8], read: Read) -> Vec<String> {
    let mut reader = StreamReader::with_limit(4).unwrap();
    reader.feed_data(text).unwrap();
    reader.feed_eof();
    let mut outcomes = Vec::new();
    while !reader.at_eof() {
        outcomes.push(read(&mut reader).await);
    }
    outcomes
}

/// Both give the same, which is this.
#[track_caller]
fn same(text: &[u8], read: Read, expected: &[&str]) {
    run(async {
        assert_eq!(byte_by_byte(text, read).await, expected);
        assert_eq!(at_once(text, read).await, expected);
    });
}

fn told(outcome: Result<Vec<u8>, ReadError>) -> String {
    match outcome {
        Ok(bytes) => bytes.escape_ascii().to_string(),
        Err(ReadError::Incomplete(error)) => format!("only {}", error.partial.escape_ascii()),
        Err(error) => panic!("{error}"),
    }
}

fn readline(reader: &mut StreamReader) -> Outcome<'_> {
    Box::pin(async { told(reader.readline().await) })
}

fn readuntil(reader: &mut StreamReader) -> Outcome<'_> {
    Box::pin(async { told(reader.readuntil(b"\r\n").await) })
}

fn readexactly(reader: &mut StreamReader) -> Outcome<'_> {
    Box::pin(async { told(reader.readexactly(7).await) })
}

fn read_to_end(reader: &mut StreamReader) -> Outcome<'_> {
    Box::pin(async { told(reader.read_to_end(None).await) })
}

fn read(reader: &mut StreamReader) -> Outcome<'_> {
    Box::pin(async { told(Ok(reader.read(2).await.unwrap())) })
}

fn read_into(reader: &mut StreamReader) -> Outcome<'_> {
    Box::pin(async {
        let mut buffer = [0; 2];
        let n = reader.read_into(&mut buffer).await.unwrap();
        told(Ok(buffer[..n].to_vec()))
    })
}

#[test]
fn readline_dropped_at_every_byte() {
    let lines = ["one\\n", "two\\n", "\\n", "abcd\\n", "rst"];
    same(b"one\ntwo\n\nabcd\nrst", readline, &lines);
}

#[test]
fn readuntil_dropped_at_every_byte() {
    let parts = ["one\\r\\n", "abcd\\r\\n", "\\r\\n", "only \\rst"];
    same(b"one\r\nabcd\r\n\r\n\rst", readuntil, &parts);
}

#[test]
fn readexactly_dropped_at_every_byte() {
    same(
        b"0123456789abcdefgh",
        readexactly,
        &["0123456", "789abcd", "only efgh"],
    );
}

#[test]
fn read_to_end_dropped_at_every_byte() {
    same(b"0123456789abcdefgh", read_to_end, &["0123456789abcdefgh"]);
}

#[test]
fn reads_dropped_at_every_byte_lose_none() {
    for read in [read as Read, read_into] {
        run(async {
            let text = b"0123456789abcdefg";
            assert_eq!(byte_by_byte(text, read).await.concat().as_bytes(), text);
        });
    }
}

#[test]
fn one_kind_of_read_after_another_was_dropped() {
    run(async {
        let mut reader = StreamReader::new();
        reader.feed_data(b"abc").unwrap();
        assert!(now(reader.readline()).await.is_none());
        assert!(now(reader.readuntil(b"cd")).await.is_none());
        assert!(now(reader.readexactly(4)).await.is_none());
        assert!(now(reader.read_to_end(None)).await.is_none());
        // The search remembers how far it came, for its own separator only.
        reader.feed_data(b"d").unwrap();
        assert_eq!(reader.readuntil(b"cd").await.unwrap(), b"abcd");
    });
}

#[test]
fn what_a_dropped_skip_line_has_skipped_stays_skipped() {
    run(async {
        let mut reader = StreamReader::new();
        reader.feed_data(b"abc").unwrap();
        assert!(now(reader.skip_line()).await.is_none());
        reader.feed_data(b"def\nnext\n").unwrap();
        assert_eq!(reader.skip_line().await.unwrap(), 4);
        assert_eq!(reader.readline().await.unwrap(), b"next\n");
    });
}

#[test]
fn a_read_that_timed_out_takes_nothing() {
    run(async {
        let mut reader = StreamReader::new();
        reader.feed_data(b"abc").unwrap();
        let limit = std::time::Duration::from_millis(1);
        let late = evloop::timeout(limit, reader.readexactly(6)).await;
        assert!(late.is_err());
        reader.feed_data(b"def").unwrap();
        assert_eq!(reader.readexactly(6).await.unwrap(), b"abcdef");
    });
}
