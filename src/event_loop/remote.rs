//! The way in from other threads.
//!
//! Owns: the queue of what other threads want done, and the decision whether the driver has to
//! be woken. Why: wakers and `call_soon_threadsafe` are the only things of the loop that another
//! thread may touch. Invariants: the driver is woken at most once for each sleep; nothing is lost
//! between the last look at the queue and the sleep; once closed, everything is refused and the
//! driver's waker is given up, so that a late waker keeps no descriptor. asyncio's counterpart:
//! the self-pipe.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::event_loop::ready::TaskId;
use crate::event_loop::sync::{AtomicBool, Mutex, MutexGuard};
use crate::sys::Wakeup;

/// What another thread wants done.
pub(crate) enum Message {
    /// A task was woken.
    Wake(TaskId),
    /// A callback shall run.
    Call(Box<dyn FnOnce() + Send>),
}

pub(crate) struct Remote {
    loop_number: u64,
    inbox: Mutex<Inbox>,
    /// There may be something in the inbox. Spares the loop a lock in every turn.
    pending: AtomicBool,
    /// The loop sleeps, or is about to, and nobody has woken it yet.
    asleep: AtomicBool,
}

struct Inbox {
    messages: Vec<Message>,
    /// `None` once the loop is closed.
    wakeup: Option<Arc<dyn Wakeup>>,
}

impl Remote {
    pub(crate) fn new(loop_number: u64, wakeup: Arc<dyn Wakeup>) -> Self {
        Self {
            loop_number,
            inbox: Mutex::new(Inbox {
                messages: Vec::new(),
                wakeup: Some(wakeup),
            }),
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        }
    }

    /// The number of the loop that this leads to.
    pub(crate) fn loop_number(&self) -> u64 {
        self.loop_number
    }

    /// Hands a message to the loop, and gives it back if the loop is closed: a callback is then
    /// dropped by the caller, outside the lock.
    pub(crate) fn push(&self, message: Message) -> Result<(), Message> {
        let wakeup = {
            let mut inbox = self.lock();
            let Some(wakeup) = &inbox.wakeup else {
                return Err(message);
            };
            // Whoever finds the inbox empty announces it; who comes later is announced already.
            let wakeup = (inbox.messages.is_empty() && self.announce()).then(|| wakeup.clone());
            inbox.messages.push(message);
            wakeup
        };
        if let Some(wakeup) = wakeup {
            wakeup.wake();
        }
        Ok(())
    }

    /// Tells the loop that there is a message; true if it has to be woken for that.
    ///
    /// `asleep` is changed by read-modify-writes alone, on both sides. So of our change and the
    /// loop's one is later and sees what was written before the other: either the loop sees
    /// `pending` before it sleeps, or we see `asleep` and wake it.
    fn announce(&self) -> bool {
        self.pending.store(true, Ordering::Relaxed);
        self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Announces a sleep. False if something came in meanwhile: then there is none.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.asleep.swap(true, Ordering::AcqRel);
        !self.pending.load(Ordering::Relaxed)
    }

    /// The sleep is over.
    pub(crate) fn end_sleep(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }

    /// Whether there are messages. One that is announced meanwhile is seen in the next turn.
    pub(crate) fn has_messages(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Takes all messages, in exchange for an empty vector.
    pub(crate) fn take_into(&self, empty: &mut Vec<Message>) {
        let mut inbox = self.lock();
        self.pending.store(false, Ordering::Relaxed);
        std::mem::swap(&mut inbox.messages, empty);
    }

    /// Refuses everything from now on, and gives what was left.
    pub(crate) fn close(&self) -> Vec<Message> {
        let mut inbox = self.lock();
        inbox.wakeup = None;
        std::mem::take(&mut inbox.messages)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().wakeup.is_none()
    }

    /// No code that could panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Message, Remote};
    use crate::event_loop::ready::TaskId;
    use crate::sys::Wakeup;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wakeup for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeper_is_woken_once_however_many_messages_come() {
        let count = Arc::new(Count::default());
        let remote = Remote::new(1, Arc::clone(&count) as Arc<dyn Wakeup>);
        assert!(remote.prepare_sleep());
        for _ in 0..10 {
            assert!(remote.push(Message::Wake(TaskId(1))).is_ok());
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        remote.end_sleep();
        let mut messages = Vec::new();
        remote.take_into(&mut messages);
        assert_eq!(messages.len(), 10);
        assert!(remote.push(Message::Wake(TaskId(1))).is_ok());
        assert_eq!(
            count.0.load(Ordering::Relaxed),
            1,
            "a waking loop needs no wake"
        );
        assert!(!remote.prepare_sleep(), "a message is waiting: no sleep");
    }

    #[test]
    fn a_closed_loop_gives_messages_back() {
        let remote = Remote::new(1, Arc::new(Count::default()));
        assert!(remote.push(Message::Wake(TaskId(1))).is_ok());
        assert_eq!(remote.close().len(), 1);
        assert!(remote.push(Message::Wake(TaskId(1))).is_err());
        assert!(remote.is_closed());
    }
}
