//! From hosts to addresses, without making the loop's thread wait.
//!
//! Owns: [`look_up`], [`resolve`], [`resolve_each`] and [`resolve_all`]. Why: the system's
//! resolver blocks, so it is asked on the loop's executor, unless the loop has a resolver of its
//! own. Invariants: a literal touches either only if it may have to be mapped to another family; an
//! answer that comes when nobody waits any more is dropped. asyncio's counterpart:
//! `_ensure_resolved`, and what `loop.getaddrinfo` does.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;

use crate::endpoints::endpoint::{Endpoint, Host};
use crate::endpoints::error::EndpointError;
use crate::event_loop::LoopHandle;
use crate::sys::{
    AddrInfo, Family, Proto, Query, Service, SocketType, family_refused, getaddrinfo, may_be_mapped,
};

/// What narrows the addresses of a stream down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) family: Family,
    pub(crate) proto: Proto,
    pub(crate) flags: i32,
}

/// What became of all hosts of an endpoint: if there is no address, there is an error.
#[derive(Default)]
pub(crate) struct Resolved {
    /// In the order of the hosts.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) errors: Vec<EndpointError>,
}

/// Answers a query: by itself, by the loop's resolver, or by the system's on the executor.
pub(crate) async fn look_up(handle: &LoopHandle, query: Query) -> io::Result<Vec<AddrInfo>> {
    if let Some(answer) = query.literal() {
        return answer.map(|answer| vec![answer]);
    }
    match handle.services().resolver.get() {
        Some(resolver) => {
            let answer = resolver.getaddrinfo(query);
            drop(resolver);
            answer.await
        }
        None => {
            let answer = handle.run_in_executor(move || getaddrinfo(&query));
            answer.await?
        }
    }
}

/// The addresses of a name for sockets of this kind, each once: at least one.
pub(crate) async fn resolve(
    handle: &LoopHandle,
    (host, port): (&str, u16),
    socket_type: SocketType,
    hints: Hints,
) -> Result<Vec<SocketAddr>, EndpointError> {
    let query = Query {
        family: hints.family,
        proto: hints.proto,
        flags: hints.flags,
        socket_type,
        ..Query::new(Some(host.to_owned()), Service::Port(port))
    };
    let answers = look_up(handle, query).await;
    let answers = answers.map_err(|source| unresolved(host, source))?;
    let only_streams = socket_type == SocketType::Stream;
    let mut addresses = Vec::new();
    for answer in answers {
        // A resolver that is not the system's may give more than it was asked for.
        let suits = hints.family.includes(&answer.address)
            && !(only_streams && answer.socket_type == SocketType::Datagram)
            && !addresses.contains(&answer.address);
        if suits {
            addresses.push(answer.address);
        }
    }
    if addresses.is_empty() {
        return Err(unresolved(host, nothing_found()));
    }
    Ok(addresses)
}

/// The addresses of all hosts.
pub(crate) async fn resolve_all(
    handle: &LoopHandle,
    endpoint: &Endpoint,
    hints: Hints,
) -> Resolved {
    let mut resolved = Resolved::default();
    for answer in resolve_each(handle, endpoint, hints).await {
        match answer {
            Ok(addresses) => resolved.addresses.extend(addresses),
            Err(error) => resolved.errors.push(error),
        }
    }
    resolved
}

/// The addresses of each host, in their order. Names are looked up side by side.
pub(crate) async fn resolve_each(
    handle: &LoopHandle,
    endpoint: &Endpoint,
    hints: Hints,
) -> Vec<Result<Vec<SocketAddr>, EndpointError>> {
    let hosts = endpoint.hosts().iter();
    let answers = hosts.map(|host| Box::pin(addresses_of(handle, host, endpoint.port(), hints)));
    side_by_side(answers.collect()).await
}

async fn addresses_of(
    handle: &LoopHandle,
    host: &Host,
    port: u16,
    hints: Hints,
) -> Result<Vec<SocketAddr>, EndpointError> {
    let addresses = match host {
        Host::Name(name) => return resolve(handle, (name, port), SocketType::Stream, hints).await,
        Host::Literal(address) if may_be_mapped(hints.flags) && !hints.family.includes(address) => {
            let name = address.ip().to_string();
            return resolve(handle, (&name, port), SocketType::Stream, hints).await;
        }
        Host::Literal(address) => vec![*address],
        Host::Any => vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        ],
    };
    let host = addresses[0].ip();
    let suits = |address: &SocketAddr| hints.family.includes(address);
    let addresses: Vec<SocketAddr> = addresses.into_iter().filter(suits).collect();
    if addresses.is_empty() {
        return Err(unresolved(&host.to_string(), family_refused()));
    }
    Ok(addresses)
}

fn unresolved(host: &str, source: io::Error) -> EndpointError {
    let host = host.to_owned();
    EndpointError::Resolve { host, source }
}

fn nothing_found() -> io::Error {
    let message = "getaddrinfo() returned empty list";
    io::Error::new(io::ErrorKind::NotFound, message)
}

/// Runs all of them at the same time, and gives their outputs in their order.
async fn side_by_side<F: Future>(mut futures: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                    *output = Some(ready);
                }
            }
        }
        match outputs.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
