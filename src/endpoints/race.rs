//! From addresses to one connected socket.
//!
//! Owns: [`race`] and the source that waits for a connect to end. Why: until the system says how it
//! ended there is no transport, but there is a descriptor to look after; and when several are on
//! their way, all but one are to go. Invariants: which attempt begins and which wins is decided by
//! [`HappyEyeballs`] alone; an attempt that failed is closed at once, the others when one has won;
//! dropped at any point, nothing is left. asyncio's counterpart: `_connect_sock`, `_sock_connect`,
//! and the use of `staggered_race`.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::endpoints::connected::Connected;
use crate::endpoints::error::EndpointError;
use crate::endpoints::reserved::Reserved;
use crate::event_loop::cells::Slot;
use crate::event_loop::{Entry, LoopHandle, Progress, Source, running};
use crate::sansio::happy_eyeballs::{HappyEyeballs, Step};
use crate::sys::{Address, ConnectFailure, Family, Readiness, Stream};
use crate::tasks::{Sleep, sleep_until};

/// Connects to the first of these addresses that answers. With a delay several are tried at a
/// time, else one after the other. With `locals`, from one of these.
///
/// The inner errors are in the order of the addresses, and at least one if there is an address.
pub(crate) async fn race(
    handle: &LoopHandle,
    addresses: &[Address],
    locals: Option<&[SocketAddr]>,
    delay: Option<Duration>,
) -> io::Result<Result<Connected, Vec<EndpointError>>> {
    let mut race = Race {
        handle,
        addresses,
        locals,
        machine: HappyEyeballs::new(addresses.len(), delay),
        running: Vec::new(),
        errors: addresses.iter().map(|_| Vec::new()).collect(),
        won: None,
        alarm: None,
    };
    let outcome = poll_fn(|cx| {
        let waits_for = || format!("a connection to {addresses:?}");
        running::poll_leaf(handle.number(), cx, waits_for, |cx| race.poll(cx))
    })
    .await?;
    Ok(outcome)
}

struct Race<'a> {
    handle: &'a LoopHandle,
    addresses: &'a [Address],
    locals: Option<&'a [SocketAddr]>,
    machine: HappyEyeballs,
    /// Those that are on their way, with their numbers.
    running: Vec<(usize, Attempt)>,
    /// What went wrong with each address.
    errors: Vec<Vec<EndpointError>>,
    won: Option<Connected>,
    /// When to look again though nothing has happened.
    alarm: Option<(Instant, Sleep)>,
}

impl Race<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Connected, Vec<EndpointError>>> {
        loop {
            self.poll_running(cx);
            match self.machine.step(self.handle.time()) {
                Step::Start(attempt) => self.start(attempt),
                Step::Wait(until) => {
                    if self.waits(until, cx) {
                        return Poll::Pending;
                    }
                }
                Step::Won(_) | Step::AllFailed => {
                    self.running.clear();
                    let errors = std::mem::take(&mut self.errors);
                    let failed = || errors.into_iter().flatten().collect();
                    return Poll::Ready(self.won.take().ok_or_else(failed));
                }
            }
        }
    }

    fn start(&mut self, attempt: usize) {
        let address = &self.addresses[attempt];
        let errors = &mut self.errors[attempt];
        match Attempt::start(self.handle, address, self.locals, errors) {
            Some(started) => self.running.push((attempt, started)),
            None => self.machine.failed(attempt),
        }
    }

    /// Looks at all that are on their way; the first that has arrived wins.
    fn poll_running(&mut self, cx: &Context<'_>) {
        let mut still_running = Vec::new();
        for (number, attempt) in self.running.drain(..) {
            match attempt.poll(cx) {
                Poll::Pending => still_running.push((number, attempt)),
                Poll::Ready(Ok(peer)) => {
                    if self.machine.succeeded(number) {
                        self.won = Some(attempt.into_connected(peer));
                    }
                }
                Poll::Ready(Err(source)) => {
                    let address = self.addresses[number].clone();
                    self.errors[number].push(EndpointError::Connect { address, source });
                    self.machine.failed(number);
                }
            }
        }
        self.running = still_running;
    }

    /// Whether there is to be a wait. False if it is over already.
    fn waits(&mut self, until: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(when) = until else {
            self.alarm = None;
            return true;
        };
        let alarm = match self.alarm.take() {
            Some((set_to, sleep)) if set_to == when => sleep,
            _ => sleep_until(when),
        };
        let (_, sleep) = self.alarm.insert((when, alarm));
        Pin::new(sleep).poll(cx).is_pending()
    }
}

/// A socket on its way.
struct Attempt {
    // First, so that the source leaves the table before its socket is closed.
    place: Reserved,
    stream: Box<dyn Stream>,
    connecting: Rc<Connecting>,
}

