//! What the tests share: a limit on every wait, a trace, peers of other kinds, programs of ours, a
//! process of one's own.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod certs;
pub(crate) mod folder;
pub(crate) mod own_process;
pub(crate) mod peers;
pub(crate) mod program;
pub(crate) mod trace;

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use socket2::{Domain, SockRef, Socket, Type};

/// How long a test waits for something that does come: only a broken one waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer, for conditions of another process. Panics with
/// `what` when there is none in time.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a test on a loop of its own.
#[track_caller]
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    match evloop::run(evloop::timeout(2 * PATIENCE, test)).expect("a loop") {
        Ok(output) => output,
        Err(error) => panic!("the test did not come to its end: {error}"),
    }
}

/// Waits, but not for ever, and says what for.
#[track_caller]
pub(crate) fn within<F: Future>(what: &'static str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match evloop::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(error) => panic!("waiting for {what} at {caller}: {error}"),
        }
    }
}

/// Does something that blocks, on a thread of its own.
pub(crate) async fn in_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = oneshot::channel();
    thread::spawn(move || {
        // Nobody waits any more when the test has failed.
        let _ = done.send(job());
    });
    within("a thread", result)
        .await
        .expect("the thread to end well")
}

/// Lets the loop do `n` turns.
pub(crate) async fn turns(n: usize) {
    let mut left = n;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A listening socket that knows nothing of loops.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// A port on which nobody listens, kept from others as long as the socket lives.
pub(crate) fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// The other end of a connection: a blocking socket, every call of which has a limit.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("to connect"))
    }

    pub(crate) fn accept(listener: &TcpListener) -> Self {
        Self::new(listener.accept().expect("a connection").0)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    pub(crate) fn send(&self, data: &[u8]) {
        (&self.0).write_all(data).expect("the peer to send");
    }

    /// Exactly `n` bytes.
    pub(crate) fn receive(&self, n: usize) -> Vec<u8> {
        let mut data = vec![0; n];
        (&self.0)
            .read_exact(&mut data)
            .expect("the peer to receive");
        data
    }

    /// Everything until the end.
    pub(crate) fn receive_all(&self) -> Vec<u8> {
        let mut data = Vec::new();
        (&self.0)
            .read_to_end(&mut data)
            .expect("the peer to receive");
        data
    }

    pub(crate) fn receive_all_or_error(&self) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        (&self.0).read_to_end(&mut data)?;
        Ok(data)
    }

    pub(crate) fn finish(&self) {
        self.0
            .shutdown(Shutdown::Write)
            .expect("the peer to shut down");
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        let socket = SockRef::from(&self.0);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Sends until the system takes no more, and says how many bytes that were.
    pub(crate) fn fill(&self) -> usize {
        self.0.set_nonblocking(true).expect("O_NONBLOCK");
        let chunk = [b'x'; 64 * 1024];
        let mut sent = 0;
        loop {
            match (&self.0).write(&chunk) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the peer cannot fill its connection: {error}"),
            }
        }
        self.0.set_nonblocking(false).expect("O_NONBLOCK");
        sent
    }
}

/// Bytes of which any two stretches differ.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(n + 8);
    while bytes.len() < n {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(n);
    bytes
}
