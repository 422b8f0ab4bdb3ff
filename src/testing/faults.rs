//! What goes wrong on a simulated network.
//!
//! Owns: the faults that befall a [`World`]'s connections. Why: a fault is planned when a connection
//! is made, and comes when its owner thinks of something else. Invariants: every fault is one that a
//! real network knows; what nobody hears is given up by its sender in the end. asyncio's counterpart:
//! none.

use std::time::Duration;

use crate::testing::ids::{HostId, SocketId};
use crate::testing::packet::Packet;
use crate::testing::socket::Life;
use crate::testing::world::{Happening, Partition, World, pair};

impl World {
    /// What is to befall a connection, if anything is.
    pub(super) fn plan_faults(&mut self, id: SocketId, one: HostId, other: HostId) {
        let link = self.link(one, other).clone();
        type Fault = fn(SocketId) -> Happening;
        let faults: [(f64, Fault); 3] = [
            (link.resets, Happening::Reset),
            (link.half_closes, Happening::EndEarly),
            (link.silences, Happening::FallSilent),
        ];
        for (probability, fault) in faults {
            if self.random.chance(probability) {
                let victim = match self.sockets.get(&id).and_then(|socket| socket.peer) {
                    Some(peer) if self.random.chance(0.5) => peer,
                    _ => id,
                };
                let delay = self.random.duration(Duration::ZERO..=FAULTS_WITHIN);
                self.schedule_in(delay, fault(victim));
            }
        }
        if one != other && self.random.chance(link.partitions) {
            let delay = self.random.duration(Duration::ZERO..=FAULTS_WITHIN);
            let length = self.random.duration(Duration::ZERO..=LONGEST_PARTITION);
            self.schedule_in(delay, Happening::Part(one, other));
            self.schedule_in(delay + length, Happening::Heal(one, other));
        }
    }

    pub(super) fn reset_connection(&mut self, id: SocketId) {
        let peer = self.sockets.get(&id).and_then(|socket| socket.peer);
        for end in [Some(id), peer].into_iter().flatten() {
            self.break_off(end, libc::ECONNRESET);
        }
    }

    pub(super) fn reset_connections(&mut self, one: HostId, other: HostId) {
        for id in self.between(one, other) {
            self.break_off(id, libc::ECONNRESET);
        }
    }

    /// Both ends of all connections between two hosts.
    fn between(&self, one: HostId, other: HostId) -> Vec<SocketId> {
        let all = self.sockets.iter();
        let all = all.filter(|(_, socket)| pair(socket.host, socket.far) == pair(one, other));
        all.map(|(id, _)| *id).collect()
    }

    pub(super) fn end_early(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            if socket.life == Life::Open && !std::mem::replace(&mut socket.ended, true) {
                socket.ended_early = true;
                self.tell(id);
            }
        }
    }

    pub(super) fn fall_silent(&mut self, id: SocketId) {
        let peer = self.sockets.get(&id).and_then(|socket| socket.peer);
        for end in [Some(id), peer].into_iter().flatten() {
            if let Some(socket) = self.sockets.get_mut(&end) {
                socket.silent = true;
            }
            self.ask_for_room(end);
        }
    }

    /// Parts two hosts, for the reason that `add` adds.
    pub(super) fn part(&mut self, one: HostId, other: HostId, add: impl FnOnce(&mut Partition)) {
        add(self.partitions.entry(pair(one, other)).or_default());
        self.note("part", one.0 as u64, other.0 as u64);
        for id in self.between(one, other) {
            self.ask_for_room(id);
        }
    }

    /// Takes a reason back. What was held arrives, in its order, if it was the last.
    pub(super) fn heal(&mut self, one: HostId, other: HostId, take: impl FnOnce(&mut Partition)) {
        let pair = pair(one, other);
        let Some(partition) = self.partitions.get_mut(&pair) else {
            return;
        };
        take(partition);
        if partition.by_weather > 0 || partition.by_hand {
            return;
        }
        let held = self.partitions.remove(&pair).map(|parted| parted.held);
        self.note("heal", one.0 as u64, other.0 as u64);
        for id in self.between(one, other) {
            // Whoever is silent is heard no more than before, and has to give up.
            let heard = self.sockets.get_mut(&id).filter(|socket| !socket.silent);
            if let Some(socket) = heard {
                socket.waits_since = None;
                socket.unheard = 0;
            }
        }
        for travelling in held.unwrap_or_default() {
            self.arrive(travelling);
        }
        for id in self.between(one, other) {
            self.ask_for_room(id);
        }
    }

    /// A packet has not arrived. What has to be acknowledged is sent again and again, for a while.
    pub(super) fn wait_to_be_heard(&mut self, from: SocketId, packet: &Packet) {
        if let (Some(socket), Packet::Bytes(_) | Packet::End) =
            (self.sockets.get_mut(&from), packet)
        {
            socket.unheard += 1;
            self.begin_to_wait(from);
        }
    }

    /// Whoever waits for room asks for it again and again: it gives up, too, if nobody answers, and
    /// where nobody knows of the connection any more it is told so.
    pub(super) fn ask_for_room(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id).filter(|socket| socket.blocked) else {
            return;
        };
        let (host, far, is_unix) = (socket.host, socket.far, socket.is_unix());
        let is_left = socket
            .peer
            .is_some_and(|peer| !self.sockets.contains_key(&peer));
        if self.is_cut_off(id) {
            self.begin_to_wait(id);
        } else if is_left && !is_unix {
            let there_and_back = self.delay(host, far) + self.delay(far, host);
            self.schedule_in(there_and_back, Happening::Reset(id));
        }
    }

    fn begin_to_wait(&mut self, id: SocketId) {
        let now = self.now;
        if let Some(socket) = self.sockets.get_mut(&id) {
            if socket.waits_since.is_none() {
                socket.waits_since = Some(now);
                self.schedule_in(SEND_TIMEOUT, Happening::GiveUpSending(id));
            }
        }
    }

    /// It may have been heard, and wait for something else by now.
    pub(super) fn give_up_sending(&mut self, id: SocketId) {
        let since = self.sockets.get(&id).and_then(|socket| socket.waits_since);
        let is_long = since.is_some_and(|since| self.now - since >= SEND_TIMEOUT);
        if is_long && self.is_cut_off(id) {
            self.break_off(id, libc::ETIMEDOUT);
        }
    }

    /// Whether nothing from here reaches the other end.
    fn is_cut_off(&self, id: SocketId) -> bool {
        self.sockets.get(&id).is_some_and(|socket| {
            let parted = pair(socket.host, socket.far);
            socket.silent || self.partitions.contains_key(&parted)
        })
    }
}

/// A planned fault comes within so much time.
const FAULTS_WITHIN: Duration = Duration::from_secs(2);
const LONGEST_PARTITION: Duration = Duration::from_secs(10);
/// Linux gives what it has sent up after about so long.
const SEND_TIMEOUT: Duration = Duration::from_secs(924);
