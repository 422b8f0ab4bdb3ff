//! How simulated hosts are connected to.
//!
//! Owns: the rules by which a [`World`]'s listening sockets are bound and give connections away. Why:
//! an address is taken or free, and a queue full, as on a real host. Invariants: a connection that
//! waits is accepted once, or sent away when the listener goes. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use crate::sys::{Address, ListenOptions, SourceId, UnixAddress};
use crate::testing::ids::{HostId, ListeningId, SocketId};
use crate::testing::packet::Packet;
use crate::testing::socket::Listening;
use crate::testing::world::World;

impl World {
    pub(super) fn bind(
        &mut self,
        host: HostId,
        source: SourceId,
        at: &Address,
        how: &ListenOptions,
    ) -> io::Result<ListeningId> {
        if !self.host(host).may_bind(at) {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        let address = match at {
            Address::Inet(inet) if inet.port() == 0 => {
                Address::from(SocketAddr::new(inet.ip(), self.free_port(host)?))
            }
            address => address.clone(),
        };
        self.take_descriptor(host)?;
        if self.is_in_the_way(host, &address, how) {
            self.give_descriptor(host);
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let id = ListeningId(self.new_number());
        if let Address::Unix(path) = &address {
            self.host(host).paths.insert(path.clone(), Some(id));
        }
        let listening = Listening {
            host,
            source,
            address,
            backlog: how.backlog as usize,
            listens: false,
            reuse_address: how.reuse_address,
            reuse_port: how.reuse_port,
            cleanup: how.cleanup_socket,
            queue: VecDeque::new(),
        };
        self.listeners.insert(id, listening);
        Ok(id)
    }

    /// Whether there is somebody who does not share this address. A path at which nobody listens yet
    /// looks as if it was left behind.
    fn is_in_the_way(&mut self, host: HostId, address: &Address, how: &ListenOptions) -> bool {
        if let Address::Unix(path @ UnixAddress::Path(_)) = address {
            let there = self.host(host).paths.get(path).copied().flatten();
            let there = there.and_then(|there| self.listeners.get(&there));
            return there.is_some_and(|there| there.listens);
        }
        self.listeners.values().any(|there| {
            let shares = there.reuse_port && how.reuse_port
                || there.reuse_address && how.reuse_address && !there.listens;
            there.host == host
                && match (there.address.as_inet(), address.as_inet()) {
                    (Some(inet), Some(at)) => overlap(inet, at) && !shares,
                    _ => there.address == *address,
                }
        })
    }

    /// Of those that are bound to one address only one can listen, unless they share the port.
    pub(super) fn listen(&mut self, id: ListeningId) -> io::Result<()> {
        let Some(here) = self.listeners.get(&id) else {
            return Ok(());
        };
        let taken = here.address.as_inet().is_some_and(|at| {
            self.listeners.iter().any(|(other, there)| {
                let inet = there.address.as_inet();
                *other != id
                    && there.host == here.host
                    && there.listens
                    && !(there.reuse_port && here.reuse_port)
                    && inet.is_some_and(|inet| overlap(inet, at))
            })
        });
        if taken {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        if let Some(listening) = self.listeners.get_mut(&id) {
            listening.listens = true;
        }
        Ok(())
    }

    pub(super) fn accept(
        &mut self,
        listener: ListeningId,
        source: SourceId,
    ) -> io::Result<(SocketId, Address)> {
        let failures = self.conditions.accept_failures;
        let Some(listening) = self.listeners.get_mut(&listener) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let host = listening.host;
        let Some(next) = listening.queue.front().copied() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let fails = self.random.chance(failures);
        if fails && self.random.chance(0.5) {
            self.tally.accept_failures += 1;
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.take_descriptor(host)?;
        if let Some(listening) = self.listeners.get_mut(&listener) {
            listening.queue.pop_front();
        }
        if fails {
            self.tally.accept_failures += 1;
            self.give_descriptor(host);
            self.send(next, Packet::Reset);
            self.bury(next);
            return Err(io::Error::from_raw_os_error(libc::ECONNABORTED));
        }
        let Some(socket) = self.sockets.get_mut(&next) else {
            self.give_descriptor(host);
            return Err(io::Error::from_raw_os_error(libc::ECONNABORTED));
        };
        socket.source = Some(source);
        let peer = socket.remote.clone();
        // Whoever registers a socket is told at once what it is ready for.
        self.tell(next);
        self.note("accept", next.0, 0);
        Ok((next, peer))
    }

    /// Whoever waits to be accepted is sent away.
    pub(super) fn close_listener(&mut self, id: ListeningId) {
        let Some(listening) = self.listeners.remove(&id) else {
            return;
        };
        self.forget_source(listening.host, listening.source);
        self.give_descriptor(listening.host);
        if let Address::Unix(path) = &listening.address {
            let paths = &mut self.host(listening.host).paths;
            // Another one may have been bound there since.
            if paths.get(path) == Some(&Some(id)) {
                match path {
                    UnixAddress::Path(_) if !listening.cleanup => {
                        paths.insert(path.clone(), None);
                    }
                    _ => {
                        paths.remove(path);
                    }
                }
            }
        }
        for waiting in listening.queue {
            self.send(waiting, Packet::Reset);
            self.bury(waiting);
        }
    }

    /// Who listens there; one of them, if several share the port.
    pub(super) fn listener_at(&mut self, host: HostId, to: SocketAddr) -> Option<ListeningId> {
        let serves = |listening: &Listening| {
            listening.listens && listening.host == host && covers(&listening.address, to)
        };
        let all = self
            .listeners
            .iter()
            .filter(|(_, listening)| serves(listening));
        let found: Vec<ListeningId> = all.map(|(id, _)| *id).collect();
        match found.len() {
            0 => None,
            1 => Some(found[0]),
            several => Some(found[self.random.below(several)]),
        }
    }
}

/// Whether something may come that is for both.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Whether what is bound there takes what comes for `to`.
fn covers(bound: &Address, to: SocketAddr) -> bool {
    let Some(bound) = bound.as_inet() else {
        return false;
    };
    bound.port() == to.port()
        && bound.is_ipv4() == to.is_ipv4()
        && (bound.ip().is_unspecified() || bound.ip() == to.ip())
}
