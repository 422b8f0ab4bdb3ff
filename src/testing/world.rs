//! The world of a simulation: its time, its hosts, and what is going to happen.
//!
//! Owns: [`World`]. Why: one place knows what time it is and what comes next, so that a seed decides
//! everything. Invariants: time moves only between the turns of the loops; what happens at the same
//! instant happens in the order in which it was set in motion; nothing here is in an order that
//! differs from run to run; no code of the user's is called. asyncio's counterpart: none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::sys::{Address, Event, Job, Readiness, SourceId, UnixAddress};
use crate::testing::conditions::Conditions;
use crate::testing::ids::{HostId, ListeningId, SocketId};
use crate::testing::packet::{Packet, Syn};
use crate::testing::random::Random;
use crate::testing::socket::{Listening, Socket};
use crate::testing::tally::Tally;

pub(super) struct World {
    /// Since the simulation began.
    pub(super) now: Duration,
    /// What the loops' clocks showed then.
    pub(super) begin: Instant,
    pub(super) random: Random,
    pub(super) conditions: Conditions,
    /// Between two hosts, where they differ from those of the world.
    pub(super) links: BTreeMap<(HostId, HostId), Conditions>,
    pub(super) hosts: Vec<HostState>,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
    pub(super) listeners: BTreeMap<ListeningId, Listening>,
    /// Pairs of hosts that cannot reach each other, and what waits for that to end.
    pub(super) partitions: BTreeMap<(HostId, HostId), Partition>,
    happenings: BTreeMap<(Duration, u64), Happening>,
    next_number: u64,
    /// Jobs whose time has come: the simulation runs them.
    jobs: Vec<(HostId, Job)>,
    pub(super) tally: Tally,
    digest: u64,
}

pub(super) struct HostState {
    pub(super) name: String,
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
    /// How far its clock is ahead.
    pub(super) skew: Duration,
    pub(super) next_port: u16,
    /// How many descriptors it has, and may have.
    pub(super) open: usize,
    pub(super) limit: Option<usize>,
    /// Paths of unix sockets. One without a listener is stale.
    pub(super) paths: BTreeMap<UnixAddress, Option<ListeningId>>,
    /// Whom the next poll tells something.
    events: BTreeMap<SourceId, Told>,
    signals: Vec<i32>,
    pub(super) wanted_signals: BTreeSet<i32>,
    /// Until when its loop sleeps, by its own clock.
    asleep: Option<Sleep>,
}

/// About whom there is an event.
#[derive(Clone, Copy)]
enum Told {
    Socket(SocketId),
    Listener,
}

#[derive(Clone, Copy)]
enum Sleep {
    Until(Duration),
    ForEver,
}

/// Hosts that cannot reach each other.
#[derive(Default)]
pub(super) struct Partition {
    /// How often the weather has parted them, and not brought them together again.
    pub(super) by_weather: u32,
    /// Somebody wants them parted.
    pub(super) by_hand: bool,
    pub(super) held: VecDeque<Travelling>,
}

/// A packet on its way, which may be longer than its ends are there.
pub(super) struct Travelling {
    pub(super) from: SocketId,
    pub(super) to: SocketId,
    pub(super) between: (HostId, HostId),
    pub(super) packet: Packet,
}

/// What is going to happen.
pub(super) enum Happening {
    Arrive(Travelling),
    Knock(Syn),
    /// Nobody has answered this connect.
    GiveUpConnecting(SocketId),
    /// Nobody has acknowledged what this socket sent.
    GiveUpSending(SocketId),
    Job(HostId, Job),
    Reset(SocketId),
    EndEarly(SocketId),
    FallSilent(SocketId),
    Part(HostId, HostId),
    Heal(HostId, HostId),
}

impl World {
    pub(super) fn new(random: Random) -> Self {
        Self {
            now: Duration::ZERO,
            begin: Instant::now(),
            random,
            conditions: Conditions::new(),
            links: BTreeMap::new(),
            hosts: Vec::new(),
            sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            partitions: BTreeMap::new(),
            happenings: BTreeMap::new(),
            next_number: 0,
            jobs: Vec::new(),
            tally: Tally::default(),
            digest: FNV_BASIS,
        }
    }

    // Hosts.

