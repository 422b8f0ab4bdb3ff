//! What a service manager wants to hear: `NOTIFY_SOCKET`, as in `sd_notify(3)`, and the watchdog's
//! question, as in `sd_watchdog_enabled(3)`.
//!
//! By hand, since it is a datagram or two, and each should leave by a descriptor that we have from
//! the start: a server that has run out of them is not one that hangs.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Manager(Option<Socket>);

#[derive(Debug)]
struct Socket {
    ours: UnixDatagram,
    theirs: SocketAddr,
}

impl Manager {
    /// As the environment has it.
    pub(crate) fn from_env() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self(None));
        };
        let socket = Socket::to(&name).map_err(|error| {
            let message = format!("NOTIFY_SOCKET {name:?}: {error}");
            io::Error::new(error.kind(), message)
        })?;
        Ok(Self(Some(socket)))
    }

    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// [`reloaded`](Self::reloaded) comes afterwards.
    pub(crate) fn reloading(&self) {
        // So that it can tell our answer from the one to an earlier question.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub(crate) fn reloaded(&self, status: &str) {
        // Lines are its separators.
        let status = status.replace('\n', " ");
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    pub(crate) fn is_alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How long it waits for [`is_alive`](Self::is_alive), if it does.
    pub(crate) fn watchdog(&self) -> io::Result<Option<Duration>> {
        let process = env::var_os("WATCHDOG_PID");
        let is_ours = process.is_none_or(|it| it.to_str() == Some(&std::process::id().to_string()));
        let Some(micros) = env::var_os("WATCHDOG_USEC").filter(|_| is_ours && self.0.is_some())
        else {
            return Ok(None);
        };
        let number = micros.to_str().and_then(|micros| micros.parse().ok());
        match number.map(Duration::from_micros) {
            Some(patience) if patience >= SHORTEST_WATCHDOG => Ok(Some(patience)),
            Some(_) => {
                let least = SHORTEST_WATCHDOG.as_micros();
                let reason = format!("WATCHDOG_USEC: {micros:?} is too short: {least} at least");
                Err(refused(&reason))
            }
            None => {
                let reason = format!("WATCHDOG_USEC: {micros:?} is no number of microseconds");
                Err(refused(&reason))
            }
        }
    }

    fn tell(&self, what: &str) {
        let Some(Socket { ours, theirs }) = &self.0 else {
            return;
        };
        match ours.send_to_addr(what.as_bytes(), theirs) {
            Ok(_) => log::debug!("NOTIFY_SOCKET: {what:?}"),
            Err(error) => log::warn!("NOTIFY_SOCKET: {what:?} is not told: {error}"),
        }
    }
}

impl Socket {
    fn to(name: &OsStr) -> io::Result<Self> {
        let theirs = address(name)?;
        let ours = UnixDatagram::unbound()?;
        // It reads soon, as a rule. If it never does, the loop is not held up for ever.
        ours.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { ours, theirs })
    }
}

/// A path, or an abstract name, which begins with `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', rest @ ..] => abstract_address(rest),
        _ => Err(refused("it must be a path or an abstract name")),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(refused("abstract names are Linux's"))
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// What is shorter no process can promise, and to try it would be all that it does.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(10);

/// For [`Socket::ours`].
const PATIENCE: Duration = Duration::from_millis(100);
