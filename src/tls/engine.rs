//! Every call of rustls: bytes in, bytes out.
//!
//! Owns: [`Engine`], one side of one TLS connection, and the making of configurations. Why: the
//! library below changes faster than what we promise, so it is met in one place. Invariants: no
//! socket, no clock of ours, no other state than rustls's own; no process-wide provider is asked
//! for or set. asyncio's counterpart: `ssl.SSLObject` over two `MemoryBIO`.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, IoState, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite,
};

use crate::tls::details::TlsDetails;
use crate::tls::error::TlsError;

/// One side of a TLS connection.
pub(super) struct Engine {
    connection: Connection,
    /// The name that a client verifies.
    name: Option<String>,
    /// Something that was TLS has come.
    has_spoken: bool,
    /// We have sent `close_notify`.
    has_closed: bool,
    /// It was taken, so nothing more is said.
    is_silent: bool,
    /// How many bytes there are in a record at most.
    fragment: usize,
    /// How many records may still be encrypted, if that is known and limited.
    records_left: Option<u64>,
}

impl Engine {
    pub(super) fn client(config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            let message = format!("server_hostname: {name:?} is no name of a host");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let fragment = config.max_fragment_size;
        let connection = ClientConnection::new(config, server_name).map_err(misconfigured)?;
        Ok(Self::new(
            connection.into(),
            fragment,
            Some(name.to_owned()),
        ))
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let fragment = config.max_fragment_size;
        let connection = ServerConnection::new(config).map_err(misconfigured)?;
        Ok(Self::new(connection.into(), fragment, None))
    }

    fn new(mut connection: Connection, fragment: Option<usize>, name: Option<String>) -> Self {
        // We take what was encrypted at once, and hand in a bounded amount.
        connection.set_buffer_limit(None);
        Self {
            connection,
            name,
            has_spoken: false,
            has_closed: false,
            is_silent: false,
            fragment: fragment.map_or(LARGEST_RECORD, |size| size - RECORD_HEADER),
            records_left: None,
        }
    }

    /// Takes records from `input`: all of it, or as far as there is something to
    /// [`read`](Self::read) first. What is left in `input` is to be offered again.
    pub(super) fn feed(&mut self, input: &mut &[u8]) -> Result<(), TlsError> {
        while !input.is_empty() {
            match self.take(input)? {
                Taken::Records => {}
                Taken::Plaintext => break,
                // What comes behind a `close_notify` is to be ignored.
                Taken::Nothing => *input = &[],
            }
        }
        Ok(())
    }

    /// The same with somebody who would block when there is no more. False if nothing came.
    pub(super) fn feed_from(&mut self, input: &mut dyn Read) -> Result<bool, TlsError> {
        let mut came = false;
        loop {
            match self.take(input)? {
                Taken::Records => came = true,
                Taken::Plaintext => return Ok(true),
                Taken::Nothing => return Ok(came),
            }
        }
    }

