//! Descriptors that belong to the caller: `add_reader`, `add_writer` and their opposites.
//!
//! Owns: what is done with the table of watched descriptors. Why: asyncio promises a call in each
//! turn for as long as the descriptor is ready, and the poller speaks only when it becomes so;
//! therefore it is asked anew after each callback that is still wanted. Invariants: the poller is
//! asked for the directions that have a callback and for no others, so that no poll is in vain;
//! a number that is one of the loop's own sockets is left alone; callbacks run from the
//! ready queue, the reader's first. asyncio's counterpart: `add_reader` and its neighbours in
//! `selector_events`.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use crate::event_loop::cells::Slot;
use crate::event_loop::ready::Entry;
use crate::event_loop::state::{LoopHandle, Progress, Source};
use crate::event_loop::threadsafe::LoopClosed;
use crate::event_loop::watched::{Direction, Watched};
use crate::sys::{Readiness, SourceId, invalid_input};

impl LoopHandle {
    /// Calls `callback` when `fd` can be read without blocking, or is at its end, or broken, and
    /// then again, once each time the loop has looked at the world, for as long as that is so. It
    /// replaces an earlier reader of the same descriptor; a writer stays.
    ///
    /// `fd` is anything with a descriptor, or the number itself: a socket, a pipe, a terminal. It
    /// stays the caller's, who makes it non-blocking where that matters, and who calls
    /// [`remove_reader`](Self::remove_reader) *before* closing it: only the number is known here.
    /// The system forgets a descriptor that is closed while it is watched, so the callback is
    /// called no more; it is dropped when the same number is added again or removed, or with the
    /// loop. While a duplicate is open the file itself is not closed.
    ///
    /// A callback that panics is reported to the exception handler, and called again. Mirrors
    /// `loop.add_reader`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a negative number; `ResourceBusy` if the descriptor is that of a
    /// transport or a server of this loop; [`LoopClosed`] after the loop's end; and
    /// [`DescriptorError`] with the system's error, which for a regular file is `EPERM`
    /// (`PermissionDenied`): such a file is always ready.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use std::rc::Rc;
    ///
    /// use evloop::EventLoop;
    ///
    /// let mut event_loop = EventLoop::new()?;
    /// let (ours, mut theirs) = UnixStream::pair()?;
    /// let (ours, handle) = (Rc::new(ours), event_loop.handle());
    /// let reader = Rc::clone(&ours);
    /// event_loop.add_reader(&ours, move || {
    ///     let mut byte = [0];
    ///     (&*reader).read_exact(&mut byte).unwrap();
    ///     if byte == *b"!" {
    ///         handle.remove_reader(&reader);
    ///         handle.stop();
    ///     }
    /// })?;
    /// theirs.write_all(b"one byte a turn!")?;
    /// event_loop.run_forever();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn add_reader(
        &self,
        fd: &impl AsRawFd,
        callback: impl FnMut() + 'static,
    ) -> io::Result<()> {
        self.watch(fd.as_raw_fd(), Direction::Read, Box::new(callback))
    }

    /// Stops watching `fd` for reading and drops the callback; false if there was none, and on a
    /// closed loop. The callback is not called any more, also if the descriptor is ready already.
    /// Mirrors `loop.remove_reader`.
    pub fn remove_reader(&self, fd: &impl AsRawFd) -> bool {
        self.unwatch(fd.as_raw_fd(), Direction::Read)
    }

    /// Calls `callback` when `fd` can be written without blocking, or is broken, and then again for
    /// as long as that is so. For the rest it is as [`add_reader`](Self::add_reader). Mirrors
    /// `loop.add_writer`.
    ///
    /// # Errors
    ///
    /// Those of [`add_reader`](Self::add_reader).
    pub fn add_writer(
        &self,
        fd: &impl AsRawFd,
        callback: impl FnMut() + 'static,
    ) -> io::Result<()> {
        self.watch(fd.as_raw_fd(), Direction::Write, Box::new(callback))
    }

    /// Stops watching `fd` for writing, as [`remove_reader`](Self::remove_reader) does for
    /// reading. Mirrors `loop.remove_writer`.
    pub fn remove_writer(&self, fd: &impl AsRawFd) -> bool {
        self.unwatch(fd.as_raw_fd(), Direction::Write)
    }

    /// [`add_reader`](Self::add_reader) or [`add_writer`](Self::add_writer).
    pub(crate) fn watch(
        &self,
        fd: RawFd,
        direction: Direction,
        callback: Box<dyn FnMut()>,
    ) -> io::Result<()> {
        if self.is_closed() {
            return Err(LoopClosed.into());
        }
        if fd < 0 {
            let message = format!("Invalid file descriptor: {fd}");
            return Err(invalid_input(message));
        }
        self.know_holders();
        if let Some(holder) = self.holder(fd) {
            let message = format!("File descriptor {fd} is used by {}", holder.describe());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        let watched = self.watched_for(fd, direction.readiness());
        let watched = watched.map_err(|source| DescriptorError { fd, source })?;
        let replaced = watched.put(direction, Rc::new(Slot::new(Some(callback))));
        self.enter_reporting(IN_A_DESTRUCTOR, || drop(replaced));
        Ok(())
    }

    /// The entry of a descriptor, which the system watches for this as well from now on.
    fn watched_for(&self, fd: RawFd, readiness: Readiness) -> io::Result<Rc<Watched>> {
        if let Some(watched) = self.watched(fd) {
            if watched.watch.rearm(watched.wanted() | readiness).is_ok() {
                return Ok(watched);
            }
            // The file was closed, and the number may be another one's by now.
            self.forget(&watched);
        }
        let id = self.reserve();
        match self.driver(|driver| driver.watch(id, fd, readiness)) {
            Ok(watch) => {
                let watched = Rc::new(Watched::new(id, fd, watch));
                self.insert(id, Rc::clone(&watched) as Rc<dyn Source>);
                let entry = Rc::clone(&watched);
                // The number was free, so nothing comes back.
                drop(self.inner.watched.with(|table| table.insert(fd, entry)));
                Ok(watched)
            }
            Err(error) => {
                drop(self.remove(id));
                Err(error)
            }
        }
    }

    /// [`remove_reader`](Self::remove_reader) or [`remove_writer`](Self::remove_writer).
    pub(crate) fn unwatch(&self, fd: RawFd, direction: Direction) -> bool {
        let watched = self.watched(fd).filter(|_| !self.is_closed());
        let Some(watched) = watched else {
            return false;
        };
        let removed = watched.take(direction);
        let was_there = removed.is_some();
        if was_there {
            self.ask_anew(&watched);
        }
        self.enter_reporting(IN_A_DESTRUCTOR, || drop(removed));
        was_there
    }

    /// Has the system say what of the wanted directions is ready, or ends the watching if there
    /// is none.
    fn ask_anew(&self, watched: &Rc<Watched>) {
        let wanted = watched.wanted();
        // Closed by its owner without a word, and the number is a socket of ours now.
        let is_lost = self.holder(watched.fd).is_some();
        if is_lost || (!wanted.is_empty() && watched.watch.rearm(wanted).is_err()) {
            self.forget(watched);
        } else if wanted.is_empty() {
            watched.watch.end();
            self.forget(watched);
        }
    }

    /// Takes an entry out of the tables and drops its callbacks.
    fn forget(&self, watched: &Rc<Watched>) {
        let own = |entry: &mut Rc<Watched>| entry.id == watched.id;
        let entry = self.inner.watched.with(|table| {
            let is_own = table.get_mut(&watched.fd).is_some_and(own);
            is_own.then(|| table.remove(&watched.fd)).flatten()
        });
        drop((entry, self.remove(watched.id)));
        for direction in BOTH {
            let callback = watched.take(direction);
            self.enter_reporting(IN_A_DESTRUCTOR, || drop(callback));
        }
    }

    /// A descriptor becomes one of ours: whoever watched it does so no more, as a transport of
    /// asyncio's takes the place of a reader.
    pub(crate) fn take_over(&self, fd: RawFd) {
        if let Some(watched) = self.watched(fd) {
            watched.watch.end();
            self.forget(&watched);
        }
    }

    fn watched(&self, fd: RawFd) -> Option<Rc<Watched>> {
        self.inner.watched.with(|table| table.get(&fd).cloned())
    }

    /// A source has a descriptor for its own. Written down only where somebody has ever watched
    /// one: most loops need no such list.
    pub(super) fn note_holder(&self, source: &dyn Source, id: SourceId) {
        if self.inner.has_holders.get() {
            self.write_down(source, id);
        }
    }

    fn write_down(&self, source: &dyn Source, id: SourceId) {
        let index = source.descriptor().map(usize::try_from);
        let Some(Ok(index)) = index else {
            return;
        };
        self.inner.holders.with(|holders| {
            if holders.len() <= index {
                holders.resize(index + 1, NOBODY);
            }
            holders[index] = id;
        });
    }

    /// From now on it is known whose a descriptor is.
    fn know_holders(&self) {
        if !self.inner.has_holders.replace(true) {
            for key in self.inner.sources.keys() {
                if let Some(source) = self.inner.sources.get(key) {
                    self.write_down(&*source, SourceId(key));
                }
            }
        }
    }

    /// The source whose own this descriptor is.
    fn holder(&self, fd: RawFd) -> Option<Rc<dyn Source>> {
        let index = usize::try_from(fd).ok()?;
        let id = self
            .inner
            .holders
            .with(|holders| holders.get(index).copied())?;
        let source = self.inner.sources.get(id.0)?;
        (source.descriptor() == Some(fd)).then_some(source)
    }
}

