//! The real driver: sockets of the system, readiness by mio.
//!
//! Owns: [`MioDriver`]: the poll, the clock, and who makes which socket. Why: the loop is written
//! against the seam, so everything that differs between systems can stay in this folder, which is
//! the only place that names mio and socket2. Invariants: readiness is an edge, so a reader or
//! writer goes on until the socket would block. asyncio's counterpart: `selectors.EpollSelector`
//! and `KqueueSelector`.

mod adopted;
mod file;
mod lent;
mod registration;
mod socket_file;
mod tcp;
mod unix;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event as MioEvent;
use mio::unix::SourceFd;
use mio::{Events, Poll, Registry, Waker};

pub(crate) use self::file::send_file;
pub use self::lent::Acceptor;
pub(crate) use self::lent::{
    Started, family_and_type, is_connected, is_nonblocking, send_to, start_to_connect,
};
pub(crate) use self::tcp::bind_tcp;
use crate::sys::address::Address;
use crate::sys::driver::{
    ConnectFailure, Driver, Event, ListenOptions, Listener, SourceId, Stream, Wakeup, Watch,
};
use crate::sys::mio::registration::WAKER;
use crate::sys::mio::tcp::{TcpAcceptor, start_connect, start_connect_from};
use crate::sys::mio::unix::UnixAcceptor;
use crate::sys::mio::watch::Watching;
use crate::sys::pool::{Job, Pool, Refused};
use crate::sys::readiness::Readiness;
use crate::sys::signals::{Signals, signal_of};

/// The world as the operating system has it.
pub(crate) struct MioDriver {
    poll: Poll,
    /// What listeners use to register the sockets they accept.
    registry: Rc<Registry>,
    /// Taken back from mio after each poll; kept, so that polling does not allocate.
    events: Events,
    waker: Arc<dyn Wakeup>,
    signals: Signals,
    pool: Pool,
}

impl MioDriver {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = Rc::new(poll.registry().try_clone()?);
        let waker = Arc::new(PollWaker(Waker::new(&registry, WAKER)?));
        let signals = Signals::new(Rc::clone(&registry));
        Ok(Self {
            poll,
            registry,
            events: Events::with_capacity(EVENTS_PER_POLL),
            waker,
            signals,
            pool: Pool::new(),
        })
    }
}

