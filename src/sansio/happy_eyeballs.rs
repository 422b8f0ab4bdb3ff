//! Which address to try when: happy eyeballs (RFC 8305) as values.
//!
//! Owns: [`HappyEyeballs`], which says what to do next, and [`interleave`], the order in which
//! addresses are tried. Why: which attempt begins, wins or is waited for is decided in one place,
//! by looking at all of them at once; a race of tasks that know of each other has had two winners
//! and none. Invariants: an attempt begins once, in order; there is one winner at most, and it
//! never changes; while the machine waits, an attempt is on its way; it says that all have failed
//! only when each has begun and failed. asyncio's counterpart: `staggered_race`,
//! `_interleave_addrinfos`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A race of attempts to connect, which know nothing of each other.
///
/// Ask [`step`](Self::step) what to do, report what became of it, and ask again.
///
/// | the next attempt begins | after the one before it has begun | after it has failed | on another one's failure |
/// |---|---|---|---|
/// | with a delay | when the delay is over | at once | no sooner |
/// | without | never | at once | (there is none) |
#[derive(Debug)]
pub(crate) struct HappyEyeballs {
    attempts: Vec<Attempt>,
    /// `None`: one attempt after the other.
    delay: Option<Duration>,
    next: Next,
    winner: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Waiting,
    Running,
    Failed,
}

/// When the first waiting attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Now,
    At(Instant),
    /// Not before the one that began last has failed.
    OnFailure,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Begin the attempt of this index, and ask again.
    Start(usize),
    /// Wait for an attempt to end, and not longer than until then.
    Wait(Option<Instant>),
    /// This one has won: the others are given up.
    Won(usize),
    /// Each has begun, and failed.
    AllFailed,
}

impl HappyEyeballs {
    pub(crate) fn new(attempts: usize, delay: Option<Duration>) -> Self {
        Self {
            attempts: vec![Attempt::Waiting; attempts],
            delay,
            next: Next::Now,
            winner: None,
        }
    }

    /// What to do now. The same as before, unless something was reported or it is later.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        if let Some(winner) = self.winner {
            return Step::Won(winner);
        }
        let Some(waiting) = self.first(Attempt::Waiting) else {
            return match self.first(Attempt::Running) {
                Some(_) => Step::Wait(None),
                None => Step::AllFailed,
            };
        };
        match self.next {
            Next::At(when) if now < when => Step::Wait(Some(when)),
            Next::OnFailure => Step::Wait(None),
            Next::At(_) | Next::Now => {
                self.attempts[waiting] = Attempt::Running;
                // A time that the clock cannot tell never comes.
                let when = self.delay.and_then(|delay| now.checked_add(delay));
                self.next = when.map_or(Next::OnFailure, Next::At);
                Step::Start(waiting)
            }
        }
    }

    /// An attempt has failed. One that does not run is no news.
    pub(crate) fn failed(&mut self, attempt: usize) {
        if self.attempts.get(attempt) != Some(&Attempt::Running) {
            return;
        }
        self.attempts[attempt] = Attempt::Failed;
        let later = self.attempts.get(attempt + 1);
        let began_last = matches!(later, None | Some(Attempt::Waiting));
        if began_last {
            self.next = Next::Now;
        }
    }

    /// An attempt has succeeded. False if it comes too late, or does not run: it is given up.
    pub(crate) fn succeeded(&mut self, attempt: usize) -> bool {
        let wins = self.winner.is_none() && self.attempts.get(attempt) == Some(&Attempt::Running);
        if wins {
            self.winner = Some(attempt);
        }
        wins
    }

    fn first(&self, state: Attempt) -> Option<usize> {
        self.attempts.iter().position(|attempt| *attempt == state)
    }
}

