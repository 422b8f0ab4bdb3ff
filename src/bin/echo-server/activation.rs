//! Listeners that a service manager has opened: `LISTEN_FDS` and `LISTEN_PID`, as in
//! `sd_listen_fds(3)`.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::fs::{Stat, fstat};
use rustix::net::getpeername;

/// A socket that listens already. It is the service manager's, so its path stays.
#[derive(Debug)]
pub(crate) enum Inherited {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Another descriptor of the same socket: who has either accepts what comes.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// Whether it is another descriptor of the same socket.
    fn is(&self, other: &Self) -> bool {
        let (Ok(ours), Ok(theirs)) = (self.stat(), other.stat()) else {
            return false;
        };
        // Not all systems number their sockets.
        let is_known = ours.st_ino != 0;
        is_known && (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
    }

    fn stat(&self) -> io::Result<Stat> {
        let stat = match self {
            Self::Tcp(listener) => fstat(listener),
            Self::Unix(listener) => fstat(listener),
        };
        Ok(stat?)
    }

    fn is_connected(&self) -> bool {
        match self {
            Self::Tcp(listener) => getpeername(listener).is_ok(),
            Self::Unix(listener) => getpeername(listener).is_ok(),
        }
    }

    fn is_bound(&self) -> bool {
        match self {
            Self::Tcp(listener) => listener.local_addr().is_ok_and(|it| it.port() != 0),
            Self::Unix(listener) => listener.local_addr().is_ok_and(|it| !it.is_unnamed()),
        }
    }
}

/// Those that are meant for this process; there may be none. It has to be called before there is
/// another thread, and once: the variables are removed, so that they go to no other program.
pub(crate) fn inherited() -> io::Result<Vec<Inherited>> {
    let Some(count) = count()? else {
        return Ok(Vec::new());
    };
    let mut descriptors = ListenFd::from_env();
    let mut sockets: Vec<Inherited> = Vec::new();
    for index in 0..count {
        let socket = take(&mut descriptors, index)?;
        // A socket may come by several descriptors.
        if !sockets.iter().any(|known| known.is(&socket)) {
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// How many there are; `None` if somebody else is meant.
fn count() -> io::Result<Option<usize>> {
    let (Some(count), Some(process)) = (env::var_os("LISTEN_FDS"), env::var_os("LISTEN_PID"))
    else {
        return Ok(None);
    };
    if process.to_str() != Some(&std::process::id().to_string()) {
        return Ok(None);
    }
    // More than that no process is given, and a list of them is made before any is looked at.
    let number = count.to_str().and_then(|count| count.parse().ok());
    match number.filter(|count| *count <= MOST) {
        Some(count) => Ok(Some(count)),
        None => Err(refused(format!("{count:?} is no number of sockets"))),
    }
}

fn take(descriptors: &mut ListenFd, index: usize) -> io::Result<Inherited> {
    let tcp = descriptors.take_tcp_listener(index).ok().flatten();
    let found = tcp.map(Inherited::Tcp).or_else(|| {
        let unix = descriptors.take_unix_listener(index).ok().flatten();
        unix.map(Inherited::Unix)
    });
    let descriptor = FIRST + index;
    let inherited = found.ok_or_else(|| {
        refused(format!(
            "descriptor {descriptor} is no TCP or unix stream socket"
        ))
    })?;
    if inherited.is_connected() {
        return Err(refused(format!("descriptor {descriptor} is connected")));
    }
    if !inherited.is_bound() {
        let message = format!("descriptor {descriptor} is not bound to any address");
        return Err(refused(message));
    }
    Ok(inherited)
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("LISTEN_FDS: {reason}"))
}

/// Where the descriptors begin, for every service manager.
const FIRST: usize = 3;
const MOST: usize = 65536;
