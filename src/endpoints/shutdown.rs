//! The end of a server, in phases.
//!
//! Owns: [`Shutdown`] and its [`ShutdownReport`]. Why: whoever ends a service wants its connections
//! to come to their ends by themselves, but not for ever, and to know afterwards which did not.
//! Invariants: a phase takes as long as it may and not longer; after the last one there is no
//! connection; each that was open at the beginning is in the report, once. asyncio's counterpart:
//! none; by hand it is `close`, `close_clients` and `abort_clients`, and a `timeout` around each
//! `wait_closed`.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoints::server::Server;
use crate::event_loop::{NoRunningLoop, loop_of};
use crate::sys::Address;
use crate::tasks::{TimeoutError, timeout};
use crate::transports::{CloseReason, RealPeer, Transport};

impl Server {
    /// Ends the server in phases: nothing is accepted any more; the connections may end by
    /// themselves ([`drain`](Shutdown::drain)); those that are left are closed, and may be sent
    /// what was written to them ([`close`](Shutdown::close)); those that are left then are aborted.
    /// Each phase ends with its time or with the last connection. asyncio has nothing like it.
    ///
    /// It begins with the first poll. Dropping the future leaves the server closed, and each
    /// connection as the phase has it; another call goes on from there. Several may wait at a time:
    /// the one with the least time closes and aborts. Somebody who loses patience meanwhile calls
    /// [`abort_clients`](Self::abort_clients).
    ///
    /// A connection is what counts, not the task that serves it, which may have something to do
    /// when its connection is over.
    ///
    /// # Errors
    ///
    /// [`NoRunningLoop`] outside the server's loop: then nothing is done.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use evloop::{ShutdownPhase, StreamReader, StreamWriter, open_connection, start_server};
    ///
    /// evloop::run(async {
    ///     let greet = |mut reader: StreamReader, writer: StreamWriter| async move {
    ///         writer.write(b"Hello!\n");
    ///         reader.readline().await?; // This client never says a word.
    ///         writer.drain().await
    ///     };
    ///     let server = start_server(greet, ("127.0.0.1", 0)).await?;
    ///     let address = server.sockets()[0].as_inet().expect("TCP");
    ///     let (mut reader, _writer) = open_connection(address).await?;
    ///     reader.readline().await?;
    ///
    ///     let report = server
    ///         .shutdown()
    ///         .drain(Duration::from_millis(10))
    ///         .close(Duration::from_secs(1))
    ///         .await?;
    ///     assert_eq!(report.survivors(ShutdownPhase::Drain).count(), 1);
    ///     assert_eq!(report.survivors(ShutdownPhase::Close).count(), 0);
    ///     std::io::Result::Ok(())
    /// })?
    /// # ?; Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self) -> Shutdown {
        Shutdown {
            server: self.clone(),
            drain: Duration::ZERO,
            close: DEFAULT_CLOSE,
        }
    }
}

/// A shutdown to be done: awaiting it does it. Made by [`Server::shutdown`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct Shutdown {
    server: Server,
    drain: Duration,
    close: Duration,
}

impl Shutdown {
    /// How long connections may go on until they end by themselves; not at all by default.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// How long connections that are closed then may take to send what was written to them; a
    /// second by default. Those that have nothing to send need no time.
    pub fn close(mut self, limit: Duration) -> Self {
        self.close = limit;
        self
    }

    async fn run(self) -> io::Result<ShutdownReport> {
        let Self {
            server,
            drain,
            close,
        } = self;
        loop_of(server.loop_number())?;
        let mut report = ShutdownReport::default();

        server.close();
        let draining = Watch::new(&server, ShutdownPhase::Drain);
        wait(&server, drain).await?;
        draining.write_down(&mut report);

        let closing = Watch::new(&server, ShutdownPhase::Close);
        server.close_clients();
        wait(&server, close).await?;
        closing.write_down(&mut report);

        let aborting = Watch::new(&server, ShutdownPhase::Abort);
        server.abort_clients();
        server.wait_closed().await?;
        aborting.write_down(&mut report);
        Ok(report)
    }
}

impl IntoFuture for Shutdown {
    type Output = io::Result<ShutdownReport>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// The parts of a [`Server::shutdown`] in which a connection can come to its end, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ShutdownPhase {
    /// It may end by itself, whatever that end is.
    Drain,
    /// We have closed it, and what was written is sent.
    Close,
    /// It took too long, and what was not sent is dropped.
    Abort,
}

/// What became of the connections that were open when a [`Server::shutdown`] began.
///
/// Displayed it is one line, which counts, and names those that had to be aborted.
#[derive(Clone, Debug, Default)]
pub struct ShutdownReport {
    ends: Vec<ConnectionEnd>,
}

