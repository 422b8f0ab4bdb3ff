//! What a server counts of itself.
//!
//! Owns: [`ServerMetrics`]. Why: some connections never come as far as their protocol, since a
//! handshake or a header fails, so only the server can count them all; and whoever tells of a
//! service with several loops reads the numbers of all of them. Invariants: the server's own thread
//! alone changes them. asyncio's counterpart: none.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::transports::CloseReason;

/// How many connections a server has had, and why they ended: see
/// [`Server::metrics`](crate::Server::metrics).
///
/// The numbers go on with the server, and may be read from any thread and when it is over. They are
/// of all connections that were begun, also where a header of the PROXY protocol or a handshake
/// failed and no protocol was told. One that could not be, since the protocol's factory panicked or
/// TLS could not be had, is closed at once and reported, and is not among them.
///
/// ```
/// use evloop::{CloseReason, StreamReader, StreamWriter, open_connection, start_server};
///
/// async fn serve(_reader: StreamReader, _writer: StreamWriter) {}
///
/// evloop::run(async {
///     let server = start_server(serve, ("127.0.0.1", 0)).await?;
///     let metrics = server.metrics();
///     let (mut reader, _writer) = open_connection(server.sockets()[0].as_inet().unwrap()).await?;
///     reader.read(1).await?;
///     server.close();
///     server.wait_closed().await?;
///
///     assert_eq!((metrics.accepted(), metrics.open()), (1, 0));
///     assert_eq!(metrics.closed_because(CloseReason::Closed), 1);
///     std::io::Result::Ok(())
/// })?
/// # ?; Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ServerMetrics {
    numbers: Arc<Numbers>,
}

#[derive(Default)]
struct Numbers {
    accepted: AtomicU64,
    closed: [AtomicU64; REASONS],
}

impl ServerMetrics {
    /// How many connections were accepted and begun.
    pub fn accepted(&self) -> u64 {
        self.numbers.accepted.load(Ordering::Relaxed)
    }

    /// How many of them are over.
    pub fn closed(&self) -> u64 {
        let closed = self.numbers.closed.iter();
        closed.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How many of them are over for this reason.
    pub fn closed_because(&self, reason: CloseReason) -> u64 {
        self.numbers.closed[reason as usize].load(Ordering::Relaxed)
    }

    /// How many of them are not over.
    pub fn open(&self) -> u64 {
        // First, since another thread may go on meanwhile.
        let closed = self.closed();
        self.accepted().saturating_sub(closed)
    }

    pub(crate) fn add_accepted(&self) {
        add_one(&self.numbers.accepted);
    }

    pub(crate) fn add_closed(&self, reason: CloseReason) {
        add_one(&self.numbers.closed[reason as usize]);
    }
}

impl fmt::Debug for ServerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMetrics")
            .field("accepted", &self.accepted())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

/// One thread writes, so nothing comes between the two.
fn add_one(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// By the last one of them.
const REASONS: usize = CloseReason::LoopClosed as usize + 1;