    pub(super) fn add_host(&mut self, name: &str) -> HostId {
        let id = HostId(self.hosts.len());
        assert!(
            id.0 < MOST_HOSTS,
            "a simulation has no addresses for more hosts"
        );
        let number = id.0 as u16 + 1;
        let [high, low] = number.to_be_bytes();
        self.hosts.push(HostState {
            name: name.to_owned(),
            v4: Ipv4Addr::new(10, 0, high, low),
            v6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number),
            skew: Duration::ZERO,
            next_port: FIRST_PORT,
            open: 0,
            limit: None,
            paths: BTreeMap::new(),
            events: BTreeMap::new(),
            signals: Vec::new(),
            wanted_signals: BTreeSet::new(),
            asleep: None,
        });
        id
    }

    pub(super) fn host(&mut self, id: HostId) -> &mut HostState {
        &mut self.hosts[id.0]
    }

    pub(super) fn name(&self, id: HostId) -> &str {
        &self.hosts[id.0].name
    }

    /// The host of this address, as `from` reaches it.
    pub(super) fn host_of(&self, from: HostId, ip: IpAddr) -> Option<HostId> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(from);
        }
        let host = self.hosts.iter().position(|host| host.has(ip));
        host.map(HostId)
    }

    pub(super) fn link(&self, one: HostId, other: HostId) -> &Conditions {
        let link = self.links.get(&pair(one, other));
        link.unwrap_or(&self.conditions)
    }

    /// The host's clock.
    pub(super) fn clock(&self, host: HostId) -> Duration {
        self.now + self.hosts[host.0].skew
    }

    pub(super) fn jump(&mut self, host: HostId, by: Duration) {
        let skew = &mut self.host(host).skew;
        *skew = skew.saturating_add(by).min(LONGEST_SKEW);
        self.tally.clock_jumps += 1;
        self.note("jump", host.0 as u64, by.as_nanos() as u64);
    }

    // Events for the loops.

    /// The next poll of its host tells this socket something.
    pub(super) fn tell(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get(&id) {
            if let Some(source) = socket.source {
                let host = socket.host;
                self.host(host).events.insert(source, Told::Socket(id));
            }
        }
    }

    pub(super) fn tell_listener(&mut self, host: HostId, source: SourceId) {
        self.host(host).events.insert(source, Told::Listener);
    }

    pub(super) fn forget_source(&mut self, host: HostId, source: SourceId) {
        self.host(host).events.remove(&source);
    }

    pub(super) fn raise(&mut self, host: HostId, signal: i32) -> bool {
        let state = self.host(host);
        let wanted = state.wanted_signals.contains(&signal);
        if wanted {
            state.signals.push(signal);
        }
        wanted
    }

    /// What a poll finds, in an order that the seed decides. False: it is interrupted.
    pub(super) fn poll(
        &mut self,
        host: HostId,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> bool {
        let spurious = self.conditions.spurious_events;
        if self.random.chance(spurious) {
            if self.random.chance(0.5) {
                return false;
            }
            self.tell_a_lie(host);
        }
        let first = events.len();
        let told = mem::take(&mut self.host(host).events);
        for (source, told) in told {
            let readiness = match told {
                Told::Listener => Readiness::READ,
                Told::Socket(id) => self
                    .sockets
                    .get(&id)
                    .map_or_else(Readiness::default, Socket::readiness),
            };
            if !readiness.is_empty() {
                events.push(Event::Ready(source, readiness));
            }
        }
        let signals = mem::take(&mut self.host(host).signals);
        events.extend(signals.into_iter().map(Event::Signal));
        self.random.shuffle(&mut events[first..]);
        self.tally.events += (events.len() - first) as u64;
        let sleeps = events.is_empty() && timeout != Some(Duration::ZERO);
        let clock = self.clock(host);
        self.host(host).asleep = sleeps.then(|| match timeout {
            Some(timeout) => Sleep::Until(clock.saturating_add(timeout)),
            None => Sleep::ForEver,
        });
        true
    }

    /// An event without a reason, for whichever socket of the host.
    fn tell_a_lie(&mut self, host: HostId) {
        let here = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.host == host && socket.source.is_some());
        let ids: Vec<SocketId> = here.map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            let id = ids[self.random.below(ids.len())];
            self.tally.spurious_events += 1;
            self.tell(id);
        }
    }

    // Time.

    pub(super) fn schedule(&mut self, when: Duration, what: Happening) {
        let number = self.new_number();
        self.happenings.insert((when, number), what);
    }

    /// A number that nothing else has.
    pub(super) fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// [`schedule`](Self::schedule) for something that is to happen after a while.
    pub(super) fn schedule_in(&mut self, delay: Duration, what: Happening) {
        self.schedule(self.now.saturating_add(delay), what);
    }

    /// Whether the host's loop has something to do, as far as the world knows.
    pub(super) fn is_awake(&self, host: HostId) -> bool {
        let state = &self.hosts[host.0];
        !state.events.is_empty()
            || !state.signals.is_empty()
            || match state.asleep {
                None => true,
                Some(Sleep::Until(when)) => when <= self.clock(host),
                Some(Sleep::ForEver) => false,
            }
    }

    /// Its loop has a turn.
    pub(super) fn wake(&mut self, host: HostId) {
        self.host(host).asleep = None;
    }

    /// When something happens next, if anything does.
    pub(super) fn next(&self) -> Option<Duration> {
        let happening = self.happenings.keys().next().map(|(when, _)| *when);
        let sleepers = self.hosts.iter().filter_map(|host| match host.asleep {
            Some(Sleep::Until(when)) => Some(when.saturating_sub(host.skew)),
            _ => None,
        });
        happening.into_iter().chain(sleepers).min()
    }

    /// Time passes, and what is due happens.
    pub(super) fn advance(&mut self, to: Duration) {
        while let Some(next) = self.happenings.first_entry() {
            if next.key().0 > to {
                break;
            }
            self.now = self.now.max(next.key().0);
            let what = next.remove();
            self.happen(what);
        }
        self.now = self.now.max(to);
        let (jumps, longest) = (self.conditions.clock_jumps, self.conditions.longest_jump);
        for host in (0..self.hosts.len()).map(HostId) {
            if self.random.chance(jumps) {
                let by = self.random.duration(Duration::ZERO..=longest);
                self.jump(host, by);
            }
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrive(travelling) => self.arrive(travelling),
            Happening::Knock(syn) => self.knock(syn),
            Happening::GiveUpConnecting(id) => self.give_up_connecting(id),
            Happening::GiveUpSending(id) => self.give_up_sending(id),
            Happening::Job(host, job) => self.jobs.push((host, job)),
            Happening::Reset(id) => self.reset_connection(id),
            Happening::EndEarly(id) => self.end_early(id),
            Happening::FallSilent(id) => self.fall_silent(id),
            Happening::Part(one, other) => self.part(one, other, |parted| parted.by_weather += 1),
            Happening::Heal(one, other) => self.heal(one, other, |parted| parted.by_weather -= 1),
        }
    }

    // Jobs.

    pub(super) fn add_job(&mut self, host: HostId, job: Job) {
        let delay = self.random.duration(Duration::ZERO..=LONGEST_JOB);
        self.schedule_in(delay, Happening::Job(host, job));
    }

    /// Those whose time has come.
    pub(super) fn due_jobs(&mut self) -> Vec<(HostId, Job)> {
        mem::take(&mut self.jobs)
    }

    /// Those of a host that ends.
    pub(super) fn end_jobs(&mut self, host: HostId) -> VecDeque<Job> {
        let due = mem::take(&mut self.jobs);
        let (gone, kept): (Vec<_>, Vec<_>) = due.into_iter().partition(|(of, _)| *of == host);
        self.jobs = kept;
        let mut gone: VecDeque<Job> = gone.into_iter().map(|(_, job)| job).collect();
        for (key, what) in mem::take(&mut self.happenings) {
            match what {
                Happening::Job(of, job) if of == host => gone.push_back(job),
                what => drop(self.happenings.insert(key, what)),
            }
        }
        gone
    }

    // What happened, in one number.

    /// Two runs that differ in anything have different ones.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn note(&mut self, what: &str, one: u64, other: u64) {
        log::trace!("{:?}: {what} {one} {other}", self.now);
        let when = self.now.as_nanos() as u64;
        self.note_bytes(what.as_bytes());
        for number in [when, one, other] {
            self.note_bytes(&number.to_le_bytes());
        }
    }

    pub(super) fn note_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
}

impl HostState {
    fn has(&self, ip: IpAddr) -> bool {
        ip == IpAddr::V4(self.v4) || ip == IpAddr::V6(self.v6)
    }

    /// Whether a socket may be bound to it.
    pub(super) fn may_bind(&self, address: &Address) -> bool {
        match address.ip() {
            Some(ip) => ip.is_loopback() || ip.is_unspecified() || self.has(ip),
            None => true,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.open >= limit)
    }
}

/// The same whoever is named first.
pub(super) fn pair(one: HostId, other: HostId) -> (HostId, HostId) {
    (one.min(other), one.max(other))
}

/// So many hosts have addresses of their own.
const MOST_HOSTS: usize = u16::MAX as usize - 1;
/// A clock cannot be further ahead: a century.
const LONGEST_SKEW: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Where the ports begin that a host picks by itself.
const FIRST_PORT: u16 = 49152;
/// A job takes so long at most.
const LONGEST_JOB: Duration = Duration::from_millis(2);
/// FNV-1a, of 64 bits.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
