//! What a side brings to its TLS connections: certificates, keys, whom it trusts.
//!
//! Owns: [`TlsClientContext`], [`TlsServerContext`]. Why: the usual ones are made in one call, and
//! any other is a rustls configuration of the user's own. Invariants: made once, used by any number
//! of connections, loops and threads; a new certificate is for new connections. asyncio's
//! counterpart: `ssl.SSLContext` and `ssl.create_default_context`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::tls::engine::{self, Identity, Recipe, Roots};
use rustls::{ClientConfig, ServerConfig};

/// What a client brings to its TLS connections. Mirrors `ssl.create_default_context()`.
///
/// Cheap to clone, `Send` and `Sync`. The connections of one context go on with each other's
/// sessions, which saves half of a handshake: so make it once. A configuration of your own is an
/// `Arc<rustls::ClientConfig>`, which goes wherever a context goes.
#[derive(Clone)]
pub struct TlsClientContext {
    config: Arc<ClientConfig>,
}

impl TlsClientContext {
    /// Trusts whom the system trusts: its store of root certificates, or those that the variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Reads files, so make it before the loop runs, or
    /// once; [`ssl(true)`](crate::OpenConnection::ssl) does so on another thread.
    ///
    /// # Errors
    ///
    /// `NotFound` if there are none.
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// To say more: whom to trust, what to be, which protocol to speak.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder::default()
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

impl From<Arc<ClientConfig>> for TlsClientContext {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config }
    }
}

impl fmt::Debug for TlsClientContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClientContext").finish_non_exhaustive()
    }
}

/// Makes a [`TlsClientContext`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is made before build"]
pub struct TlsClientBuilder {
    roots: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    alpn: Vec<Vec<u8>>,
}

impl TlsClientBuilder {
    /// Trusts the certificates in this PEM file and no others. Mirrors `cafile`.
    pub fn root_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots = Some(path.into());
        self
    }

    /// Shows this certificate to servers that ask for one: two PEM files. Mirrors
    /// `load_cert_chain`.
    pub fn client_cert(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// The application protocols that we know, the one we like best in front (ALPN). Mirrors
    /// `set_alpn_protocols`.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = alpn(protocols);
        self
    }

    /// Reads the files and makes the context.
    ///
    /// # Errors
    ///
    /// The system's, with the path, for a file that cannot be read; `InvalidInput` if there is
    /// nothing in it that fits.
    pub fn build(self) -> io::Result<TlsClientContext> {
        let recipe = Recipe {
            roots: match self.roots {
                Some(path) => Roots::read(&path)?,
                None => Roots::Default,
            },
            identity: match self.identity {
                Some((cert, key)) => Some(Identity::read(&cert, &key)?),
                None => None,
            },
            alpn: self.alpn,
        };
        Ok(Arc::new(engine::client_config(recipe)?).into())
    }
}

/// What a server brings to its TLS connections. Mirrors
/// `ssl.create_default_context(Purpose.CLIENT_AUTH)`.
///
/// Cheap to clone, `Send` and `Sync`: all clones are the same context, so one
/// [`reload`](Self::reload) reaches the servers of all threads. A configuration of your own is an
/// `Arc<rustls::ServerConfig>`, which goes wherever a context goes.
///
/// ```
/// use evloop::{StreamReader, StreamWriter, TlsClientContext, TlsServerContext};
/// use evloop::{open_connection, start_server};
///
/// async fn greet(_: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     writer.write(b"hello");
///     writer.drain().await
/// }
///
/// # let certs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certs");
/// # let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certs.join(name));
/// let context = TlsServerContext::from_pem_files(cert, key)?;
/// let client = TlsClientContext::builder().root_file(ca).build()?;
/// evloop::run(async move {
///     let server = start_server(greet, ("127.0.0.1", 0)).ssl(context).await?;
///     let port = server.sockets()[0].port().unwrap();
///     let (mut reader, _writer) = open_connection(("localhost", port)).ssl(client).await?;
///     assert_eq!(reader.read_to_end(None).await?, b"hello");
///     server.close();
///     server.wait_closed().await
/// })?
/// # ; Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct TlsServerContext {
    inner: Arc<ServerInner>,
}

