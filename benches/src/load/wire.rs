//! The client's sockets and the poll that watches them.
//!
//! Each batch of connections comes from a loopback address of its own (127.16.0.0 and up): a
//! client that closes first leaves its port in TIME_WAIT, and a fresh address brings a fresh set
//! of ports, so that the thousandth slice finds as many as the first one did. Unix sockets have no
//! ports, and no origin.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use evloop_benches::contract::Transport;
use evloop_benches::socket::Socket;
use evloop_benches::tls::{self, Link};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrAny};
use rustls::ClientConfig;

use crate::cells::{Cell, Shape};

/// A server that lets the client wait longer than this is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// An epoll instance; sockets are registered once, for edges of both kinds.
pub struct Wire {
    poll: OwnedFd,
    events: Vec<Event>,
}

impl Wire {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
        })
    }

    /// Reports the socket's edges under `index` from now on.
    pub fn watch(&self, socket: &Link, index: usize) -> io::Result<()> {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        let data = EventData::new_u64(index as u64);
        Ok(epoll::add(&self.poll, socket, data, interest)?)
    }

    /// Waits for events and puts their indexes into `ready`.
    pub fn wait(&mut self, ready: &mut Vec<usize>) -> io::Result<()> {
        let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        let count = match epoll::wait(
            &self.poll,
            spare_capacity(&mut self.events),
            Some(&patience),
        ) {
            Err(Errno::INTR) => return Ok(()),
            result => result?,
        };
        if count == 0 {
            let message = format!("no answer for {} s", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        ready.extend(self.events.drain(..).map(|event| {
            let data = event.data;
            data.u64() as usize
        }));
        Ok(())
    }
}

/// Where a server is, and how it is spoken to.
pub struct Target {
    address: SocketAddrAny,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    pub fn new(address: &SocketAddrAny, cell: &Cell) -> io::Result<Self> {
        let tls = match cell.transport {
            Transport::Tls => Some(tls::client_config(cell.shape == Shape::Resumed)?),
            Transport::Tcp | Transport::Unix => None,
        };
        Ok(Self {
            address: address.clone(),
            tls,
        })
    }

    fn link(&self, socket: Socket) -> io::Result<Link> {
        match &self.tls {
            Some(config) => Link::secure(socket, Arc::clone(config)),
            None => Ok(Link::plain(socket)),
        }
    }
}

/// A loopback address that no earlier batch of connections came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin(Ipv4Addr);

impl Origin {
    pub fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        const FIRST: u32 = Ipv4Addr::new(127, 16, 0, 0).to_bits();
        Self(Ipv4Addr::from_bits(
            FIRST + NEXT.fetch_add(1, Ordering::Relaxed),
        ))
    }

    /// A connection to `server`, made before this returns.
    pub fn connect(self, server: &Target) -> io::Result<Link> {
        let socket = self.socket(&server.address)?;
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        rustix::net::connect(&socket, &server.address)?;
        let link = server.link(socket)?;
        link.shake_hands()?;
        rustix::io::ioctl_fionbio(&link, true)?;
        Ok(link)
    }

    /// A connection on its way: it is there when it is writable.
    pub fn begin_to_connect(self, server: &Target) -> io::Result<Link> {
        let socket = self.socket(&server.address)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        match rustix::net::connect(&socket, &server.address) {
            Ok(()) | Err(Errno::INPROGRESS) => server.link(socket),
            Err(error) => Err(error.into()),
        }
    }

    fn socket(self, server: &SocketAddrAny) -> io::Result<Socket> {
        let socket = Socket::new(server)?;
        if server.address_family() == AddressFamily::INET {
            rustix::net::bind(&socket, &SocketAddrV4::new(self.0, 0))?;
        }
        Ok(socket)
    }
}

/// Receives or sends as much as goes: `None` when nothing goes now.
pub fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
