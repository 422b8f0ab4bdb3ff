//! Which loop this thread is running.
//!
//! Owns: the number and the agenda of the thread's running loop, the budget of the step that runs,
//! and the question what everybody waits for. Why: a leaf future has to know whether its loop runs
//! it, and a waker whether it is at home. Invariants: set while a loop runs and restored by a
//! guard; a future of ours polled anywhere else gets an error, never a hang. asyncio's counterpart:
//! `_set_running_loop`.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::event_loop::agenda::Agenda;
use crate::event_loop::cells::Shared;
use crate::event_loop::ready::Ready;
use crate::event_loop::sync::thread_local;

thread_local! {
    /// 0: no loop runs here.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static AGENDA: Shared<Option<Rc<Agenda>>> = const { Shared::new(None) };
    static BUDGET: Cell<u32> = const { Cell::new(0) };
    /// The answers to a question that is being asked.
    static ANSWERS: Shared<Option<Vec<String>>> = const { Shared::new(None) };
}

/// Nothing of an event loop runs on this thread, or another loop than the one concerned does.
///
/// It is what a future of ours returns when it is polled by another executor, and it converts to
/// an `io::Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRunningLoop;

impl fmt::Display for NoRunningLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no running event loop, or not the one that this belongs to")
    }
}

impl Error for NoRunningLoop {}

impl From<NoRunningLoop> for io::Error {
    fn from(error: NoRunningLoop) -> Self {
        Self::other(error)
    }
}

/// Restores what ran before.
pub(crate) struct Running {
    number: u64,
    agenda: Option<Rc<Agenda>>,
}

/// Makes the loop of this agenda the running one of this thread until the guard goes.
pub(crate) fn enter(agenda: &Rc<Agenda>) -> Running {
    let ours = Rc::clone(agenda);
    match AGENDA.try_with(|current| current.with(|current| current.replace(ours))) {
        Ok(outer) => Running {
            agenda: outer,
            number: NUMBER.with(|number| number.replace(agenda.number)),
        },
        // The thread's locals are being destroyed: no wake shall come here any more.
        Err(_) => Running {
            agenda: None,
            number: NUMBER.with(Cell::get),
        },
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        NUMBER.with(|number| number.set(self.number));
        // Without the thread-local there is nothing to restore.
        let outer = self.agenda.take();
        let ours = AGENDA.try_with(|current| current.with(|current| mem::replace(current, outer)));
        drop(ours);
    }
}

/// Whether any loop runs on this thread.
pub(crate) fn is_any() -> bool {
    NUMBER.with(Cell::get) != 0
}

/// Whether the loop of this number runs on this thread. A waker may be dropped or woken while the
/// thread's locals are being destroyed: then no loop runs.
pub(crate) fn is_current(number: u64) -> bool {
    NUMBER
        .try_with(Cell::get)
        .is_ok_and(|current| current == number)
}

/// Queues something for the loop that runs on this thread.
pub(crate) fn push(ready: Ready) {
    // Gone while the thread's locals are being destroyed: the loop that ends then runs no more.
    let _ = AGENDA.try_with(|current| {
        current.with(|agenda| {
            // A loop that ends runs nothing any more.
            if let Some(agenda) = agenda.as_ref().filter(|agenda| !agenda.closed.get()) {
                agenda.ready.push(ready);
            }
        });
    });
}

/// A new step begins: it may complete this many awaits before it has to give way.
pub(crate) fn refill_budget() {
    BUDGET.with(|budget| budget.set(AWAITS_PER_STEP));
}

/// An error unless the loop of this number (0: any) runs on this thread.
pub(crate) fn at_home(number: u64) -> Result<(), NoRunningLoop> {
    let current = NUMBER.with(Cell::get);
    if current == 0 || (number != 0 && number != current) {
        return Err(NoRunningLoop);
    }
    Ok(())
}

/// Polls a leaf future of the loop with the given number (0: of whichever runs).
///
/// Two things that every leaf owes: an error where its loop does not run, and giving way once
/// the step has completed its share of awaits, so that a task whose awaits are always ready
/// starves nobody. And a third: `waits_for` says what it is about, to whoever [`ask`]s.
pub(crate) fn poll_leaf<T>(
    number: u64,
    cx: &mut Context<'_>,
    waits_for: impl FnOnce() -> String,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<Result<T, NoRunningLoop>> {
    if let Err(error) = at_home(number) {
        return Poll::Ready(Err(error));
    }
    let budget = BUDGET.with(Cell::get);
    if budget == 0 {
        if !answer(waits_for) {
            cx.waker().wake_by_ref();
        }
        return Poll::Pending;
    }
    let polled = poll(cx);
    if polled.is_ready() {
        BUDGET.with(|budget| budget.set(budget.get().saturating_sub(1)));
    }
    polled.map(Ok)
}

/// What the leaf futures that `f` polls wait for. None of them gets on: it is as if the step had
/// no budget left. To be called within a step.
pub(crate) fn ask(f: impl FnOnce()) -> Vec<String> {
    ANSWERS.with(|answers| answers.with(|answers| *answers = Some(Vec::new())));
    let budget = BUDGET.with(|budget| budget.replace(0));
    f();
    BUDGET.with(|current| current.set(budget));
    ANSWERS
        .with(|answers| answers.with(Option::take))
        .unwrap_or_default()
}

/// False if nobody asks.
#[cold]
fn answer(waits_for: impl FnOnce() -> String) -> bool {
    let is_asked = ANSWERS.with(|answers| answers.with(|answers| answers.is_some()));
    if is_asked {
        let said = waits_for();
        ANSWERS.with(|answers| answers.with(|answers| answers.get_or_insert_default().push(said)));
    }
    is_asked
}

const AWAITS_PER_STEP: u32 = 128;
