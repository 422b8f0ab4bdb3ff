//! What a reader, its feeder, its writer and its protocol share.
//!
//! Owns: [`StreamState`], one allocation for a stream. Why: a stream has two sides that are fed
//! and ended by one protocol. Invariants: one wait for data at a time; the stored error and the
//! end are looked at after every wake; wakers and transports are called with nothing borrowed.
//! asyncio's counterpart: the fields of `StreamReader` and `FlowControlMixin`.

use std::cell::{Cell, OnceCell};
use std::io;
use std::sync::Arc;
use std::task::Waker;

use crate::event_loop::cells::{Shared, Slot};
use crate::sansio::read_buffer::ReadBuffer;
use crate::streams::error::FeedError;
use crate::tasks::WakerSet;
use crate::transports::Transport;

pub(crate) struct StreamState {
    pub(crate) input: Shared<Input>,
    /// Who waits for data. It stays here between waits; `waiting` says whether it is wanted.
    waiter: Slot<Waker>,
    waiting: Cell<bool>,
    /// Who waits in `drain`; made when somebody does.
    drains: OnceCell<Box<WakerSet>>,
    /// Who waits in `wait_closed`; made when somebody does.
    closes: OnceCell<Box<WakerSet>>,
    /// Set once, when the connection is over.
    closed: Slot<Result<(), Arc<io::Error>>>,
}

/// The reading side.
pub(crate) struct Input {
    pub(crate) buffer: ReadBuffer,
    pub(crate) limit: usize,
    pub(crate) eof: bool,
    /// Reported by every read.
    pub(crate) exception: Option<Exception>,
    transport: Option<Transport>,
    /// We have paused the transport.
    paused: bool,
    /// The reader is gone: what arrives is dropped.
    discarding: bool,
}

/// An error that reads report.
#[derive(Clone)]
pub(crate) struct Exception {
    pub(crate) error: Arc<io::Error>,
    /// The connection was lost: what arrived before comes first. One that was set by hand is
    /// reported at once.
    pub(crate) after_data: bool,
}

