//! The sockets that are served.

use std::io::{self, Write};
use std::path::PathBuf;

use evloop::{
    Server, Ssl, TlsServerContext, create_server, create_unix_server, start_server,
    start_unix_server,
};

use crate::arguments::{Api, Options};
use crate::echo::{Echo, echo};
use crate::proxy;

/// TCP first, then the paths in their order.
pub(crate) async fn start(
    options: &Options,
    ssl: Ssl<TlsServerContext>,
) -> io::Result<Vec<Server>> {
    let mut servers = Vec::new();
    if options.unix.is_empty() || !options.host.is_empty() || options.port.is_some() {
        servers.push(start_tcp(options, ssl.clone()).await?);
    }
    for path in &options.unix {
        servers.push(start_unix(options, ssl.clone(), path).await?);
    }
    Ok(servers)
}

async fn start_tcp(options: &Options, ssl: Ssl<TlsServerContext>) -> io::Result<Server> {
    let mut hosts = options.host.clone();
    if hosts.is_empty() {
        hosts.push(DEFAULT_HOST.to_owned());
    }
    let endpoint = (hosts, options.port.unwrap_or(DEFAULT_PORT));
    match options.api {
        Api::Streams => {
            start_server(echo, endpoint)
                .limit(options.limit)
                .backlog(options.backlog)
                .proxy_protocol(proxy::timeout(options))
                .ssl(ssl)
                .await
        }
        Api::Protocol => {
            create_server(Echo::factory(options.limit), endpoint)
                .backlog(options.backlog)
                .proxy_protocol(proxy::timeout(options))
                .ssl(ssl)
                .await
        }
    }
}

async fn start_unix(
    options: &Options,
    ssl: Ssl<TlsServerContext>,
    path: &PathBuf,
) -> io::Result<Server> {
    match options.api {
        Api::Streams => {
            start_unix_server(echo, path)
                .limit(options.limit)
                .backlog(options.backlog)
                .proxy_protocol(proxy::timeout(options))
                .ssl(ssl)
                .await
        }
        Api::Protocol => {
            create_unix_server(Echo::factory(options.limit), path)
                .backlog(options.backlog)
                .proxy_protocol(proxy::timeout(options))
                .ssl(ssl)
                .await
        }
    }
}

/// One line for each socket. A stdout that nobody reads is no reason to stop serving.
pub(crate) fn announce(servers: &[Server]) {
    let mut stdout = io::stdout().lock();
    for address in servers.iter().flat_map(Server::sockets) {
        if let Err(error) = writeln!(stdout, "Serving on {address}").and_then(|()| stdout.flush()) {
            log::warn!("stdout: {error}");
            return;
        }
    }
}

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8888;
