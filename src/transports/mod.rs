//! The two-sided contract: a transport moves bytes, a protocol decides what they mean.
//!
//! Owns: [`Transport`], [`Protocol`], [`BufferedProtocol`] and the connection between them. Why:
//! it is the one abstraction that everything above is built on. Invariants: `connection_made`
//! once, then any number of `data_received` (or of `get_buffer` and `buffer_updated`), at most one
//! `eof_received`, then `connection_lost` once; `pause_writing` and `resume_writing` alternate; no
//! callback is called from inside a method of the transport. asyncio's counterpart: `transports`,
//! `protocols` and `_SelectorTransport`.

mod connection;
mod contract;
mod core;
mod info;
mod receiving;
mod sending;

pub(crate) use self::connection::{Connection, Owner, Parts};
pub use self::contract::{BufferedProtocol, Data, ExtraInfo, Protocol, Transport};
pub(crate) use self::core::Cause;
pub use self::info::{PeerCredentials, PeerName, SockName};
