//! What simulated hosts send one another.
//!
//! Owns: [`Packet`] and [`Syn`]. Why: what is under way is data, so that it can be held, lost and
//! counted. Invariants: none. asyncio's counterpart: none.

use std::net::SocketAddr;

use crate::testing::ids::SocketId;

/// Something under way between the two ends of a connection.
pub(super) enum Packet {
    Bytes(Vec<u8>),
    /// The sender sends no more.
    End,
    /// There is no such connection, or none any more.
    Reset,
    /// So many bytes were read, and there is as much room again.
    Room(usize),
    /// The connection is there.
    Welcome,
}

impl Packet {
    /// How many bytes of the user's it has.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Its place in what is noted.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes",
            Self::End => "end",
            Self::Reset => "reset",
            Self::Room(_) => "room",
            Self::Welcome => "welcome",
        }
    }
}

/// A connection that is wanted.
pub(super) struct Syn {
    pub(super) from: SocketId,
    pub(super) to: SocketAddr,
    /// How often it was tried before.
    pub(super) tries: u32,
}
