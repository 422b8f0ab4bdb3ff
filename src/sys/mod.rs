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
mod error;
mod mio;
mod pool;
mod readiness;
mod resolver;
#[cfg(any(test, fuzzing))]
mod scripted;
mod signals;
mod unix_address;

pub use self::address::Address;
pub use self::credentials::Credentials;
pub(crate) use self::driver::{
    ConnectFailure, Driver, Event, Layer, ListenOptions, Listener, SourceId, Stream, Wakeup, Watch,
};
pub(crate) use self::error::invalid_input;
pub use self::mio::Acceptor;
pub(crate) use self::mio::{
    MioDriver, Started, bind_tcp, family_and_type, is_connected, is_nonblocking, send_file,
    send_to, start_to_connect,
};
pub(crate) use self::pool::{Job, Refused, run_elsewhere};
pub(crate) use self::readiness::Readiness;
pub use self::resolver::{
    AddrInfo, Family, Proto, Query, Resolver, ResolverFuture, Service, SocketType, netdb,
};
pub(crate) use self::resolver::{family_refused, getaddrinfo, getnameinfo, may_be_mapped};
#[cfg(any(test, fuzzing))]
pub(crate) use self::scripted::Scripted;
pub use self::signals::numbers;
pub use self::unix_address::UnixAddress;