impl Driver for MioDriver {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        // mio rounds up to what the system can count in, so a deadline is never met too early.
        self.poll.poll(
            &mut self.events,
            timeout.map(|timeout| timeout.min(LONGEST_SLEEP)),
        )?;
        for event in &self.events {
            let token = event.token();
            if token == WAKER {
                continue;
            }
            match signal_of(token) {
                Some(number) => self.signals.read(number, events),
                None => events.push(Event::Ready(SourceId(token.0 as u64), readiness(event))),
            }
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wakeup> {
        Arc::clone(&self.waker)
    }

    fn connect(&mut self, id: SourceId, to: &Address) -> io::Result<Box<dyn Stream>> {
        Ok(match to {
            Address::Inet(to) => Box::new(start_connect(&self.registry, id, *to)?),
            Address::Unix(to) => Box::new(unix::connect(&self.registry, id, to)?),
        })
    }

    fn connect_from(
        &mut self,
        id: SourceId,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Box<dyn Stream>, ConnectFailure> {
        Ok(Box::new(start_connect_from(&self.registry, id, from, to)?))
    }

    fn bind(
        &mut self,
        id: SourceId,
        at: &Address,
        how: &ListenOptions,
    ) -> io::Result<Box<dyn Listener>> {
        Ok(match at {
            Address::Inet(at) => Box::new(TcpAcceptor::bind(&self.registry, id, *at, how)?),
            Address::Unix(at) => Box::new(UnixAcceptor::bind(&self.registry, id, at, how)?),
        })
    }

    fn adopt_stream(&mut self, id: SourceId, socket: OwnedFd) -> io::Result<Box<dyn Stream>> {
        adopted::adopt_stream(&self.registry, id, socket)
    }

    fn release(&mut self, stream: Box<dyn Stream>) -> io::Result<OwnedFd> {
        let fd = stream.into_descriptor().ok_or(io::ErrorKind::Unsupported)?;
        // One that was adopted has done so itself.
        let _ = self.registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        Ok(fd)
    }

    fn adopt_listener(
        &mut self,
        id: SourceId,
        socket: OwnedFd,
        backlog: u32,
    ) -> io::Result<Box<dyn Listener>> {
        adopted::adopt_listener(&self.registry, id, socket, backlog)
    }

    fn watch(&mut self, id: SourceId, fd: RawFd, wanted: Readiness) -> io::Result<Box<dyn Watch>> {
        Ok(Box::new(Watching::begin(&self.registry, id, fd, wanted)?))
    }

    fn signal(&mut self, number: i32) -> io::Result<()> {
        self.signals.add(number)
    }

    fn forget_signal(&mut self, number: i32) {
        self.signals.remove(number);
    }

    fn blocking(&mut self, job: Job) -> Result<(), Refused> {
        self.pool.execute(job)
    }

    fn end_blocking(&mut self) -> VecDeque<Job> {
        self.pool.end()
    }
}

struct PollWaker(Waker);

impl Wakeup for PollWaker {
    fn wake(&self) {
        // It fails only when the system is out of resources for good; there is nobody to tell.
        if let Err(error) = self.0.wake() {
            log::error!("the loop could not be woken from another thread: {error}");
        }
    }
}

/// What an event says. Errors and ends count for both directions that can find out more: epoll
/// reports an error as neither readable nor writable.
fn readiness(event: &MioEvent) -> Readiness {
    let error = event.is_error();
    let priority = event.is_priority();
    let read_closed = event.is_read_closed();
    let write_closed = event.is_write_closed();
    let readable = event.is_readable() | read_closed | error | priority;
    let writable = event.is_writable() | write_closed | error;
    Readiness::READ.when(readable)
        | Readiness::WRITE.when(writable)
        | Readiness::BEYOND.when(read_closed | write_closed | error | priority)
        | Readiness::ERROR.when(error)
}

/// More wait in the kernel for the next poll.
const EVENTS_PER_POLL: usize = 1024;

/// Far below where any system's count of milliseconds ends. A loop that wakes up for nothing
/// once a day goes back to sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Ipv4Addr;
    use std::sync::mpsc;
    use std::thread;

    use signal_hook::low_level;
    use socket2::{Domain, SockRef, Socket, Type};

    use super::*;
    use crate::sys::signals::numbers::{SIGALRM, SIGUSR1, SIGUSR2};

    const LISTENER: SourceId = SourceId(1);
    const CLIENT: SourceId = SourceId(2);
    const ACCEPTED: SourceId = SourceId(3);

    /// How long a test waits for something that does come; only a broken one waits so long.
    const PATIENCE: Duration = Duration::from_secs(30);

    const OPTIONS: ListenOptions = ListenOptions {
        backlog: 16,
        reuse_address: true,
        reuse_port: false,
        keep_alive: false,
        cleanup_socket: true,
    };

    fn loopback(port: u16) -> Address {
        Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Polls once, whatever comes.
    #[track_caller]
    fn poll(driver: &mut MioDriver, timeout: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        match driver.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => outcome.unwrap(),
        }
        events
    }

    /// Polls until an event passes `wanted`; spurious and other ones are let go.
    #[track_caller]
    fn poll_until(driver: &mut MioDriver, wanted: impl Fn(&Event) -> bool) -> Event {
        let deadline = driver.now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(driver.now());
            if let Some(event) = poll(driver, left).into_iter().find(&wanted) {
                return event;
            }
            assert!(driver.now() < deadline, "the event never came");
        }
    }

    #[track_caller]
    fn until_readable(driver: &mut MioDriver, id: SourceId) -> Readiness {
        match poll_until(
            driver,
            |event| matches!(event, Event::Ready(of, ready) if *of == id && ready.says(Readiness::READ)),
        ) {
            Event::Ready(_, readiness) => readiness,
            Event::Signal(_) => unreachable!(),
        }
    }