    /// Takes one piece from `input`.
    fn take(&mut self, input: &mut dyn Read) -> Result<Taken, TlsError> {
        match self.connection.read_tls(input) {
            Ok(0) => return Ok(Taken::Nothing),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Taken::Nothing),
            // A record, or a message of the handshake, that is larger than any may be.
            Err(error) => {
                return Err(TlsError::Protocol(rustls::Error::General(
                    error.to_string(),
                )));
            }
        }
        let state = self
            .process()
            .map_err(|error| TlsError::new(error, !self.has_spoken))?;
        self.has_spoken = true;
        Ok(if state.plaintext_bytes_to_read() > 0 {
            Taken::Plaintext
        } else {
            Taken::Records
        })
    }

    fn process(&mut self) -> Result<IoState, rustls::Error> {
        if !self.has_closed {
            return self.connection.process_new_packets();
        }
        // Behind a `close_notify` there is no alert any more, and of an error that would need one
        // a debug build of rustls makes a panic.
        catch_unwind(AssertUnwindSafe(|| self.connection.process_new_packets())).unwrap_or_else(
            |_| {
                let message = "what came behind our close_notify was in disorder";
                Err(rustls::Error::General(message.to_owned()))
            },
        )
    }

    /// Puts what was decrypted behind what `storage` holds, as far as it has room. How many bytes
    /// that were.
    pub(super) fn read(&mut self, storage: &mut Vec<u8>) -> usize {
        let before = storage.len();
        let mut reader = self.connection.reader();
        while storage.len() < storage.capacity() {
            // It would block, or the end: others say which.
            let Ok(chunk) = reader.fill_buf() else { break };
            if chunk.is_empty() {
                break;
            }
            let size = chunk.len().min(storage.capacity() - storage.len());
            storage.extend_from_slice(&chunk[..size]);
            reader.consume(size);
        }
        storage.len() - before
    }

    /// Encrypts. What comes of it is to be [`taken`](Self::take_records).
    ///
    /// With TLS 1.2 keys are good for a number of records, and there is no way to new ones. rustls
    /// ends the connection then, in good order, and drops what was to be encrypted: so it is not
    /// asked any more when that is near.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        let left = match self.records_left {
            Some(left) => left,
            None => self.limit_of_records(),
        };
        let count = bytes.len().div_ceil(self.fragment) as u64;
        let left = left.checked_sub(count).ok_or(TlsError::KeysUsedUp)?;
        self.records_left = Some(left);
        // Without a limit of bytes it takes everything. It fails only where something that came
        // was wrong, which is about to be told.
        let _ = self.connection.writer().write(bytes);
        Ok(())
    }

    /// How many records of ours may be encrypted with the keys that were agreed upon.
    fn limit_of_records(&self) -> u64 {
        match self.connection.negotiated_cipher_suite() {
            Some(SupportedCipherSuite::Tls12(suite)) => suite
                .common
                .confidentiality_limit
                .saturating_sub(OTHER_RECORDS),
            _ => u64::MAX,
        }
    }

    /// Whether there are records to be taken. Behind a `close_notify` there are none: rustls has an
    /// alert for what comes in disorder then, for which the direction has ended.
    pub(super) fn has_records(&self) -> bool {
        !self.is_silent && self.connection.wants_write()
    }

    /// Offers the records that are to be sent to `send`, which says how many bytes it took. What it
    /// did not take stays.
    pub(super) fn offer_records(&mut self, send: impl FnMut(&[IoSlice<'_>]) -> usize) {
        // The sink never fails.
        let _ = self.connection.write_tls(&mut Sink(send));
        self.note_silence();
    }

    /// Puts the records that are to be sent behind what `storage` holds.
    pub(super) fn take_records(&mut self, storage: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // A vector takes everything, and never fails.
            let _ = self.connection.write_tls(storage);
        }
        self.note_silence();
    }

    fn note_silence(&mut self) {
        self.is_silent = self.has_closed && !self.connection.wants_write();
    }

    /// Says that we send no more.
    pub(super) fn close_notify(&mut self) {
        self.connection.send_close_notify();
        self.has_closed = true;
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether what there is to be sent may wait for what is sent next: a server's tickets, which
    /// the client wants for another connection. They save a system call with the first answer.
    pub(super) fn may_wait(&self) -> bool {
        let connection = &self.connection;
        matches!(connection, Connection::Server(_))
            && !connection.is_handshaking()
            && self.has_half_close()
    }

    /// Whether the peer has said, by `close_notify`, that it sends no more, and everything that it
    /// sent before was read.
    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.connection.reader().fill_buf(), Ok([]))
    }

    /// Whether the one direction can end without the other.
    pub(super) fn has_half_close(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// What was agreed upon; `None` before that.
    pub(super) fn details(&self) -> Option<TlsDetails> {
        let connection = &self.connection;
        let certificates = connection.peer_certificates().unwrap_or_default();
        let asked_for = match connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => self.name.clone(),
        };
        Some(TlsDetails {
            version: connection.protocol_version()?,
            cipher_suite: connection.negotiated_cipher_suite()?.suite(),
            key_exchange: connection
                .negotiated_key_exchange_group()
                .map(rustls::crypto::SupportedKxGroup::name),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: asked_for,
            peer_certificates: certificates.to_vec(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}

/// What one piece of input was.
enum Taken {
    /// There is none, or none of any use.
    Nothing,
    /// Something, with nothing in it to be read yet.
    Records,
    /// Something that can be read.
    Plaintext,
}

/// Somebody who takes pieces, as rustls gives them.
struct Sink<F>(F);

impl<F: FnMut(&[IoSlice<'_>]) -> usize> Write for Sink<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0(&[IoSlice::new(bytes)]))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.0(pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a configuration is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Recipe {
    pub(super) roots: Roots,
    pub(super) identity: Option<Identity>,
    pub(super) alpn: Vec<Vec<u8>>,
}

/// Whose signatures are trusted.
#[derive(Clone, Debug, Default)]
pub(super) enum Roots {
    /// A client trusts whom the system trusts; a server asks nobody for a certificate.
    #[default]
    Default,
    These(Arc<RootCertStore>),
}

impl Roots {
    /// Those in a PEM file.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let roots = root_store(read_certificates(path)?);
        let roots = roots.map_err(|error| named(path, &error.to_string()))?;
        Ok(Self::These(roots.into()))
    }
}

/// A certificate with those behind it, and its key.
#[derive(Clone, Debug)]
pub(super) struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Reads both from PEM files.
    pub(super) fn read(cert: &Path, key: &Path) -> io::Result<Self> {
        let chain = read_certificates(cert)?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
            pem::Error::NoItemsFound if is_encrypted(key) => named(
                key,
                "the key is encrypted, and nobody is asked for a password here",
            ),
            error => unreadable(key, error),
        })?;
        let pair = CertifiedKey::from_der(chain, secret, &provider());
        let pair = pair.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let cert = cert.display();
                let message = format!("the key is not the one of the certificate in {cert}");
                named(key, &message)
            }
            rustls::Error::InvalidCertificate(error) => {
                named(cert, &format!("this is no certificate: {error}"))
            }
            error => named(key, &error.to_string()),
        })?;
        Ok(Self(Arc::new(pair)))
    }

    fn resolver(self) -> Arc<SingleCertAndKey> {
        Arc::new(self.0.into())
    }
}

