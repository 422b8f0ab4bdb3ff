//! Who is at the other end of a unix socket.
//!
//! Owns: [`Credentials`]. Why: the system's own record, which the peer cannot forge, is what a
//! local server decides by. Invariants: plain data. asyncio's counterpart: none; its programs ask
//! `transport.get_extra_info('socket')` for `SO_PEERCRED`.

/// The process at the other end of a unix socket, as it was when the connection was made.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Its process id; `None` where it cannot be seen from here, as from another container. A
    /// number may belong to another process once that one is gone.
    pub pid: Option<i32>,
    /// The user that it ran as.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}
