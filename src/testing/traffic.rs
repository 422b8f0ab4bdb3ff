//! What travels between simulated hosts, and what their sockets make of it.
//!
//! Owns: the rules by which a [`World`]'s packets travel, and its sockets are read, written and
//! closed. Why: what TCP promises, and what it does not, is what a program on it has to live with.
//! Invariants: the packets of one direction of a connection arrive in their order, each once, unless
//! a fault says otherwise; whoever found no room, or got a part only, is told when there is more, as
//! an edge-triggered poller does. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::sys::Address;
use crate::testing::conditions::Conditions;
use crate::testing::ids::{HostId, SocketId};
use crate::testing::packet::Packet;
use crate::testing::socket::{Life, Socket};
use crate::testing::world::{Happening, Travelling, World, pair};

impl World {
    // Bytes.

    /// Takes at most `size` bytes; none is the end.
    pub(super) fn read(&mut self, id: SocketId, size: usize) -> io::Result<Vec<u8>> {
        let short = self.with_link(id, |link| link.short_reads);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return Ok(Vec::new());
        };
        let there = socket.received.len();
        if there == 0 {
            self.observe_error(id)?;
            let socket = &self.sockets[&id];
            if !socket.ended && socket.life != Life::Broken {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if let Some(socket) = self.sockets.get_mut(&id) {
                let seen_first = std::mem::take(&mut socket.ended_early);
                self.tally.early_ends += u64::from(seen_first);
            }
            return Ok(Vec::new());
        }
        let mut count = there.min(size);
        if count > 1 && self.random.chance(short) {
            count = self.random.within(1..=count - 1);
            self.tally.short_reads += 1;
            // As if the rest had come a moment later.
            self.tell(id);
        }
        let socket = self.sockets.get_mut(&id);
        let bytes: Vec<u8> =
            socket.map_or_else(Vec::new, |socket| socket.received.drain(..count).collect());
        self.tally.bytes += bytes.len() as u64;
        self.note("read", id.0, bytes.len() as u64);
        self.note_bytes(&bytes);
        self.send(id, Packet::Room(count));
        Ok(bytes)
    }

    /// Takes as many of these bytes as there is room for.
    pub(super) fn write(&mut self, id: SocketId, bytes: &[u8]) -> io::Result<usize> {
        if self.is_left(id) {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        self.observe_error(id)?;
        let (short, splits) = self.with_link(id, |link| (link.short_writes, link.splits));
        let Some(socket) = self.sockets.get_mut(&id) else {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        };
        if socket.finished || socket.life == Life::Broken {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        let mut count = bytes.len().min(socket.room);
        socket.blocked = count < bytes.len();
        self.ask_for_room(id);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if count > 1 && self.random.chance(short) {
            count = self.random.within(1..=count - 1);
            self.tally.short_writes += 1;
            // As if there had been no room for more, and now there is.
            self.tell(id);
        }
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.room -= count;
        }
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let cut = match self.random.chance(splits) {
                true => self.random.within(1..=rest.len()),
                false => rest.len(),
            };
            let (piece, behind) = rest.split_at(cut);
            self.send(id, Packet::Bytes(piece.to_vec()));
            rest = behind;
        }
        Ok(count)
    }

    /// Whether this is a unix socket whose other end is closed: a write finds that at once, and leaves
    /// the error to whoever reads.
    fn is_left(&self, id: SocketId) -> bool {
        let Some(socket) = self.sockets.get(&id).filter(|socket| socket.is_unix()) else {
            return false;
        };
        let peer = socket.peer.and_then(|peer| self.sockets.get(&peer));
        peer.is_none_or(|peer| peer.life == Life::Closed)
    }

    /// Sends no more.
    pub(super) fn finish(&mut self, id: SocketId) -> io::Result<()> {
        match self.sockets.get_mut(&id) {
            Some(socket) if socket.life == Life::Open => {
                if !std::mem::replace(&mut socket.finished, true) {
                    self.send(id, Packet::End);
                }
                Ok(())
            }
            _ => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
        }
    }

    pub(super) fn finish_connect(&mut self, id: SocketId) -> io::Result<Option<Address>> {
        self.observe_error(id)?;
        Ok(match self.sockets.get(&id) {
            Some(socket) if socket.life == Life::Open => Some(socket.remote.clone()),
            _ => None,
        })
    }

