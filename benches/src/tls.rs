//! TLS, the same for all servers and for their clients: one configuration each, and a connection
//! to a server that is used like a plain socket.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{RecvFlags, SendFlags};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

use crate::foreign;
use crate::socket::Socket;

/// What every server here does: the provider's own order of suites and key exchanges, the
/// certificate of the library's tests, tickets and sessions as rustls has them.
pub fn server_config() -> io::Result<Arc<ServerConfig>> {
    let certificates = vec![certificate("server.pem")?];
    let key = foreign::source("../tests/certs/server.key");
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificates, key)
        });
    Ok(Arc::new(config.map_err(io::Error::other)?))
}

/// What a client does: it trusts the tests' authority, and comes back with the session of an
/// earlier connection if it `resumes`.
pub fn client_config(resumes: bool) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate("ca.pem")?)
        .map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

fn certificate(name: &str) -> io::Result<CertificateDer<'static>> {
    let path = foreign::source("../tests/certs").join(name);
    CertificateDer::from_pem_file(path).map_err(io::Error::other)
}

/// A client's connection, plain or not. Two threads may use it, one for each direction.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    tls: Option<Tls>,
}

#[derive(Debug)]
struct Tls {
    /// Records that are not sent yet. Whoever wants both locks takes this one first.
    outgoing: Mutex<Vec<u8>>,
    connection: Mutex<ClientConnection>,
    /// Records that the connection has not been given yet: it takes no more than it may decrypt.
    incoming: Mutex<Vec<u8>>,
}

impl Link {
    pub fn plain(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// The handshake goes on with whatever is read and written, so the socket may be on its way.
    pub fn secure(socket: Socket, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self {
            socket,
            tls: Some(Tls {
                outgoing: Mutex::new(Vec::new()),
                connection: Mutex::new(connection),
                incoming: Mutex::new(Vec::new()),
            }),
        })
    }

    /// Goes on until the handshake is done, with a socket that blocks.
    pub fn shake_hands(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            let mut connection = lock(&tls.connection);
            while connection.is_handshaking() {
                connection.complete_io(&mut &self.socket)?;
            }
        }
        Ok(())
    }

    /// Ends the sending half; over TLS by saying so, as far as that goes now.
    pub fn finish(&self) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            return self.socket.finish();
        };
        let mut outgoing = lock(&tls.outgoing);
        lock(&tls.connection).send_close_notify();
        tls.send(&mut outgoing, &self.socket, SendFlags::empty())
    }

    /// What is said before a connection is closed: over TCP nothing.
    pub fn say_goodbye(&self) {
        if self.tls.is_some() {
            // Who has gone already will not miss it.
            let _ = self.finish();
        }
    }
}

impl Tls {
    /// Sends what there is to be sent. What does not go now is kept, and no error.
    fn send(&self, outgoing: &mut Vec<u8>, socket: &Socket, flags: SendFlags) -> io::Result<()> {
        let mut connection = lock(&self.connection);
        while connection.wants_write() {
            connection.write_tls(outgoing)?;
        }
        drop(connection);
        let mut sent = 0;
        let mut outcome = Ok(());
        while sent < outgoing.len() && outcome.is_ok() {
            match rustix::net::send(socket, &outgoing[sent..], flags | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(error) => outcome = Err(io::Error::from(error)),
            }
        }
        outgoing.drain(..sent);
        match outcome {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives records to the connection, and reads as much as it makes of them.
    fn read(&self, received: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut incoming = lock(&self.incoming);
        incoming.extend_from_slice(received);
        let mut connection = lock(&self.connection);
        let mut records = &incoming[..];
        let mut size = 0;
        let outcome = loop {
            match connection.reader().read(&mut buffer[size..]) {
                Ok(0) => break Ok(()),
                Ok(count) => size += count,
                Err(error) if error.kind() != ErrorKind::WouldBlock => break Err(error),
                Err(error) if records.is_empty() => break Err(error),
                Err(_) => {
                    connection.read_tls(&mut records)?;
                    connection.process_new_packets().map_err(io::Error::other)?;
                }
            }
        };
        let taken = incoming.len() - records.len();
        incoming.drain(..taken);
        match size {
            0 => outcome.map(|()| 0),
            size => Ok(size),
        }
    }
}

impl Read for &Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return (&self.socket).read(buffer);
        };
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                // Whoever holds it is sending.
                if let Ok(mut outgoing) = tls.outgoing.try_lock() {
                    tls.send(&mut outgoing, &self.socket, SendFlags::DONTWAIT)?;
                }
                match tls.read(&[], buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => return read,
                }
                let (_, count) =
                    rustix::net::recv(&self.socket, &mut **scratch, RecvFlags::empty())?;
                if count == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                match tls.read(&scratch[..count], buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => return read,
                }
            }
        })
    }
}

impl Write for &Link {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return (&self.socket).write(data);
        };
        let mut outgoing = lock(&tls.outgoing);
        tls.send(&mut outgoing, &self.socket, SendFlags::empty())?;
        if !outgoing.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = lock(&tls.connection).writer().write(data)?;
        tls.send(&mut outgoing, &self.socket, SendFlags::empty())?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// What one receive of records brings at most: what rustls takes before it wants to be read.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into());
}
