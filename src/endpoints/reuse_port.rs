//! One port for several loops.
//!
//! Owns: [`reuse_port_sockets`]. Why: the system spreads connections over sockets that share a port,
//! and the loops of a group should share one that was left to the system as well. Invariants: all
//! are bound or none is; none listens yet. asyncio's counterpart: `reuse_port=True`, for each loop
//! by itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::endpoints::error::EndpointError;
use crate::endpoints::port::{Failure, PickedPort, with_another_port};
use crate::sys::{Address, ListenOptions, bind_tcp, invalid_input};

/// Binds `addresses` once for each of `count` loops: a list for each loop, with a socket for each
/// address in their order. The sockets share their ports (`SO_REUSEPORT`), and port 0 is one port
/// for all of them. They have `SO_REUSEADDR` as well, those of IPv6 are for IPv6 only, and none
/// listens yet: a server that is given one (see [`Endpoint`](crate::Endpoint)) sees to that.
///
/// Linux gives each connection to one of the sockets that listen, by a hash of its addresses: a loop
/// that is busy gets its share all the same. Other systems spread nothing under this option; there
/// one loop accepts and hands over to the others, as the example `multi_core_echo` can. Mind two
/// things:
///
/// - whoever waits in the queue of a socket when it is closed is reset;
/// - a duplicate (`try_clone`) that stays open keeps the socket listening, and nobody accepts what
///   it gets. [`LoopGroup::run_with`] gives the sockets themselves away.
///
/// [`LoopGroup::run_with`]: crate::LoopGroup::run_with
///
/// # Errors
///
/// An [`EndpointError`] as `io::Error`: an address is taken by one who does not share it, or by
/// another user, or is not ours. `InvalidInput` without any address.
///
/// ```
/// use evloop::{LoopGroup, StreamReader, StreamWriter, reuse_port_sockets, start_server};
///
/// async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     let data = reader.read(100).await?;
///     writer.write(data);
///     writer.drain().await
/// }
///
/// let group = LoopGroup::new(2)?;
/// let sockets = reuse_port_sockets(&[([127, 0, 0, 1], 0).into()], group.count())?;
/// let ports = group.run_with(sockets, |_, sockets| async move {
///     let mut ports = Vec::new();
///     for socket in sockets {
///         let server = start_server(handle_echo, socket).await?;
///         ports.push(server.sockets()[0].port());
///         // … and serves, until a signal comes.
///     }
///     Ok::<_, std::io::Error>(ports)
/// })?;
/// assert_eq!(ports[0], ports[1]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn reuse_port_sockets(addresses: &[SocketAddr], count: usize) -> io::Result<Vec<Vec<OwnedFd>>> {
    if addresses.is_empty() {
        return Err(invalid_input("Neither host/port nor sock were specified"));
    }
    with_another_port(|| {
        let mut port = PickedPort::default();
        let sockets = (0..count).map(|_| bind_each(addresses, &mut port));
        sockets.collect()
    })
}

fn bind_each(addresses: &[SocketAddr], port: &mut PickedPort) -> Result<Vec<OwnedFd>, Failure> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for address in addresses {
        let (address, follows) = port.apply(*address);
        let (socket, bound) = bind_tcp(address, &OPTIONS).map_err(|source| {
            let retry = follows && source.kind() == io::ErrorKind::AddrInUse;
            let address = Address::from(address);
            (EndpointError::Bind { address, source }, retry)
        })?;
        port.learn(Some(bound.port()));
        sockets.push(socket);
    }
    Ok(sockets)
}

const OPTIONS: ListenOptions = ListenOptions {
    // For whoever has it listen to say.
    backlog: 0,
    reuse_address: true,
    reuse_port: true,
    keep_alive: false,
    cleanup_socket: true,
};
