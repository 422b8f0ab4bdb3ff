//! What a transport knows about its connection.
//!
//! Owns: the keys of this floor. Why: a key is a type that names its value's type, so a misspelt
//! key does not compile; higher floors add keys of their own. Invariants: an address that was known
//! stays known after the end of the connection. asyncio's counterpart: `get_extra_info(name)`.

use crate::sys::{Address, Credentials};
use crate::transports::close_reason::CloseReason;
use crate::transports::contract::{ExtraInfo, Transport};

/// The peer's address, as accept or connect returned it. asyncio's key `peername`.
#[derive(Clone, Copy, Debug)]
pub struct PeerName;

impl ExtraInfo for PeerName {
    type Value = Address;

    fn look_up(self, transport: &Transport) -> Option<Address> {
        Some(transport.core().peer_name().clone())
    }
}

/// Who the peer is in the end: whom a proxy between us speaks for, if it has said so, or else the
/// address that is [`PeerName`]'s too. asyncio has no such key.
///
/// Servers that are told to expect the PROXY protocol (`proxy_protocol`) set it, and so does
/// `read_proxy_header`; both are there with the feature `proxy`. Whoever knows by other means sets
/// it with [`Transport::set_real_peer`].
///
/// ```
/// use evloop::{PeerName, RealPeer, StreamReader, StreamWriter};
///
/// async fn handle(_reader: StreamReader, writer: StreamWriter) {
///     let client = writer.get_extra_info(RealPeer);
///     let neighbour = writer.get_extra_info(PeerName);
///     if client != neighbour {
///         println!("{client:?} by way of {neighbour:?}");
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RealPeer;

impl ExtraInfo for RealPeer {
    type Value = Address;

    fn look_up(self, transport: &Transport) -> Option<Address> {
        let told = transport.core().real_peer();
        told.or_else(|| PeerName.look_up(transport))
    }
}

/// The address of our end. asyncio's key `sockname`.
///
/// It is asked for at its first use, unless the listener was bound to one address. So after the end
/// of the connection nothing is said, if nobody has asked before: ask in `connection_lost` at the
/// latest. asyncio asks for each connection when it begins.
#[derive(Clone, Copy, Debug)]
pub struct SockName;

impl ExtraInfo for SockName {
    type Value = Address;

    fn look_up(self, transport: &Transport) -> Option<Address> {
        transport.core().sock_name()
    }
}

/// The process at the other end of a unix socket, by the system's own record. Nothing for TCP,
/// after the end of the connection, and on systems other than Linux. asyncio's programs ask the
/// key `socket` for `SO_PEERCRED`.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// evloop::run(async move {
///     let (_reader, writer) = evloop::open_unix_connection(ours).await?;
///     let peer = writer.get_extra_info(evloop::PeerCredentials);
/// #   #[cfg(target_os = "linux")]
///     assert_eq!(peer.unwrap().pid, i32::try_from(std::process::id()).ok());
///     Ok::<(), std::io::Error>(())
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PeerCredentials;

impl ExtraInfo for PeerCredentials {
    type Value = Credentials;

    fn look_up(self, transport: &Transport) -> Option<Credentials> {
        transport.core().peer_credentials()
    }
}

/// How many bytes were written and never sent when the connection ended: none, if it ended in good
/// order; nothing before the end. What the system has taken counts as sent, whether or not it
/// arrived, and under TLS what was encrypted. asyncio has no such key.
///
/// ```
/// use evloop::{LeftUnsent, StreamWriter};
///
/// async fn leave(writer: StreamWriter) {
///     writer.transport().abort();
///     assert!(writer.get_extra_info(LeftUnsent).is_some());
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LeftUnsent;

impl ExtraInfo for LeftUnsent {
    type Value = usize;

    fn look_up(self, transport: &Transport) -> Option<usize> {
        transport.core().left_unsent()
    }
}

/// Why the connection is over; nothing before that. asyncio has no such key.
///
/// ```
/// use evloop::{CloseReason, ClosedBecause, StreamReader, StreamWriter};
///
/// fn tell(writer: &StreamWriter) {
///     if writer.get_extra_info(ClosedBecause) == Some(CloseReason::IdleTimeout) {
///         println!("nobody spoke");
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ClosedBecause;

impl ExtraInfo for ClosedBecause {
    type Value = CloseReason;

    fn look_up(self, transport: &Transport) -> Option<CloseReason> {
        transport.core().reason()
    }
}
