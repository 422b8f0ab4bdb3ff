//! Accepting.
//!
//! Owns: [`Listening`], a listener in the loop's table. Why: an accept can fail in more ways than
//! a read, and none of them may end the service or spin. Invariants: a bounded number of accepts
//! a turn; only "would block" ends a batch, or a server that is full, which then asks for a visit;
//! out of descriptors is reported once, and then tried again when a descriptor of ours is closed and
//! once a second, since no event will come. asyncio's counterpart: `_accept_connection`.

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::cells::Slot;
use crate::event_loop::{
    Entry, ExceptionContext, LoopClosed, LoopHandle, Progress, Source, TimerHandle,
};
use crate::sys::{Address, Listener, Readiness, SourceId, Stream};
use crate::transports::Known;

/// What becomes of accepted sockets.
pub(crate) trait Accept {
    /// Whether there is a place for one more, which then is kept for it. If not, whoever makes room
    /// has the listener visited.
    fn has_place(&self, handle: &LoopHandle, listener: SourceId) -> bool;
    /// Takes a socket that is registered under `id`.
    fn accepted(&self, handle: &LoopHandle, accepted: Accepted);
    /// Nobody else is accepted for now: the place that was kept is free.
    fn rest(&self);
    /// A listener waits for no place any more.
    fn leave(&self, listener: SourceId);
}

pub(crate) struct Accepted {
    pub(crate) id: SourceId,
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) peer: Address,
    /// Our address, if the listener is bound to one.
    pub(crate) known: Option<Rc<Known>>,
}

pub(crate) struct Listening {
    id: SourceId,
    /// `None` once the server is closed.
    listener: Slot<Rc<dyn Listener>>,
    address: Address,
    /// What all of its connections know.
    known: Option<Rc<Known>>,
    /// The socket did so before it was here.
    listens: bool,
    /// From the beginning of listening to its end: it keeps a server whose handles are gone.
    server: Slot<Rc<dyn Accept>>,
    /// Out of descriptors: the timer that tries again.
    starving: Slot<TimerHandle>,
}

impl Listening {
    pub(crate) fn new(
        id: SourceId,
        listener: Box<dyn Listener>,
        address: Address,
        listens: bool,
    ) -> Rc<Self> {
        let specific = address.ip().is_none_or(|ip| !ip.is_unspecified());
        Rc::new(Self {
            id,
            listener: Slot::new(Some(Rc::from(listener))),
            known: specific.then(|| Known::served_at(address.clone())),
            address,
            listens,
            server: Slot::default(),
            starving: Slot::default(),
        })
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Begins to take connections, for `server`.
    pub(crate) fn listen(&self, server: Rc<dyn Accept>) -> io::Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        // The loop's end has closed it; a server's own close would have let go of it.
        let listener = self.listener.get().ok_or(LoopClosed)?;
        if !self.listens {
            listener.listen()?;
        }
        drop(self.server.put(server));
        Ok(())
    }

    /// Closes the socket; the kernel resets connections that nobody has accepted.
    pub(crate) fn close(&self) {
        if let Some(server) = self.server.take() {
            server.leave(self.id);
        }
        if let Some(timer) = self.starving.take() {
            timer.cancel();
        }
        drop(self.listener.take());
    }

    /// Accepts a turn's share.
    fn accept_some(&self, handle: &LoopHandle, server: &dyn Accept) -> Progress {
        let mut accepted = false;
        let mut failure = None;
        for _ in 0..ACCEPTS_PER_TURN {
            if !server.has_place(handle, self.id) {
                return Progress::Done;
            }
            match self.accept(handle, server) {
                Attempt::Accepted => accepted = true,
                Attempt::Failed(error) => failure = Some(error),
                Attempt::Last => return Progress::Done,
            }
        }
        match failure {
            // So many in a row are no matter of single connections.
            Some(error) if !accepted => {
                self.back_off(handle, "socket.accept() failed", error);
                Progress::Done
            }
            _ => Progress::Again,
        }
    }

    fn accept(&self, handle: &LoopHandle, server: &dyn Accept) -> Attempt {
        let Some(listener) = self.listener.get() else {
            return Attempt::Last;
        };
        let id = handle.reserve();
        match listener.accept(id) {
            Ok((stream, peer)) => {
                let accepted = Accepted {
                    id,
                    stream,
                    peer,
                    known: self.known.clone(),
                };
                server.accepted(handle, accepted);
                Attempt::Accepted
            }
            Err(error) => {
                drop(handle.remove(id));
                self.judge(handle, error)
            }
        }
    }

