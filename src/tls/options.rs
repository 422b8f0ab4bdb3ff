//! What the keyword arguments about TLS say.
//!
//! Owns: [`Ssl`], and what builders keep of `ssl` and its kin. Why: every way to make a connection
//! takes the same ones, and what cannot be meant is refused in one place, before anything is
//! connected or bound. Invariants: without `ssl` nothing else may be said. asyncio's counterpart:
//! the arguments `ssl`, `server_hostname`, `ssl_handshake_timeout`, `ssl_shutdown_timeout`.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::event_loop::LoopHandle;
use crate::sys::invalid_input;
use crate::tls::context::{TlsClientContext, TlsServerContext};
use crate::tls::engine::Engine;

/// asyncio's argument `ssl`: a context, or whether the usual one is wanted.
///
/// Made of a `bool`, of a [`TlsClientContext`] or [`TlsServerContext`], of a reference to one, of an
/// `Option` of one, and of an `Arc` of rustls's own configuration:
///
/// ```
/// use std::io;
///
/// use evloop::{StreamReader, StreamWriter, open_connection};
///
/// async fn open(scheme: &str, host: &str) -> io::Result<(StreamReader, StreamWriter)> {
///     let port = if scheme == "https" { 443 } else { 80 };
///     open_connection((host, port)).ssl(scheme == "https").await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Ssl<C>(Choice<C>);

#[derive(Clone, Debug)]
enum Choice<C> {
    Off,
    Usual,
    Given(C),
}

impl<C> Default for Ssl<C> {
    fn default() -> Self {
        Self(Choice::Off)
    }
}

impl<C> From<bool> for Ssl<C> {
    fn from(wanted: bool) -> Self {
        Self(if wanted { Choice::Usual } else { Choice::Off })
    }
}

impl<C> From<Option<C>> for Ssl<C> {
    fn from(context: Option<C>) -> Self {
        Self(context.map_or(Choice::Off, Choice::Given))
    }
}

impl From<TlsClientContext> for Ssl<TlsClientContext> {
    fn from(context: TlsClientContext) -> Self {
        Self(Choice::Given(context))
    }
}

impl From<&TlsClientContext> for Ssl<TlsClientContext> {
    fn from(context: &TlsClientContext) -> Self {
        context.clone().into()
    }
}

impl From<Arc<rustls::ClientConfig>> for Ssl<TlsClientContext> {
    fn from(config: Arc<rustls::ClientConfig>) -> Self {
        TlsClientContext::from(config).into()
    }
}

impl From<TlsServerContext> for Ssl<TlsServerContext> {
    fn from(context: TlsServerContext) -> Self {
        Self(Choice::Given(context))
    }
}

impl From<&TlsServerContext> for Ssl<TlsServerContext> {
    fn from(context: &TlsServerContext) -> Self {
        context.clone().into()
    }
}

impl From<Arc<rustls::ServerConfig>> for Ssl<TlsServerContext> {
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        TlsServerContext::from(config).into()
    }
}

/// A client's context or a server's: which one says which side of the connection we are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TlsContext {
    /// We begin the handshake, and verify the other side's name.
    Client(TlsClientContext),
    /// We show a certificate.
    Server(TlsServerContext),
}

impl From<TlsClientContext> for TlsContext {
    fn from(context: TlsClientContext) -> Self {
        Self::Client(context)
    }
}

impl From<&TlsClientContext> for TlsContext {
    fn from(context: &TlsClientContext) -> Self {
        Self::Client(context.clone())
    }
}

impl From<Arc<rustls::ClientConfig>> for TlsContext {
    fn from(config: Arc<rustls::ClientConfig>) -> Self {
        Self::Client(config.into())
    }
}

impl From<TlsServerContext> for TlsContext {
    fn from(context: TlsServerContext) -> Self {
        Self::Server(context)
    }
}

impl From<&TlsServerContext> for TlsContext {
    fn from(context: &TlsServerContext) -> Self {
        Self::Server(context.clone())
    }
}

impl From<Arc<rustls::ServerConfig>> for TlsContext {
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        Self::Server(config.into())
    }
}

/// How long it may take to begin and to end, as far as that was said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) handshake: Option<Duration>,
    pub(crate) shutdown: Option<Duration>,
}

impl Times {
    pub(crate) fn handshake(self) -> Duration {
        self.handshake.unwrap_or(HANDSHAKE_TIMEOUT)
    }

    pub(super) fn shutdown(self) -> Duration {
        self.shutdown.unwrap_or(SHUTDOWN_TIMEOUT)
    }

