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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: Option<Socket>,
    /// Locked while it is told, so that it hears things in their order, whoever says them.
    stage: Mutex<Stage>,
}

/// What it knows of us.
#[derive(Debug, PartialEq)]
enum Stage {
    Starting,
    Serving,
    /// Nothing but a sign of life comes after it.
    Stopping,
}

#[derive(Debug)]
struct Socket {
    ours: UnixDatagram,
    theirs: SocketAddr,
}

impl Manager {
    /// As the environment has it.
    pub(crate) fn from_env() -> io::Result<Self> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = name.map(|name| {
            Socket::to(&name).map_err(|error| {
                let message = format!("NOTIFY_SOCKET {name:?}: {error}");
                io::Error::new(error.kind(), message)
            })
        });
        Ok(Self {
            socket: socket.transpose()?,
            stage: Mutex::new(Stage::Starting),
        })
    }

    /// All is served, unless it is to end already.
    pub(crate) fn ready(&self) {
        let mut stage = self.stage();
        if *stage == Stage::Starting {
            *stage = Stage::Serving;
            self.tell("READY=1");
        }
    }

    /// [`reloaded`](Self::reloaded) comes afterwards, unless the end does.
    pub(crate) fn reloading(&self) {
        // So that it can tell our answer from the one to an earlier question.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell_if_serving(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub(crate) fn reloaded(&self, status: &str) {
        // Lines are its separators.
        let status = status.replace('\n', " ");
        self.tell_if_serving(&format!("READY=1\nSTATUS={status}"));
    }

    pub(crate) fn stopping(&self) {
        let mut stage = self.stage();
        *stage = Stage::Stopping;
        self.tell("STOPPING=1");
    }

    pub(crate) fn is_alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How long it waits for [`is_alive`](Self::is_alive), if it does.
    pub(crate) fn watchdog(&self) -> io::Result<Option<Duration>> {
        let process = env::var_os("WATCHDOG_PID");
        let is_ours = process.is_none_or(|it| it.to_str() == Some(&std::process::id().to_string()));
        let Some(micros) =
            env::var_os("WATCHDOG_USEC").filter(|_| is_ours && self.socket.is_some())
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

    fn tell_if_serving(&self, what: &str) {
        let stage = self.stage();
        if *stage == Stage::Serving {
            self.tell(what);
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // It is whole at each moment.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str) {
        let Some(Socket { ours, theirs }) = &self.socket else {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers and reloads end when they do, also after the signal.
    #[test]
    fn nothing_is_ready_before_the_start_or_after_the_end() {
        let name = format!("evloop-stages-{}", std::process::id());
        let path = env::temp_dir().join(name);
        let theirs = UnixDatagram::bind(&path).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let manager = Manager {
            socket: Some(Socket::to(path.as_os_str()).unwrap()),
            stage: Mutex::new(Stage::Starting),
        };
        let heard = || {
            let mut message = [0; 100];
            let length = theirs.recv(&mut message).ok()?;
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            message.lines().next().map(str::to_owned)
        };
        let tell = [
            Manager::reloading,
            |manager: &Manager| manager.reloaded(""),
            Manager::ready,
            Manager::reloading,
            |manager: &Manager| manager.reloaded(""),
            Manager::is_alive,
            Manager::stopping,
            Manager::reloading,
            |manager: &Manager| manager.reloaded(""),
            Manager::ready,
            Manager::is_alive,
        ];
        let mut all = Vec::new();
        for tell in tell {
            tell(&manager);
            all.extend(std::iter::from_fn(heard));
        }
        std::fs::remove_file(&path).unwrap();
        let serving = ["READY=1", "RELOADING=1", "READY=1", "WATCHDOG=1"];
        assert_eq!(all[..4], serving);
        assert_eq!(all[4..], ["STOPPING=1", "WATCHDOG=1"]);
    }
}