impl StreamState {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            input: Shared::new(Input {
                buffer: ReadBuffer::default(),
                limit,
                eof: false,
                exception: None,
                transport: None,
                paused: false,
                discarding: false,
            }),
            waiter: Slot::default(),
            waiting: Cell::new(false),
            drains: OnceCell::new(),
            closes: OnceCell::new(),
            closed: Slot::default(),
        }
    }

    /// The number of the loop that feeds this stream; 0 if it has no transport.
    pub(crate) fn loop_number(&self) -> u64 {
        self.input.with(|input| {
            let transport = input.transport.as_ref();
            transport.map_or(0, |transport| transport.core().handle().number())
        })
    }

    /// What a read waits for.
    pub(crate) fn waits_for(&self) -> String {
        self.input.with(|input| match &input.transport {
            Some(transport) => format!("bytes from {}", transport.core().peer_name()),
            None => "bytes that somebody feeds".to_owned(),
        })
    }

    // Feeding.

    pub(crate) fn feed_data(&self, data: &[u8]) -> Result<(), FeedError> {
        self.feed(data.len(), |input| input.take_in(data))
    }

    /// [`feed_data`](Self::feed_data) with the storage.
    pub(crate) fn feed_owned(&self, data: Vec<u8>) -> Result<(), FeedError> {
        self.feed(data.len(), |input| input.take_over(data))
    }

    fn feed(&self, size: usize, take: impl FnOnce(&mut Input)) -> Result<(), FeedError> {
        let pause = self.input.with(|input| {
            if input.eof {
                return Err(FeedError::AfterEof);
            }
            // Nothing more, so nothing to pause for: a read that waits may just have resumed.
            if input.discarding || size == 0 {
                return Ok(None);
            }
            take(input);
            let full = input.buffer.len() > input.limit.saturating_mul(2);
            if full && !input.paused {
                input.paused = input.transport.is_some();
                return Ok(input.transport.clone());
            }
            Ok(None)
        })?;
        if size > 0 {
            self.wake_reader();
        }
        if let Some(transport) = pause {
            transport.pause_reading();
        }
        Ok(())
    }

    pub(crate) fn feed_eof(&self) {
        self.input.with(|input| input.eof = true);
        self.wake_reader();
    }

    pub(crate) fn set_exception(&self, exception: Exception) {
        let old = self.input.with(|input| input.exception.replace(exception));
        drop(old);
        self.wake_reader();
    }

    pub(crate) fn set_transport(&self, transport: Transport) -> Result<(), FeedError> {
        self.input.with(|input| {
            if input.transport.is_some() {
                return Err(FeedError::TransportAlreadySet);
            }
            transport.core().set_wanted(Some(input.limit));
            input.transport = Some(transport);
            Ok(())
        })
    }

    /// What is fed and read from here on comes from another transport.
    #[cfg(feature = "tls")]
    pub(crate) fn change_transport(&self, transport: Transport) {
        let old = self.input.with(|input| {
            input.paused = false;
            if !input.discarding {
                transport.core().set_wanted(Some(input.limit));
            }
            input.transport.replace(transport)
        });
        drop(old);
    }

    /// How many bytes have come that nobody has read.
    #[cfg(feature = "tls")]
    pub(crate) fn unread(&self) -> usize {
        self.input.with(|input| input.buffer.len())
    }

    /// The bytes that have come and that nobody has read: nobody will.
    pub(crate) fn take_unread(&self) -> Vec<u8> {
        self.input.with(|input| input.buffer.take(usize::MAX))
    }

    pub(crate) fn has_exception(&self) -> bool {
        self.input.with(|input| input.exception.is_some())
    }

    pub(crate) fn exception(&self) -> Option<Arc<io::Error>> {
        self.input.with(|input| {
            input
                .exception
                .as_ref()
                .map(|exception| Arc::clone(&exception.error))
        })
    }

    // Reading.

    /// Applies a rule to what has arrived. With an answer to a read that `wanted` something the
    /// transport goes on, once the buffer is down to the limit. Without one the reader is going to
    /// wait, and it goes on in any case: what is wanted may be larger than the buffer is otherwise
    /// allowed to grow.
    pub(crate) fn apply<T, E>(
        &self,
        wanted: usize,
        rule: impl FnOnce(&mut Input) -> Result<Option<T>, E>,
    ) -> Option<Result<T, E>> {
        let (answer, paused) = self.input.with(|input| {
            let answer = rule(input).transpose();
            let paused = match &answer {
                Some(answer) => input.has_given(answer.is_ok() && wanted > 0),
                None => input.is_to_wait(wanted),
            };
            (answer, paused)
        });
        if let Some(transport) = paused {
            transport.resume_reading();
        }
        answer
    }

    /// Remembers who waits for data.
    pub(crate) fn wait_for_data(&self, waker: &Waker) {
        let known = self.waiter.lend(|old| old.will_wake(waker)) == Some(true);
        if !known {
            drop(self.waiter.put(waker.clone()));
        }
        self.waiting.set(true);
    }

    fn wake_reader(&self) {
        if self.waiting.replace(false) {
            self.waiter.lend(|waker| waker.wake_by_ref());
        }
    }

    /// The reader is gone. The connection still has to see its end, so reading goes on.
    pub(crate) fn discard(&self) {
        let (transport, buffer) = self.input.with(|input| {
            input.discarding = true;
            if let Some(transport) = &input.transport {
                transport.core().set_wanted(None);
            }
            (input.unpause(), std::mem::take(&mut input.buffer))
        });
        drop((self.waiter.take(), buffer));
        if let Some(transport) = transport {
            transport.resume_reading();
        }
    }

    // The end.

    /// The connection is over. The error comes after what was received before it.
    pub(crate) fn connection_lost(&self, error: Option<Arc<io::Error>>) {
        match &error {
            None => self.feed_eof(),
            Some(error) => self.set_exception(Exception {
                error: Arc::clone(error),
                after_data: true,
            }),
        }
        drop(self.closed.put(error.map_or(Ok(()), Err)));
        if let Some(closes) = self.closes.get() {
            closes.wake_all();
        }
        self.resume_writing();
    }

    pub(crate) fn drains(&self) -> &WakerSet {
        self.drains.get_or_init(Box::default)
    }

    pub(crate) fn closes(&self) -> &WakerSet {
        self.closes.get_or_init(Box::default)
    }

    /// There is room to write again.
    pub(crate) fn resume_writing(&self) {
        if let Some(drains) = self.drains.get() {
            drains.wake_all();
        }
    }

    pub(crate) fn closed(&self) -> Option<Result<(), Arc<io::Error>>> {
        self.closed.get()
    }
}

