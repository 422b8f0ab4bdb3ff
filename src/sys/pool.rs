//! Threads for what blocks.
//!
//! Owns: [`Pool`]. Why: looking up a name, reading a file or computing for long would hold the
//! loop's thread up, and a thread for each such job would be without bound. Invariants: at most
//! [`most_threads`] threads, started when a job finds none idle and ended when idle for a
//! while; jobs begin in their order; a job that panics costs nobody else anything; the pool's end
//! waits for nothing: jobs that have not begun are given back, one that runs goes on by itself.
//! asyncio's counterpart: `ThreadPoolExecutor`, the default executor.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Something to be done on another thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A job that nobody can do, with the system's reason.
pub(crate) struct Refused {
    pub(crate) job: Job,
    pub(crate) error: io::Error,
}

/// A bounded set of threads and a queue in front of it.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// Asked of the system when the first job comes: most loops have none.
    most: OnceCell<usize>,
    patience: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// There is a job, or the pool is gone.
    news: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// How many of them wait for a job.
    idle: usize,
    over: bool,
}

impl Pool {
    /// A pool that has no thread yet.
    pub(crate) fn new() -> Self {
        Self::with(OnceCell::new(), PATIENCE)
    }

    fn with(most: OnceCell<usize>, patience: Duration) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            news: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            most,
            patience,
        }
    }

    /// Has `job` done by a thread of the pool, which is started if none is idle.
    ///
    /// Refused only if there is no thread at all and none can be had.
    pub(crate) fn execute(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.shared.lock();
        // Whoever was notified and has not run yet counts as idle, and so does its job as queued.
        let most = *self.most.get_or_init(most_threads);
        if state.idle <= state.queue.len() && state.threads < most {
            match self.start_thread() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(Refused { job, error }),
                // Those that there are do it later.
                Err(_) => {}
            }
        }
        state.queue.push_back(job);
        drop(state);
        self.shared.news.notify_one();
        Ok(())
    }

    /// Ends it: its threads go when they are done, and whoever calls this drops what has not begun.
    pub(crate) fn end(&self) -> VecDeque<Job> {
        let queue = {
            let mut state = self.shared.lock();
            state.over = true;
            std::mem::take(&mut state.queue)
        };
        self.shared.news.notify_all();
        queue
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let patience = self.patience;
        let thread = thread::Builder::new().name(String::from(THREAD_NAME));
        thread.spawn(move || shared.work(patience)).map(drop)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for job in self.end() {
            quietly(|| drop(job));
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Shared {
    /// The life of a thread.
    fn work(&self, patience: Duration) {
        while let Some(job) = self.next(patience) {
            quietly(job);
        }
    }

    /// Waits for a job. `None`: none came for long, or the pool is gone, and the thread counts no
    /// more.
    fn next(&self, patience: Duration) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            if state.over {
                break;
            }
            state.idle += 1;
            let waited = self.news.wait_timeout(state, patience);
            let (back, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if outcome.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        None
    }

    /// No job runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `job` on a thread of its own and waits for it. Without a thread it is dropped, which tells
/// whoever waits for its outcome.
pub(crate) fn run_elsewhere(job: Job) {
    let thread = thread::Builder::new().name(String::from(THREAD_NAME));
    if let Ok(thread) = thread.spawn(move || quietly(job)) {
        // It cannot panic: see `quietly`.
        let _ = thread.join();
    }
}

/// A panic ends here: whoever waits for the job's outcome was told by what is in the job.
fn quietly(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        // The payload's destructor is somebody's code, too, but that is the end of it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

/// As many as Python has: jobs that wait, and not only compute, want more threads than cores.
fn most_threads() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores + 4).min(32)
}

/// At most 15 bytes, or Linux cuts it.
const THREAD_NAME: &str = "evloop-worker";
/// How long a thread waits for its next job.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// A test waits so long at most for what does come.
    const LIMIT: Duration = Duration::from_secs(30);

    fn execute(pool: &Pool, job: impl FnOnce() + Send + 'static) {
        assert!(pool.execute(Box::new(job)).is_ok());
    }

    /// A job that tells its number and then waits to be let go.
    fn held(pool: &Pool, number: usize, begun: &Sender<usize>) -> Sender<()> {
        let (release, released) = mpsc::channel();
        let begun = begun.clone();
        execute(pool, move || {
            begun.send(number).unwrap();
            let _ = released.recv_timeout(LIMIT);
        });
        release
    }

    fn next<T>(from: &Receiver<T>) -> T {
        from.recv_timeout(LIMIT).expect("it never came")
    }

    fn until(pool: &Pool, what: &str, condition: impl Fn(&State) -> bool) {
        for _ in 0..LIMIT.as_millis() {
            if condition(&pool.shared.lock()) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("never: {what}");
    }

    #[test]
    fn jobs_run_elsewhere_side_by_side_and_no_more_than_the_limit() {
        let pool = Pool::with(OnceCell::from(2), LIMIT);
        let (begun, order) = mpsc::channel();
        let mut releases: Vec<_> = (0..4).map(|i| held(&pool, i, &begun)).collect();
        let mut first = [next(&order), next(&order)];
        first.sort_unstable();
        assert_eq!(first, [0, 1]);
        assert_eq!(pool.shared.lock().threads, 2);
        // As one ends the next begins, in order.
        drop(releases.remove(0));
        assert_eq!(next(&order), 2);
        drop(releases.remove(0));
        assert_eq!(next(&order), 3);
        assert!(order.try_recv().is_err());
        drop(releases);
    }

    #[test]
    fn an_idle_thread_takes_the_next_job_and_no_second_one_is_started() {
        let pool = Pool::with(OnceCell::from(8), LIMIT);
        let (done, ids) = mpsc::channel();
        let mut seen = Vec::new();
        for _ in 0..10 {
            let done = done.clone();
            execute(&pool, move || done.send(thread::current().id()).unwrap());
            seen.push(next(&ids));
            until(&pool, "idle", |state| state.idle == 1);
        }
        assert!(seen.iter().all(|id| *id == seen[0]));
        assert_ne!(seen[0], thread::current().id());
        assert_eq!(pool.shared.lock().threads, 1);
    }

    #[test]
    fn threads_that_nobody_needs_end_and_come_back_with_the_next_job() {
        let pool = Pool::with(OnceCell::from(2), Duration::from_millis(1));
        let (done, finished) = mpsc::channel();
        for _ in 0..2 {
            let done = done.clone();
            execute(&pool, move || done.send(()).unwrap());
            next(&finished);
            until(&pool, "ended", |state| {
                state.threads == 0 && state.idle == 0
            });
        }
    }

    #[test]
    fn a_job_that_panics_costs_no_thread() {
        let pool = Pool::with(OnceCell::from(1), LIMIT);
        execute(&pool, || panic!("expected by this test"));
        let (done, finished) = mpsc::channel();
        execute(&pool, move || done.send(()).unwrap());
        next(&finished);
        assert_eq!(pool.shared.lock().threads, 1);
    }

    #[test]
    fn the_end_drops_what_has_not_begun_and_waits_for_nothing() {
        let pool = Pool::with(OnceCell::from(1), LIMIT);
        let (begun, order) = mpsc::channel();
        let release = held(&pool, 1, &begun);
        assert_eq!(next(&order), 1);
        let (kept, dropped) = mpsc::channel::<()>();
        execute(&pool, move || kept.send(()).unwrap());
        let shared = Arc::clone(&pool.shared);
        drop(pool);
        // The second job was dropped, never run, while the first still holds its thread.
        assert_eq!(dropped.recv(), Err(mpsc::RecvError));
        assert_eq!(shared.lock().threads, 1);
        drop(release);
        for _ in 0..LIMIT.as_millis() {
            if shared.lock().threads == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the thread stays");
    }
}
