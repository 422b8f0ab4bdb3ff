//! TLS: a protocol below, a transport above, and rustls between them.
//!
//! Owns: the contexts, the errors and the making of TLS transports. Why: encrypted, a connection is
//! used like any other, so it is a transport like any other, whose stream is not a socket but a
//! second transport. Invariants: one file calls rustls; what the protocol above sees (order, flow
//! control, half-close, the end) is what any transport promises. asyncio's counterpart: `sslproto`
//! and `ssl`.
//!
//! ```text
//!   application's protocol  ⇄  Transport (above): a Connection over TlsStream
//!                                     │ plaintext      ▲
//!                                     ▼                │
//!                                TlsCore { Engine: rustls }
//!                                     │ records        ▲
//!                                     ▼                │
//!             TlsProtocol  ⇄  Transport (below): a Connection over a socket
//! ```
//!
//! After the handshake the engine takes the records from the socket itself, when somebody above reads;
//! what is said of the connection still goes the way of the picture.

mod context;
mod core;
mod details;
mod engine;
mod error;
mod layer;
mod options;
mod phase;
mod protocol;
mod stack;
mod start;

pub use rustls;

pub use self::context::{TlsClientBuilder, TlsClientContext, TlsServerBuilder, TlsServerContext};
pub use self::details::{TlsDetails, TlsSession};
pub use self::error::TlsError;
pub(crate) use self::options::{ClientOptions, Prepared, ServerOptions, ServerSide};
pub use self::options::{Ssl, TlsContext};
pub(crate) use self::phase::machine;
pub(crate) use self::stack::{stack, stack_on};
pub use self::start::StartTls;
pub(crate) use self::start::{Upgrade, begin, check_open, upgrade_setters};
