//! A trace: what happened, line by line, to be compared whole.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use evloop::get_running_loop;

use super::PATIENCE;

#[derive(Clone, Default)]
pub(crate) struct Trace {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: RefCell<Vec<String>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Trace {
    pub(crate) fn say(&self, line: impl Into<String>) {
        self.inner.lines.borrow_mut().push(line.into());
        let waiting = self.inner.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.inner.lines.borrow().clone()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        let lines = self.inner.lines.borrow();
        lines.iter().filter(|said| *said == line).count()
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.count(line) > 0
    }

    /// Waits until this line is there.
    pub(crate) async fn until(&self, line: &str) {
        self.until_count(line, 1).await;
    }

    /// Waits until this line is there so many times.
    pub(crate) async fn until_count(&self, line: &str, n: usize) {
        let wait = poll_fn(|cx| {
            if self.count(line) >= n {
                return Poll::Ready(());
            }
            self.inner.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        });
        if evloop::timeout(PATIENCE, wait).await.is_err() {
            panic!("no {line:?} (x{n}) in {self:?}");
        }
    }

    /// Has the loop's reports written into the trace.
    pub(crate) fn catch_reports(&self) {
        let trace = self.clone();
        let handle = get_running_loop().expect("a loop");
        handle.set_exception_handler(move |_, context| {
            let mut line = format!("report: {}", context.message());
            if let Some(exception) = context.exception() {
                write!(line, ": {exception}").expect("a string takes it");
            }
            trace.say(line);
        });
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().fmt(f)
    }
}

impl<const N: usize> PartialEq<[&str; N]> for Trace {
    fn eq(&self, other: &[&str; N]) -> bool {
        *self.inner.lines.borrow() == *other
    }
}