/// The certificates in a PEM file, one at least.
fn read_certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable(path, error))?;
    if certificates.is_empty() {
        return Err(named(path, "there is no certificate in it"));
    }
    Ok(certificates)
}

/// A client by this recipe.
pub(super) fn client_config(recipe: Recipe) -> io::Result<ClientConfig> {
    let roots = match recipe.roots {
        Roots::Default => root_store(platform_roots()?)?.into(),
        Roots::These(roots) => roots,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(misconfigured)?
        .with_webpki_verifier(verifier);
    let mut config = match recipe.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
    };
    config.alpn_protocols = recipe.alpn;
    Ok(config)
}

/// A server by this recipe.
pub(super) fn server_config(recipe: Recipe) -> io::Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(misconfigured)?;
    let builder = match recipe.roots {
        Roots::Default => builder.with_no_client_auth(),
        Roots::These(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(io::Error::other)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let Some(identity) = recipe.identity else {
        let message = "a server needs a certificate";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    let mut config = builder.with_cert_resolver(identity.resolver());
    config.alpn_protocols = recipe.alpn;
    Ok(config)
}

/// Whom the system trusts; the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
fn platform_roots() -> io::Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let message = format!("no trusted root certificate: {}", reasons.join(", "));
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    for error in &found.errors {
        log::warn!("of the system's certificates: {error}");
    }
    Ok(found.certs)
}

/// Those that cannot be used are left out, as there are always some in a system's store.
fn root_store(roots: Vec<CertificateDer<'static>>) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let (added, _ignored) = store.add_parsable_certificates(roots);
    if added == 0 {
        let message = "no certificate that could be trusted";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(store)
}

/// The cryptography: ours alone, whatever else the process has installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn misconfigured(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

fn unreadable(path: &Path, error: pem::Error) -> io::Error {
    match error {
        pem::Error::Io(error) => {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        }
        pem::Error::NoItemsFound => named(path, "there is no private key in it"),
        pem::Error::MissingSectionEnd { end_marker } => {
            let what = String::from_utf8_lossy(&end_marker);
            named(path, &format!("there is no end of {what:?} in it"))
        }
        pem::Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(&line);
            named(path, &format!("{line:?} begins no section"))
        }
        error => named(path, &error.to_string()),
    }
}

/// Whether the key in this PEM file could be read with a password.
fn is_encrypted(key: &Path) -> bool {
    std::fs::read_to_string(key).is_ok_and(|text| text.contains("BEGIN ENCRYPTED PRIVATE KEY"))
}

/// What is wrong with a file.
fn named(path: &Path, message: &str) -> io::Error {
    let message = format!("{}: {message}", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// What a record carries if nobody wants less, in bytes, and what stands before it.
const LARGEST_RECORD: usize = 16 * 1024;
const RECORD_HEADER: usize = 5;
/// Records that are encrypted besides those that are written: of the handshake, alerts.
const OTHER_RECORDS: u64 = 64;
