//! The PROXY protocol: a header in front of a connection, in which a proxy says for whom it speaks.
//!
//! Owns: [`ProxyHeader`], [`ProxyError`], and the reading of a header in front of a server's
//! protocol. Why: behind a balancer every connection comes from the balancer. Invariants: nothing
//! is believed that was not asked for; a header is bounded in length and in time; not one byte
//! behind it is taken from the socket, so that whatever follows, TLS too, finds all of its own.
//! asyncio's counterpart: none.

mod error;
mod front;
mod header;

pub use self::error::ProxyError;
pub(crate) use self::front::{Demand, stand_in_front};
pub use self::header::ProxyHeader;