/// Orders addresses by family in turns, each family in its own order: `first` of the first family
/// to begin with, then one of each. With 0 the order stays.
pub(crate) fn interleave<T, F: PartialEq>(
    addresses: Vec<T>,
    first: usize,
    family: impl Fn(&T) -> F,
) -> Vec<T> {
    if first == 0 {
        return addresses;
    }
    let mut families: Vec<(F, VecDeque<T>)> = Vec::new();
    for address in addresses {
        let of = family(&address);
        match families.iter_mut().find(|(known, _)| *known == of) {
            Some((_, members)) => members.push_back(address),
            None => families.push((of, VecDeque::from([address]))),
        }
    }
    let mut ordered = Vec::new();
    if let Some((_, members)) = families.first_mut() {
        let ahead = members.len().min(first - 1);
        ordered.extend(members.drain(..ahead));
    }
    loop {
        let before = ordered.len();
        let turn = families.iter_mut();
        ordered.extend(turn.filter_map(|(_, members)| members.pop_front()));
        if ordered.len() == before {
            return ordered;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DELAY: Duration = Duration::from_millis(250);

    /// What is reported to the machine, or how much time passes, before it is asked again.
    enum News {
        Later(Duration),
        Failed(usize),
        Succeeded(usize, bool),
    }
    use News::{Failed, Later, Succeeded};
    use Step::{AllFailed, Start, Wait, Won};

    /// Asks for all steps at the beginning and after each piece of news, and compares them.
    #[track_caller]
    fn story(attempts: usize, delay: Option<Duration>, chapters: &[(Option<News>, &[Told])]) {
        let begin = Instant::now();
        let mut now = begin;
        let mut machine = HappyEyeballs::new(attempts, delay);
        for (i, (news, expected)) in chapters.iter().enumerate() {
            match news {
                None => {}
                Some(Later(time)) => now += *time,
                Some(Failed(attempt)) => machine.failed(*attempt),
                Some(Succeeded(attempt, wins)) => {
                    assert_eq!(machine.succeeded(*attempt), *wins, "chapter {i}");
                }
            }
            let mut told = Vec::new();
            loop {
                let step = machine.step(now);
                told.push(match step {
                    Wait(Some(when)) => Until(when - begin),
                    step => Told::Step(step),
                });
                if !matches!(step, Start(_)) {
                    break;
                }
            }
            assert_eq!(told, *expected, "chapter {i}");
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Told {
        Step(Step),
        Until(Duration),
    }
    use Told::{Step as Says, Until};

    #[test]
    fn without_a_delay_one_attempt_follows_the_other() {
        let long = Duration::from_secs(3600);
        story(
            3,
            None,
            &[
                (None, &[Says(Start(0)), Says(Wait(None))]),
                (Some(Later(long)), &[Says(Wait(None))]),
                (Some(Failed(0)), &[Says(Start(1)), Says(Wait(None))]),
                (Some(Failed(1)), &[Says(Start(2)), Says(Wait(None))]),
                (Some(Failed(2)), &[Says(AllFailed)]),
                (Some(Later(long)), &[Says(AllFailed)]),
            ],
        );
    }

    #[test]
    fn with_a_delay_the_next_begins_when_it_is_over() {
        story(
            3,
            Some(DELAY),
            &[
                (None, &[Says(Start(0)), Until(DELAY)]),
                (Some(Later(DELAY / 2)), &[Until(DELAY)]),
                (Some(Later(DELAY / 2)), &[Says(Start(1)), Until(2 * DELAY)]),
                (Some(Later(DELAY)), &[Says(Start(2)), Says(Wait(None))]),
                (Some(Failed(2)), &[Says(Wait(None))]),
                (Some(Succeeded(0, true)), &[Says(Won(0))]),
            ],
        );
    }

    #[test]
    fn a_failure_of_the_last_one_begins_the_next_at_once_and_the_delay_counts_from_there() {
        story(
            3,
            Some(DELAY),
            &[
                (None, &[Says(Start(0)), Until(DELAY)]),
                (Some(Later(DELAY / 5)), &[Until(DELAY)]),
                (Some(Failed(0)), &[Says(Start(1)), Until(DELAY / 5 + DELAY)]),
                (Some(Failed(1)), &[Says(Start(2)), Says(Wait(None))]),
                (Some(Failed(2)), &[Says(AllFailed)]),
            ],
        );
    }

    #[test]
    fn a_failure_of_an_earlier_one_begins_nothing() {
        story(
            3,
            Some(DELAY),
            &[
                (None, &[Says(Start(0)), Until(DELAY)]),
                (Some(Later(DELAY)), &[Says(Start(1)), Until(2 * DELAY)]),
                (Some(Failed(0)), &[Until(2 * DELAY)]),
                (Some(Later(DELAY)), &[Says(Start(2)), Says(Wait(None))]),
            ],
        );
    }

    #[test]
    fn the_first_success_wins_and_nothing_changes_that() {
        story(
            3,
            Some(DELAY),
            &[
                (None, &[Says(Start(0)), Until(DELAY)]),
                (Some(Later(DELAY)), &[Says(Start(1)), Until(2 * DELAY)]),
                (Some(Succeeded(1, true)), &[Says(Won(1))]),
                (Some(Succeeded(0, false)), &[Says(Won(1))]),
                (Some(Succeeded(1, false)), &[Says(Won(1))]),
                (Some(Failed(0)), &[Says(Won(1))]),
                (Some(Failed(1)), &[Says(Won(1))]),
                (Some(Later(DELAY)), &[Says(Won(1))]),
            ],
        );
    }

    #[test]
    fn what_does_not_run_can_neither_fail_nor_win() {
        story(
            2,
            None,
            &[
                (Some(Failed(0)), &[Says(Start(0)), Says(Wait(None))]),
                (Some(Succeeded(1, false)), &[Says(Wait(None))]),
                (Some(Failed(1)), &[Says(Wait(None))]),
                (Some(Failed(7)), &[Says(Wait(None))]),
                (Some(Succeeded(7, false)), &[Says(Wait(None))]),
                (Some(Failed(0)), &[Says(Start(1)), Says(Wait(None))]),
                (Some(Succeeded(0, false)), &[Says(Wait(None))]),
                (Some(Failed(0)), &[Says(Wait(None))]),
            ],
        );
    }

    #[test]
    fn no_delay_at_all_begins_all_at_once_and_an_endless_one_waits_for_failures() {
        let all = [0, 1, 2].map(|i| Says(Start(i)));
        story(
            3,
            Some(Duration::ZERO),
            &[(None, &[all[0], all[1], all[2], Says(Wait(None))])],
        );
        story(
            2,
            Some(Duration::MAX),
            &[
                (None, &[Says(Start(0)), Says(Wait(None))]),
                (Some(Failed(0)), &[Says(Start(1)), Says(Wait(None))]),
            ],
        );
        story(0, Some(DELAY), &[(None, &[Says(AllFailed)])]);
    }

    /// Every order of failures, successes and time for up to four attempts, five pieces of news
    /// long: nothing begins twice, one wins at most, and nobody waits for nothing.
    #[test]
    #[cfg_attr(miri, ignore = "too much of the same to be interpreted")]
    fn whatever_happens_there_is_one_winner_or_all_have_begun_and_failed() {
        for attempts in 1..=4_usize {
            for delay in [None, Some(Duration::ZERO), Some(DELAY)] {
                let kinds = 2 * attempts + 1;
                for script in 0..kinds.pow(5) {
                    walk(attempts, delay, script, kinds);
                }
            }
        }
    }

    fn walk(attempts: usize, delay: Option<Duration>, mut script: usize, kinds: usize) {
        let mut now = Instant::now();
        let mut machine = HappyEyeballs::new(attempts, delay);
        let (mut begun, mut running) = (Vec::new(), BTreeSet::new());
        let mut winner = None;
        for _ in 0..5 {
            let step = loop {
                match machine.step(now) {
                    Start(i) => {
                        assert_eq!(i, begun.len());
                        begun.push(i);
                        running.insert(i);
                    }
                    step => break step,
                }
            };
            match step {
                Won(i) => assert_eq!(Some(i), winner),
                AllFailed => assert!(begun.len() == attempts && running.is_empty()),
                Wait(when) => {
                    assert!(winner.is_none() && !running.is_empty());
                    assert!(when.is_none_or(|when| when > now && begun.len() < attempts));
                }
                Start(_) => unreachable!(),
            }
            let news = script % kinds;
            script /= kinds;
            if news == 2 * attempts {
                now += DELAY;
            } else if news < attempts {
                machine.failed(news);
                if winner != Some(news) {
                    running.remove(&news);
                }
            } else if machine.succeeded(news - attempts) {
                assert!(winner.is_none() && running.contains(&(news - attempts)));
                winner = Some(news - attempts);
            }
        }
    }

    #[test]
    fn families_take_turns_and_keep_their_own_order() {
        let letter = |address: &&'static str| address.as_bytes()[0];
        let order = |addresses: &[&'static str], first| {
            interleave(addresses.to_vec(), first, letter).join(" ")
        };
        let addresses = ["a1", "a2", "a3", "a4", "b1", "b2"];
        assert_eq!(order(&addresses, 0), "a1 a2 a3 a4 b1 b2");
        assert_eq!(order(&addresses, 1), "a1 b1 a2 b2 a3 a4");
        assert_eq!(order(&addresses, 2), "a1 a2 b1 a3 b2 a4");
        assert_eq!(order(&addresses, 9), "a1 a2 a3 a4 b1 b2");
        assert_eq!(order(&["b1", "a1", "c1", "b2"], 1), "b1 a1 c1 b2");
        assert_eq!(order(&["a1"], 1), "a1");
        assert_eq!(order(&[], 3), "");
    }
}
