//! `readuntil` with one separator of every type, and with several.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

use evloop::{ReadError, Separators, StreamReader};

use crate::common::{run, turns};
use crate::support::{ended, fed, incomplete, now, overrun, rest};

#[test]
fn whatever_holds_bytes_is_one_separator() {
    async fn reads(separator: impl Separators) {
        let mut reader = fed(64, b"line, rest");
        assert_eq!(reader.readuntil(separator).await.unwrap(), b"line, ");
    }
    run(async {
        let (slice, vec): (&[u8], _) = (b", ", b", ".to_vec());
        reads(b", ").await;
        reads(*b", ").await;
        reads(slice).await;
        reads(&slice).await;
        reads(&vec).await;
        reads(vec.into_boxed_slice()).await;
        reads(Cow::Borrowed(slice)).await;
        reads(", ").await;
        reads(&", ".to_owned()).await;
        reads(", ".to_owned()).await;
    });
}

#[test]
fn several_separators_come_in_a_tuple_an_array_a_slice_or_a_vec() {
    async fn reads(separators: impl Separators) {
        let mut reader = fed(64, b"one;two\nthree");
        assert_eq!(reader.readuntil(&separators).await.unwrap(), b"one;");
        assert_eq!(reader.readuntil(&separators).await.unwrap(), b"two\n");
        assert!(now(reader.readuntil(&separators)).await.is_none());
        assert_eq!(rest(&mut reader).await, b"three");
    }
    run(async {
        reads((b"\r\n", b"\n", b";")).await;
        reads((b";", "\n".to_owned())).await;
        reads([";", "\n"]).await;
        reads(&[&b"\n"[..], b";"]).await;
        reads(vec![";", "\n"]).await;
        let chosen: &[Vec<u8>] = &[b";".to_vec(), b"\n".to_vec()];
        reads(chosen).await;
        // One alone in a tuple is one.
        let mut reader = fed(64, b"line\n");
        assert_eq!(reader.readuntil((b"\n",)).await.unwrap(), b"line\n");
    });
}

#[test]
fn an_empty_separator_or_none_is_invalid_input_and_nothing_is_lost() {
    async fn refused(separators: impl Separators, text: &str) {
        let mut reader = fed(3, b"too long for it\n");
        reader.set_exception(io::Error::other("comes later"));
        match reader.readuntil(separators).await {
            Err(ReadError::Io(error)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert_eq!(error.to_string(), text);
            }
            other => panic!("{other:?}"),
        }
    }
    run(async {
        let empty = "Separator should be at least one-byte string";
        refused(b"", empty).await;
        refused("", empty).await;
        refused((b"x", b""), empty).await;
        refused((b"", b"x"), empty).await;
        refused(["x", ""], empty).await;
        let none = "Separator should contain at least one element";
        refused((), none).await;
        refused(Vec::<&str>::new(), none).await;
        refused([""; 0], none).await;

        let mut reader = fed(64, b"abc\n");
        assert!(reader.readuntil(()).await.is_err());
        assert!(reader.readuntil("").await.is_err());
        assert_eq!(reader.readline().await.unwrap(), b"abc\n");
    });
}

#[test]
fn the_first_separator_in_the_stream_wins() {
    run(async {
        let mut reader = ended(64, b"some data/some more,rest");
        for separators in [(b",", b"/"), (b"/", b",")] {
            reader = ended(64, b"some data/some more,rest");
            assert_eq!(reader.readuntil(separators).await.unwrap(), b"some data/");
            assert_eq!(reader.readuntil(separators).await.unwrap(), b"some more,");
        }
        assert_eq!(
            incomplete(reader.readuntil((b",", b"/")).await),
            (b"rest".to_vec(), None)
        );
        assert!(reader.at_eof());
    });
}

#[test]
fn the_separator_that_ends_first_wins_over_the_one_that_starts_first() {
    run(async {
        let mut reader = fed(64, b"abcd, ab");
        assert_eq!(reader.readuntil((b"abcd", b"bc")).await.unwrap(), b"abc");
        assert_eq!(rest(&mut reader).await, b"d, ab");
    });
}

