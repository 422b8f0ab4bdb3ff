//! What is known about a TLS connection.
//!
//! Owns: the key [`TlsSession`] and its value. Why: one look-up gives all of it, and nothing is
//! asked of the engine, which is gone when the connection is. Invariants: it is taken down when the
//! handshake is over, and does not change. asyncio's counterpart: the keys `peercert`, `cipher`,
//! `ssl_object` of `get_extra_info`.

use std::rc::Rc;

use crate::transports::{ExtraInfo, Transport};

/// What was agreed upon in the TLS handshake; nothing for a connection without TLS. Still answered
/// after the end of the connection. asyncio's keys `peercert`, `cipher` and `ssl_object`.
///
/// ```
/// use evloop::{StreamWriter, TlsSession};
///
/// fn describe(writer: &StreamWriter) {
///     match writer.get_extra_info(TlsSession) {
///         Some(tls) => println!("{:?} with {:?}", tls.version, tls.cipher_suite),
///         None => println!("not encrypted"),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TlsSession;

/// What [`TlsSession`] tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsDetails {
    /// The version of the protocol.
    pub version: rustls::ProtocolVersion,
    /// The cipher suite.
    pub cipher_suite: rustls::CipherSuite,
    /// The group of the key exchange, where there was one.
    pub key_exchange: Option<rustls::NamedGroup>,
    /// The application protocol that both know (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for (SNI): a server is told it if the client sent one, a
    /// client knows what it has verified, which may be an IP address.
    pub server_name: Option<String>,
    /// The peer's certificate in front, behind it those that lead to one that is trusted, in DER;
    /// none if it has shown none.
    pub peer_certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// An earlier session was gone on with, which saves the costly half of the handshake.
    pub resumed: bool,
}

impl ExtraInfo for TlsSession {
    type Value = Rc<TlsDetails>;

    fn look_up(self, transport: &Transport) -> Option<Rc<TlsDetails>> {
        transport.core().details()?.downcast().ok()
    }
}