impl Source for Watched {
    fn serve(self: Rc<Self>, handle: &LoopHandle, event: Option<Readiness>) -> Progress {
        let event = event.unwrap_or_default();
        for direction in BOTH {
            if event.says(direction.readiness()) && self.make_due(direction) {
                handle.enqueue(self.id, direction.entry());
            }
        }
        Progress::Done
    }

    fn run(self: Rc<Self>, handle: &LoopHandle, entry: Entry) {
        let due = Direction::of(entry).and_then(|direction| self.next(direction));
        let Some(callback) = due else {
            return;
        };
        handle.enter_reporting("Exception in callback", || {
            callback.lend(|callback| callback());
            drop(callback);
        });
        // Once for both directions, and not if the callback has ended it.
        if !self.is_due() && !self.wanted().is_empty() {
            handle.ask_anew(&self);
        }
    }

    fn settle(self: Rc<Self>, _: &LoopHandle) {}

    fn describe(&self) -> String {
        format!("the callbacks of file descriptor {}", self.fd)
    }

    fn abandon(self: Rc<Self>) {
        for direction in BOTH {
            drop(self.take(direction));
        }
    }
}

/// A descriptor that the system does not watch. As an `io::Error` it keeps the kind of the
/// system's error and can be downcast.
///
/// ```
/// use evloop::{DescriptorError, EventLoop};
///
/// let event_loop = EventLoop::new()?;
/// let file = std::fs::File::open("Cargo.toml")?;
/// # if cfg!(target_os = "linux") {
/// let error = event_loop.add_reader(&file, || ()).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
/// let error = error.downcast::<DescriptorError>().unwrap();
/// assert_eq!(error.source.to_string(), "Operation not permitted (os error 1)");
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct DescriptorError {
    /// The descriptor.
    pub fd: RawFd,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot watch file descriptor {}: {}",
            self.fd, self.source
        )
    }
}

