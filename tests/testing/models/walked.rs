//! Which cells of the tables were walked.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use evloop::testing::{Next, state_machines};

/// Table, state and event of each step.
#[derive(Clone, Default)]
pub(crate) struct Walked(Rc<RefCell<BTreeSet<[String; 3]>>>);

impl Walked {
    pub(crate) fn note(&self, machine: &str, state: &str, event: &str) {
        let step = [machine, state, event].map(str::to_owned);
        self.0.borrow_mut().insert(step);
    }

    /// Every step of these tables was made, but for those from a state or by an event that is left
    /// out, or from a state by an event.
    pub(crate) fn check(&self, machines: &[&str], left_out: &[&str]) {
        // One seed alone walks a part.
        if std::env::var_os("SEED").is_some() {
            return;
        }
        let all = state_machines();
        let all = { all.iter() }.filter(|machine| machines.contains(&machine.name()));
        for machine in all {
            for (state, _) in machine.states() {
                for (event, _) in machine.events() {
                    let both = format!("{state} {event}");
                    let out = [state, event, &both].map(|name| left_out.contains(&name.as_str()));
                    if out.contains(&true) || !matches!(machine.next(state, event), Next::To(_)) {
                        continue;
                    }
                    let step = [machine.name(), state, event].map(str::to_owned);
                    assert!(self.0.borrow().contains(&step), "never walked: {step:?}");
                }
            }
        }
    }
}
