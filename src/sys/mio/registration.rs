//! How sockets are registered with mio: under which token, and for what.
//!
//! Owns: [`token_of`] and its neighbours. Why: every kind of socket is registered in the same way.
//! Invariants: one registration for every direction; an id never collides with the tokens of the
//! waker and the signals. asyncio's counterpart: the `data` of a selector's key.

use mio::{Interest, Token};

use crate::sys::driver::SourceId;
use crate::sys::signals::signal_of;

/// The token that carries `id`.
pub(crate) fn token_of(id: SourceId) -> Token {
    let token = Token(id.0 as usize);
    debug_assert!(
        token != WAKER && signal_of(token).is_none(),
        "{id:?} is reserved for the driver's own tokens"
    );
    token
}

/// Ids come from a counter that starts low, signals have the 64 tokens below this one.
pub(crate) const WAKER: Token = Token(usize::MAX);

const _: () = assert!(
    usize::BITS >= u64::BITS,
    "a source's 64-bit id travels in mio's token: 32-bit targets are not supported"
);

/// Where urgent data has an event of its own it is asked for, since it ends a read early.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const STREAM_INTEREST: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const STREAM_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);
