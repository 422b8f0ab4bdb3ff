//! `StreamReader`, fed by hand.

use std::io::{self, ErrorKind};
use std::pin::pin;

use evloop::{
    FeedError, ReadError, StreamReader, StreamWriter, get_running_loop, open_connection,
    start_server,
};

use crate::common::run;
use crate::support::{
    ended, fed, incomplete, kind, now, overrun, poll_once, reset, reset_after, rest,
};

#[test]
fn a_limit_of_zero_is_invalid_input_everywhere() {
    run(async {
        let error = StreamReader::with_limit(0).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "Limit cannot be <= 0");
        let error = open_connection(("127.0.0.1", 1))
            .limit(0)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let serve = start_server(|_, _| (), ("127.0.0.1", 0)).limit(0);
        assert_eq!(serve.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn read_gives_at_least_one_byte_and_at_most_as_many_as_were_asked_for() {
    run(async {
        let mut reader = fed(3, b"0123456789");
        assert_eq!(reader.read(4).await.unwrap(), b"0123");
        // The limit does not bound it.
        assert_eq!(reader.read(100).await.unwrap(), b"456789");
        assert!(now(reader.read(1)).await.is_none());
        reader.feed_data(b"a").unwrap();
        assert_eq!(reader.read(100).await.unwrap(), b"a");
    });
}

#[test]
fn read_of_nothing_never_waits() {
    run(async {
        let mut reader = StreamReader::new();
        assert_eq!(now(reader.read(0)).await.unwrap().unwrap(), b"");
        assert_eq!(now(reader.read_into(&mut [])).await.unwrap().unwrap(), 0);
        assert_eq!(now(reader.readexactly(0)).await.unwrap().unwrap(), b"");
        reader.feed_data(b"abc").unwrap();
        assert_eq!(now(reader.read(0)).await.unwrap().unwrap(), b"");
        assert_eq!(rest(&mut reader).await, b"abc");
    });
}

#[test]
fn at_the_end_reads_give_nothing_for_ever() {
    run(async {
        let mut reader = ended(3, b"ab");
        assert!(!reader.at_eof());
        assert_eq!(reader.read(5).await.unwrap(), b"ab");
        for _ in 0..2 {
            assert!(reader.at_eof());
            assert_eq!(reader.read(5).await.unwrap(), b"");
            assert_eq!(reader.read_into(&mut [0; 5]).await.unwrap(), 0);
            assert_eq!(reader.read_to_end(None).await.unwrap(), b"");
            assert_eq!(reader.readline().await.unwrap(), b"");
            assert_eq!(reader.readexactly(0).await.unwrap(), b"");
            assert_eq!(reader.skip_line().await.unwrap(), 0);
            assert_eq!(incomplete(reader.readexactly(1).await), (vec![], Some(1)));
            assert_eq!(incomplete(reader.readuntil(b"x").await), (vec![], None));
        }
    });
}

#[test]
fn read_into_moves_what_fits() {
    run(async {
        let mut reader = fed(3, b"abcde");
        let mut buffer = [b'.'; 3];
        assert_eq!(reader.read_into(&mut buffer).await.unwrap(), 3);
        assert_eq!(&buffer, b"abc");
        assert_eq!(reader.read_into(&mut buffer).await.unwrap(), 2);
        assert_eq!(&buffer, b"dec");
        assert!(now(reader.read_into(&mut buffer)).await.is_none());
    });
}

#[test]
fn readexactly_waits_for_all_or_tells_what_there_was() {
    run(async {
        let mut reader = fed(2, b"abcdefg");
        assert_eq!(reader.readexactly(5).await.unwrap(), b"abcde");
        assert!(now(reader.readexactly(3)).await.is_none());
        reader.feed_eof();
        assert_eq!(
            incomplete(reader.readexactly(3).await),
            (b"fg".to_vec(), Some(3))
        );
        assert!(reader.at_eof());
    });
}

#[test]
fn readexactly_of_more_than_there_ever_can_be_only_waits() {
    run(async {
        let mut reader = fed(2, b"abc");
        assert!(now(reader.readexactly(usize::MAX)).await.is_none());
        assert_eq!(rest(&mut reader).await, b"abc");
    });
}

#[test]
fn readline_gives_lines_and_at_the_end_what_is_left() {
    run(async {
        let mut reader = ended(64, b"one\n\ntwo\nthr");
        assert_eq!(reader.readline().await.unwrap(), b"one\n");
        assert_eq!(reader.readline().await.unwrap(), b"\n");
        assert_eq!(reader.readline().await.unwrap(), b"two\n");
        assert_eq!(reader.readline().await.unwrap(), b"thr");
        assert_eq!(reader.readline().await.unwrap(), b"");
    });
}

#[test]
fn lines_end_with_the_stream() {
    run(async {
        let mut reader = ended(64, b"one\ntwo\nthr");
        let mut lines = reader.lines();
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        assert_eq!(all, [&b"one\n"[..], b"two\n", b"thr"]);
        assert!(lines.next().await.unwrap().is_none());
    });
}

#[test]
fn lines_report_what_readline_reports() {
    run(async {
        let mut reader = fed(3, b"too long\n");
        assert_eq!(overrun(reader.lines().next().await).consumed, 8);
        let mut reader = reset_after(3, b"ab");
        assert_eq!(
            kind(reader.lines().next().await),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn readuntil_finds_a_separator_of_any_length_wherever_it_was_cut() {
    run(async {
        let mut reader = fed(64, b"");
        for separator in [&b"\n"[..], b"\r\n", b"AAA", b"ABABC"] {
            let mut data = b"some AAdaABABAta".to_vec();
            data.extend(separator);
            let (first, last) = data.split_at(data.len() - 1);
            for byte in first {
                reader.feed_data(&[*byte]).unwrap();
                assert!(
                    now(reader.readuntil(separator)).await.is_none(),
                    "{separator:?}"
                );
            }
            reader.feed_data(last).unwrap();
            reader.feed_data(b"tail").unwrap();
            assert_eq!(reader.readuntil(separator).await.unwrap(), data);
            assert_eq!(rest(&mut reader).await, b"tail");
        }
    });
}

#[test]
fn an_empty_separator_is_invalid_input_before_everything_else() {
    run(async {
        let mut reader = fed(64, b"abc");
        reader.set_exception(io::Error::other("by hand"));
        match reader.readuntil(b"").await {
            Err(ReadError::Io(error)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert_eq!(
                    error.to_string(),
                    "Separator should be at least one-byte string"
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn over_the_limit_the_numbers_are_asyncio_s_and_the_buffer_is_untouched() {
    run(async {
        // Fed, separator, consumed, found; the limit is 3 and the end may be there as well.
        let cases: [(&[u8], &[u8], usize, bool); 8] = [
            (b"some dataAA", b"AAA", 9, false),
            (b"some dataAAA", b"AAA", 9, true),
            (b"abcd", b"\n", 4, false),
            (b"abcd\n", b"\n", 4, true),
            (b"abcd\nef\n", b"\n", 4, true),
            // What may be the beginning of a separator is not counted.
            (b"abcde\r", b"\r\n", 5, false),
            (b"abcde\r\n", b"\r\n", 5, true),
            (b"abcdefghijkl", b"\r\n\r\n", 9, false),
        ];
        for (data, separator, consumed, found) in cases {
            for end in [false, true] {
                let mut reader = fed(3, data);
                if end {
                    // The limit comes before the end.
                    reader.feed_eof();
                }
                for _ in 0..2 {
                    let error = overrun(reader.readuntil(separator).await);
                    let told = (error.consumed, error.found, error.limit);
                    assert_eq!(told, (consumed, found, 3), "{data:?} {separator:?}");
                }
                assert_eq!(rest(&mut reader).await, data);
            }
        }
    });
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    run(async {
        let mut reader = fed(3, b"abc\nabc\r\n");
        assert_eq!(reader.readline().await.unwrap(), b"abc\n");
        assert_eq!(reader.readuntil(b"\r\n").await.unwrap(), b"abc\r\n");
        // Three bytes that cannot be part of the separator, and one that can: not over yet.
        reader.feed_data(b"abc\r").unwrap();
        assert!(now(reader.readuntil(b"\r\n")).await.is_none());
        reader.feed_data(b"\n").unwrap();
        assert_eq!(reader.readuntil(b"\r\n").await.unwrap(), b"abc\r\n");
    });
}

#[test]
fn the_limit_is_64_kib_unless_told_otherwise() {
    run(async {
        let line = |length| [vec![b'x'; length], vec![b'\n']].concat();
        let mut reader = StreamReader::new();
        reader.feed_data(&line(65_536)).unwrap();
        assert_eq!(reader.readline().await.unwrap().len(), 65_537);
        reader.feed_data(&line(65_537)).unwrap();
        let error = overrun(reader.readline().await);
        assert_eq!((error.consumed, error.limit), (65_537, 65_536));

        let server = start_server(
            |mut reader: StreamReader, writer: StreamWriter| async move {
                let error = overrun(reader.readuntil(b"?").await);
                writer.write(format!("{}\n", error.limit).as_bytes());
                // Stays open until the other side has seen enough.
                reader.read_to_end(None).await.unwrap();
            },
            ("127.0.0.1", 0),
        );
        let server = server.await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let (mut reader, writer) = open_connection(address).await.unwrap();
        writer.write(line(65_537));
        assert_eq!(reader.readline().await.unwrap(), b"65536\n");
        reader.feed_data(&line(65_537)).unwrap();
        assert_eq!(overrun(reader.readline().await).limit, 65_536);
        writer.close();
    });
}

#[test]
fn after_an_overrun_the_reader_goes_on_by_any_way() {
    run(async {
        // By the number that was told.
        let mut reader = fed(3, b"abcdef\nxy\n");
        let error = overrun(reader.readline().await);
        assert_eq!(reader.readexactly(error.consumed).await.unwrap(), b"abcdef");
        assert_eq!(reader.readline().await.unwrap(), b"\n");
        assert_eq!(reader.readline().await.unwrap(), b"xy\n");
        // Past the line.
        let mut reader = fed(3, b"abcdef\nxy\n");
        overrun(reader.readline().await);
        assert_eq!(reader.skip_line().await.unwrap(), 7);
        assert_eq!(reader.readline().await.unwrap(), b"xy\n");
        // By any read.
        let mut reader = fed(3, b"abcdef\nxy\n");
        overrun(reader.readline().await);
        assert_eq!(reader.read(5).await.unwrap(), b"abcde");
        assert_eq!(reader.readline().await.unwrap(), b"f\n");
    });
}

#[test]
fn skip_line_passes_a_line_of_any_length_and_ends_at_the_end() {
    run(async {
        let mut reader = StreamReader::with_limit(3).unwrap();
        let feeder = reader.feeder();
        let handle = get_running_loop().unwrap();
        let feeding = handle.create_task(async move {
            for piece in [&b"abcdef"[..], b"ghijkl", b"m\nnext\nlast"] {
                feeder.feed_data(piece).unwrap();
                crate::common::turns(1).await;
            }
            feeder.feed_eof();
        });
        assert_eq!(reader.skip_line().await.unwrap(), 14);
        feeding.await.unwrap();
        assert_eq!(reader.skip_line().await.unwrap(), 5);
        assert_eq!(reader.skip_line().await.unwrap(), 4);
        assert_eq!(reader.skip_line().await.unwrap(), 0);
    });
}

#[test]
fn read_to_end_gives_everything_and_a_cap_bounds_it() {
    run(async {
        let mut reader = fed(2, b"abcdef");
        assert!(now(reader.read_to_end(None)).await.is_none());
        assert!(now(reader.read_to_end(6)).await.is_none());
        let error = overrun(reader.read_to_end(5).await);
        assert_eq!((error.limit, error.found), (5, false));
        reader.feed_eof();
        overrun(reader.read_to_end(5).await);
        assert_eq!(reader.read_to_end(6).await.unwrap(), b"abcdef");
        assert!(reader.at_eof());
        assert_eq!(
            ended(2, b"abcdef").read_to_end(None).await.unwrap(),
            b"abcdef"
        );
    });
}

#[test]
fn an_exception_by_hand_is_raised_at_once_by_every_read_and_the_buffer_stays() {
    run(async {
        let mut reader = fed(64, b"a whole line\n");
        assert!(reader.exception().is_none());
        reader.set_exception(io::Error::other("by hand"));
        assert_eq!(reader.exception().unwrap().to_string(), "by hand");
        for _ in 0..2 {
            assert_eq!(reader.read(5).await.unwrap_err().to_string(), "by hand");
            assert_eq!(reader.read(0).await.unwrap_err().to_string(), "by hand");
            assert_eq!(
                reader.read_into(&mut [0; 3]).await.unwrap_err().to_string(),
                "by hand"
            );
            assert_eq!(reader.skip_line().await.unwrap_err().to_string(), "by hand");
            let rules = [
                reader.readline().await,
                reader.readexactly(0).await,
                reader.readexactly(3).await,
                reader.readuntil(b"l").await,
                reader.read_to_end(None).await,
                reader.read_to_end(3).await,
            ];
            for outcome in rules {
                assert_eq!(outcome.unwrap_err().to_string(), "by hand");
            }
        }
        assert!(!reader.at_eof());
        assert!(format!("{reader:?}").contains("bytes: 13"), "{reader:?}");
        // A later one takes its place.
        reader.set_exception(io::Error::from(ErrorKind::TimedOut));
        assert_eq!(kind(reader.read(5).await), ErrorKind::TimedOut);
    });
}

#[test]
fn after_a_loss_what_arrived_comes_first_and_then_the_error_every_time() {
    run(async {
        let mut reader = reset_after(64, b"one\ntwo\nthr");
        assert_eq!(reader.readline().await.unwrap(), b"one\n");
        assert_eq!(reader.readexactly(2).await.unwrap(), b"tw");
        assert_eq!(reader.readuntil(b"o").await.unwrap(), b"o");
        for _ in 0..2 {
            // None of these can be completed, and none takes what is left.
            assert_eq!(
                kind(reader.readuntil(b"x").await),
                ErrorKind::ConnectionReset
            );
            assert_eq!(
                kind(reader.readexactly(5).await),
                ErrorKind::ConnectionReset
            );
            assert_eq!(
                kind(reader.read_to_end(None).await),
                ErrorKind::ConnectionReset
            );
        }
        assert_eq!(reader.readline().await.unwrap(), b"\n");
        assert_eq!(kind(reader.readline().await), ErrorKind::ConnectionReset);
        assert_eq!(reader.read(100).await.unwrap(), b"thr");
        for _ in 0..2 {
            let error = reader.read(100).await.unwrap_err();
            assert_eq!(error.raw_os_error(), reset().raw_os_error());
            assert_eq!(kind(reader.skip_line().await), ErrorKind::ConnectionReset);
            assert_eq!(kind(reader.readline().await), ErrorKind::ConnectionReset);
        }
        assert!(!reader.at_eof());
        assert!(reader.exception().is_some());
    });
}

#[test]
fn after_a_loss_the_limit_still_comes_first() {
    run(async {
        let mut reader = reset_after(3, b"abcdef");
        assert_eq!(overrun(reader.readline().await).consumed, 6);
        assert_eq!(overrun(reader.read_to_end(5).await).limit, 5);
        assert_eq!(
            reader.skip_line().await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn an_exception_wakes_the_read_that_waits() {
    run(async {
        let mut reader = fed(64, b"partial");
        let feeder = reader.feeder();
        let handle = get_running_loop().unwrap();
        handle.call_soon(move || feeder.set_exception(io::Error::other("by hand")));
        assert_eq!(reader.readline().await.unwrap_err().to_string(), "by hand");
    });
}

#[test]
fn partial_data_and_an_error_in_one_turn_are_both_seen() {
    run(async {
        let mut reader = StreamReader::new();
        let feeder = reader.feeder();
        get_running_loop().unwrap().call_soon(move || {
            feeder.feed_data(b"partial").unwrap();
            feeder.set_exception(reset());
        });
        assert_eq!(kind(reader.readline().await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn partial_data_and_the_end_in_one_turn_are_both_seen() {
    run(async {
        let mut reader = StreamReader::new();
        let feeder = reader.feeder();
        get_running_loop().unwrap().call_soon(move || {
            feeder.feed_data(b"partial").unwrap();
            feeder.feed_eof();
            feeder.feed_eof();
        });
        assert_eq!(reader.readline().await.unwrap(), b"partial");
    });
}

#[test]
fn feeding_after_the_end_is_an_error_and_changes_nothing() {
    run(async {
        let mut reader = ended(64, b"abc");
        assert_eq!(reader.feed_data(b"d"), Err(FeedError::AfterEof));
        assert_eq!(reader.feeder().feed_data(b""), Err(FeedError::AfterEof));
        assert_eq!(FeedError::AfterEof.to_string(), "feed_data after feed_eof");
        assert_eq!(reader.read_to_end(None).await.unwrap(), b"abc");
    });
}

#[test]
fn feeding_nothing_wakes_nobody() {
    run(async {
        let mut reader = StreamReader::new();
        let feeder = reader.feeder();
        let mut read = pin!(reader.read(5));
        assert!(poll_once(&mut read).await.is_none());
        feeder.feed_data(b"").unwrap();
        assert!(poll_once(&mut read).await.is_none());
        feeder.feed_data(b"x").unwrap();
        assert_eq!(poll_once(&mut read).await.unwrap().unwrap(), b"x");
    });
}

#[test]
fn feeding_a_reader_that_is_gone_is_no_error() {
    run(async {
        let reader = StreamReader::new();
        let feeder = reader.feeder();
        drop(reader);
        feeder.feed_data(b"for nobody").unwrap();
        feeder.feed_eof();
        feeder.set_exception(reset());
    });
}
