//! Transports, protocols, connections and servers, over real sockets on the loopback.

#[path = "../common/mod.rs"]
mod common;

mod adopted;
mod buffered;
mod closing;
mod connect;
mod detach;
mod edges;
mod faults;
mod group;
mod happy_eyeballs;
mod leaks;
mod local_addr;
mod max_connections;
mod names;
mod order;
mod passing_on;
mod policies;
mod probe;
mod reading;
mod sendfile;
mod server;
mod server_life;
mod server_metrics;
mod shutdown;
mod sock_sendfile;
mod unix;
mod unix_paths;
mod writing;