impl Input {
    fn take_in(&mut self, data: &[u8]) {
        if let Some(transport) = &self.transport {
            let agenda = transport.agenda();
            agenda.take_in(data.len());
            if !self.buffer.has_storage() {
                self.buffer.adopt(agenda.spares().take(data.len()));
            }
        }
        self.buffer.extend(data);
    }

    /// The same for bytes that come with their storage.
    fn take_over(&mut self, data: Vec<u8>) {
        if !self.buffer.is_empty() || self.transport.is_none() {
            self.take_in(&data);
        } else if let Some(transport) = &self.transport {
            transport.agenda().take_in(data.len());
            self.buffer.adopt(data);
        }
    }

    /// Bytes may have left the buffer; an empty one keeps no storage. The transport, if that was a
    /// reason `to_go_on` and there is room.
    fn has_given(&mut self, to_go_on: bool) -> Option<Transport> {
        if self.buffer.has_storage() && self.buffer.is_empty() {
            let spare = self.buffer.reclaim();
            if let Some(transport) = &self.transport {
                transport.agenda().spares().give(spare);
            }
        }
        if to_go_on && self.paused && self.buffer.len() <= self.limit {
            return self.unpause();
        }
        None
    }

    /// The reader waits, and would take `wanted` bytes at once. The transport, if it is to go on.
    fn is_to_wait(&mut self, wanted: usize) -> Option<Transport> {
        if let Some(transport) = &self.transport {
            transport.core().want(wanted.max(self.limit));
        }
        self.unpause()
    }

    /// The transport, if it was paused by us: it is to go on.
    fn unpause(&mut self) -> Option<Transport> {
        if std::mem::replace(&mut self.paused, false) {
            self.transport.clone()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Input, StreamState};

    /// However a buffer was emptied.
    #[test]
    fn an_empty_buffer_keeps_no_storage() {
        type Rule = fn(&mut Input) -> Result<Option<()>, ()>;
        let rules: [Rule; 3] = [
            |input| {
                Ok({
                    let _: () = drop(input.buffer.take(5));
                    Some(())
                })
            },
            |input| {
                Ok({
                    let _: () = input.buffer.discard(5);
                    Some(())
                })
            },
            |input| {
                let _: () = drop(input.buffer.take(usize::MAX));
                Err(())
            },
        ];
        for rule in rules {
            let state = StreamState::new(10);
            state.feed_data(b"hello").unwrap();
            assert!(state.input.with(|input| input.buffer.has_storage()));
            assert!(state.apply(5, rule).is_some());
            assert!(!state.input.with(|input| input.buffer.has_storage()));
        }
    }

    #[test]
    fn what_is_left_stays_where_it_is() {
        let state = StreamState::new(10);
        state.feed_data(b"hello").unwrap();
        let answer = state.apply(2, |input| Ok::<_, ()>(Some(input.buffer.take(2))));
        assert_eq!(answer, Some(Ok(b"he".to_vec())));
        assert_eq!(state.input.with(|input| input.buffer.take(9)), b"llo");
    }
}
