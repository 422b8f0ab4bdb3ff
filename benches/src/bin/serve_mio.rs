//! mio without a runtime: what the poll library alone costs above the bare loop.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;

use evloop_benches::bare::{Connection, Progress};
use evloop_benches::contract::{self, Listener, Options, Work};
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Registry, Token};

/// Events taken by one poll at most.
const EVENTS: usize = 1024;

/// No descriptor has this number.
const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let options = contract::options();
    contract::raise_descriptor_limit();
    match contract::listen(options.listen)? {
        Listener::Tcp(listener) => serve(TcpListener::from_std(listener), options),
        Listener::Unix(listener) => serve(UnixListener::from_std(listener), options),
    }
}

/// What mio has twice, over TCP and over unix sockets.
trait Accept: Source {
    type Stream: Source + Read + Write + AsRawFd;

    fn accept(&self) -> io::Result<Self::Stream>;
}

impl Accept for TcpListener {
    type Stream = mio::net::TcpStream;

    fn accept(&self) -> io::Result<Self::Stream> {
        Ok(self.accept()?.0)
    }
}

impl Accept for UnixListener {
    type Stream = mio::net::UnixStream;

    fn accept(&self) -> io::Result<Self::Stream> {
        Ok(self.accept()?.0)
    }
}

fn serve<L: Accept>(mut listener: L, options: Options) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut table: Vec<Option<Connection<L::Stream>>> = Vec::new();
    let mut buffer = vec![0; options.buffer];
    let mut events = Events::with_capacity(EVENTS);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&mut listener, poll.registry(), options.work, &mut table)?;
                continue;
            }
            let slot = &mut table[event.token().0];
            let closed = event.is_read_closed() || event.is_error();
            if let Some(connection) = slot {
                if connection.serve(&mut buffer, closed) == Progress::Over {
                    *slot = None;
                }
            }
        }
    }
}

/// mio reports an edge, so the queue has to be emptied.
fn accept_all<L: Accept>(
    listener: &mut L,
    registry: &Registry,
    work: Work,
    table: &mut Vec<Option<Connection<L::Stream>>>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                // Asks for the edge again, so that connections are served, and end, meanwhile.
                std::thread::sleep(contract::pause_after_failed_accept(&error));
                return registry.reregister(listener, LISTENER, Interest::READABLE);
            }
        };
        let index = stream.as_raw_fd() as usize;
        registry.register(
            &mut stream,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        if index >= table.len() {
            table.resize_with(index + 1, || None);
        }
        table[index] = Some(Connection::new(stream, work));
    }
}