    fn judge(&self, handle: &LoopHandle, error: io::Error) -> Attempt {
        match Verdict::of(&error) {
            Verdict::Drained => {
                if let Some(timer) = self.starving.take() {
                    timer.cancel();
                    handle.feed(self.id);
                }
                Attempt::Last
            }
            Verdict::Next => Attempt::Failed(error),
            Verdict::BackOff(message) => {
                self.back_off(handle, message, error);
                Attempt::Last
            }
        }
    }

    /// The edge is gone and the connections are still there: tries again later.
    fn back_off(&self, handle: &LoopHandle, message: &'static str, error: io::Error) {
        handle.starve(self.id);
        let armed = self.starving.take();
        let first = armed.is_none();
        // A timer that has fired is no more; one that has not stays.
        let timer = match armed {
            Some(timer) if timer.when() > handle.time() => timer,
            _ => {
                let (weak, id) = (handle.downgrade(), self.id);
                handle.call_later(RETRY_AFTER, move || {
                    if let Some(handle) = weak.upgrade() {
                        handle.visit(id);
                    }
                })
            }
        };
        drop(self.starving.put(timer));
        if first {
            let context = ExceptionContext::new(message)
                .error(error)
                .subject(self.address.clone());
            handle.report(&context);
        }
    }
}

impl Source for Listening {
    fn serve(self: Rc<Self>, handle: &LoopHandle, event: Option<Readiness>) -> Progress {
        // While descriptors are short an event is no reason to try again: one comes with every
        // new connection. The timer and every closed descriptor are.
        if event.is_some() && self.starving.is_some() {
            return Progress::Done;
        }
        let Some(server) = self.server.get() else {
            return Progress::Done;
        };
        let progress = self.accept_some(handle, &*server);
        server.rest();
        // Perhaps the last one, if it was closed meanwhile: its factory is the user's.
        handle.enter_quietly(|| drop(server));
        progress
    }

    fn run(self: Rc<Self>, _: &LoopHandle, _: Entry) {}

    fn settle(self: Rc<Self>, _: &LoopHandle) {}

    fn descriptor(&self) -> Option<RawFd> {
        self.listener.get()?.descriptor()
    }

    fn describe(&self) -> String {
        format!("a server on {}", self.address)
    }

    fn abandon(self: Rc<Self>) {
        self.close();
    }
}

/// How one accept went.
enum Attempt {
    Accepted,
    /// One connection is lost, the next may be well.
    Failed(io::Error),
    /// Nothing more to try in this turn.
    Last,
}

/// What an error of accept means.
enum Verdict {
    /// No connection waits: the next event tells.
    Drained,
    /// It concerns one connection, which is gone.
    Next,
    /// It concerns all: wait.
    BackOff(&'static str),
}

impl Verdict {
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
        match error.kind() {
            WouldBlock => return Self::Drained,
            Interrupted | ConnectionAborted | ConnectionReset => return Self::Next,
            _ => {}
        }
        match error.raw_os_error() {
            Some(code) if ERRORS_OF_ONE.contains(&code) => Self::Next,
            Some(code) if OUT_OF_RESOURCES.contains(&code) => {
                Self::BackOff("socket.accept() out of system resource")
            }
            _ => Self::BackOff("socket.accept() failed"),
        }
    }
}

/// Errors that the network left on a connection before it was accepted (accept(2)).
const ERRORS_OF_ONE: [i32; 9] = [
    libc::EPROTO,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::ETIMEDOUT,
    libc::EPERM,
];

const OUT_OF_RESOURCES: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];

const ACCEPTS_PER_TURN: usize = 64;

