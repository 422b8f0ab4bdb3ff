//! A loop for each core.
//!
//! Owns: [`LoopGroup`], [`Worker`] and [`GroupError`]. Why: a loop is one thread's, so a program
//! that wants more than one core runs several; how they begin together and end together is the same
//! for all such programs. Invariants: no main begins before every loop exists; the calling thread
//! only waits, and returns when no thread of the group is left; loops share nothing but what is
//! handed over. asyncio's counterpart: none; there it is a process for each core.

use std::error::Error;
use std::fmt;
use std::future::IntoFuture;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use crate::event_loop::{EventLoop, LoopStopped, PanicError, ThreadsafeHandle, get_running_loop};
use crate::sys::invalid_input;

/// Several event loops, each on a thread of its own, that begin together and end together.
///
/// What is made in a loop stays on its thread, as ever. Loops talk by
/// [`Worker::threadsafe`], and a connection can be handed over as its socket. A port is shared with
/// [`reuse_port_sockets`](crate::reuse_port_sockets).
///
/// Each loop handles the signals that it asked for itself, and all that asked get each signal: a
/// main that waits for `SIGTERM` with
/// [`add_signal_handler`](crate::LoopHandle::add_signal_handler) ends its own worker, and as every
/// worker has the same main, they all end.
///
/// ```
/// use evloop::LoopGroup;
///
/// // It may be borrowed by all of them.
/// let words = ["three", "loops", "ran"];
/// let group = LoopGroup::new(3)?;
/// let lengths = group.run(|worker| {
///     let word = words[worker.index()];
///     async move {
///         evloop::sleep(std::time::Duration::from_millis(1)).await?;
///         Ok::<_, std::io::Error>(word.len())
///     }
/// })?;
/// assert_eq!(lengths, [5, 5, 3]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LoopGroup {
    count: usize,
    thread_name: String,
}

impl LoopGroup {
    /// More workers than this are refused: it is far beyond the cores of a machine, so it is a
    /// mistake.
    pub const MAX_WORKERS: usize = 1024;

    /// A group of so many workers; 0 is one for each core that this process may use.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more than [`MAX_WORKERS`](Self::MAX_WORKERS).
    pub fn new(workers: usize) -> io::Result<Self> {
        if workers > Self::MAX_WORKERS {
            let max = Self::MAX_WORKERS;
            return Err(invalid_input(format!(
                "{workers} workers are too many: {max} at most"
            )));
        }
        let count = match workers {
            0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            asked => asked,
        };
        Ok(Self {
            count: count.min(Self::MAX_WORKERS),
            thread_name: "evloop".to_owned(),
        })
    }

    /// What the threads are called, before a hyphen and the worker's index; `evloop` by default.
    /// Tools such as `top` show it, and Linux cuts it after 15 bytes.
    ///
    /// # Panics
    ///
    /// If there is a NUL in it.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        assert!(
            !self.thread_name.contains('\0'),
            "a thread name without NUL"
        );
        self
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `main` in each worker, and waits for all of them. Their outputs come in the order of
    /// the workers.
    ///
    /// `main` is called within the worker's loop. Its future stays there, so it need not be `Send`,
    /// and both may borrow from the caller. When it is complete its loop is closed, as by
    /// [`run`](crate::run), and the others go on.
    ///
    /// The first worker that fails stops the group: the loops of all others are stopped, so their
    /// mains and tasks are dropped where they stand, and their loops are closed. One that is busy
    /// with something else than its loop is waited for.
    ///
    /// # Errors
    ///
    /// A [`GroupError`] that names the worker which failed first: its main gave an error or
    /// panicked, somebody stopped its loop, or the system had no thread or no descriptor for it, in
    /// which case no main was begun.
    ///
    /// # Panics
    ///
    /// If a loop is running on this thread, which would have to wait.
    #[track_caller]
    pub fn run<M, T, E>(&self, main: impl Fn(Worker) -> M + Sync) -> Result<Vec<T>, GroupError<E>>
    where
        M: IntoFuture<Output = Result<T, E>>,
        T: Send,
        E: Send,
    {
        self.run_with(vec![(); self.count], |worker, ()| main(worker))
    }

    /// [`run`](Self::run), with something that each worker has for itself, in their order: its
    /// sockets, for one.
    ///
    /// ```
    /// use evloop::LoopGroup;
    ///
    /// let parts = vec![String::from("one"), String::from("two")];
    /// let told = LoopGroup::new(2)?.run_with(parts, |worker, part| async move {
    ///     Ok::<_, std::io::Error>(format!("{}: {part}", worker.index()))
    /// })?;
    /// assert_eq!(told, ["0: one", "1: two"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), and if there are not as many parts as workers.
    #[track_caller]
    pub fn run_with<P, M, T, E>(
        &self,
        parts: Vec<P>,
        main: impl Fn(Worker, P) -> M + Sync,
    ) -> Result<Vec<T>, GroupError<E>>
    where
        P: Send,
        M: IntoFuture<Output = Result<T, E>>,
        T: Send,
        E: Send,
    {
        assert_eq!(parts.len(), self.count, "a part for each worker");
        assert!(
            get_running_loop().is_err(),
            "Cannot run a group of event loops while a loop is running"
        );
        let main = &main;
        thread::scope(|scope| {
            let (report, reports) = channel();
            let mut begun = Vec::with_capacity(self.count);
            for (index, part) in parts.into_iter().enumerate() {
                let name = format!("{}-{index}", self.thread_name);
                let over = Over {
                    worker: index,
                    is_well: false,
                    report: report.clone(),
                };
                let main = move |loops| main(Worker { index, loops }, part);
                // If this fails, those that wait for their start end, since it cannot come any more.
                let worker =
                    begin(scope, name, over, main).map_err(|error| GroupError::NoLoop {
                        worker: index,
                        error,
                    })?;
                begun.push(worker);
            }
            drop(report);
            let loops: Loops = begun.iter().map(|begun| begun.handle.clone()).collect();
            for begun in &begun {
                // It waits for this.
                let _ = begun.start.send(Arc::clone(&loops));
            }
            let first = first_failure(&reports, &loops);
            let threads = begun.into_iter().map(|begun| begun.thread);
            outputs(threads.collect(), first)
        })
    }
}

