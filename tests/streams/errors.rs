//! Errors of streams keep their fields on the way through `io::Error`.

use std::io::{self, ErrorKind};

use evloop::{FeedError, IncompleteReadError, LimitOverrunError, ReadError};

use crate::common::run;
use crate::support::{ended, fed, reset_after};

#[test]
fn an_incomplete_read_is_an_unexpected_end_with_its_fields() {
    run(async {
        let error = ended(64, b"abc").readexactly(5).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "3 bytes read on a total of 5 expected bytes"
        );
        let error = io::Error::from(error);
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(
            error.to_string(),
            "3 bytes read on a total of 5 expected bytes"
        );
        let error = error.downcast::<IncompleteReadError>().unwrap();
        assert_eq!(error.partial, b"abc");
        assert_eq!(error.expected, Some(5));
        let error = ended(64, b"abc").readuntil(b"\n").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "3 bytes read on a total of undefined expected bytes"
        );
    });
}

#[test]
fn an_overrun_is_invalid_data_with_its_fields() {
    run(async {
        let error = fed(3, b"abcd\n").readline().await.unwrap_err();
        let text = "Separator is found, but chunk is longer than limit (4 bytes, limit 3)";
        assert_eq!(error.to_string(), text);
        let error = io::Error::from(error);
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(error.to_string(), text);
        let error = error.downcast::<LimitOverrunError>().unwrap();
        let expected = LimitOverrunError {
            consumed: 4,
            limit: 3,
            found: true,
        };
        assert_eq!(error, expected);
        let error = fed(3, b"abcde").readline().await.unwrap_err();
        let text = "Separator is not found, and chunk exceed the limit (5 bytes, limit 3)";
        assert_eq!(error.to_string(), text);
    });
}

#[test]
fn a_lost_connection_keeps_the_system_s_code() {
    run(async {
        let error = reset_after(64, b"").readline().await.unwrap_err();
        assert!(matches!(&error, ReadError::Io(_)));
        let error = io::Error::from(error);
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    });
}

#[test]
fn a_cause_that_is_not_the_system_s_is_kept_as_well() {
    run(async {
        let mut reader = fed(64, b"");
        reader.set_exception(io::Error::new(ErrorKind::InvalidData, "no such frame"));
        for _ in 0..2 {
            let error = reader.read(1).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert_eq!(error.to_string(), "no such frame");
        }
    });
}

#[test]
fn the_question_mark_takes_all_of_them() {
    async fn frame(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut reader = ended(3, data);
        let length = reader.readline().await?;
        reader.feeder().set_transport(no_transport()?)?;
        Ok(length)
    }
    fn no_transport() -> Result<evloop::Transport, FeedError> {
        Err(FeedError::TransportAlreadySet)
    }
    run(async {
        assert_eq!(
            frame(b"abcd\n").await.unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        let error = frame(b"ab\n").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "Transport already set");
    });
}