impl ShutdownReport {
    /// Every connection, the phases one after the other.
    pub fn connections(&self) -> &[ConnectionEnd] {
        &self.ends
    }

    /// Those that came to their end in this phase.
    pub fn ended_in(&self, phase: ShutdownPhase) -> impl Iterator<Item = &ConnectionEnd> {
        self.ends.iter().filter(move |end| end.phase == phase)
    }

    /// Those that were still open after this phase.
    pub fn survivors(&self, phase: ShutdownPhase) -> impl Iterator<Item = &ConnectionEnd> {
        self.ends.iter().filter(move |end| end.phase > phase)
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |phase| self.ended_in(phase).count();
        write!(
            f,
            "{} ended in time, {} closed, {} aborted",
            count(ShutdownPhase::Drain),
            count(ShutdownPhase::Close),
            count(ShutdownPhase::Abort),
        )?;
        for (i, end) in self.ended_in(ShutdownPhase::Abort).enumerate() {
            let mark = if i == 0 { ": " } else { ", " };
            write!(f, "{mark}{end}")?;
        }
        Ok(())
    }
}

/// How one connection came to its end in a [`Server::shutdown`].
#[derive(Clone, Debug)]
pub struct ConnectionEnd {
    peer: Option<Address>,
    phase: ShutdownPhase,
    unsent: usize,
    reason: Option<CloseReason>,
    error: Option<Arc<io::Error>>,
}

impl ConnectionEnd {
    /// Whose connection it was, if it is known: its [`RealPeer`].
    pub fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// When it came to its end.
    pub fn phase(&self) -> ShutdownPhase {
        self.phase
    }

    /// Why it ended.
    pub fn reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// How many bytes were not sent when it was aborted: its peer did not read them in time.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// What `connection_lost` was told: a reset, a policy of the server, or that a protocol
    /// panicked. `None` for a connection that was closed by its peer, by us, or with `abort`.
    pub fn error(&self) -> Option<&Arc<io::Error>> {
        self.error.as_ref()
    }
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "{peer}")?,
            None => f.write_str("somebody")?,
        }
        match self.phase {
            ShutdownPhase::Drain => f.write_str(" ended in time"),
            ShutdownPhase::Close => f.write_str(" was closed"),
            ShutdownPhase::Abort => write!(f, " was aborted with {} bytes unsent", self.unsent),
        }?;
        match (&self.error, self.reason) {
            (Some(error), _) => write!(f, " ({error})"),
            // What was not to be expected in this phase.
            (None, Some(CloseReason::Aborted)) if self.phase == ShutdownPhase::Abort => Ok(()),
            (None, None | Some(CloseReason::Closed | CloseReason::PeerEof)) => Ok(()),
            (None, Some(reason)) => write!(f, " ({reason})"),
        }
    }
}

/// The connections that are open when a phase begins, and how much is unsent in each.
struct Watch {
    phase: ShutdownPhase,
    open: Vec<(Transport, usize)>,
}

impl Watch {
    fn new(server: &Server, phase: ShutdownPhase) -> Self {
        let clients = server.clients().into_iter();
        // One that waits for its `connection_lost` is over: the phase before has it.
        let open = clients.filter(|transport| !transport.core().is_lost());
        let open = open.map(|transport| {
            let unsent = transport.core().unsent();
            (transport, unsent)
        });
        Self {
            phase,
            open: open.collect(),
        }
    }

    /// Which of them came to their ends meanwhile.
    fn write_down(self, report: &mut ShutdownReport) {
        let phase = self.phase;
        for (transport, unsent) in self.open {
            if transport.core().is_lost() {
                report.ends.push(ConnectionEnd {
                    peer: transport.get_extra_info(RealPeer),
                    phase,
                    unsent: if phase == ShutdownPhase::Abort {
                        unsent
                    } else {
                        0
                    },
                    reason: transport.core().reason(),
                    error: transport.core().error(),
                });
            }
        }
    }
}

/// Waits for the last connection, but not longer than `limit`.
async fn wait(server: &Server, limit: Duration) -> io::Result<()> {
    match timeout(limit, server.wait_closed()).await {
        Ok(outcome) => outcome,
        Err(TimeoutError::Elapsed) => Ok(()),
        Err(TimeoutError::NoRunningLoop) => Err(NoRunningLoop.into()),
    }
}

/// Long enough for what the peers do read, and short enough for whoever waits for the end.
const DEFAULT_CLOSE: Duration = Duration::from_secs(1);
