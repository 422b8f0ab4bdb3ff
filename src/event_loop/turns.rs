//! A loop that somebody else drives, a turn at a time.
//!
//! Owns: [`LoopHandle::turn`], and the questions that whoever drives several loops has. Why: in a
//! simulation every host has a loop of its own, and all of them share a thread. Invariants: a turn
//! is a turn of [`run_forever`](crate::EventLoop::run_forever); asking changes nothing. asyncio's
//! counterpart: none; its tests call `loop._run_once()`.

use crate::event_loop::ready::TaskId;
use crate::event_loop::running;
use crate::event_loop::slow::function;
use crate::event_loop::state::{self, LoopHandle};

/// Who waits, and for what.
pub(crate) struct Wait {
    pub(crate) who: String,
    pub(crate) waits_for: Vec<String>,
}

impl LoopHandle {
    /// Makes one turn. True if the loop was told to stop.
    pub(crate) fn turn(&self, root: &mut dyn FnMut()) -> bool {
        let _running = state::enter(self);
        self.run_once(root);
        self.inner.stopping.replace(false)
    }

    /// Whether a turn would run something, whatever the driver says: others may have left it here
    /// since the last one.
    pub(crate) fn has_work(&self) -> bool {
        let agenda = &self.inner.agenda;
        !agenda.ready.is_empty() || agenda.has_visits() || self.inner.remote.has_messages()
    }

    /// Asks the root future, if there is one, and all tasks what they wait for.
    pub(crate) fn waits(&self, root: Option<&mut dyn FnMut()>) -> Vec<Wait> {
        let mut waits = Vec::new();
        self.for_each_task(root, |who, poll| {
            let mut waits_for = Vec::new();
            // One step: what it polls are steps within it, and get no budget of their own.
            self.enter_reporting("Exception in a task", || waits_for = running::ask(poll));
            waits.push(Wait { who, waits_for });
            true
        });
        waits
    }

    /// Polls them though nobody has woken them. Whose wait was over all the same: the first of
    /// which `has_got_on` says so, or that is complete.
    pub(crate) fn overdue(
        &self,
        root: Option<&mut dyn FnMut()>,
        has_got_on: impl Fn() -> bool,
    ) -> Option<String> {
        let mut overdue = None;
        self.for_each_task(root, |who, poll| {
            let before = self.inner.tasks.keys().len();
            poll();
            let is_over = self.inner.stopping.get() || self.inner.tasks.keys().len() != before;
            if is_over || self.has_work() || has_got_on() {
                overdue = Some(who);
            }
            overdue.is_none()
        });
        overdue
    }

    /// Does something with each, by name, and with what polls it, until that is enough.
    fn for_each_task(
        &self,
        root: Option<&mut dyn FnMut()>,
        mut f: impl FnMut(String, &mut dyn FnMut()) -> bool,
    ) {
        let _running = state::enter(self);
        if let Some(root) = root {
            if !f("the future of run_until_complete".to_owned(), root) {
                return;
            }
        }
        for id in self.inner.tasks.keys().into_iter().map(TaskId) {
            let name = function(self.name_of(id));
            if !f(format!("task {name}"), &mut || self.poll_task(id)) {
                return;
            }
        }
    }
}