/// However the bytes are cut, also inside a separator or what looks like one.
#[test]
fn several_separators_are_found_wherever_the_stream_was_cut() {
    run(async {
        let text = b"one--\r\ntwo\r\r\n--\rthree-\n--";
        let separators = (b"\r\n", b"--\r", b"--\n-", b"\n");
        let expected = [&b"one--\r"[..], b"\n", b"two\r\r\n", b"--\r", b"three-\n"];
        for size in 1..=text.len() {
            let mut reader = StreamReader::with_limit(7).unwrap();
            let mut lines = Vec::new();
            for chunk in text.chunks(size) {
                reader.feed_data(chunk).unwrap();
                // A task that awaits too much in one turn is made to give way.
                turns(1).await;
                while let Some(line) = now(reader.readuntil(separators)).await {
                    lines.push(line.unwrap());
                }
            }
            assert_eq!(lines, expected, "in chunks of {size}");
            assert_eq!(rest(&mut reader).await, b"--");
        }
    });
}

#[test]
fn the_limit_is_judged_by_the_separator_that_was_found() {
    run(async {
        // Fed, the number that is told, whether a separator is there.
        let cases: [(&[u8], usize, bool); 4] = [
            (b"abcd*--", 4, true),
            (b"abcde--", 5, true),
            // Three bytes of it could still be the beginning of the longest.
            (b"abcdefg", 4, false),
            (b"abcdefgh*--", 8, true),
        ];
        for (data, consumed, found) in cases {
            let mut reader = fed(3, data);
            for _ in 0..2 {
                let error = overrun(reader.readuntil((b"--", b"*", b"<==>")).await);
                let told = (error.consumed, error.found, error.limit);
                assert_eq!(told, (consumed, found, 3), "{data:?}");
            }
            assert_eq!(rest(&mut reader).await, data);
        }
        // Both end together: the shorter one counts, and what stands before it.
        let mut reader = fed(3, b"abc\r\n");
        let error = overrun(reader.readuntil((b"\r\n", b"\n")).await);
        assert_eq!((error.consumed, error.found), (4, true));
        assert_eq!(reader.readuntil(b"\r\n").await.unwrap(), b"abc\r\n");
    });
}

#[test]
fn a_buffer_shorter_than_the_longest_separator_is_no_trouble() {
    run(async {
        let separators = ("\n", "a separator longer than all there is");
        let mut reader = StreamReader::with_limit(3).unwrap();
        for byte in b"abc" {
            assert!(now(reader.readuntil(separators)).await.is_none());
            reader.feed_data(&[*byte]).unwrap();
        }
        assert!(now(reader.readuntil(separators)).await.is_none());
        reader.feed_data(b"\n").unwrap();
        assert_eq!(reader.readuntil(separators).await.unwrap(), b"abc\n");
    });
}

#[test]
fn another_set_of_separators_sees_what_was_searched_before() {
    run(async {
        let mut reader = fed(64, b"a,b;c");
        assert!(now(reader.readuntil(("\n", "\r"))).await.is_none());
        assert_eq!(reader.readuntil((";", ",")).await.unwrap(), b"a,");
        assert!(now(reader.readuntil("\n")).await.is_none());
        assert_eq!(reader.readuntil(("\n", ";")).await.unwrap(), b"b;");
    });
}

#[test]
fn a_type_of_the_user_s_can_be_separators() {
    struct LineEnds;
    impl Separators for LineEnds {
        type Slices<'a> = [&'a [u8]; 2];

        fn slices(&self) -> Self::Slices<'_> {
            [b"\n", b"\r\n"]
        }
    }
    run(async {
        let mut reader = fed(64, b"one\r\ntwo\n");
        assert_eq!(reader.readuntil(LineEnds).await.unwrap(), b"one\r\n");
        assert_eq!(reader.readuntil(&LineEnds).await.unwrap(), b"two\n");
    });
}