    #[track_caller]
    fn until_writable(driver: &mut MioDriver, id: SourceId) {
        poll_until(
            driver,
            |event| matches!(event, Event::Ready(of, ready) if *of == id && ready.says(Readiness::WRITE)),
        );
    }

    /// A listener, a stream connected to it, and the stream it accepted.
    #[track_caller]
    fn connected(
        driver: &mut MioDriver,
        at: &Address,
    ) -> (Box<dyn Listener>, Box<dyn Stream>, Box<dyn Stream>) {
        let listener = driver.bind(LISTENER, at, &OPTIONS).unwrap();
        listener.listen().unwrap();
        let bound = listener.local_address().unwrap();
        let client = driver.connect(CLIENT, &bound).unwrap();
        until_readable(driver, LISTENER);
        let (accepted, peer) = listener.accept(ACCEPTED).unwrap();
        assert_eq!(peer, client.local_address().unwrap());
        assert_eq!(accepted.local_address().unwrap(), bound);
        (listener, client, accepted)
    }

    fn would_block<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn a_connect_is_reported_by_a_write_event_and_bytes_by_read_events() {
        let mut driver = MioDriver::new().unwrap();
        let listener = driver.bind(LISTENER, &loopback(0), &OPTIONS).unwrap();
        listener.listen().unwrap();
        assert!(would_block(listener.accept(ACCEPTED).map(drop)));
        let bound = listener.local_address().unwrap();
        let client = driver.connect(CLIENT, &bound).unwrap();
        until_writable(&mut driver, CLIENT);
        assert_eq!(client.finish_connect().unwrap(), Some(bound));
        // The connection waits already, so this needs no event of its own.
        let (accepted, _) = listener.accept(ACCEPTED).unwrap();
        assert!(would_block(listener.accept(SourceId(4)).map(drop)));

        let mut buffer = [0; 16];
        assert!(would_block(accepted.read(&mut buffer)));
        assert_eq!(client.write(b"hello").unwrap(), 5);
        let readiness = until_readable(&mut driver, ACCEPTED);
        assert!(!readiness.says(Readiness::BEYOND));
        assert_eq!(accepted.read(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        assert_eq!(accepted.write(b"HELLO").unwrap(), 5);
        until_readable(&mut driver, CLIENT);
        assert_eq!(client.read(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"HELLO");
    }

    #[test]
    fn the_end_of_the_other_side_is_an_event_beyond_reading() {
        let mut driver = MioDriver::new().unwrap();
        let (_listener, client, accepted) = connected(&mut driver, &loopback(0));
        client.shutdown_write().unwrap();
        let wanted = |event: &Event| matches!(event, Event::Ready(ACCEPTED, ready) if ready.says(Readiness::READ) && ready.says(Readiness::BEYOND));
        poll_until(&mut driver, wanted);
        let mut buffer = [0; 16];
        assert_eq!(accepted.read(&mut buffer).unwrap(), 0);
        // Half-closed: the other direction still works.
        assert_eq!(accepted.write(b"x").unwrap(), 1);
        until_readable(&mut driver, CLIENT);
        assert_eq!(client.read(&mut buffer).unwrap(), 1);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn bytes_behind_urgent_data_are_announced_as_beyond() {
        let mut driver = MioDriver::new().unwrap();
        let listener = driver.bind(LISTENER, &loopback(0), &OPTIONS).unwrap();
        listener.listen().unwrap();
        let address = listener.local_address().unwrap().as_inet().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        until_readable(&mut driver, LISTENER);
        let (accepted, _) = listener.accept(ACCEPTED).unwrap();
        (&client).write_all(b"abc").unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        (&client).write_all(b"def").unwrap();
        let mut buffer = [0; 16];
        let mut received = Vec::new();
        let mut beyond = false;
        while received.len() < 6 {
            beyond |= until_readable(&mut driver, ACCEPTED).says(Readiness::BEYOND);
            while let Ok(count) = accepted.read(&mut buffer) {
                received.extend_from_slice(&buffer[..count]);
            }
        }
        assert_eq!(received, b"abcdef");
        assert!(beyond);
    }

    #[test]
    fn a_refused_connect_is_told_at_once_or_by_finish_connect() {
        let mut driver = MioDriver::new().unwrap();
        // Bound and never listening: nobody else gets the port, and every connect is refused.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        let port = bound.local_addr().unwrap().as_socket().unwrap().port();
        let error = match driver.connect(CLIENT, &loopback(port)) {
            Err(error) => error,
            Ok(stream) => {
                until_writable(&mut driver, CLIENT);
                stream.finish_connect().unwrap_err()
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_dropped_stream_is_the_end_for_its_peer_and_silent_itself() {
        let mut driver = MioDriver::new().unwrap();
        let (_listener, client, accepted) = connected(&mut driver, &loopback(0));
        drop(client);
        until_readable(&mut driver, ACCEPTED);
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
        // Its registration is gone with it.
        let _ = accepted.write(b"x");
        let late = poll(&mut driver, Duration::ZERO);
        assert!(
            !late
                .iter()
                .any(|event| matches!(event, Event::Ready(CLIENT, _))),
            "{late:?}"
        );
    }

    #[test]
    fn a_poll_ends_at_its_timeout_and_not_before() {
        let mut driver = MioDriver::new().unwrap();
        let start = driver.now();
        let timeout = Duration::from_micros(1500);
        while driver.now() - start < timeout {
            assert!(poll(&mut driver, timeout).is_empty());
        }
        assert!(poll(&mut driver, Duration::ZERO).is_empty());
    }

    #[test]
    fn a_wake_from_another_thread_ends_even_the_longest_sleep() {
        let mut driver = MioDriver::new().unwrap();
        let (done, finished) = mpsc::channel();
        let waker = driver.waker();
        let thread = thread::spawn(move || {
            waker.wake();
            finished
                .recv_timeout(PATIENCE)
                .expect("the sleep did not end");
        });
        assert!(poll(&mut driver, Duration::MAX).is_empty());
        done.send(()).unwrap();
        thread.join().unwrap();
        // One that comes before the sleep is kept for it; one that outlives its driver is idle.
        let waker = driver.waker();
        waker.wake();
        assert!(poll(&mut driver, Duration::MAX).is_empty());
        drop(driver);
        waker.wake();
    }

    /// Signals belong to the whole process: no other test of this binary may use these numbers.
    #[test]
    fn each_delivery_of_a_signal_is_an_event_until_it_is_forgotten() {
        let mut driver = MioDriver::new().unwrap();
        driver.signal(SIGUSR1).unwrap();
        driver.signal(SIGUSR1).unwrap();
        low_level::raise(SIGUSR1).unwrap();
        low_level::raise(SIGUSR1).unwrap();
        assert_eq!(poll(&mut driver, PATIENCE), [Event::Signal(SIGUSR1); 2]);
        low_level::raise(SIGUSR1).unwrap();
        driver.forget_signal(SIGUSR1);
        assert!(poll(&mut driver, Duration::ZERO).is_empty());
        driver.forget_signal(SIGUSR1);
    }

    #[test]
    fn a_second_driver_keeps_its_signal_when_the_first_is_dropped() {
        let mut first = MioDriver::new().unwrap();
        let mut second = MioDriver::new().unwrap();
        first.signal(SIGUSR2).unwrap();
        second.signal(SIGUSR2).unwrap();
        low_level::raise(SIGUSR2).unwrap();
        assert_eq!(poll(&mut first, PATIENCE), [Event::Signal(SIGUSR2)]);
        drop(first);
        low_level::raise(SIGUSR2).unwrap();
        assert_eq!(poll(&mut second, PATIENCE), [Event::Signal(SIGUSR2); 2]);
    }

    #[test]
    fn a_signal_from_another_process_ends_a_sleep() {
        let mut driver = MioDriver::new().unwrap();
        driver.signal(SIGALRM).unwrap();
        // The shell's own, so that no other program has to be there.
        let kill = format!("kill -s ALRM {}", std::process::id());
        let killed = std::process::Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap();
        assert!(killed.success());
        poll_until(&mut driver, |event| *event == Event::Signal(SIGALRM));
    }
}
