//! Where connections come from.
//!
//! Owns: [`create_connection`], [`create_server`], [`Server`], [`Endpoint`]. Why: the floors below
//! know sockets and connections, but not how one comes about: by a name that is resolved, an
//! address that is tried, a listener that accepts. Invariants: an attempt that fails or is
//! dropped leaves no descriptor and no registration; the thread never waits for a name.
//! asyncio's counterpart: `create_connection`, `create_server` and `base_events.Server`.

mod accepted_socket;
mod bound;
mod connect;
mod connected;
mod destination;
mod endpoint;
mod error;
mod joining;
// The setters of servers name it, in other folders as well.
pub(crate) mod limit;
mod listening;
mod metrics;
mod names;
mod port;
mod race;
mod reserved;
mod resolve;
mod reuse_port;
mod sendfile;
mod server;
mod server_builder;
mod serving;
mod shutdown;
mod sock;
mod terms;
mod unix_connect;
mod unix_endpoint;
mod unix_server;

pub use self::accepted_socket::{ConnectAcceptedSocket, connect_accepted_socket};
pub use self::connect::{CreateConnection, create_connection};
pub(crate) use self::connected::Connected;
pub use self::destination::Destination;
pub use self::endpoint::Endpoint;
pub use self::error::EndpointError;
pub(crate) use self::joining::joining_setters;
pub use self::limit::ConnectionLimit;
pub use self::metrics::ServerMetrics;
pub use self::names::{GetAddrInfo, GetNameInfo};
pub(crate) use self::reserved::Reserved;
pub use self::reuse_port::reuse_port_sockets;
pub use self::sendfile::{Sendfile, SendfileError, sendfile};
pub use self::server::{ServeForever, Server};
pub use self::server_builder::{CreateServer, create_server};
pub(crate) use self::serving::serving_setters;
pub use self::shutdown::{ConnectionEnd, Shutdown, ShutdownPhase, ShutdownReport};
pub use self::unix_connect::{CreateUnixConnection, create_unix_connection};
pub use self::unix_endpoint::UnixEndpoint;
pub use self::unix_server::{CreateUnixServer, create_unix_server};
