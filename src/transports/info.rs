//! What a transport knows about its connection.
//!
//! Owns: the keys of this floor. Why: a key is a type that names its value's type, so a misspelt
//! key does not compile; higher floors add keys of their own. Invariants: what was known stays
//! known after the end of the connection. asyncio's counterpart: `get_extra_info(name)`.

use crate::sys::Address;
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

/// The address of our end. asyncio's key `sockname`.
///
/// It is asked for at its first use, unless the listener was bound to one address.
#[derive(Clone, Copy, Debug)]
pub struct SockName;

impl ExtraInfo for SockName {
    type Value = Address;

    fn look_up(self, transport: &Transport) -> Option<Address> {
        transport.core().sock_name()
    }
}
