//! How many connections there may be at a time.
//!
//! Owns: [`ConnectionLimit`]. Why: what a process can bear is one number, and it may have several
//! servers, on several loops; so places are counted where all of them can see it. Invariants: there
//! are never more places taken than there are; who found none is in the queue, and for each place
//! that is given back the first one there is woken, or, if that one has nobody to let in, the next;
//! nothing is called under the lock. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event_loop::{LoopHandle, ThreadsafeHandle, get_running_loop};
use crate::sys::SourceId;

/// How many connections there may be at a time: of one server, or of all that have a clone of it,
/// whichever loops they are on. For [`max_connections`](crate::CreateServer::max_connections).
///
/// A place that becomes free is offered to the server whose clients have waited longest for one, so
/// that with one port for several loops nobody waits at one of them while another has room. A loop
/// that is busy takes the offer when it comes to it; whoever looks meanwhile may be sooner.
///
/// ```
/// use evloop::{ConnectionLimit, LoopGroup, StreamReader, StreamWriter, start_server};
///
/// async fn serve(_reader: StreamReader, _writer: StreamWriter) {}
///
/// // A thousand in all, and not for each worker.
/// let limit = ConnectionLimit::new(1000);
/// LoopGroup::new(2)?.run(|_| {
///     let limit = limit.clone();
///     async move {
///         let server = start_server(serve, ("127.0.0.1", 0)).max_connections(limit).await?;
///         server.close();
///         server.wait_closed().await
///     }
/// })?;
/// assert_eq!(limit.taken(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ConnectionLimit {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// Listeners that somebody may wait at. Each is there once, so it is as short as they are few.
    waiting: VecDeque<Waiter>,
}

impl ConnectionLimit {
    /// So many places. A server that is given none of them is `InvalidInput` when it is awaited.
    pub fn new(most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                most,
                state: Mutex::default(),
            }),
        }
    }

    /// How many places there are.
    pub fn most(&self) -> usize {
        self.shared.most
    }

    /// How many are taken now; one of them perhaps by a server that looks whether somebody waits.
    pub fn taken(&self) -> usize {
        self.lock().taken
    }

    /// Takes a place. If there is none, the listener is visited when there is.
    pub(crate) fn take(&self, handle: &LoopHandle, listener: SourceId) -> bool {
        let most = self.shared.most;
        let mut state = self.lock();
        let is_free = state.taken < most;
        if is_free {
            state.taken += 1;
        } else if !state
            .waiting
            .iter()
            .any(|it| it.is(handle.number(), listener))
        {
            state.waiting.push_back(Waiter::new(handle, listener));
        }
        is_free
    }

    /// So many places are free again.
    pub(crate) fn give_back(&self, places: usize) {
        self.lock().taken -= places;
        (0..places).for_each(|_| self.pass_on());
    }

    /// A listener is no more. If a place was to be its own, it is the next one's.
    pub(crate) fn leave(&self, loop_number: u64, listener: SourceId) {
        let gone = |it: &Waiter| it.is(loop_number, listener);
        self.lock().waiting.retain(|waiter| !gone(waiter));
        self.pass_on();
    }

    /// Wakes the first one that waits, if there is a place for it.
    pub(crate) fn pass_on(&self) {
        while let Some(waiter) = self.next() {
            // A loop that has ended needs none.
            if waiter.wake() {
                return;
            }
        }
    }

    fn next(&self) -> Option<Waiter> {
        let mut state = self.lock();
        if state.taken < self.shared.most {
            state.waiting.pop_front()
        } else {
            None
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under it, and each step leaves it whole.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A limit of its own.
impl From<usize> for ConnectionLimit {
    fn from(most: usize) -> Self {
        Self::new(most)
    }
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit")
            .field("most", &self.most())
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

/// A listener that found no place.
struct Waiter {
    loop_number: u64,
    threadsafe: ThreadsafeHandle,
    listener: SourceId,
}

impl Waiter {
    fn new(handle: &LoopHandle, listener: SourceId) -> Self {
        Self {
            loop_number: handle.number(),
            threadsafe: handle.threadsafe(),
            listener,
        }
    }

    fn is(&self, loop_number: u64, listener: SourceId) -> bool {
        self.loop_number == loop_number && self.listener == listener
    }

    /// Has it look again; false if its loop has ended.
    fn wake(self) -> bool {
        let listener = self.listener;
        match get_running_loop() {
            Ok(home) if home.number() == self.loop_number => {
                home.visit(listener);
                true
            }
            _ => {
                let visit = move || {
                    if let Ok(home) = get_running_loop() {
                        home.visit(listener);
                    }
                };
                self.threadsafe.call_soon_threadsafe(visit).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionLimit;
    use crate::event_loop::EventLoop;
    use crate::sys::SourceId;

    fn waiting(limit: &ConnectionLimit) -> Vec<u64> {
        let state = limit.lock();
        state.waiting.iter().map(|it| it.listener.0).collect()
    }

    #[test]
    fn a_place_is_offered_to_one_after_the_other() {
        let event_loop = EventLoop::new().unwrap();
        let take = |limit: &ConnectionLimit, id| limit.take(&event_loop, SourceId(id));
        let limit = ConnectionLimit::new(2);
        assert!(take(&limit, 1) && take(&limit, 1));
        for id in [1, 2, 3, 2, 4] {
            assert!(!take(&limit, id));
        }
        // Each is there once.
        assert_eq!(waiting(&limit), [1, 2, 3, 4]);
        limit.give_back(1);
        assert_eq!((limit.taken(), waiting(&limit)), (1, vec![2, 3, 4]));
        // The one that was woken goes without having looked: its turn is the next one's.
        limit.leave(event_loop.number(), SourceId(1));
        assert_eq!(waiting(&limit), [3, 4]);
        // So is that of one which has nobody to let in.
        assert!(take(&limit, 2));
        limit.give_back(1);
        assert_eq!(waiting(&limit), [4]);
        assert!(take(&limit, 3));
        // There is none, so nobody is woken, whoever goes.
        limit.pass_on();
        assert_eq!(waiting(&limit), [4]);
        limit.leave(event_loop.number(), SourceId(4));
        assert_eq!((limit.taken(), waiting(&limit)), (2, vec![]));
    }

    #[test]
    fn a_loop_that_has_ended_is_passed_over() {
        let (gone, stays) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let limit = ConnectionLimit::new(1);
        assert!(limit.take(&stays, SourceId(1)));
        assert!(!limit.take(&gone, SourceId(2)));
        assert!(!limit.take(&stays, SourceId(2)));
        gone.close();
        limit.give_back(1);
        assert_eq!((limit.taken(), waiting(&limit)), (0, vec![]));
    }
}
