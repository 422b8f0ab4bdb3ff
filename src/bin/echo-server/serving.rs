//! The sockets that are served.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use evloop::{
    Address, Endpoint, Protocol, Server, UnixEndpoint, create_server, create_unix_server,
    reuse_port_sockets, start_server, start_unix_server,
};

use crate::activation::Inherited;
use crate::arguments::{Api, Options};
use crate::echo::{Echo, echo};
use crate::proxy;
use crate::service::Service;
use crate::tls;

/// What one worker is to serve.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(Endpoint),
    Unix(UnixEndpoint),
}

/// What each of so many workers serves: TCP first, then the paths and what was inherited, in their
/// orders.
pub(crate) async fn listeners(
    options: &Options,
    inherited: Vec<Inherited>,
) -> io::Result<Vec<Vec<Listener>>> {
    let mut listeners: Vec<Vec<Listener>> = Vec::new();
    listeners.resize_with(options.workers, Vec::new);
    if options.serves_tcp(!inherited.is_empty()) {
        for (listeners, endpoints) in listeners.iter_mut().zip(tcp(options).await?) {
            listeners.extend(endpoints.into_iter().map(Listener::Tcp));
        }
    }
    // One of them makes the path, and removes it.
    let paths = options.unix.iter().map(|path| Listener::Unix(path.into()));
    listeners[0].extend(paths);
    for socket in inherited {
        for listeners in &mut listeners[1..] {
            listeners.push(listener(socket.try_clone()?));
        }
        listeners[0].push(listener(socket));
    }
    Ok(listeners)
}

fn listener(socket: Inherited) -> Listener {
    match socket {
        Inherited::Tcp(listener) => Listener::Tcp(listener.into()),
        Inherited::Unix(listener) => Listener::Unix(listener.into()),
    }
}

/// One worker serves the addresses as they were said, several have sockets that share them.
async fn tcp(options: &Options) -> io::Result<Vec<Vec<Endpoint>>> {
    let mut hosts = options.host.clone();
    if hosts.is_empty() {
        hosts.push(DEFAULT_HOST.to_owned());
    }
    let port = options.port.unwrap_or(DEFAULT_PORT);
    let endpoint = Endpoint::from((hosts, port));
    if options.workers == 1 {
        return Ok(vec![vec![endpoint]]);
    }
    let sockets = shared(endpoint, port != 0, options.workers).await?;
    let endpoints = |sockets: Vec<OwnedFd>| sockets.into_iter().map(Endpoint::from).collect();
    Ok(sockets.into_iter().map(endpoints).collect())
}

/// The addresses behind the names, in the families that there are, on a port that is free on all of
/// them: a server finds them that never serves, and keeps them until they are taken.
async fn shared(endpoint: Endpoint, has_port: bool, workers: usize) -> io::Result<Sockets> {
    let finder = finder(endpoint, true).await?;
    let addresses: Vec<SocketAddr> = finder
        .sockets()
        .iter()
        .filter_map(Address::as_inet)
        .collect();
    // On a port that we were given by the system there is nobody else.
    if has_port {
        finder.close();
        finder.wait_closed().await?;
        let taken = taken(&addresses).await;
        if !taken.is_empty() {
            log::warn!("{}: another server shares it", taken.join(", "));
        }
    }
    reuse_port_sockets(&addresses, workers)
}

/// For each worker, in the order of the addresses.
type Sockets = Vec<Vec<OwnedFd>>;

/// Those that somebody else has: one who does not share them finds that out, and goes at once.
async fn taken(addresses: &[SocketAddr]) -> Vec<String> {
    let mut taken = Vec::new();
    for address in addresses {
        let found = finder(Endpoint::from(*address), false).await;
        if found.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            taken.push(address.to_string());
        }
    }
    taken
}

/// It holds sockets that do not listen.
async fn finder(endpoint: Endpoint, shares: bool) -> io::Result<Server> {
    struct Nobody;
    impl Protocol for Nobody {}
    create_server(|| Nobody, endpoint)
        .reuse_port(shares)
        .start_serving(false)
        .await
}

/// Sets what all four kinds of servers have, and starts one.
macro_rules! serve {
    ($server:expr, $service:expr) => {{
        let options = &$service.options;
        let mut server = $server
            .backlog(options.backlog)
            .proxy_protocol(proxy::timeout(options))
            .ssl(tls::argument($service.context.as_ref()));
        if let Some(limit) = &$service.limit {
            server = server.max_connections(limit.clone());
        }
        if let Some(timeout) = options.idle_timeout {
            server = server.idle_timeout(timeout);
        }
        if let Some(timeout) = options.write_timeout {
            server = server.write_timeout(timeout);
        }
        server.await
    }};
}

/// Serves it on the running loop, which is that of this worker.
pub(crate) async fn start(
    service: &Service,
    worker: usize,
    listener: Listener,
) -> io::Result<Server> {
    let (limit, tally) = (service.options.limit, Arc::clone(service.tally(worker)));
    match (service.options.api, listener) {
        (Api::Streams, Listener::Tcp(endpoint)) => {
            let echo = move |reader, writer| echo(reader, writer, Arc::clone(&tally));
            serve!(start_server(echo, endpoint).limit(limit), service)
        }
        (Api::Streams, Listener::Unix(endpoint)) => {
            let echo = move |reader, writer| echo(reader, writer, Arc::clone(&tally));
            serve!(start_unix_server(echo, endpoint).limit(limit), service)
        }
        (Api::Protocol, Listener::Tcp(endpoint)) => {
            let factory = Echo::factory(limit, tally);
            serve!(create_server(factory, endpoint), service)
        }
        (Api::Protocol, Listener::Unix(endpoint)) => {
            let factory = Echo::factory(limit, tally);
            serve!(create_unix_server(factory, endpoint), service)
        }
    }
}

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8888;
