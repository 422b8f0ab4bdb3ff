//! The choices of a chaotic loop.
//!
//! Owns: [`Mischief`], what a driver and its sockets share, and [`Luck`], what befalls the calls of one
//! socket. Why: what is withheld has to come in the end, and one place answers for that. Invariants: an
//! event that was taken from the poller, or is owed since a call was cut short, is told by one of the
//! next polls, none of which sleeps before; a socket's choices depend on the seed, on its id and on how
//! many it has made. asyncio's counterpart: none.

use std::collections::BTreeSet;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::cells::Shared;
use crate::sys::{Event, Readiness, SourceId};
use crate::testing::chaos::Chaos;
use crate::testing::random::Random;

pub(super) struct Mischief {
    chaos: Chaos,
    seed: u64,
    random: Random,
    /// Sockets of ours, which may be told what is not so.
    sockets: BTreeSet<SourceId>,
    /// Events to come, each with the number of the poll that tells it.
    withheld: Vec<(u64, Event)>,
    /// How many polls there were.
    polls: u64,
}

/// What a poll is to be.
pub(super) enum Plan {
    Interrupted,
    /// It may sleep for so long.
    Poll(Option<Duration>),
}

impl Mischief {
    pub(super) fn new(chaos: Chaos, seed: u64) -> Self {
        Self {
            chaos,
            seed,
            random: Random::new(seed),
            sockets: BTreeSet::new(),
            withheld: Vec::new(),
            polls: 0,
        }
    }

    /// Has an event told by one of the next polls.
    fn announce(&mut self, event: Event) {
        let longest = self.chaos.longest_delay as usize;
        let delay = self.random.within(1..=longest) as u64;
        self.withheld.push((self.polls + delay, event));
    }

    /// What was to be told to this source, and was not yet, is not true any more.
    pub(super) fn forget(&mut self, id: SourceId) {
        self.withheld
            .retain(|(_, event)| !matches!(event, Event::Ready(of, _) if *of == id));
    }

    /// Before a poll.
    pub(super) fn plan(&mut self, timeout: Option<Duration>) -> Plan {
        if self.random.chance(self.chaos.interruptions) {
            return Plan::Interrupted;
        }
        self.polls += 1;
        if self.random.chance(self.chaos.spurious_events) {
            self.tell_a_lie();
            return Plan::Poll(Some(Duration::ZERO));
        }
        match self.withheld.is_empty() {
            true => Plan::Poll(timeout),
            false => Plan::Poll(Some(Duration::ZERO)),
        }
    }

    /// Something about one of the sockets for this poll, or nothing at all.
    fn tell_a_lie(&mut self) {
        let lies = [
            Readiness::READ,
            Readiness::WRITE,
            Readiness::READ | Readiness::WRITE,
        ];
        let chosen = self.random.below(2 * self.sockets.len());
        if let Some(id) = self.sockets.iter().nth(chosen) {
            let lie = lies[self.random.below(lies.len())];
            self.withheld.push((self.polls, Event::Ready(*id, lie)));
        }
    }

    /// After a poll, which found these: what it tells.
    pub(super) fn tell(&mut self, found: impl Iterator<Item = Event>, events: &mut Vec<Event>) {
        let first = events.len();
        let withheld = mem::take(&mut self.withheld).into_iter();
        let (due, later) = withheld.partition(|(poll, _)| *poll <= self.polls);
        self.withheld = later;
        let due: Vec<(u64, Event)> = due;
        for (_, event) in due {
            join(event, first, events);
        }
        for event in found {
            match self.random.chance(self.chaos.delays) {
                true => self.announce(event),
                false => join(event, first, events),
            }
        }
        self.random.shuffle(&mut events[first..]);
    }
}

/// What befalls the calls of one socket, for as long as there is one.
pub(super) struct Luck {
    id: SourceId,
    mischief: Rc<Shared<Mischief>>,
    chaos: Chaos,
    random: Shared<Random>,
}