    fn named(self) -> [(&'static str, Option<Duration>); 2] {
        [
            ("ssl_handshake_timeout", self.handshake),
            ("ssl_shutdown_timeout", self.shutdown),
        ]
    }

    fn check(self) -> io::Result<()> {
        for (name, time) in self.named() {
            if time == Some(Duration::ZERO) {
                let message = format!("{name} should be a positive number, got 0");
                return Err(invalid_input(message));
            }
        }
        Ok(())
    }

    fn check_unused(self) -> io::Result<()> {
        match self.named().into_iter().find(|(_, time)| time.is_some()) {
            Some((name, _)) => Err(meaningless(name)),
            None => Ok(()),
        }
    }
}

/// What one connection needs of TLS, whichever side it is.
pub(crate) struct Prepared {
    pub(super) engine: Engine,
    pub(super) times: Times,
}

/// What a client was told about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientOptions {
    pub(crate) ssl: Ssl<TlsClientContext>,
    pub(crate) server_hostname: Option<String>,
    pub(crate) times: Times,
}

/// A client's side of a connection that is to be encrypted.
pub(crate) struct ClientSide {
    /// `None`: the usual one.
    context: Option<TlsClientContext>,
    name: String,
    pub(super) times: Times,
}

impl ClientOptions {
    /// The client's side, if it is to be encrypted, of a connection to this host; where there is
    /// none, what to say if nobody has named one. An error for what cannot be meant.
    pub(crate) fn side(self, host: Result<String, &'static str>) -> io::Result<Option<ClientSide>> {
        let context = match self.ssl.0 {
            Choice::Off => {
                if self.server_hostname.is_some() {
                    return Err(meaningless("server_hostname"));
                }
                self.times.check_unused()?;
                return Ok(None);
            }
            Choice::Usual => None,
            Choice::Given(context) => Some(context),
        };
        let name = match self.server_hostname {
            Some(name) => Ok(name),
            None => host,
        };
        ClientSide::new(context, name, self.times).map(Some)
    }
}

impl ClientSide {
    /// With the usual context if none is given, and an error to tell if there is no name.
    pub(super) fn new(
        context: Option<TlsClientContext>,
        name: Result<String, &'static str>,
        times: Times,
    ) -> io::Result<Self> {
        times.check()?;
        Ok(Self {
            context,
            name: name.map_err(invalid_input)?,
            times,
        })
    }

    /// For one connection.
    pub(crate) async fn prepare(self, handle: &LoopHandle) -> io::Result<Prepared> {
        let context = match self.context {
            Some(context) => context,
            None => usual_context(handle).await?,
        };
        Ok(Prepared {
            engine: Engine::client(context.config(), &self.name)?,
            times: self.times,
        })
    }
}

/// The context of `ssl(true)`: made at its first use, off the loop's thread, since it reads files.
async fn usual_context(handle: &LoopHandle) -> io::Result<TlsClientContext> {
    static CONTEXT: OnceLock<TlsClientContext> = OnceLock::new();
    if let Some(context) = CONTEXT.get() {
        return Ok(context.clone());
    }
    let made = handle.run_in_executor(TlsClientContext::new).await??;
    Ok(CONTEXT.get_or_init(|| made).clone())
}

/// What a server was told about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerOptions {
    pub(crate) ssl: Ssl<TlsServerContext>,
    pub(crate) times: Times,
}

impl ServerOptions {
    /// The server's side, if its connections are to be encrypted. An error for what cannot be
    /// meant.
    pub(crate) fn side(&self) -> io::Result<Option<ServerSide>> {
        match &self.ssl.0 {
            Choice::Off => {
                self.times.check_unused()?;
                Ok(None)
            }
            // A server has no certificate unless somebody gives it one.
            Choice::Usual => Err(invalid_input("ssl argument must be an SSLContext or None")),
            Choice::Given(context) => ServerSide::new(context.clone(), self.times).map(Some),
        }
    }
}

/// A server's side of connections that are to be encrypted.
#[derive(Clone, Debug)]
pub(crate) struct ServerSide {
    context: TlsServerContext,
    pub(super) times: Times,
}

impl ServerSide {
    pub(super) fn new(context: TlsServerContext, times: Times) -> io::Result<Self> {
        times.check()?;
        Ok(Self { context, times })
    }

    /// For one connection, with what holds now: the context may be reloaded.
    pub(crate) fn prepare(&self) -> io::Result<Prepared> {
        Ok(Prepared {
            engine: Engine::server(self.context.config())?,
            times: self.times,
        })
    }
}

fn meaningless(name: &str) -> io::Error {
    invalid_input(format!("{name} is only meaningful with ssl"))
}

/// asyncio's default.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// A peer need not answer `close_notify`, and many do not: asyncio waits for 30 seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
