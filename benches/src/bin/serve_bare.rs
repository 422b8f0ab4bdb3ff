//! The floor: an epoll loop without a runtime, by which everybody else is divided.
//!
//! Sockets are registered once, for edges of both kinds. Connections stand in a table under their
//! descriptor's number; one buffer serves them all. The listener's queue is emptied whenever it is
//! reported: one accept for each report saves the last, futile one and costs more in polls.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use evloop_benches::bare::{Connection, Progress};
use evloop_benches::contract::{self, Listener, Options, Work};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketFlags;

/// Events taken by one poll at most.
const EVENTS: usize = 1024;

fn main() -> io::Result<()> {
    let options = contract::options();
    contract::raise_descriptor_limit();
    match contract::listen(options.listen)? {
        Listener::Tcp(listener) => serve::<TcpStream>(&listener.into(), options),
        Listener::Unix(listener) => serve::<UnixStream>(&listener.into(), options),
    }
}

/// A connection's socket, whatever it is over.
trait Stream: Read + Write + AsFd + AsRawFd + From<OwnedFd> {}

impl<S: Read + Write + AsFd + AsRawFd + From<OwnedFd>> Stream for S {}

fn serve<S: Stream>(listener: &OwnedFd, options: Options) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, key(listener), EventFlags::IN)?;
    let mut table = Vec::new();
    let mut buffer = vec![0; options.buffer];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in events.drain(..) {
            let (flags, data) = (event.flags, event.data);
            if data.u64() == key(listener).u64() {
                accept_all(&poll, listener, options.work, &mut table)?;
                continue;
            }
            let slot: &mut Option<Connection<S>> = &mut table[data.u64() as usize];
            let closed = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            if let Some(connection) = slot {
                if connection.serve(&mut buffer, closed) == Progress::Over {
                    *slot = None;
                }
            }
        }
    }
}

/// Takes all connections that wait.
fn accept_all<S: Stream>(
    poll: &OwnedFd,
    listener: &OwnedFd,
    work: Work,
    table: &mut Vec<Option<Connection<S>>>,
) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let stream = match rustix::net::accept_with(listener, flags) {
            Ok(socket) => S::from(socket),
            Err(Errno::WOULDBLOCK) => return Ok(()),
            Err(error) => {
                // The queue is not empty: the level is reported again.
                std::thread::sleep(contract::pause_after_failed_accept(&error.into()));
                return Ok(());
            }
        };
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(poll, &stream, key(&stream), interest)?;
        let index = key(&stream).u64() as usize;
        if index >= table.len() {
            table.resize_with(index + 1, || None);
        }
        table[index] = Some(Connection::new(stream, work));
    }
}

/// A descriptor's number: the kernel gives no two open ones the same.
fn key(socket: &impl AsRawFd) -> EventData {
    EventData::new_u64(socket.as_raw_fd() as u64)
}
