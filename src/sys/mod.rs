//! The seam under the loop: the only thing that sleeps, and the only thing that knows the time.
//!
//! Owns: the traits through which the loop reaches the world. Why: so that the same server,
//! protocol and stream code can run on real sockets and on a simulated network, without a `cfg`
//! and without an `if`. Invariants: one `dyn Driver` is clock and network at once, since they
//! must advance together; nothing above this floor makes a system call or reads a clock; what a
//! driver cannot do is `io::ErrorKind::Unsupported`. asyncio's counterpart: `selectors` and
//! the `socket` module.

mod address;
mod credentials;
mod driver;
mod mio;
mod readiness;
mod resolver;
mod signals;
mod unix_address;

pub use self::address::Address;
pub use self::credentials::Credentials;
#[cfg(test)]
pub(crate) use self::driver::Reply;
pub(crate) use self::driver::{
    Driver, Event, ListenOptions, Listener, Query, SourceId, Stream, Wakeup,
};
pub(crate) use self::mio::MioDriver;
pub(crate) use self::readiness::Readiness;
pub use self::signals::numbers;
pub use self::unix_address::UnixAddress;
