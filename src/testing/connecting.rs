//! How simulated hosts connect.
//!
//! Owns: the rules by which a [`World`]'s connects succeed, fail, or get no answer. Why: half of what
//! goes wrong on a network goes wrong before there is a connection. Invariants: a connect is answered
//! once, or given up; unix sockets connect at once. asyncio's counterpart: none.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::sys::{Address, ConnectFailure, SourceId, UnixAddress};
use crate::testing::ids::{HostId, ListeningId, SocketId};
use crate::testing::packet::{Packet, Syn};
use crate::testing::socket::{Life, Socket};
use crate::testing::world::{Happening, Travelling, World, pair};

impl World {
    pub(super) fn connect(
        &mut self,
        host: HostId,
        source: SourceId,
        from: Option<SocketAddr>,
        to: SocketAddr,
    ) -> Result<SocketId, ConnectFailure> {
        let refuse = |code| ConnectFailure::Connect(io::Error::from_raw_os_error(code));
        self.take_descriptor(host)
            .map_err(ConnectFailure::Connect)?;
        let local = self.local_end(host, from, to);
        let local = local.inspect_err(|_| self.give_descriptor(host));
        let local = local.map_err(ConnectFailure::Bind)?;
        if self.host_of(host, to.ip()).is_none() {
            self.give_descriptor(host);
            return Err(refuse(libc::ENETUNREACH));
        }
        let to = match to.ip() {
            ip if ip.is_unspecified() => SocketAddr::new(loopback(ip), to.port()),
            _ => to,
        };
        let far = self.host_of(host, to.ip()).unwrap_or(host);
        let mut socket = Socket::new(host, Some(source), local.into(), to.into());
        socket.far = far;
        let id = self.new_socket(socket);
        self.note("connect", id.0, to.port().into());
        self.schedule_in(CONNECT_TIMEOUT, Happening::GiveUpConnecting(id));
        let syn = Syn {
            from: id,
            to,
            tries: 0,
        };
        let delay = self.delay(host, far);
        self.schedule_in(delay, Happening::Knock(syn));
        Ok(id)
    }

