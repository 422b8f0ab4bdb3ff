//! The two-sided contract: a transport moves bytes, a protocol decides what they mean.
//!
//! Owns: [`Transport`], [`Protocol`], [`BufferedProtocol`] and the connection between them. Why:
//! it is the one abstraction that everything above is built on. Invariants: `connection_made`
//! once, then any number of `data_received` (or of `get_buffer` and `buffer_updated`), at most one
//! `eof_received`, then `connection_lost` once; `pause_writing` and `resume_writing` alternate; no
//! callback is called from inside a method of the transport. asyncio's counterpart: `transports`,
//! `protocols` and `_SelectorTransport`.

mod close_on_drop;
mod close_reason;
mod connection;
mod contract;
mod core;
mod data;
mod fault;
mod info;
mod known;
mod loan;
mod policies;
mod receiving;
mod sending;
#[cfg_attr(
    not(feature = "tls"),
    allow(dead_code, reason = "only TLS stands on another transport")
)]
mod stacking;
mod watching;

pub(crate) use self::close_on_drop::CloseOnDrop;
pub use self::close_reason::CloseReason;
pub(crate) use self::close_reason::again;
pub(crate) use self::connection::{Connection, Parts};
pub(crate) use self::contract::Owner;
pub use self::contract::{BufferedProtocol, Detached, ExtraInfo, Protocol, Transport};
pub use self::data::Data;
pub use self::info::{ClosedBecause, LeftUnsent, PeerCredentials, PeerName, RealPeer, SockName};
pub(crate) use self::known::Known;
pub(crate) use self::loan::Loan;
pub(crate) use self::policies::Policies;
#[cfg(feature = "tls")]
pub(crate) use self::receiving::Received;