/// One of a [`LoopGroup`], as its main sees it. It may be cloned, and sent to other threads.
#[derive(Clone, Debug)]
pub struct Worker {
    index: usize,
    loops: Loops,
}

impl Worker {
    /// Which one it is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.loops.len()
    }

    /// A handle on the loop of the worker `index`, which may be this one. All loops exist before
    /// any main begins; one that has ended refuses what it is handed.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// # use std::net::TcpStream;
    ///
    /// use evloop::{LoopGroup, get_running_loop, open_connection};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let peer = TcpStream::connect(listener.local_addr()?)?;
    /// LoopGroup::new(2)?.run(|worker| {
    ///     let listener = &listener;
    /// #   let peer = &peer;
    ///     async move {
    ///         if worker.index() == 0 {
    ///             let (socket, _) = listener.accept()?;
    ///             // From here on it is the other worker's.
    ///             worker.threadsafe(1).call_soon_threadsafe(move || {
    ///                 let handle = get_running_loop().expect("this is its callback");
    ///                 drop(handle.create_task(async move {
    ///                     let (_reader, writer) = open_connection(socket).await?;
    ///                     writer.write(b"hello");
    ///                     writer.drain().await
    ///                 }));
    ///             })?;
    /// #           assert_eq!(std::io::read_to_string(peer)?, "hello");
    ///         } else {
    ///             // Others wait for a signal.
    ///             while !worker.threadsafe(0).is_closed() {
    ///                 evloop::sleep(std::time::Duration::from_millis(5)).await?;
    ///             }
    ///         }
    ///         Ok::<_, std::io::Error>(())
    ///     }
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    pub fn threadsafe(&self, index: usize) -> ThreadsafeHandle {
        self.loops[index].clone()
    }
}

/// Why a group has ended without its outputs. It names the worker that failed first, by its index.
///
/// As an `io::Error` it keeps the kind of the error that it is about, and can be downcast to a
/// `GroupError<Box<dyn Error + Send + Sync>>`.
#[derive(Debug)]
#[non_exhaustive]
pub enum GroupError<E> {
    /// Its main panicked. The process's panic hook was told where.
    Panicked {
        /// Which one, by its index.
        worker: usize,
        /// What the panic said.
        message: String,
    },
    /// Its main gave an error.
    Failed {
        /// Which one, by its index.
        worker: usize,
        /// What it gave.
        error: E,
    },
    /// Its loop was stopped before its main was complete.
    Stopped {
        /// Which one, by its index.
        worker: usize,
    },
    /// The system has no thread for it, or no descriptor for its loop. No main was begun.
    NoLoop {
        /// Which one, by its index.
        worker: usize,
        /// What the system said.
        error: io::Error,
    },
}

impl<E> GroupError<E> {
    /// Which worker failed, by its index.
    pub fn worker(&self) -> usize {
        match self {
            Self::Panicked { worker, .. }
            | Self::Failed { worker, .. }
            | Self::Stopped { worker }
            | Self::NoLoop { worker, .. } => *worker,
        }
    }

