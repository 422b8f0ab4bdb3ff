//! Streams: bytes to read and write with `await`.
//!
//! Owns: [`StreamReader`], [`StreamWriter`], [`StreamReaderProtocol`], [`open_connection`],
//! [`start_server`]. Why: most programs want to read a line, not to be told of a chunk.
//! Invariants: a protocol like any other, over the public side of a transport; bytes leave the
//! buffer only with the value that returns them, so every read may be dropped; the buffer stays
//! near its limit, since reading stops above it. asyncio's counterpart: `asyncio.streams`.

mod callback;
mod error;
mod feeder;
mod limit;
mod open;
mod protocol;
#[cfg(feature = "proxy")]
mod proxy;
mod reader;
mod separators;
mod start;
#[cfg(feature = "tls")]
mod start_tls;
mod state;
mod unix;
mod writer;

pub use self::callback::{AsyncCallback, ClientConnectedCb, Completion, Outcome, PlainCallback};
pub use self::error::{FeedError, IncompleteReadError, LimitOverrunError, ReadError};
pub use self::feeder::StreamFeeder;
pub use self::open::{OpenConnection, open_connection};
pub use self::protocol::StreamReaderProtocol;
#[cfg(feature = "proxy")]
pub use self::proxy::read_proxy_header;
pub use self::reader::{Lines, StreamReader};
pub use self::separators::{Separator, Separators};
pub use self::start::{StartServer, start_server};
#[cfg(feature = "tls")]
pub use self::start_tls::StartStreamTls;
pub use self::unix::{
    OpenUnixConnection, StartUnixServer, open_unix_connection, start_unix_server,
};
pub use self::writer::StreamWriter;