/// What becomes of one call.
pub(super) enum Fate {
    Whole,
    /// It gets so many bytes at most, which are fewer than it asks for.
    Part(usize),
    Blocked,
    Interrupted,
}

impl Luck {
    pub(super) fn new(id: SourceId, mischief: &Rc<Shared<Mischief>>) -> Self {
        let (chaos, seed) = mischief.with(|mischief| {
            mischief.sockets.insert(id);
            (mischief.chaos.clone(), mischief.seed)
        });
        let mut seeds = Random::new(seed ^ id.0.rotate_left(32));
        Self {
            id,
            mischief: Rc::clone(mischief),
            chaos,
            random: Shared::new(seeds.fork()),
        }
    }

    /// Of a read of so many bytes.
    pub(super) fn of_read(&self, size: usize) -> Fate {
        self.draw(size, self.chaos.short_reads)
    }

    /// Of a write of so many bytes.
    pub(super) fn of_write(&self, size: usize) -> Fate {
        self.draw(size, self.chaos.short_writes)
    }

    /// Of a call that has no size.
    pub(super) fn of_call(&self) -> Fate {
        self.draw(1, 0.0)
    }

    fn draw(&self, size: usize, short: f64) -> Fate {
        self.random.with(|random| {
            if random.chance(self.chaos.interruptions) {
                Fate::Interrupted
            } else if random.chance(self.chaos.false_blocks) {
                Fate::Blocked
            } else if size > 1 && random.chance(short) {
                Fate::Part(part(random, size))
            } else {
                Fate::Whole
            }
        })
    }

    /// One or the other.
    pub(super) fn toss(&self) -> bool {
        self.random.with(|random| random.chance(0.5))
    }

    /// The socket is owed an event.
    pub(super) fn announce(&self, readiness: Readiness) {
        let event = Event::Ready(self.id, readiness);
        self.mischief.with(|mischief| mischief.announce(event));
    }
}

impl Drop for Luck {
    fn drop(&mut self) {
        self.mischief.with(|mischief| {
            mischief.sockets.remove(&self.id);
            mischief.forget(self.id);
        });
    }
}

/// Appends an event. A poll tells of a source once, from its `first` event on.
fn join(event: Event, first: usize, events: &mut Vec<Event>) {
    if let Event::Ready(id, readiness) = event {
        for earlier in &mut events[first..] {
            match earlier {
                Event::Ready(of, said) if *of == id => {
                    *said = *said | readiness;
                    return;
                }
                _ => {}
            }
        }
    }
    events.push(event);
}

/// A part of so many bytes: a few as often as many, and seldom more than a packet or two.
fn part(random: &mut Random, size: usize) -> usize {
    let magnitudes = size.ilog2() as usize + 1;
    let largest = match random.chance(0.2) {
        true => magnitudes,
        false => magnitudes.min(PACKET),
    };
    let magnitude = random.within(1..=largest) as u32;
    let most = 1_usize.checked_shl(magnitude).unwrap_or(size);
    random.within(1..=most.min(size - 1))
}

