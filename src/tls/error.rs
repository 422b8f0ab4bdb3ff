//! What goes wrong with TLS.
//!
//! Owns: [`TlsError`]. Why: "the certificate is for another name" and "the peer speaks no TLS" are
//! answers that a user needs, and a bare "invalid data" is none. Invariants: each is an `io::Error`
//! as well, with asyncio's kind where asyncio has one; the reason of the connection's end is the
//! source of each. asyncio's counterpart: `ssl.SSLError` and its kin.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::transports::CloseReason;

/// What went wrong with TLS: inside an `io::Error`, from where
/// [`of`](Self::of) gets it out again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TlsError {
    /// The handshake took longer than its time, a
    /// [`ssl_handshake_timeout`](crate::OpenConnection::ssl_handshake_timeout). Kind
    /// `ConnectionAborted`, as asyncio has it.
    HandshakeTimeout(Duration),
    /// The peer ended the connection during the handshake. Kind `ConnectionReset`.
    HandshakeCutOff,
    /// The first bytes that came are no TLS. Kind `InvalidData`.
    NotTls,
    /// The peer's certificate was refused: expired, for another name, signed by nobody that is
    /// trusted. Kind `InvalidData`.
    Certificate(rustls::CertificateError),
    /// The peer refused, with an alert: our certificate, or its absence, a protocol, a version.
    /// Kind `ConnectionRefused` during the handshake; `ConnectionAborted` later, since a client of
    /// TLS 1.3 that is refused for its certificate hears of it with the first read.
    Alert(rustls::AlertDescription),
    /// Something else that TLS does not allow. Kind `InvalidData`.
    Protocol(rustls::Error),
    /// The connection ended without a `close_notify`: whether the peer has said everything nobody
    /// can know. Kind `UnexpectedEof`.
    Truncated,
    /// So many records were sent that the keys are used up, and TLS 1.2 has no way to new ones (16
    /// million, if the suite is AES-GCM). What was written since is lost. Kind `ConnectionAborted`.
    KeysUsedUp,
    /// So many bytes had come, unencrypted, before the client began with `start_tls`: somebody may
    /// have put them in. Kind `InvalidData`.
    BytesBefore(usize),
}

impl TlsError {
    /// The one in an `io::Error` of a connection, of a read, of a drain, if there is one. A
    /// [`ReadError`](crate::ReadError) is made an `io::Error` by `into()` first.
    ///
    /// ```
    /// use evloop::TlsError;
    ///
    /// let error = std::io::Error::from(TlsError::Truncated);
    /// assert_eq!(TlsError::of(&error), Some(&TlsError::Truncated));
    /// assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        let mut error: &(dyn Error + 'static) = error.get_ref()?;
        loop {
            // What is reported more than once is shared.
            if let Some(shared) = error.downcast_ref::<std::sync::Arc<io::Error>>() {
                return Self::of(shared);
            }
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            error = error.source()?;
        }
    }

    /// By what rustls says.
    pub(super) fn new(error: rustls::Error, first: bool) -> Self {
        use rustls::InvalidMessage::{InvalidContentType, MessageTooLarge, UnknownProtocolVersion};
        match error {
            rustls::Error::InvalidCertificate(error) => Self::Certificate(error),
            rustls::Error::AlertReceived(alert) => Self::Alert(alert),
            rustls::Error::InvalidMessage(
                InvalidContentType | UnknownProtocolVersion | MessageTooLarge,
            ) if first => Self::NotTls,
            error => Self::Protocol(error),
        }
    }

    /// As an error of a connection that was there already, or was not yet.
    pub(crate) fn into_io(self, handshaking: bool) -> io::Error {
        let kind = match &self {
            Self::Alert(_) if handshaking => io::ErrorKind::ConnectionRefused,
            Self::Alert(_) | Self::HandshakeTimeout(_) | Self::KeysUsedUp => {
                io::ErrorKind::ConnectionAborted
            }
            Self::HandshakeCutOff => io::ErrorKind::ConnectionReset,
            Self::Truncated => io::ErrorKind::UnexpectedEof,
            Self::NotTls | Self::Certificate(_) | Self::Protocol(_) | Self::BytesBefore(_) => {
                io::ErrorKind::InvalidData
            }
        };
        io::Error::new(kind, self)
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        error.into_io(false)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeTimeout(limit) => write!(
                f,
                "SSL handshake is taking longer than {} seconds: aborting the connection",
                limit.as_secs_f64()
            ),
            Self::HandshakeCutOff => {
                f.write_str("the peer ended the connection during the TLS handshake")
            }
            Self::NotTls => f.write_str("the peer does not speak TLS"),
            Self::Certificate(error) => write!(f, "the peer's certificate was refused: {error}"),
            Self::Alert(alert) => write!(f, "the peer refused: TLS alert {alert:?}"),
            Self::Protocol(error) => write!(f, "TLS: {error}"),
            Self::Truncated => f.write_str(
                "the peer ended the connection without close_notify: what it sent may be cut off",
            ),
            Self::KeysUsedUp => {
                f.write_str("so much was sent that the keys of this TLS 1.2 connection are used up")
            }
            Self::BytesBefore(count) => write!(
                f,
                "{count} unencrypted bytes came before the handshake began"
            ),
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Truncated => &CloseReason::Truncated,
            _ => &CloseReason::TlsFailed,
        })
    }
}
