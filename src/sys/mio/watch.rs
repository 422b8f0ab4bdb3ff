//! Descriptors that belong to somebody else, watched.
//!
//! Owns: [`Watching`]. Why: readiness is an edge, and who reads one byte of many is owed another
//! event; asking the poller anew gives one if the descriptor is still ready. Invariants: one
//! registration for both directions; the descriptor is never closed here, read or written.
//! asyncio's counterpart: a key of a selector, which is level-triggered by itself.

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use crate::sys::driver::{SourceId, Watch};
use crate::sys::mio::registration::token_of;
use crate::sys::readiness::Readiness;

/// A descriptor of any kind that the poller takes: a socket, a pipe, a terminal.
pub(crate) struct Watching {
    id: SourceId,
    fd: RawFd,
    registry: Rc<Registry>,
}

impl Watching {
    pub(crate) fn begin(
        registry: &Rc<Registry>,
        id: SourceId,
        fd: RawFd,
        wanted: Readiness,
    ) -> io::Result<Self> {
        registry.register(&mut SourceFd(&fd), token_of(id), interest(wanted))?;
        Ok(Self {
            id,
            fd,
            registry: Rc::clone(registry),
        })
    }
}

impl Watch for Watching {
    fn rearm(&self, wanted: Readiness) -> io::Result<()> {
        let fd = &mut SourceFd(&self.fd);
        self.registry
            .reregister(fd, token_of(self.id), interest(wanted))
    }

    fn end(&self) {
        // It fails where the descriptor was closed, and there is nothing left to end then.
        let _ = self.registry.deregister(&mut SourceFd(&self.fd));
    }
}

/// mio has no interest in nothing, and nobody asks for it.
fn interest(wanted: Readiness) -> Interest {
    match (wanted.says(Readiness::READ), wanted.says(Readiness::WRITE)) {
        (true, true) => Interest::READABLE.add(Interest::WRITABLE),
        (false, true) => Interest::WRITABLE,
        _ => Interest::READABLE,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::sys::driver::{Driver, Event};
    use crate::sys::mio::MioDriver;

    const WATCHED: SourceId = SourceId(1);

    /// What is said without waiting for it.
    fn said(driver: &mut MioDriver) -> Vec<Readiness> {
        let mut events = Vec::new();
        driver.poll(&mut events, Some(Duration::ZERO)).unwrap();
        let readiness = |event: &Event| match event {
            Event::Ready(id, readiness) if *id == WATCHED => *readiness,
            other => panic!("{other:?}"),
        };
        events.iter().map(readiness).collect()
    }

    #[test]
    fn what_is_wanted_is_said_once_and_again_when_asked_anew() {
        let (read, write) = (Readiness::READ, Readiness::WRITE);
        let mut driver = MioDriver::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let watch = driver.watch(WATCHED, ours.as_raw_fd(), read).unwrap();
        // There is room for writing, and nobody has asked for it.
        assert_eq!(said(&mut driver), []);
        theirs.write_all(b"x").unwrap();
        assert_eq!(said(&mut driver), [read]);
        assert_eq!(said(&mut driver), []);
        for wanted in [read, write, read | write] {
            watch.rearm(wanted).unwrap();
            assert_eq!(said(&mut driver), [wanted]);
            assert_eq!(said(&mut driver), []);
        }
        watch.end();
        theirs.write_all(b"x").unwrap();
        assert_eq!(said(&mut driver), []);
        assert!(watch.rearm(read).is_err());
    }
}
