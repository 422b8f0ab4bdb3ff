//! A peer that is rustls itself, driven by hand over a socket: the test decides which bytes leave,
//! and when. It lives on the loop's own thread, and lets the loop turn while it waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion, version,
};
use socket2::SockRef;

use crate::common::turns;
use crate::support::cert;

pub(crate) const TLS12: &SupportedProtocolVersion = &version::TLS12;
pub(crate) const TLS13: &SupportedProtocolVersion = &version::TLS13;

/// A client of one version that trusts the tests' authority.
pub(crate) fn client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca"));
    client_builder(version)
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The same with a certificate of its own.
pub(crate) fn client_config_with(
    version: &'static SupportedProtocolVersion,
    name: &str,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca"));
    client_builder(version)
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(name), key(name))
        .unwrap()
}

fn client_builder(
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
}

/// A server of one version with this certificate.
pub(crate) fn server_config(
    version: &'static SupportedProtocolVersion,
    name: &str,
) -> ServerConfig {
    server_config_with(version, certificates(name), key(name))
}

pub(crate) fn server_config_with(
    version: &'static SupportedProtocolVersion,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

pub(crate) fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    let file = cert(&format!("{name}.pem"));
    let certificates = CertificateDer::pem_file_iter(file).unwrap();
    certificates.collect::<Result<_, _>>().unwrap()
}

pub(crate) fn key(name: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(cert(&format!("{name}.key"))).unwrap()
}

/// How a connection ended, as the peer sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    /// `close_notify` and then the end.
    Clean,
    /// The end alone.
    Truncated,
    /// An alert, or something that is no TLS, as rustls says it.
    Failed(rustls::Error),
    Reset,
}

pub(crate) struct Scripted {
    pub(crate) socket: TcpStream,
    pub(crate) tls: Connection,
}

impl Scripted {
    pub(crate) fn connect(address: SocketAddr, config: ClientConfig) -> Self {
        Self::client(TcpStream::connect(address).unwrap(), config)
    }

