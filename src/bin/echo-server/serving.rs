//! The sockets that are served.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use evloop::{
    Address, Endpoint, Protocol, Server, Ssl, TlsServerContext, UnixEndpoint, create_server,
    create_unix_server, reuse_port_sockets, start_server, start_unix_server,
};

use crate::activation::Inherited;
use crate::arguments::{Api, Options};
use crate::echo::{Echo, echo};
use crate::proxy;
use crate::stats::Tally;

/// What one worker is to serve.
#[derive(Debug)]
pub(crate) struct Listener {
    place: Place,
    /// How many connections it may have.
    most: usize,
}

#[derive(Debug)]
enum Place {
    Tcp(Endpoint),
    Unix(UnixEndpoint),
}

/// What each of so many workers serves: TCP first, then the paths and what was inherited, in their
/// orders.
pub(crate) async fn listeners(
    options: &Options,
    inherited: Vec<Inherited>,
) -> io::Result<Vec<Vec<Listener>>> {
    let workers = options.workers;
    let most = options.max_connections.unwrap_or(usize::MAX);
    let mut listeners: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    if options.serves_tcp(!inherited.is_empty()) {
        for (worker, places) in tcp(options).await?.into_iter().enumerate() {
            let most = share(most, worker, workers);
            let places = places.into_iter().map(Place::Tcp);
            listeners[worker].extend(places.map(|place| Listener { place, most }));
        }
    }
    for path in &options.unix {
        // One of them makes the path, and removes it.
        let place = Place::Unix(path.into());
        listeners[0].push(Listener { place, most });
    }
    for socket in inherited {
        for (worker, listeners) in listeners.iter_mut().enumerate().skip(1) {
            let place = place(socket.try_clone()?);
            let most = share(most, worker, workers);
            listeners.push(Listener { place, most });
        }
        let most = share(most, 0, workers);
        let place = place(socket);
        listeners[0].push(Listener { place, most });
    }
    Ok(listeners)
}

fn place(socket: Inherited) -> Place {
    match socket {
        Inherited::Tcp(listener) => Place::Tcp(listener.into()),
        Inherited::Unix(listener) => Place::Unix(listener.into()),
    }
}

/// One worker's share: what cannot be divided goes to the first ones.
fn share(most: usize, worker: usize, workers: usize) -> usize {
    most / workers + usize::from(worker < most % workers)
}

/// One worker serves the addresses as they were said, several have sockets that share them.
async fn tcp(options: &Options) -> io::Result<Vec<Vec<Endpoint>>> {
    let mut hosts = options.host.clone();
    if hosts.is_empty() {
        hosts.push(DEFAULT_HOST.to_owned());
    }
    let endpoint = Endpoint::from((hosts, options.port.unwrap_or(DEFAULT_PORT)));
    if options.workers == 1 {
        return Ok(vec![vec![endpoint]]);
    }
    let sockets = shared(endpoint, options.workers).await?;
    let endpoints = |sockets: Vec<OwnedFd>| sockets.into_iter().map(Endpoint::from).collect();
    Ok(sockets.into_iter().map(endpoints).collect())
}

/// The addresses behind the names, in the families that there are, on a port that is free on all of
/// them: a server finds them that never serves, and keeps them until they are taken.
async fn shared(endpoint: Endpoint, workers: usize) -> io::Result<Vec<Vec<OwnedFd>>> {
    struct Nobody;
    impl Protocol for Nobody {}
    let finder = create_server(|| Nobody, endpoint)
        .reuse_port(true)
        .start_serving(false)
        .await?;
    let addresses: Vec<SocketAddr> = finder
        .sockets()
        .iter()
        .filter_map(Address::as_inet)
        .collect();
    reuse_port_sockets(&addresses, workers)
}

/// Sets what all four kinds of servers have, and starts one.
macro_rules! serve {
    ($server:expr, $options:expr, $most:expr, $ssl:expr) => {{
        let mut server = $server
            .backlog($options.backlog)
            .max_connections($most)
            .proxy_protocol(proxy::timeout($options))
            .ssl($ssl.clone());
        if let Some(timeout) = $options.idle_timeout {
            server = server.idle_timeout(timeout);
        }
        if let Some(timeout) = $options.write_timeout {
            server = server.write_timeout(timeout);
        }
        server.await
    }};
}

/// Serves it on the running loop.
pub(crate) async fn start(
    options: &Options,
    ssl: &Ssl<TlsServerContext>,
    tally: &Arc<Tally>,
    listener: Listener,
) -> io::Result<Server> {
    let (limit, most) = (options.limit, listener.most);
    let tally = Arc::clone(tally);
    match (options.api, listener.place) {
        (Api::Streams, Place::Tcp(endpoint)) => {
            let echo = move |reader, writer| echo(reader, writer, Arc::clone(&tally));
            serve!(
                start_server(echo, endpoint).limit(limit),
                options,
                most,
                ssl
            )
        }
        (Api::Streams, Place::Unix(endpoint)) => {
            let echo = move |reader, writer| echo(reader, writer, Arc::clone(&tally));
            let server = start_unix_server(echo, endpoint).limit(limit);
            serve!(server, options, most, ssl)
        }
        (Api::Protocol, Place::Tcp(endpoint)) => {
            let server = create_server(Echo::factory(limit, tally), endpoint);
            serve!(server, options, most, ssl)
        }
        (Api::Protocol, Place::Unix(endpoint)) => {
            let server = create_unix_server(Echo::factory(limit, tally), endpoint);
            serve!(server, options, most, ssl)
        }
    }
}

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8888;

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn the_workers_shares_are_the_whole_and_hardly_differ() {
        for (most, workers) in [(1, 1), (5, 2), (7, 3), (1000, 16), (usize::MAX, 7)] {
            let shares: Vec<_> = (0..workers).map(|it| share(most, it, workers)).collect();
            assert_eq!(shares.iter().sum::<usize>(), most);
            assert!(shares[0] - shares[workers - 1] <= 1, "{shares:?}");
        }
    }
}
