//! A connection under the policies of its server.
//!
//! Owns: how a [`Core`] keeps its vigil. Why: the transport is where bytes are seen to come and go,
//! so no handler has to help, and none can forget it. Invariants: at most one timer for each
//! connection, which is not moved by bytes: when it fires, it is asked what has happened since;
//! none is left when the connection is over. asyncio's counterpart: none.

use std::sync::Arc;
use std::time::Instant;

use crate::event_loop::{Entry, LoopHandle};
use crate::transports::close_reason::CloseReason;
use crate::transports::core::Core;

impl Core {
    /// The connection begins, perhaps after others of the same turn have taken their time.
    pub(super) fn begin_vigil(&self) {
        self.watch_active();
        self.look_again();
    }

    /// Bytes have come, or are welcome again.
    #[inline]
    pub(super) fn watch_active(&self) {
        if let Some(vigil) = &self.vigil {
            vigil.note_active(self.time());
        }
    }

    /// It is closing, or what stands on it is: what comes is thrown away from now on.
    pub(crate) fn hear_no_more(&self) {
        if let Some(vigil) = &self.vigil {
            vigil.note_deaf();
        }
        if let Some(layer) = self.layer() {
            layer.hear_no_more();
        }
    }

    /// Bytes were offered to the system, which took so many.
    #[inline]
    pub(super) fn watch_sent(&self, sent: usize, all: bool) {
        if let Some(vigil) = &self.vigil {
            vigil.note_sent(self.time(), sent, all);
            if !all {
                self.look_again();
            }
        }
    }

    /// Something may be sent, or nobody wants to send any more.
    pub(super) fn watch_room(&self) {
        if let Some(vigil) = &self.vigil {
            vigil.note_room();
        }
    }

    /// So many bytes wait since the system would block.
    pub(super) fn watch_unsent(&self, unsent: usize) {
        let vigil = self.vigil.as_ref();
        if vigil.is_some_and(|vigil| vigil.is_too_much(unsent)) {
            self.break_off(CloseReason::WriteBufferFull);
        }
    }

    /// Whether it would be ended now, if nothing has happened that no event has told of yet.
    pub(super) fn is_overdue(&self, handle: &LoopHandle) -> bool {
        let Some(vigil) = self.vigil.as_ref().filter(|_| !self.is_lost()) else {
            return false;
        };
        if !self.is_closing() && !self.is_reading() {
            // The peer may have spoken, and it is we who do not listen.
            vigil.note_active(handle.time());
        }
        vigil.judge(handle.time()).is_some()
    }

    /// Its timer has fired.
    pub(super) fn look(&self, handle: &LoopHandle) {
        let Some(vigil) = self.vigil.as_ref().filter(|_| !self.is_lost()) else {
            return;
        };
        vigil.timer.set(None);
        match vigil.judge(handle.time()) {
            Some(reason) => self.break_off(reason),
            None => self.look_again(),
        }
    }

    /// Sees to it that a timer fires in time.
    pub(super) fn look_again(&self) {
        let Some(vigil) = &self.vigil else {
            return;
        };
        let Some(deadline) = vigil.deadline() else {
            return;
        };
        let timer = vigil.timer.get();
        if timer.is_some_and(|timer| timer.when() <= deadline) {
            return;
        }
        self.look_no_more();
        if let Some(handle) = self.handle.upgrade() {
            let timer = handle.arm_entry(deadline, self.id, Entry::Deadline);
            vigil.timer.set(Some(timer));
        }
    }

    /// Takes the timer back.
    pub(super) fn look_no_more(&self) {
        let timer = self.vigil.as_ref().and_then(|vigil| vigil.timer.take());
        if let (Some(timer), Some(handle)) = (timer, self.handle.upgrade()) {
            handle.disarm(timer);
        }
    }

    /// The clock itself: a step may have computed for long since the turn began.
    fn time(&self) -> Instant {
        match self.handle.upgrade() {
            Some(handle) => handle.time(),
            None => self.handle.agenda().now(),
        }
    }

    fn break_off(&self, reason: CloseReason) {
        self.lose(reason, Some(Arc::new(reason.into_error())));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use crate::event_loop::EventLoop;
    use crate::sys::{Address, Readiness, Stream};
    use crate::transports::policies::Policies;

    /// A socket of which nothing is asked.
    struct Untouched;

    impl Stream for Untouched {
        fn read(&self, _: &mut [u8]) -> io::Result<usize> {
            unreachable!()
        }

        fn read_behind(&self, _: &mut Vec<u8>) -> io::Result<usize> {
            unreachable!()
        }

        fn write(&self, _: &[u8]) -> io::Result<usize> {
            unreachable!()
        }

        fn shutdown_write(&self) -> io::Result<()> {
            unreachable!()
        }

        fn finish_connect(&self) -> io::Result<Option<Address>> {
            unreachable!()
        }

        fn take_error(&self) -> io::Result<()> {
            unreachable!()
        }

        fn local_address(&self) -> io::Result<Address> {
            unreachable!()
        }

        fn short_read_drains(&self) -> bool {
            unreachable!()
        }
    }

    /// A connection that may be idle for a minute.
    fn watched(event_loop: &EventLoop) -> Core {
        let policies = Policies {
            idle_timeout: Some(Duration::from_secs(60)),
            ..Policies::default()
        };
        let core = Core::new(
            event_loop.downgrade(),
            event_loop.reserve(),
            Box::new(Untouched),
            (SocketAddr::from(([127, 0, 0, 1], 9)).into(), None),
            Readiness::default(),
            policies,
        );
        core.begin_vigil();
        core
    }

    #[test]
    fn bytes_do_not_move_the_timer() {
        let event_loop = EventLoop::new().unwrap();
        let core = watched(&event_loop);
        let vigil = core.vigil.as_ref().unwrap();
        let timer = vigil.timer.get().unwrap();
        let deadline = vigil.deadline();
        // The clock is seen to go on.
        sleep(Duration::from_millis(1));
        core.watch_active();
        core.watch_sent(1, false);
        assert!(vigil.deadline() > deadline);
        assert_eq!(vigil.timer.get(), Some(timer));
    }

    #[test]
    fn whatever_ends_a_connection_takes_its_timer_back() {
        let event_loop = EventLoop::new().unwrap();
        let endings: [fn(&Core); 4] = [
            Core::close,
            |core| core.abort(CloseReason::Aborted),
            |core| core.fail(io::ErrorKind::ConnectionReset.into()),
            |core| core.break_off(CloseReason::WriteTimeout),
        ];
        for end in endings {
            let core = watched(&event_loop);
            end(&core);
            assert!(core.vigil.as_ref().unwrap().timer.get().is_none());
        }
    }
}
