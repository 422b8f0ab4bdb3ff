//! mio without a runtime: what the poll library alone costs above the bare loop.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use evloop_benches::bare::{Connection, Progress};
use evloop_benches::contract::{self, Work};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

/// Events taken by one poll at most.
const EVENTS: usize = 1024;

/// No descriptor has this number.
const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let options = contract::options();
    contract::raise_descriptor_limit();
    let mut listener = TcpListener::from_std(contract::listener()?);
    contract::announce(listener.local_addr()?.port())?;

    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut table: Vec<Option<Connection<TcpStream>>> = Vec::new();
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
fn accept_all(
    listener: &mut TcpListener,
    registry: &Registry,
    work: Work,
    table: &mut Vec<Option<Connection<TcpStream>>>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
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
