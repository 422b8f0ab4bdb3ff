//! Who watches: the first complaint, and waits that end when something changes.

use std::cell::RefCell;
use std::fmt::Display;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use evloop::timeout;

/// Whether something is right, or what is wrong with it.
pub(crate) type Judgement = Result<(), String>;

#[derive(Default)]
pub(crate) struct Watch {
    complaint: RefCell<Option<String>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Watch {
    /// Keeps the first complaint.
    pub(crate) fn judge(&self, what: impl Display, judgement: Judgement) {
        if let Err(complaint) = judgement {
            let mut first = self.complaint.borrow_mut();
            first.get_or_insert_with(|| format!("{what}: {complaint}"));
        }
        self.ring();
    }

    pub(crate) fn verdict(&self) -> Judgement {
        match self.complaint.borrow().clone() {
            Some(complaint) => Err(complaint),
            None => Ok(()),
        }
    }

    /// Waits until it is so, or something is wrong. False if it takes too long.
    pub(crate) async fn until(&self, limit: Duration, condition: impl Fn() -> bool) -> bool {
        let wait = poll_fn(|cx| {
            if condition() || self.complaint.borrow().is_some() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        });
        timeout(limit, wait).await.is_ok()
    }

    /// Something has changed.
    pub(crate) fn ring(&self) {
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}

pub(crate) fn complain_if(bad: bool, complaint: &str) -> Judgement {
    match bad {
        true => Err(complaint.to_owned()),
        false => Ok(()),
    }
}