impl Attempt {
    /// `None` if it has failed at once. `errors` is told, also of local addresses that could not
    /// be had before one could.
    fn start(
        handle: &LoopHandle,
        to: &Address,
        locals: Option<&[SocketAddr]>,
        errors: &mut Vec<EndpointError>,
    ) -> Option<Self> {
        let mut place = Reserved::new(handle);
        let started = match (locals, to.as_inet()) {
            (Some(locals), Some(inet)) => start_from_any(handle, &place, locals, inet, errors)?,
            _ => handle.driver(|driver| driver.connect(place.id(), to)),
        };
        match started {
            Ok(stream) => {
                place.has_socket();
                let connecting = Rc::new(Connecting::new(&*stream));
                handle.insert(place.id(), Rc::clone(&connecting) as Rc<dyn Source>);
                Some(Self {
                    place,
                    stream,
                    connecting,
                })
            }
            Err(source) => {
                let address = to.clone();
                errors.push(EndpointError::Connect { address, source });
                None
            }
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<io::Result<Address>> {
        if self.connecting.ready.get().says(Readiness::WRITE) {
            match self.stream.finish_connect() {
                Ok(None) => self.connecting.forget_write(),
                Ok(Some(peer)) => return Poll::Ready(Ok(peer)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        drop(self.connecting.waker.put(cx.waker().clone()));
        Poll::Pending
    }

    fn into_connected(self, peer: Address) -> Connected {
        Connected {
            place: self.place,
            stream: self.stream,
            peer,
            ready: self.connecting.ready.get(),
        }
    }
}

/// Starts from the first local address of the same family that can be had. `None` if there is
/// none: `errors` says why.
fn start_from_any(
    handle: &LoopHandle,
    place: &Reserved,
    locals: &[SocketAddr],
    to: SocketAddr,
    errors: &mut Vec<EndpointError>,
) -> Option<io::Result<Box<dyn Stream>>> {
    let family = Family::of(&to);
    let mut candidates = locals
        .iter()
        .filter(|local| family.includes(local))
        .peekable();
    if candidates.peek().is_none() {
        let message = format!("no matching local address with family={family} found");
        let error = io::Error::new(io::ErrorKind::AddrNotAvailable, message);
        return Some(Err(error));
    }
    for local in candidates {
        let started = handle.driver(|driver| Ok(driver.connect_from(place.id(), *local, to)));
        match started {
            Ok(Ok(stream)) => return Some(Ok(stream)),
            Ok(Err(ConnectFailure::Connect(error))) | Err(error) => return Some(Err(error)),
            Ok(Err(ConnectFailure::Bind(source))) => {
                let address = Address::from(*local);
                errors.push(EndpointError::LocalAddress { address, source });
            }
        }
    }
    None
}

/// Stands in the loop's table while the system connects.
struct Connecting {
    descriptor: Option<RawFd>,
    ready: Cell<Readiness>,
    waker: Slot<Waker>,
}

impl Connecting {
    fn new(stream: &dyn Stream) -> Self {
        Self {
            descriptor: stream.descriptor(),
            ready: Cell::default(),
            waker: Slot::default(),
        }
    }

    fn forget_write(&self) {
        let ready = self.ready.get();
        self.ready.set(ready.without(Readiness::WRITE));
    }
}

impl Source for Connecting {
    fn serve(self: Rc<Self>, handle: &LoopHandle, event: Option<Readiness>) -> Progress {
        self.ready.set(self.ready.get() | event.unwrap_or_default());
        if let Some(waker) = self.waker.take() {
            handle.enter_reporting("Exception in a waker", || waker.wake());
        }
        Progress::Done
    }

    fn run(self: Rc<Self>, _: &LoopHandle, _: Entry) {}

    fn settle(self: Rc<Self>, _: &LoopHandle) {}

    fn descriptor(&self) -> Option<RawFd> {
        self.descriptor
    }

    fn describe(&self) -> String {
        "a connection that is being made".to_owned()
    }

    fn abandon(self: Rc<Self>) {}
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::task::noop_waker;

    use super::*;
    use crate::event_loop::EventLoop;

    /// Connected when it is asked the second time.
    struct Late(Cell<bool>);

    impl Stream for Late {
        fn finish_connect(&self) -> io::Result<Option<Address>> {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
            Ok(self.0.replace(true).then(|| Address::from(peer)))
        }

        fn read(&self, _: &mut [u8]) -> io::Result<usize> {
            unreachable!()
        }

        fn read_behind(&self, _: &mut Vec<u8>) -> io::Result<usize> {
            unreachable!()
        }

        fn write(&self, _: &[u8]) -> io::Result<usize> {
            unreachable!()
        }

        fn shutdown_write(&self) -> io::Result<()> {
            unreachable!()
        }

        fn take_error(&self) -> io::Result<()> {
            unreachable!()
        }

        fn local_address(&self) -> io::Result<Address> {
            unreachable!()
        }

        fn short_read_drains(&self) -> bool {
            unreachable!()
        }
    }

    #[test]
    fn an_event_that_comes_before_the_connection_is_waited_past() {
        let event_loop = EventLoop::new().unwrap();
        let stream = Box::new(Late(Cell::new(false)));
        let connecting = Rc::new(Connecting::new(&*stream));
        let attempt = Attempt {
            place: Reserved::new(&event_loop),
            stream,
            connecting: Rc::clone(&connecting),
        };
        let waker = noop_waker();
        let cx = Context::from_waker(&waker);
        assert!(attempt.poll(&cx).is_pending());
        Rc::clone(&connecting).serve(&event_loop, Some(Readiness::WRITE));
        assert!(attempt.poll(&cx).is_pending(), "not connected yet");
        // And not asked again before the next event.
        assert!(attempt.poll(&cx).is_pending());
        connecting.serve(&event_loop, Some(Readiness::WRITE));
        assert!(matches!(attempt.poll(&cx), Poll::Ready(Ok(_))));
    }
}