/// The magnitude of what is seldom exceeded: 4 KiB.
const PACKET: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SourceId = SourceId(1);

    fn mischief(chaos: Chaos) -> Mischief {
        Mischief::new(chaos, 1)
    }

    fn quiet() -> Chaos {
        Chaos::new().interruptions(0.0).spurious_events(0.0)
    }

    fn event(number: u64) -> Event {
        Event::Ready(SourceId(number), Readiness::READ)
    }

    #[test]
    fn what_is_withheld_is_told_once_in_time_and_no_poll_sleeps_before() {
        let mut mischief = mischief(quiet().delays(0.5).longest_delay(3));
        let mut told = Vec::new();
        for poll in 0..1000_u64 {
            let Plan::Poll(timeout) = mischief.plan(None) else {
                panic!("nothing interrupts");
            };
            assert_eq!(timeout.is_none(), mischief.withheld.is_empty());
            let found = (0..3).map(|n| event(10 * poll + n));
            let mut events = Vec::new();
            mischief.tell(found, &mut events);
            for event in events {
                let Event::Ready(SourceId(number), _) = event else {
                    panic!("{event:?}");
                };
                assert!(number / 10 + 3 >= poll, "{number} in poll {poll}");
                told.push(number);
            }
        }
        assert!(!told.is_sorted());
        for _ in 0..3 {
            let mut events = Vec::new();
            mischief.plan(None);
            mischief.tell([].into_iter(), &mut events);
            told.extend(events.iter().map(|event| match event {
                Event::Ready(id, _) => id.0,
                Event::Signal(_) => unreachable!(),
            }));
        }
        told.sort_unstable();
        let all: Vec<u64> = (0..1000)
            .flat_map(|poll| (0..3).map(move |n| 10 * poll + n))
            .collect();
        assert_eq!(told, all);
        assert!(matches!(mischief.plan(None), Plan::Poll(None)));
    }

    #[test]
    fn a_lie_is_about_a_socket_that_there_is() {
        let shared = Rc::new(Shared::new(mischief(
            quiet().spurious_events(0.5).delays(0.0),
        )));
        let lies = |shared: &Rc<Shared<Mischief>>| {
            let mut lies = Vec::new();
            for _ in 0..100 {
                shared.with(|mischief| {
                    mischief.plan(None);
                    mischief.tell([].into_iter(), &mut lies);
                });
            }
            lies
        };
        assert_eq!(lies(&shared), []);
        let luck = Luck::new(SOURCE, &shared);
        let told = lies(&shared);
        assert!((10..60).contains(&told.len()), "{}", told.len());
        assert!(
            told.iter()
                .all(|lie| matches!(lie, Event::Ready(SOURCE, _)))
        );
        luck.announce(Readiness::READ);
        drop(luck);
        assert_eq!(lies(&shared), []);
    }

    #[test]
    fn a_poll_tells_of_a_source_once_with_all_that_there_is() {
        let mut mischief = mischief(quiet().delays(0.0).longest_delay(1));
        let (read, write) = (Readiness::READ, Readiness::WRITE);
        mischief.announce(Event::Ready(SOURCE, write));
        mischief.plan(None);
        let mut events = vec![Event::Ready(SOURCE, write)];
        let found = [
            Event::Signal(1),
            Event::Ready(SOURCE, read),
            Event::Signal(1),
        ];
        mischief.tell(found.into_iter(), &mut events);
        assert_eq!(events.len(), 4, "{events:?}");
        assert_eq!(events[0], Event::Ready(SOURCE, write));
        assert!(events[1..].contains(&Event::Ready(SOURCE, read | write)));
    }

    #[test]
    fn a_part_is_never_all_and_never_nothing() {
        let mut random = Random::new(1);
        for size in [2, 3, 4, 100, 1 << 20, usize::MAX] {
            let parts: Vec<usize> = (0..1000).map(|_| part(&mut random, size)).collect();
            assert!(parts.iter().all(|part| (1..size).contains(part)));
            let small = parts.iter().filter(|part| **part <= 16).count();
            assert!(small > 30, "{small} of {size}");
        }
    }

    #[test]
    fn the_choices_of_a_socket_are_its_own() {
        let chaos = Chaos::new();
        let choices = |others: bool, id| {
            let shared = Rc::new(Shared::new(mischief(chaos.clone())));
            let (luck, other) = (Luck::new(id, &shared), Luck::new(SourceId(7), &shared));
            let choice = |_| {
                if others {
                    other.of_read(50);
                    other.announce(Readiness::READ);
                }
                match luck.of_write(1000) {
                    Fate::Whole => 1000,
                    Fate::Part(size) => size,
                    Fate::Blocked => 0,
                    Fate::Interrupted => 1001,
                }
            };
            (0..100).map(choice).collect::<Vec<_>>()
        };
        assert_eq!(choices(true, SOURCE), choices(false, SOURCE));
        assert_ne!(choices(true, SOURCE), choices(true, SourceId(2)));
    }
}
