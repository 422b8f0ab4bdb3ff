//! A client whose handshake comes in small pieces and succeeds: its TLS is in its own hands.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use evloop::rustls::pki_types::pem::PemObject;
use evloop::rustls::pki_types::{CertificateDer, ServerName};
use evloop::rustls::{ClientConfig, ClientConnection, RootCertStore};
use evloop::{StreamReader, StreamWriter, open_connection, sleep};

use crate::clients::World;
use crate::random::Random;
use crate::server::{Port, certs};
use crate::tally::Fault;

/// What trusts the tests' authority.
pub(crate) fn config() -> io::Result<Arc<ClientConfig>> {
    let authority = CertificateDer::from_pem_file(certs("ca.pem")).map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(io::Error::other)?;
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Shakes hands slowly, asks one thing, compares the answer, and takes leave as TLS has it.
pub(crate) async fn shake_hands(world: &World, random: &mut Random) -> io::Result<()> {
    let (reader, writer) = open_connection(world.address(Port::Encrypted, random)).await?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::clone(&world.config), name).map_err(io::Error::other)?;
    let mut client = Client {
        tls,
        reader,
        writer,
        answer: Vec::new(),
    };
    while client.tls.is_handshaking() {
        client.send(Some(random)).await?;
        if client.tls.is_handshaking() && !client.receive().await? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    client.send(Some(random)).await?;
    world.tally.encrypted.add(1);

    let n = random.size(MOST);
    let question = random.bytes(n);
    client.tls.writer().write_all(&question)?;
    client.send(None).await?;
    while client.answer.len() < question.len() && client.receive().await? {}
    client.tls.send_close_notify();
    client.send(None).await?;
    while client.receive().await? {}
    if world.is_right(&client.answer, &question) {
        world.tally.fault(Fault::SlowHandshake);
    }
    world.leave((client.reader, client.writer)).await
}

struct Client {
    tls: ClientConnection,
    reader: StreamReader,
    writer: StreamWriter,
    /// What has come, decrypted.
    answer: Vec<u8>,
}

impl Client {
    /// Sends what there is to be sent: in pieces with pauses, or at once.
    async fn send(&mut self, slowly: Option<&mut Random>) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes)?;
        }
        let mut rest = &*bytes;
        if let Some(random) = slowly {
            let piece = 1 + bytes.len() / PIECES;
            while !rest.is_empty() {
                let n = (1 + random.below(2 * piece as u64) as usize).min(rest.len());
                self.writer.write(&rest[..n]);
                rest = &rest[n..];
                sleep(Duration::from_millis(1 + random.below(20))).await?;
            }
        }
        self.writer.write(rest);
        self.writer.drain().await
    }

    /// Takes in what comes next. False at the end.
    async fn receive(&mut self) -> io::Result<bool> {
        let bytes = self.reader.read(64 * 1024).await?;
        let mut rest = &*bytes;
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest)?;
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let known = self.answer.len();
            self.answer
                .resize(known + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.answer[known..])?;
        }
        Ok(!bytes.is_empty())
    }
}

/// In about so many pieces something is sent.
const PIECES: usize = 10;
/// As much as the TLS of our side keeps until it is sent.
const MOST: u64 = 32 * 1024;