    fn map<F>(self, f: impl FnOnce(E) -> F) -> GroupError<F> {
        match self {
            Self::Panicked { worker, message } => GroupError::Panicked { worker, message },
            Self::Failed { worker, error } => GroupError::Failed {
                worker,
                error: f(error),
            },
            Self::Stopped { worker } => GroupError::Stopped { worker },
            Self::NoLoop { worker, error } => GroupError::NoLoop { worker, error },
        }
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { worker, message } => write!(f, "worker {worker} panicked: {message}"),
            Self::Failed { worker, error } => write!(f, "worker {worker}: {error}"),
            Self::Stopped { worker } => write!(f, "worker {worker}: {LoopStopped}"),
            Self::NoLoop { worker, error } => write!(f, "no loop for worker {worker}: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<GroupError<E>> for io::Error {
    fn from(error: GroupError<E>) -> Self {
        let error = error.map(Into::into);
        let kind = match &error {
            GroupError::Failed { error, .. } => error.downcast_ref().map(Self::kind),
            GroupError::NoLoop { error, .. } => Some(error.kind()),
            GroupError::Panicked { .. } | GroupError::Stopped { .. } => None,
        };
        Self::new(kind.unwrap_or(io::ErrorKind::Other), error)
    }
}

/// The ways into the loops of a group.
type Loops = Arc<[ThreadsafeHandle]>;

/// A worker whose loop exists, and that waits for its start.
struct Begun<'scope, T> {
    thread: ScopedJoinHandle<'scope, Option<T>>,
    handle: ThreadsafeHandle,
    start: Sender<Loops>,
}

/// Begins a thread, and waits until its loop exists.
fn begin<'scope, M, T, E>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    over: Over,
    main: impl FnOnce(Loops) -> M + Send + 'scope,
) -> io::Result<Begun<'scope, M::Output>>
where
    M: IntoFuture<Output = Result<T, E>>,
    T: Send + 'scope,
    E: Send + 'scope,
{
    let (made, is_made) = channel();
    let (start, started) = channel();
    let thread = thread::Builder::new()
        .name(name)
        .spawn_scoped(scope, move || work(over, &made, &started, main))?;
    let handle = is_made.recv().map_err(io::Error::other)??;
    Ok(Begun {
        thread,
        handle,
        start,
    })
}

/// What a thread does. None if its loop was stopped, or never started.
fn work<M: IntoFuture<Output = Result<T, E>>, T, E>(
    over: Over,
    made: &Sender<io::Result<ThreadsafeHandle>>,
    started: &Receiver<Loops>,
    main: impl FnOnce(Loops) -> M,
) -> Option<M::Output> {
    // It is waited for; if it is not any more, the start does not come either.
    let tell = |outcome| drop(made.send(outcome));
    let mut event_loop = match EventLoop::new() {
        Ok(event_loop) => event_loop,
        Err(error) => {
            tell(Err(error));
            return None;
        }
    };
    tell(Ok(event_loop.threadsafe()));
    let loops = started.recv().ok()?;
    // Goes before the loop does, also when main panics: whoever fails because this loop is closed
    // was not the first, and to close it may take its time.
    let mut over = over;
    let output = event_loop.try_run_until_complete(async { main(loops).await });
    over.is_well = matches!(output, Ok(Ok(_)));
    drop(over);
    output.ok()
}

/// Says that a main is over, however it ends.
struct Over {
    worker: usize,
    /// It gave an output that is no error.
    is_well: bool,
    report: Sender<(usize, bool)>,
}

impl Drop for Over {
    fn drop(&mut self) {
        // Nobody waits in a group that could not begin.
        let _ = self.report.send((self.worker, self.is_well));
    }
}

/// Waits until all mains are over, and stops the others as soon as one has failed: that one is
/// named.
fn first_failure(reports: &Receiver<(usize, bool)>, loops: &Loops) -> Option<usize> {
    let mut first = None;
    while let Ok((worker, is_well)) = reports.recv() {
        // Those after the first were stopped by us, or have failed as well.
        if !is_well && first.is_none() {
            first = Some(worker);
            loops.iter().for_each(stop);
        }
    }
    first
}

/// Waits for all threads. Of those that failed `first` counts, if there is one.
fn outputs<T, E>(
    threads: Vec<ScopedJoinHandle<'_, Option<Result<T, E>>>>,
    first: Option<usize>,
) -> Result<Vec<T>, GroupError<E>> {
    let mut outputs = Vec::with_capacity(threads.len());
    let mut failure = None;
    for (worker, thread) in threads.into_iter().enumerate() {
        let error = match thread.join() {
            Ok(Some(Ok(output))) => {
                outputs.push(output);
                continue;
            }
            Ok(Some(Err(error))) => GroupError::Failed { worker, error },
            Ok(None) => GroupError::Stopped { worker },
            Err(payload) => GroupError::Panicked {
                worker,
                message: PanicError::new(&*payload).message().to_owned(),
            },
        };
        if failure.is_none() || first == Some(worker) {
            failure = Some(error);
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(outputs),
    }
}

fn stop(handle: &ThreadsafeHandle) {
    // Refused by a loop that has ended.
    let _ = handle.call_soon_threadsafe(|| {
        if let Ok(running) = get_running_loop() {
            running.stop();
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::{Loops, first_failure};
    use crate::event_loop::EventLoop;
    use crate::tasks::sleep;

    #[test]
    fn the_first_failure_stops_the_others_and_nothing_else_does() {
        let mut event_loop = EventLoop::new().unwrap();
        let loops = Loops::from([event_loop.threadsafe()]);
        let mut told = |reports: &[(usize, bool)]| {
            let (report, are_over) = channel();
            reports.iter().for_each(|it| report.send(*it).unwrap());
            drop(report);
            let first = first_failure(&are_over, &loops);
            let run = event_loop.try_run_until_complete(sleep(Duration::from_millis(1)));
            (first, run.is_err())
        };
        assert_eq!(told(&[(0, true), (1, true)]), (None, false));
        assert_eq!(told(&[(1, true), (2, false), (0, false)]), (Some(2), true));
    }
}