struct ServerInner {
    /// Where it was read from; `None` for the user's own.
    sources: Option<TlsServerBuilder>,
    /// What holds for the next connection.
    config: Mutex<Arc<ServerConfig>>,
}

impl TlsServerContext {
    /// Shows the certificate in the PEM file `cert`, and behind it those that lead to a trusted
    /// one; `key` is its private key.
    ///
    /// # Errors
    ///
    /// The system's, with the path, for a file that cannot be read; `InvalidInput` if there is
    /// nothing in it that fits, or the key is not the one of the certificate.
    pub fn from_pem_files(cert: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Self> {
        Self::builder(cert, key).build()
    }

    /// To say more: whose clients to let in, which protocol to speak.
    pub fn builder(cert: impl AsRef<Path>, key: impl AsRef<Path>) -> TlsServerBuilder {
        TlsServerBuilder {
            cert: cert.as_ref().to_owned(),
            key: key.as_ref().to_owned(),
            client_roots: None,
            alpn: Vec::new(),
        }
    }

    /// Reads the files again. Connections that there are go on as they are, new ones get what was
    /// read, and resume no session of before. Blocks for as long as the files take; any thread may
    /// call it. asyncio has `load_cert_chain` on a context in use.
    ///
    /// # Errors
    ///
    /// Those of [`from_pem_files`](Self::from_pem_files): then everything is as it was.
    /// `Unsupported` for a context that was made of a configuration.
    pub fn reload(&self) -> io::Result<()> {
        let sources = self.inner.sources.as_ref();
        let sources = sources.ok_or_else(|| {
            let message = "the context was not read from files";
            io::Error::new(io::ErrorKind::Unsupported, message)
        })?;
        let config = sources.config()?;
        drop(std::mem::replace(&mut *self.lock(), config));
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<ServerConfig>> {
        let locked = self.inner.config.lock();
        // It is replaced as a whole, so it cannot be half changed.
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Arc<ServerConfig>> for TlsServerContext {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self {
            inner: Arc::new(ServerInner {
                sources: None,
                config: Mutex::new(config),
            }),
        }
    }
}

impl fmt::Debug for TlsServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServerContext")
            .field("sources", &self.inner.sources)
            .finish_non_exhaustive()
    }
}

/// Makes a [`TlsServerContext`].
#[derive(Clone, Debug)]
#[must_use = "nothing is made before build"]
pub struct TlsServerBuilder {
    cert: PathBuf,
    key: PathBuf,
    client_roots: Option<PathBuf>,
    alpn: Vec<Vec<u8>>,
}

impl TlsServerBuilder {
    /// Lets in only clients that show a certificate which one of those in this PEM file has
    /// signed. Mirrors `verify_mode = CERT_REQUIRED` and `load_verify_locations`.
    pub fn client_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_roots = Some(path.into());
        self
    }

    /// The application protocols that we know, the one we like best in front (ALPN). A client that
    /// knows others only is refused. Mirrors `set_alpn_protocols`.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = alpn(protocols);
        self
    }

    /// Reads the files and makes the context.
    ///
    /// # Errors
    ///
    /// Those of [`TlsServerContext::from_pem_files`].
    pub fn build(self) -> io::Result<TlsServerContext> {
        let config = Mutex::new(self.config()?);
        Ok(TlsServerContext {
            inner: Arc::new(ServerInner {
                sources: Some(self),
                config,
            }),
        })
    }

    fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let recipe = Recipe {
            roots: match &self.client_roots {
                Some(path) => Roots::read(path)?,
                None => Roots::Default,
            },
            identity: Some(Identity::read(&self.cert, &self.key)?),
            alpn: self.alpn.clone(),
        };
        engine::server_config(recipe).map(Arc::new)
    }
}

fn alpn<P: AsRef<[u8]>>(protocols: impl IntoIterator<Item = P>) -> Vec<Vec<u8>> {
    let protocols = protocols.into_iter();
    protocols.map(|name| name.as_ref().to_vec()).collect()
}
