//! State machines as data.
//!
//! Owns: [`Table`], which the code follows, and [`StateMachine`], the same for whoever draws it or
//! tests by it. Why: a table that is only drawn says what somebody once meant; one that is followed
//! is true. Invariants: a table has a cell for each state and each event, so nothing is left open; a
//! step is a look at one cell. asyncio's counterpart: none; its states are flags, and `sslproto` has
//! its one table in a comment and once more in `_set_state`.

use std::fmt::Debug;

/// What follows each state at each event, and what both mean.
pub(crate) struct Table<S: 'static, E: 'static, const STATES: usize, const EVENTS: usize> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// In the order of their enum.
    pub(crate) events: [(E, &'static str); EVENTS],
    /// In the order of their enum; it begins in the first. The cells are in the order of the events.
    pub(crate) states: [(S, [Next<S>; EVENTS], &'static str); STATES],
}

/// What an event does to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<S> {
    /// Another state follows.
    To(S),
    /// It changes nothing.
    Stays,
    /// It cannot happen. If it does all the same, a build with debug assertions panics, and any
    /// other changes nothing.
    Never,
}

impl<S: Copy + Debug, E: Copy + Debug, const STATES: usize, const EVENTS: usize>
    Table<S, E, STATES, EVENTS>
{
    /// The state that follows. Both are places in their enums (`as usize`).
    #[inline]
    pub(crate) fn next(&self, state: usize, event: usize) -> S {
        let (here, cells, _) = &self.states[state];
        match cells[event] {
            Next::To(there) => there,
            Next::Stays => *here,
            Next::Never => {
                self.refuse(state, event);
                *here
            }
        }
    }

    #[cold]
    fn refuse(&self, state: usize, event: usize) {
        let (state, event) = (self.states[state].0, self.events[event].0);
        debug_assert!(false, "{}: {event:?} cannot happen in {state:?}", self.name);
    }

    /// The same for those who do not know its types.
    pub(crate) fn machine(&self) -> StateMachine {
        let cells = self.states.iter().map(|(_, cells, _)| {
            let names = cells.iter().map(|next| match next {
                Next::To(state) => Next::To(format!("{state:?}")),
                Next::Stays => Next::Stays,
                Next::Never => Next::Never,
            });
            names.collect()
        });
        StateMachine {
            name: self.name,
            about: self.about,
            states: named(self.states.iter().map(|(state, _, about)| (state, *about))),
            events: named(self.events.iter().map(|(event, about)| (event, *about))),
            cells: cells.collect(),
        }
    }
}

fn named<'a, T: Debug + 'a>(
    parts: impl Iterator<Item = (&'a T, &'static str)>,
) -> Vec<(String, &'static str)> {
    parts
        .map(|(part, about)| (format!("{part:?}"), about))
        .collect()
}

/// A state machine of this crate: the table that its code follows, in every build. See
/// [`state_machines`](crate::testing::state_machines).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateMachine {
    name: &'static str,
    about: &'static str,
    states: Vec<(String, &'static str)>,
    events: Vec<(String, &'static str)>,
    cells: Vec<Vec<Next<String>>>,
}

impl StateMachine {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is about, in a sentence.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Its states by name, and what each means; it begins in the first.
    pub fn states(&self) -> &[(String, &'static str)] {
        &self.states
    }

    /// Its events by name, and what each means.
    pub fn events(&self) -> &[(String, &'static str)] {
        &self.events
    }

    /// What follows `state` when `event` happens.
    ///
    /// # Panics
    ///
    /// If it has no such state, or no such event.
    #[track_caller]
    pub fn next(&self, state: &str, event: &str) -> Next<&str> {
        let place = |names: &[(String, &str)], name: &str| {
            let place = names.iter().position(|(known, _)| known == name);
            place.unwrap_or_else(|| panic!("{} has no {name}", self.name))
        };
        match &self.cells[place(&self.states, state)][place(&self.events, event)] {
            Next::To(state) => Next::To(state),
            Next::Stays => Next::Stays,
            Next::Never => Next::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Next::{Never, Stays, To};
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Door {
        Shut,
        Ajar,
    }

    #[derive(Clone, Copy, Debug)]
    enum Hand {
        Push,
        Pull,
    }

    static DOOR: Table<Door, Hand, 2, 2> = Table {
        name: "Door",
        about: "A door.",
        events: [(Hand::Push, "Somebody pushes."), (Hand::Pull, "Or pulls.")],
        states: [
            (Door::Shut, [To(Door::Ajar), Stays], "Nobody gets in."),
            (Door::Ajar, [Never, To(Door::Shut)], "Somebody might."),
        ],
    };

    #[test]
    fn a_step_is_what_its_cell_says() {
        assert_eq!(
            DOOR.next(Door::Shut as usize, Hand::Push as usize),
            Door::Ajar
        );
        assert_eq!(
            DOOR.next(Door::Shut as usize, Hand::Pull as usize),
            Door::Shut
        );
        let machine = DOOR.machine();
        assert_eq!(machine.next("Ajar", "Pull"), To("Shut"));
        assert_eq!(machine.next("Shut", "Pull"), Stays);
        assert_eq!(machine.states()[1], ("Ajar".to_owned(), "Somebody might."));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "Door: Push cannot happen in Ajar")]
    fn what_cannot_happen_is_told_with_state_and_event() {
        DOOR.next(Door::Ajar as usize, Hand::Push as usize);
    }
}