    pub(crate) fn client(socket: TcpStream, config: ClientConfig) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        Self::new(socket, tls.into())
    }

    pub(crate) fn accept(listener: &TcpListener, config: ServerConfig) -> Self {
        Self::server(listener.accept().unwrap().0, config)
    }

    pub(crate) fn server(socket: TcpStream, config: ServerConfig) -> Self {
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        Self::new(socket, tls.into())
    }

    fn new(socket: TcpStream, mut tls: Connection) -> Self {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        tls.set_buffer_limit(None);
        Self { socket, tls }
    }

    // What it has to say.

    /// The records that wait to be sent, which are the caller's to send now.
    pub(crate) fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).unwrap();
        }
        records
    }

    /// Encrypts, in a record of its own.
    pub(crate) fn encrypt(&mut self, data: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(data).unwrap();
        self.records()
    }

    pub(crate) fn close_notify(&mut self) -> Vec<u8> {
        self.tls.send_close_notify();
        self.records()
    }

    /// Sends these bytes as they are.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => turns(1).await,
                Err(error) => panic!("the scripted peer cannot send: {error}"),
            }
        }
    }

    /// The same as far as somebody takes them: how many bytes that were, when nobody has taken any
    /// more for some turns.
    pub(crate) async fn send_what_is_taken(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        let mut quiet = 0;
        while quiet < 50 && sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(n) => {
                    sent += n;
                    quiet = 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    turns(1).await;
                    quiet += 1;
                }
                Err(error) => panic!("the scripted peer cannot send: {error}"),
            }
        }
        sent
    }

    /// The same byte for byte: the loop has received each of them before the next one is sent.
    pub(crate) async fn send_slowly(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]).await;
            turns(2).await;
        }
    }

    pub(crate) async fn write(&mut self, data: &[u8]) {
        let records = self.encrypt(data);
        self.send(&records).await;
    }

    pub(crate) async fn flush(&mut self) {
        let records = self.records();
        self.send(&records).await;
    }

    pub(crate) fn finish(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        let socket = SockRef::from(&self.socket);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    // What it hears.

    /// Bytes as they are on the wire; none is the end. The loop turns until there are some.
    async fn receive_raw(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(n) => {
                    buffer.truncate(n);
                    return Ok(buffer);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => turns(1).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there is something other than the end, whatever it means.
    pub(crate) async fn socket_says_more(&mut self) -> bool {
        matches!(self.receive_raw().await, Ok(bytes) if !bytes.is_empty())
    }

    fn process(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            match self.tls.read_tls(&mut bytes) {
                // Nothing counts behind a close_notify.
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => panic!("the scripted peer cannot receive: {error}"),
            }
            let outcome = self.tls.process_new_packets();
            let mut buffer = [0; 16 * 1024];
            while let Ok(n @ 1..) = self.tls.reader().read(&mut buffer) {
                plain.extend_from_slice(&buffer[..n]);
            }
            outcome?;
        }
        Ok(())
    }

    /// Receives once; the plaintext in it. An error is an end.
    pub(crate) async fn hear(&mut self) -> Result<Vec<u8>, End> {
        let bytes = match self.receive_raw().await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(End::Reset),
            Err(error) => panic!("the scripted peer cannot receive: {error}"),
        };
        if bytes.is_empty() {
            let clean = matches!(self.tls.reader().read(&mut [0]), Ok(0));
            return Err(if clean { End::Clean } else { End::Truncated });
        }
        let mut plain = Vec::new();
        match self.process(&bytes, &mut plain) {
            Ok(()) => Ok(plain),
            Err(error) => Err(End::Failed(error)),
        }
    }

    /// Receives until nothing has come for some turns.
    pub(crate) async fn hear_what_is_there(&mut self) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut quiet = 0;
        while quiet < 10 {
            match self.socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    quiet = 0;
                    let bytes = buffer[..n].to_vec();
                    self.process(&bytes, &mut plain).unwrap();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    quiet += 1;
                    turns(1).await;
                }
                Err(error) => panic!("the scripted peer cannot receive: {error}"),
            }
        }
        plain
    }

    /// Exactly so many bytes of plaintext; no more may come.
    pub(crate) async fn read(&mut self, size: usize) -> Vec<u8> {
        let mut plain = Vec::new();
        while plain.len() < size {
            plain.extend(self.hear().await.unwrap());
        }
        assert_eq!(plain.len(), size, "more came than was expected");
        plain
    }

    /// Everything until the end, and how it ended.
    pub(crate) async fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let mut plain = Vec::new();
        loop {
            match self.hear().await {
                Ok(more) => plain.extend(more),
                Err(end) => return (plain, end),
            }
        }
    }

    /// Everything until a `close_notify`; the end need not have come.
    pub(crate) async fn read_to_close_notify(&mut self) -> Vec<u8> {
        let mut plain = Vec::new();
        while !matches!(self.tls.reader().read(&mut [0]), Ok(0)) {
            plain.extend(self.hear().await.unwrap());
        }
        plain
    }

    // The handshake.

    /// The whole handshake, as far as it is ours: what we say last has left.
    pub(crate) async fn shake_hands(&mut self) -> Result<(), End> {
        loop {
            self.flush().await;
            if !self.tls.is_handshaking() {
                return Ok(());
            }
            if let Err(end) = self.hear().await {
                // The alert.
                let records = self.records();
                let _ = self.socket.write(&records);
                return Err(end);
            }
        }
    }

    /// All of it but what we say last.
    pub(crate) async fn shake_hands_but_for_the_last(&mut self) -> Vec<u8> {
        loop {
            let records = self.records();
            if !self.tls.is_handshaking() {
                return records;
            }
            self.send(&records).await;
            self.hear().await.unwrap();
        }
    }

    pub(crate) fn is_13(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}