    /// Tells the error that waits to be told, and counts it.
    pub(super) fn observe_error(&mut self, id: SocketId) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return Ok(());
        };
        let outcome = socket.take_error();
        match outcome.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::ECONNREFUSED)) => self.tally.refusals += 1,
            Err(Some(libc::ETIMEDOUT)) => self.tally.timeouts += 1,
            Err(_) => self.tally.resets += 1,
            Ok(()) => {}
        }
        outcome
    }

    /// Its owner has closed it. What is under way still arrives, unless something unread is thrown
    /// away: then the other end is told so.
    pub(super) fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let (host, life) = (socket.host, socket.life);
        if let Some(source) = socket.source.take() {
            self.forget_source(host, source);
        }
        self.give_descriptor(host);
        self.note("close", id.0, 0);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if life == Life::Open {
            // Where both directions have ended TCP knows of nobody to be told.
            let over = socket.ended && socket.finished && !socket.is_unix();
            let last = match (socket.received.is_empty() || over, socket.finished) {
                (false, _) => Some(Packet::Reset),
                (true, false) => Some(Packet::End),
                (true, true) => None,
            };
            if let Some(last) = last {
                self.send(id, last);
            }
        }
        self.bury(id);
    }

    /// Nobody owns it any more. It stays as long as the other end may send something, since that
    /// has to be answered.
    pub(super) fn bury(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let life = std::mem::replace(&mut socket.life, Life::Closed);
        socket.received = VecDeque::new();
        let peer = socket.peer;
        let other = peer
            .and_then(|peer| self.sockets.get(&peer))
            .map(|peer| peer.life);
        match (life, other) {
            (Life::Open, Some(Life::Open | Life::Connecting)) => {}
            (_, Some(Life::Closed)) => {
                self.sockets.remove(&id);
                peer.and_then(|peer| self.sockets.remove(&peer));
            }
            _ => {
                self.sockets.remove(&id);
                // It may wait for room that nobody makes any more.
                peer.into_iter().for_each(|peer| self.ask_for_room(peer));
            }
        }
    }

    fn with_link<R: Default>(&self, id: SocketId, f: impl FnOnce(&Conditions) -> R) -> R {
        let Some(socket) = self.sockets.get(&id) else {
            return R::default();
        };
        f(self.link(socket.host, socket.far))
    }

    // What travels.

    /// Puts a packet on its way to the other end.
    pub(super) fn send(&mut self, from: SocketId, packet: Packet) {
        let Some(socket) = self.sockets.get(&from) else {
            return;
        };
        let Some(to) = socket.peer else {
            return;
        };
        let (host, there, last_arrival) = (socket.host, socket.far, socket.last_arrival);
        let is_unix = socket.is_unix();
        let travelling = Travelling {
            from,
            to,
            between: (host, there),
            packet,
        };
        // Between the two ends of a unix socket there is no way to go.
        if is_unix {
            return self.arrive(travelling);
        }
        let bandwidth = self.link(host, there).bandwidth;
        let takes = bandwidth.map_or(Duration::ZERO, |bytes| {
            let size = travelling.packet.size() as u64;
            Duration::from_nanos(size.saturating_mul(1_000_000_000) / bytes)
        });
        let arrival = self.now.saturating_add(self.delay(host, there));
        let arrival = arrival.max(last_arrival).saturating_add(takes);
        if let Some(socket) = self.sockets.get_mut(&from) {
            socket.last_arrival = arrival;
        }
        self.schedule(arrival, Happening::Arrive(travelling));
    }

    pub(super) fn delay(&mut self, one: HostId, other: HostId) -> Duration {
        let latency = self.link(one, other).latency.clone();
        self.random.duration(latency)
    }

    pub(super) fn arrive(&mut self, travelling: Travelling) {
        let Travelling {
            from,
            to,
            between: (sender, receiver),
            ..
        } = travelling;
        let silent = |id| {
            self.sockets
                .get(&id)
                .is_some_and(|socket: &Socket| socket.silent)
        };
        if silent(from) || silent(to) {
            return self.wait_to_be_heard(from, &travelling.packet);
        }
        if self.partitions.contains_key(&pair(sender, receiver)) {
            self.tally.held_packets += 1;
            self.wait_to_be_heard(from, &travelling.packet);
            if let Some(partition) = self.partitions.get_mut(&pair(sender, receiver)) {
                partition.held.push_back(travelling);
            }
            return;
        }
        let packet = travelling.packet;
        self.note(packet.kind(), to.0, packet.size() as u64);
        let Some(socket) = self.sockets.get_mut(&to) else {
            // Whoever was connecting has gone, and the other end does not know.
            if matches!(packet, Packet::Bytes(_) | Packet::Welcome) {
                self.break_off(from, libc::ECONNRESET);
            }
            return;
        };
        match (socket.life, packet) {
            (Life::Connecting, Packet::Welcome) => {
                let (here, there) = (socket.host, socket.far);
                let buffer = self.link(here, there).buffer;
                if let Some(socket) = self.sockets.get_mut(&to) {
                    socket.life = Life::Open;
                    socket.room = buffer;
                }
                self.tell(to);
            }
            (Life::Connecting, Packet::Reset) => self.break_off(to, libc::ECONNREFUSED),
            (Life::Open, Packet::Bytes(bytes)) if !socket.ended => {
                socket.received.extend(bytes);
                self.tell(to);
            }
            (Life::Open | Life::Broken | Life::Closed, Packet::Bytes(_)) => {
                self.send(to, Packet::Reset);
            }
            (Life::Open, Packet::End) => {
                socket.ended = true;
                self.tell(to);
            }
            (Life::Open, Packet::Reset) => {
                // TCP's word for it depends on whether only the other end has ended.
                let code = match socket.ended && !socket.finished && !socket.is_unix() {
                    true => libc::EPIPE,
                    false => libc::ECONNRESET,
                };
                self.break_off(to, code);
            }
            (Life::Open, Packet::Room(size)) => {
                socket.room += size;
                if std::mem::take(&mut socket.blocked) {
                    self.tell(to);
                }
            }
            _ => {}
        }
    }

    /// The connection is no more, as far as this end is concerned.
    pub(super) fn break_off(&mut self, id: SocketId, code: i32) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            if matches!(socket.life, Life::Connecting | Life::Open) {
                socket.life = Life::Broken;
                socket.error = Some(code);
                self.note("broken", id.0, code as u64);
                self.tell(id);
            }
        }
    }
}
