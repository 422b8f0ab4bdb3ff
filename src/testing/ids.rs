//! The numbers of things in a simulated world.
//!
//! Owns: [`HostId`], [`SocketId`] and [`ListeningId`]. Why: what is under way names its ends by
//! number, since an end may be gone when it arrives. Invariants: no number is used again. asyncio's
//! counterpart: none.

/// A host, by the order in which it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostId(pub(super) usize);

/// A socket of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SocketId(pub(super) u64);

/// A listening socket of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListeningId(pub(super) u64);