impl Error for DescriptorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<DescriptorError> for io::Error {
    fn from(error: DescriptorError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

/// An id that is never given: no generation is 0.
const NOBODY: SourceId = SourceId(0);

const IN_A_DESTRUCTOR: &str = "Exception in a destructor";

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::Duration;

    use crate::event_loop::EventLoop;
    use crate::event_loop::tests::Counting;
    use crate::sys::MioDriver;

    /// A loop whose polls are counted.
    fn counted() -> (EventLoop, Rc<Cell<usize>>) {
        let polls = Rc::new(Cell::new(0));
        let driver = Counting(MioDriver::new().unwrap(), Rc::clone(&polls));
        (EventLoop::with_driver(Box::new(driver)), polls)
    }

    /// One poll for each call, and none for nothing: a loop that spins would make thousands.
    #[test]
    fn each_call_takes_one_poll_and_a_loop_with_nothing_to_call_sleeps() {
        let (mut event_loop, polls) = counted();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let calls = Rc::new(Cell::new(0));
        let (count, reader) = (Rc::clone(&calls), ours.try_clone().unwrap());
        let read = move || {
            count.set(count.get() + 1);
            (&reader).read_exact(&mut [0]).unwrap();
        };
        event_loop.add_reader(&ours, read).unwrap();
        theirs.write_all(&[b'x'; 100]).unwrap();
        let handle = event_loop.handle();
        event_loop.call_later(Duration::from_millis(100), move || handle.stop());
        event_loop.run_forever();
        assert_eq!(calls.get(), 100);
        // The timer takes one, and a system that wakes a sleeper early some more.
        assert!((100..110).contains(&polls.get()), "{} polls", polls.get());
    }

    /// What nobody waits for wakes nobody: a socket with room for writing that has a reader, one
    /// with bytes to read that has a writer, and both when their callbacks are removed.
    #[test]
    fn a_direction_without_a_callback_wakes_nobody() {
        let (mut event_loop, polls) = counted();
        let (quiet, _peer) = UnixStream::pair().unwrap();
        let (full, mut theirs) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while (&full).write(&[0; 4096]).is_ok() {}
        theirs.write_all(b"x").unwrap();
        event_loop.add_reader(&quiet, || unreachable!()).unwrap();
        event_loop.add_writer(&full, || unreachable!()).unwrap();
        let (removed, _other) = UnixStream::pair().unwrap();
        event_loop.add_reader(&removed, || unreachable!()).unwrap();
        event_loop.add_writer(&removed, || unreachable!()).unwrap();
        assert!(event_loop.remove_writer(&removed));
        let handle = event_loop.handle();
        event_loop.call_later(Duration::from_millis(100), move || handle.stop());
        event_loop.run_forever();
        assert!(polls.get() < 10, "{} polls", polls.get());
    }
}