    /// The address of our end.
    fn local_end(
        &mut self,
        host: HostId,
        from: Option<SocketAddr>,
        to: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let own = if to.ip().is_loopback() || to.ip().is_unspecified() {
            loopback(to.ip())
        } else if to.is_ipv4() {
            IpAddr::V4(self.host(host).v4)
        } else {
            IpAddr::V6(self.host(host).v6)
        };
        let Some(from) = from else {
            return Ok(SocketAddr::new(own, self.free_port(host)?));
        };
        if !self.host(host).may_bind(&from.into()) {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        let ip = if from.ip().is_unspecified() {
            own
        } else {
            from.ip()
        };
        match from.port() {
            0 => Ok(SocketAddr::new(ip, self.free_port(host)?)),
            port if self.is_taken(host, port) => {
                Err(io::Error::from_raw_os_error(libc::EADDRINUSE))
            }
            port => Ok(SocketAddr::new(ip, port)),
        }
    }

    fn is_taken(&self, host: HostId, port: u16) -> bool {
        self.ports(host).any(|taken| taken == port)
    }

    /// The ports of a host that are in use, some of them several times.
    fn ports(&self, host: HostId) -> impl Iterator<Item = u16> {
        let sockets = self.sockets.values();
        let sockets = sockets.filter(move |socket| socket.host == host);
        let listeners = self.listeners.values();
        let listeners = listeners.filter(move |listener| listener.host == host);
        let addresses = sockets.map(|socket| &socket.local);
        let addresses = addresses.chain(listeners.map(|listener| &listener.address));
        addresses.filter_map(Address::port)
    }

    /// The next port that nobody has.
    pub(super) fn free_port(&mut self, host: HostId) -> io::Result<u16> {
        let taken: BTreeSet<u16> = self.ports(host).collect();
        let next = self.hosts[host.0].next_port;
        let mut candidates = (next..=u16::MAX).chain(FIRST_PORT_AGAIN..next);
        let Some(port) = candidates.find(|port| !taken.contains(port)) else {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        };
        self.host(host).next_port = port.checked_add(1).unwrap_or(FIRST_PORT_AGAIN);
        Ok(port)
    }

    fn new_socket(&mut self, socket: Socket) -> SocketId {
        let id = SocketId(self.new_number());
        self.sockets.insert(id, socket);
        id
    }

    /// A connect has come to the host that it is for.
    pub(super) fn knock(&mut self, syn: Syn) {
        let Some(socket) = self.sockets.get(&syn.from) else {
            return;
        };
        if socket.life != Life::Connecting {
            return;
        }
        let (from, client) = (socket.host, socket.local.clone());
        let host = self.host_of(from, syn.to.ip()).unwrap_or(from);
        if self.partitions.contains_key(&pair(from, host)) {
            self.tally.held_packets += 1;
            return self.knock_again(syn);
        }
        let link = self.link(from, host);
        let (black_holes, refusals, buffer) = (link.black_holes, link.refusals, link.buffer);
        if syn.tries == 0 && self.random.chance(black_holes) {
            return;
        }
        let listener = self.listener_at(host, syn.to);
        let Some(listener) = listener.filter(|_| !self.random.chance(refusals)) else {
            let delay = self.delay(host, from);
            let travelling = Travelling {
                from: syn.from,
                to: syn.from,
                between: (host, from),
                packet: Packet::Reset,
            };
            return self.schedule_in(delay, Happening::Arrive(travelling));
        };
        let listening = &self.listeners[&listener];
        if listening.queue.len() > listening.backlog {
            return self.knock_again(syn);
        }
        let mut accepted = Socket::new(host, None, syn.to.into(), client);
        accepted.peer = Some(syn.from);
        accepted.far = from;
        accepted.life = Life::Open;
        accepted.room = buffer;
        let id = self.new_socket(accepted);
        if let Some(socket) = self.sockets.get_mut(&syn.from) {
            socket.peer = Some(id);
        }
        self.send(id, Packet::Welcome);
        self.plan_faults(id, from, host);
        self.wait_to_be_accepted(listener, id);
    }

    fn wait_to_be_accepted(&mut self, listener: ListeningId, id: SocketId) {
        self.tally.connections += 1;
        if let Some(listening) = self.listeners.get_mut(&listener) {
            listening.queue.push_back(id);
            let (host, source) = (listening.host, listening.source);
            self.tell_listener(host, source);
        }
    }

    /// Nobody has answered; as TCP does, it is tried again after 1, 2, 4, … seconds.
    fn knock_again(&mut self, syn: Syn) {
        let delay = Duration::from_secs(1 << syn.tries.min(6));
        let tries = syn.tries + 1;
        self.schedule_in(delay, Happening::Knock(Syn { tries, ..syn }));
    }

    pub(super) fn give_up_connecting(&mut self, id: SocketId) {
        if self
            .sockets
            .get(&id)
            .is_some_and(|socket| socket.life == Life::Connecting)
        {
            self.break_off(id, libc::ETIMEDOUT);
        }
    }

    /// Unix sockets connect at once, or not at all.
    pub(super) fn connect_unix(
        &mut self,
        host: HostId,
        source: SourceId,
        to: &UnixAddress,
    ) -> io::Result<SocketId> {
        let refuse = |code| Err(io::Error::from_raw_os_error(code));
        let listener = match self.host(host).paths.get(to) {
            None => return refuse(libc::ENOENT),
            Some(None) => return refuse(libc::ECONNREFUSED),
            Some(Some(listener)) => *listener,
        };
        match self.listeners.get(&listener) {
            Some(listening) if listening.listens => {
                if listening.queue.len() > listening.backlog {
                    return refuse(libc::EAGAIN);
                }
            }
            _ => return refuse(libc::ECONNREFUSED),
        }
        self.take_descriptor(host)?;
        let unnamed = Address::Unix(UnixAddress::Unnamed);
        let there = Address::Unix(to.clone());
        let client = self.new_socket(Socket::new(
            host,
            Some(source),
            unnamed.clone(),
            there.clone(),
        ));
        let server = self.new_socket(Socket::new(host, None, there, unnamed));
        let buffer = self.link(host, host).buffer;
        for (one, other) in [(client, server), (server, client)] {
            if let Some(socket) = self.sockets.get_mut(&one) {
                socket.peer = Some(other);
                socket.life = Life::Open;
                socket.room = buffer;
            }
        }
        self.tell(client);
        self.plan_faults(server, host, host);
        self.wait_to_be_accepted(listener, server);
        Ok(client)
    }

    pub(super) fn take_descriptor(&mut self, host: HostId) -> io::Result<()> {
        if self.host(host).is_full() {
            self.tally.accept_failures += 1;
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.host(host).open += 1;
        Ok(())
    }

    pub(super) fn give_descriptor(&mut self, host: HostId) {
        self.host(host).open -= 1;
    }
}

fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Linux gives a connect up after so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);
/// Where a host begins anew that has used all ports.
const FIRST_PORT_AGAIN: u16 = 32768;
