//! Turns a host name into addresses, off the loop's thread.
//!
//! Owns: [`resolve`]. Why: the system's resolver blocks for as long as it likes and cannot be
//! interrupted, so each lookup gets a short-lived thread of its own, detached: a slow server for
//! names then delays neither the loop nor the end of the process. Invariants: `done` is called
//! exactly once, also when no thread can be had and when the lookup panics; addresses come in
//! the system's order, each once. There is no bound on the number of threads here: whoever looks
//! up many names at once bounds that, and where the system draws the line the lookup fails with
//! its error. asyncio's counterpart: `loop.getaddrinfo`, which runs in the default executor.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic;
use std::sync::mpsc;
use std::thread;

use crate::sys::driver::{Query, Reply};

/// Looks `query` up on another thread and calls `done` with the outcome from there; only when no
/// thread can be started, `done` is called with that error from this one.
pub(crate) fn resolve(query: Query, done: Reply) {
    // The thread gets its work through a channel and not by capture: a spawn that fails drops
    // what it captured, and `done` would be gone uncalled.
    let (work, inbox) = mpsc::channel::<(Query, Reply)>();
    let spawned = thread::Builder::new()
        .name(String::from(THREAD_NAME))
        .spawn(move || {
            if let Ok((query, done)) = inbox.recv() {
                done(guarded(&query, look_up));
            }
        });
    let (error, done) = match spawned {
        Ok(_detached) => match work.send((query, done)) {
            Ok(()) => return,
            Err(mpsc::SendError((_, done))) => {
                (io::Error::other("the resolver's thread ended early"), done)
            }
        },
        Err(error) => (error, done),
    };
    done(Err(error));
}

/// Turns a panic of the lookup into an error.
fn guarded(
    query: &Query,
    look_up: fn(&Query) -> io::Result<Vec<SocketAddr>>,
) -> io::Result<Vec<SocketAddr>> {
    panic::catch_unwind(|| look_up(query))
        .unwrap_or_else(|_| Err(io::Error::other("the name lookup panicked")))
}

fn look_up(query: &Query) -> io::Result<Vec<SocketAddr>> {
    let Query { host, port } = query;
    // Errors stay in the system's words ("Name or service not known"): which name it was, the
    // floor that asked adds.
    let addresses = each_once((host.as_str(), *port).to_socket_addrs()?);
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address found"));
    }
    Ok(addresses)
}

/// Some systems list an address once for each line of the hosts file that has it.
fn each_once(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    addresses.filter(|address| seen.insert(*address)).collect()
}

/// At most 15 bytes, or Linux cuts it.
const THREAD_NAME: &str = "evloop-resolver";

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    fn resolved(host: &str) -> io::Result<Vec<SocketAddr>> {
        let (give, take) = mpsc::channel();
        let here = thread::current().id();
        let query = Query {
            host: String::from(host),
            port: 80,
        };
        resolve(
            query,
            Box::new(move |outcome| {
                assert_ne!(
                    thread::current().id(),
                    here,
                    "the lookup ran on the caller's thread"
                );
                give.send(outcome).unwrap();
            }),
        );
        take.recv_timeout(Duration::from_secs(30))
            .expect("done was not called")
    }

    #[test]
    fn a_literal_is_its_own_answer() {
        assert_eq!(
            resolved("127.0.0.1").unwrap(),
            [SocketAddr::from((Ipv4Addr::LOCALHOST, 80))]
        );
        assert_eq!(
            resolved("::1").unwrap(),
            [SocketAddr::from((Ipv6Addr::LOCALHOST, 80))]
        );
    }

    #[test]
    fn localhost_gives_loopback_addresses_each_once() {
        let addresses = resolved("localhost").unwrap();
        assert!(!addresses.is_empty());
        assert!(
            addresses
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 80)
        );
        assert_eq!(each_once(addresses.iter().copied()), addresses);
    }

    #[test]
    fn an_impossible_name_is_an_error_in_the_systems_words() {
        for host in ["", "no such name", "nul\0inside"] {
            let error = resolved(host).unwrap_err().to_string();
            assert!(!error.contains("cannot resolve"), "{error}");
        }
    }

    #[test]
    fn duplicates_go_and_the_order_stays() {
        let [a, b] = [1, 2].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        assert_eq!(each_once([b, a, b, a].into_iter()), [b, a]);
    }

    #[test]
    fn a_panic_of_the_lookup_is_an_error() {
        let query = Query {
            host: String::from("x"),
            port: 0,
        };
        let error = guarded(&query, |_| panic!("expected by this test")).unwrap_err();
        assert_eq!(error.to_string(), "the name lookup panicked");
    }
}