/// asyncio's `ACCEPT_RETRY_DELAY`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::net::SocketAddr;
    use std::rc::Rc;

    use super::{Accept, Accepted, Listening};
    use crate::event_loop::{EventLoop, LoopHandle, Progress, Source};
    use crate::sys::{Address, Listener, Readiness, SourceId, Stream};

    fn nowhere() -> Address {
        SocketAddr::from(([127, 0, 0, 1], 9)).into()
    }

    /// Fails with each of these in turn, and then says that nobody waits.
    struct Failing(RefCell<Vec<i32>>);

    impl Listener for Failing {
        fn listen(&self) -> io::Result<()> {
            Ok(())
        }

        fn accept(&self, _: SourceId) -> io::Result<(Box<dyn Stream>, Address)> {
            let code = self.0.borrow_mut().pop();
            Err(io::Error::from_raw_os_error(code.unwrap_or(libc::EAGAIN)))
        }

        fn local_address(&self) -> io::Result<Address> {
            Ok(nowhere())
        }
    }

    struct Nobody;

    impl Accept for Nobody {
        fn has_place(&self, _: &LoopHandle, _: SourceId) -> bool {
            true
        }

        fn accepted(&self, _: &LoopHandle, _: Accepted) {
            unreachable!("every accept fails");
        }

        fn rest(&self) {}

        fn leave(&self, _: SourceId) {}
    }

    /// The codes of what was reported, after so many visits.
    fn reports(errors: &[i32], visits: usize) -> Vec<(String, Option<i32>)> {
        let mut event_loop = EventLoop::new().unwrap();
        let reports = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&reports);
        event_loop.set_exception_handler(move |_, context| {
            let code = context.exception().and_then(|error| {
                let error = error.downcast_ref::<io::Error>();
                error.and_then(io::Error::raw_os_error)
            });
            seen.borrow_mut().push((context.message().to_owned(), code));
        });
        let id = event_loop.reserve();
        let errors = errors.iter().rev().copied().collect();
        let listener = Box::new(Failing(RefCell::new(errors)));
        let listening = Listening::new(id, listener, nowhere(), false);
        event_loop.insert(id, Rc::clone(&listening) as Rc<dyn Source>);
        listening.listen(Rc::new(Nobody)).unwrap();
        for _ in 0..visits {
            event_loop.visit(id);
            event_loop.stop();
            event_loop.run_forever();
        }
        drop(event_loop);
        Rc::try_unwrap(reports).unwrap().into_inner()
    }

    #[test]
    fn any_error_that_concerns_all_is_reported_once_until_it_is_over() {
        let failed = |code| ("socket.accept() failed".to_owned(), Some(code));
        let short = |code| {
            let message = "socket.accept() out of system resource";
            (message.to_owned(), Some(code))
        };
        let (bad, full) = (libc::EINVAL, libc::ENFILE);
        assert_eq!(reports(&[bad, bad, bad], 3), [failed(bad)]);
        assert_eq!(reports(&[full, full, bad], 3), [short(full)]);
        // Nobody waits any more: that was its end, and the next one is news.
        let again = libc::EAGAIN;
        let expected = [failed(bad), short(full)];
        assert_eq!(reports(&[bad, bad, again, full, full], 5), expected);
    }

    /// Counts the looks at a queue that has always one more.
    #[derive(Default)]
    struct Looked(Rc<Cell<usize>>);

    impl Listener for Looked {
        fn listen(&self) -> io::Result<()> {
            Ok(())
        }

        fn accept(&self, _: SourceId) -> io::Result<(Box<dyn Stream>, Address)> {
            self.0.set(self.0.get() + 1);
            Err(io::Error::from_raw_os_error(libc::EPROTO))
        }

        fn local_address(&self) -> io::Result<Address> {
            Ok(nowhere())
        }
    }

    struct Full;

    impl Accept for Full {
        fn has_place(&self, _: &LoopHandle, _: SourceId) -> bool {
            false
        }

        fn accepted(&self, _: &LoopHandle, _: Accepted) {
            unreachable!("nothing is accepted");
        }

        fn rest(&self) {}

        fn leave(&self, _: SourceId) {}
    }

    #[test]
    fn a_listener_of_a_full_server_makes_no_system_call_whoever_knocks() {
        let event_loop = EventLoop::new().unwrap();
        let id = event_loop.reserve();
        let listener = Box::new(Looked::default());
        let looks = Rc::clone(&listener.0);
        let listening = Listening::new(id, listener, nowhere(), false);
        listening.listen(Rc::new(Full)).unwrap();
        for event in [Some(Readiness::READ), None] {
            let progress = Rc::clone(&listening).serve(&event_loop.handle(), event);
            assert_eq!(progress, Progress::Done);
        }
        assert_eq!(looks.get(), 0);
    }

    #[test]
    fn an_error_of_one_connection_is_no_matter_of_the_next() {
        let errors = [libc::ECONNABORTED, libc::EPROTO, libc::EINTR];
        assert_eq!(reports(&errors, 1), []);
        let expected = [("socket.accept() failed".to_owned(), Some(libc::EPROTO))];
        // Without end it is one of all.
        assert_eq!(reports(&[libc::EPROTO; 100], 1), expected);
    }
}
