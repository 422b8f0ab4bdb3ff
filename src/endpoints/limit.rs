//! How many connections there may be at a time.
//!
//! Owns: [`ConnectionLimit`]. Why: what a process can bear is one number, and it may have several
//! servers, on several loops; so places are counted where all of them can see it. Invariants: there
//! are never more places taken than there are; who found none is in the queue, and for each place
//! that is given back the first one there is woken, or, if that one has nobody to let in, or does not
//! look in time, the next; nothing is called under the lock. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event_loop::{LoopHandle, ThreadsafeHandle, get_running_loop};
use crate::sys::SourceId;

/// How many connections there may be at a time: of one server, or of all that have a clone of it,
/// whichever loops they are on. For [`max_connections`](crate::CreateServer::max_connections).
///
/// A place that becomes free is offered to the server whose clients have waited longest for one, so
/// that with one port for several loops nobody waits at one of them while another has room. If its
/// loop is too busy to take the place within a tenth of a second, the next one is offered it, too.
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
    max: usize,
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
    pub fn new(max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                max,
                state: Mutex::default(),
            }),
        }
    }

    /// How many places there are.
    pub fn max(&self) -> usize {
        self.shared.max
    }

    /// How many are taken now; one of them perhaps by a server that looks whether somebody waits.
    pub fn taken(&self) -> usize {
        self.lock().taken
    }

    /// Takes a place. If there is none, the listener is visited when there is.
    pub(crate) fn take(&self, handle: &LoopHandle, listener: SourceId) -> bool {
        let max = self.shared.max;
        let mut state = self.lock();
        let is_free = state.taken < max;
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
        let here = get_running_loop().ok().filter(|here| !here.is_closed());
        while let Some(waiter) = self.next() {
            match &here {
                Some(here) if here.number() == waiter.loop_number => {
                    here.visit(waiter.listener);
                    return;
                }
                Some(here) if waiter.wake() => {
                    self.look_again(here);
                    return;
                }
                // That loop has ended and needs none.
                Some(_) => {}
                // No loop here could look again, so all of them are asked at once.
                None => drop(waiter.wake()),
            }
        }
    }

    /// The place was offered to another loop, which may hang; this one does not, so it sees to it
    /// that the next in the queue is asked then.
    fn look_again(&self, here: &LoopHandle) {
        if !self.lock().waiting.is_empty() {
            let limit = self.clone();
            drop(here.call_later(LONG_ENOUGH, move || limit.pass_on()));
        }
    }

    fn next(&self) -> Option<Waiter> {
        let mut state = self.lock();
        if state.taken < self.shared.max {
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
    fn from(max: usize) -> Self {
        Self::new(max)
    }
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit")
            .field("max", &self.max())
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

    /// Has it look again, on another loop; false if that has ended.
    fn wake(&self) -> bool {
        let listener = self.listener;
        let visit = move || {
            if let Ok(home) = get_running_loop() {
                home.visit(listener);
            }
        };
        self.threadsafe.call_soon_threadsafe(visit).is_ok()
    }
}

/// For a loop that runs to take up an offer. Shorter, and places would go past those who have waited
/// longest whenever a machine is busy.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ConnectionLimit;
    use crate::event_loop::{EventLoop, LoopHandle, NoRunningLoop, get_running_loop};
    use crate::sys::SourceId;
    use crate::tasks::{sleep, timeout};

    fn waiting(limit: &ConnectionLimit) -> Vec<u64> {
        let state = limit.lock();
        state.waiting.iter().map(|it| it.listener.0).collect()
    }

    fn take(limit: &ConnectionLimit, handle: &LoopHandle, id: u64) -> bool {
        limit.take(handle, SourceId(id))
    }

    #[test]
    fn a_place_is_offered_to_one_after_the_other() {
        let mut event_loop = EventLoop::new().unwrap();
        let number = event_loop.number();
        let limit = ConnectionLimit::new(2);
        assert!(take(&limit, &event_loop, 1) && take(&limit, &event_loop, 1));
        for id in [1, 2, 3, 2, 4] {
            assert!(!take(&limit, &event_loop, id));
        }
        // Each is there once.
        assert_eq!(waiting(&limit), [1, 2, 3, 4]);
        event_loop.run_until_complete(async move {
            let here = get_running_loop().unwrap();
            limit.give_back(1);
            assert_eq!((limit.taken(), waiting(&limit)), (1, vec![2, 3, 4]));
            // The one that was woken goes without having looked: its turn is the next one's.
            limit.leave(number, SourceId(1));
            assert_eq!(waiting(&limit), [3, 4]);
            // So is that of one which has nobody to let in.
            assert!(take(&limit, &here, 2));
            limit.give_back(1);
            assert_eq!(waiting(&limit), [4]);
            assert!(take(&limit, &here, 3));
            // There is none, so nobody is woken, whoever goes.
            limit.pass_on();
            assert_eq!(waiting(&limit), [4]);
            limit.leave(number, SourceId(4));
            assert_eq!((limit.taken(), waiting(&limit)), (2, vec![]));
        });
    }

    #[test]
    fn a_loop_that_has_ended_is_passed_over() {
        let (gone, mut stays) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let limit = ConnectionLimit::new(1);
        assert!(take(&limit, &stays, 1));
        assert!(!take(&limit, &gone, 2));
        assert!(!take(&limit, &stays, 2));
        assert!(!take(&limit, &stays, 3));
        gone.close();
        stays.run_until_complete(async move {
            limit.give_back(1);
            assert_eq!((limit.taken(), waiting(&limit)), (0, vec![3]));
        });
    }

    /// First the one that has waited longest; the next one as well, if that does not look.
    #[test]
    fn a_loop_that_hangs_is_passed_over_in_time() {
        let (hangs, mut runs) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let limit = ConnectionLimit::new(1);
        assert!(take(&limit, &runs, 1));
        for (event_loop, id) in [(&hangs, 1), (&hangs, 2), (&runs, 3), (&runs, 4)] {
            assert!(!take(&limit, event_loop, id));
        }
        let run = runs.run_until_complete(async move {
            limit.give_back(1);
            assert_eq!(waiting(&limit), [2, 3, 4]);
            let here = get_running_loop().unwrap();
            let asked = async {
                while waiting(&limit) != [4] {
                    sleep(Duration::from_millis(1)).await?;
                }
                // That one has it, so the last one has to wait.
                assert!(take(&limit, &here, 3));
                Ok::<_, NoRunningLoop>(())
            };
            timeout(Duration::from_secs(10), asked).await.unwrap()
        });
        run.unwrap();
    }

    #[test]
    fn where_no_loop_runs_all_are_asked() {
        let (one, other) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let limit = ConnectionLimit::new(1);
        assert!(take(&limit, &one, 1));
        assert!(!take(&limit, &one, 2) && !take(&limit, &other, 2));
        limit.give_back(1);
        assert_eq!((limit.taken(), waiting(&limit)), (0, vec![]));
    }
}
