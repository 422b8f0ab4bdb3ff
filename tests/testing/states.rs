//! The page that shows the tables of states, and what is true of all of them.
//!
//! `EVLOOP_WRITE_DOCS=1 cargo test --all-features --test testing states` writes the page anew.
//!
//! It is made with the feature `tls`; without, there is one table less, and the page is let be.
#![cfg(feature = "tls")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::{env, fs};

use evloop::testing::{Next, StateMachine, state_machines};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md");

const HEAD: &str = "\
# States

Every state that a transport, TLS and a server can be in, and what follows from what. These are the
tables that the code follows, in every build; `tests/testing/states.rs` makes this page of them and
fails when it is not what they say. `EVLOOP_WRITE_DOCS=1 cargo test --all-features --test testing
states` writes it anew, after a change in `src/sansio/lifecycle.rs`, `src/sansio/server_life.rs` or
`src/tls/phase.rs`.

An empty cell changes nothing. A dash is what cannot happen: a build with debug assertions panics
there and says which state has met which event; any other stays where it is. Each table begins in
its first row.
";

#[test]
fn the_page_shows_the_tables_that_are_followed() {
    let page = state_machines().iter().fold(HEAD.to_owned(), draw);
    if env::var_os("EVLOOP_WRITE_DOCS").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let shown = fs::read_to_string(PAGE).unwrap_or_default();
    let differs = page.lines().zip(shown.lines()).find(|(is, was)| is != was);
    assert!(
        page == shown,
        "docs/states.md is not what the tables say, see the top of this file: {differs:?}"
    );
}

#[test]
fn every_state_is_reached_and_every_event_does_something() {
    for machine in state_machines() {
        let (states, events) = (machine.states(), machine.events());
        let name = machine.name();
        let mut reached = BTreeSet::from([states[0].0.as_str()]);
        for _ in states {
            let next = reached.iter().flat_map(|state| followers(&machine, state));
            reached = next.chain(reached.iter().copied()).collect();
        }
        assert_eq!(reached.len(), states.len(), "{name}: only {reached:?}");
        for (event, _) in events {
            let mut cells = states.iter().map(|(state, _)| machine.next(state, event));
            let does = cells.any(|next| matches!(next, Next::To(_)));
            assert!(does, "{name}: {event} does nothing");
        }
        // "It stays" is said in one way.
        for (state, _) in states {
            assert!(!followers(&machine, state).contains(state.as_str()));
        }
        for (word, about) in [states, events].concat() {
            assert!(about.ends_with('.'), "{name}: {word}: {about}");
        }
    }
}

fn followers<'a>(machine: &'a StateMachine, state: &str) -> BTreeSet<&'a str> {
    let events = machine.events().iter();
    let cells = events.filter_map(|(event, _)| match machine.next(state, event) {
        Next::To(state) => Some(state),
        Next::Stays | Next::Never => None,
    });
    cells.collect()
}

fn draw(mut page: String, machine: &StateMachine) -> String {
    let (name, about) = (machine.name(), machine.about());
    let _ = write!(page, "\n## {name}\n\n{about}\n\n| |");
    for (event, _) in machine.events() {
        let _ = write!(page, " `{event}` |");
    }
    let _ = write!(page, "\n|---|{}", "---|".repeat(machine.events().len()));
    for (state, _) in machine.states() {
        let _ = write!(page, "\n| **`{state}`** |");
        for (event, _) in machine.events() {
            match machine.next(state, event) {
                Next::To(state) => drop(write!(page, " `{state}` |")),
                Next::Stays => page.push_str(" |"),
                Next::Never => page.push_str(" – |"),
            }
        }
    }
    for (title, words) in [("state", machine.states()), ("event", machine.events())] {
        let _ = write!(page, "\n\n| {title} | |\n|---|---|");
        for (word, about) in words {
            let _ = write!(page, "\n| `{word}` | {about} |");
        }
    }
    page.push('\n');
    page
}
