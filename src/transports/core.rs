//! The half of a connection that a transport handle keeps: its state, its end, and what is known.
//!
//! Owns: [`Core`]. Why: a `Transport` may outlive its connection, and must not keep the protocol
//! alive. Invariants: the first cause of an end wins; `connection_lost` is queued exactly once.
//! How it sends is told in `sending.rs`, how it receives in `receiving.rs`. asyncio's counterpart:
//! the fields of `_SelectorSocketTransport`.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use crate::event_loop::cells::{Part, Shared, Slot};
use crate::event_loop::spares::Spares;
use crate::event_loop::{Entry, LoopClosed, WeakHandle};
use crate::sansio::lifecycle::{Life, ReadSide, WriteSide};
use crate::sansio::water_marks::{Flow, WaterMarks};
use crate::sansio::write_buffer::WriteBuffer;
use crate::sys::{Address, Credentials, Readiness, SourceId, Stream};
use crate::transports::close_reason::CloseReason;
use crate::transports::known::Known;
use crate::transports::policies::{Policies, Vigil};

pub(crate) struct Core {
    pub(super) handle: WeakHandle,
    pub(super) id: SourceId,
    pub(super) peer: Address,
    pub(super) life: Cell<Life>,
    pub(super) read: Cell<ReadSide>,
    pub(super) write: Cell<WriteSide>,
    /// Sticky: set by events, cleared when the system would block.
    pub(super) ready: Cell<Readiness>,
    /// Whether the protocol brings its own buffer; `None` until it was asked.
    pub(super) buffered: Cell<Option<bool>>,
    /// Written, not yet sent, and still where it was received: it is sent from there when the step
    /// ends. Whoever writes on what came needs no copy of it. Nothing is unsent before it.
    pub(super) passed_on: Cell<Part>,
    /// How many bytes the protocol would keep, if it keeps what comes.
    pub(super) wanted: Cell<Option<NonZeroU32>>,
    /// About what the largest of the last receives brought, in bytes.
    pub(super) usual: Cell<u32>,
    /// In the loop's list of notes.
    pub(super) noted: Cell<bool>,
    /// The stream stands on another transport.
    pub(super) layered: bool,
    /// Another transport stands on this one, and reads what comes.
    pub(super) carries: Cell<Carries>,
    /// `connection_made` was delivered, or is about to be.
    pub(super) made: Cell<bool>,
    /// What the protocol has to be told about writing, in order.
    pub(super) notices: Cell<[Option<Flow>; 2]>,
    /// Writes since the end of the connection.
    pub(super) lost_writes: Cell<u16>,
    /// How much was never sent, once the connection is lost.
    left_unsent: Cell<usize>,
    pub(super) marks: Cell<WaterMarks>,
    /// The protocol was told to pause writing, or will be.
    pub(super) write_paused: Cell<bool>,
    pub(super) socket: Shared<Socket>,
    /// Why the connection ended, or will when everything is sent, and the error if there was one.
    pub(super) reason: Cell<Option<CloseReason>>,
    /// Only where the server has policies.
    pub(super) vigil: Option<Box<Vigil>>,
    pub(super) error: Slot<Arc<io::Error>>,
}

/// Whether another transport stands on this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Nothing,
    /// One that reads on, and looks for a reset behind what it reads.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only TLS is carried"))]
    Reader,
    /// The same, by its name: what comes is not received here, but by that one itself.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only TLS is carried"))]
    Receiver(SourceId),
    /// One that has read the end.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only TLS is carried"))]
    Ended,
}

/// The two ends of sending, which are borrowed together.
pub(super) struct Socket {
    /// `None` once the connection is over.
    pub(super) stream: Option<Box<dyn Stream>>,
    /// Written and not yet sent.
    pub(super) unsent: WriteBuffer,
    /// `None` is nothing yet.
    pub(super) known: Option<Rc<Known>>,
}

impl Core {
    pub(crate) fn new(
        handle: WeakHandle,
        id: SourceId,
        stream: Box<dyn Stream>,
        (peer, known): (Address, Option<Rc<Known>>),
        ready: Readiness,
        policies: Policies,
    ) -> Self {
        let vigil = policies.vigil(handle.agenda().now());
        let layered = stream.layer().is_some();
        Self {
            handle,
            id,
            peer,
            life: Cell::new(Life::Open),
            read: Cell::new(ReadSide::Waiting),
            write: Cell::new(WriteSide::Open),
            ready: Cell::new(ready),
            buffered: Cell::new(None),
            passed_on: Cell::new(Part::NONE),
            wanted: Cell::new(None),
            usual: Cell::new(0),
            noted: Cell::new(false),
            layered,
            carries: Cell::new(Carries::Nothing),
            made: Cell::new(false),
            notices: Cell::new([None; 2]),
            lost_writes: Cell::new(0),
            left_unsent: Cell::new(0),
            marks: Cell::new(WaterMarks::default()),
            write_paused: Cell::new(false),
            socket: Shared::new(Socket {
                stream: Some(stream),
                unsent: WriteBuffer::default(),
                known,
            }),
            reason: Cell::new(None),
            vigil,
            error: Slot::default(),
        }
    }

    // The end.

    pub(crate) fn close(&self) {
        self.close_for(if self.handle.agenda().is_closed() {
            CloseReason::LoopClosed
        } else if self.has_ended() {
            CloseReason::PeerEof
        } else {
            CloseReason::Closed
        });
    }

    /// Closes for another reason than that somebody asked for it.
    pub(crate) fn close_for(&self, reason: CloseReason) {
        self.send();
        let life = self.life.get();
        let waits = life == Life::Open && (self.unsent() > 0 || !self.say_goodbye());
        self.life.set(life.close(waits));
        if life == Life::Open {
            self.reason.set(Some(reason));
            if self.is_lost() {
                self.queue_lost(reason, None);
            } else {
                self.hear_no_more();
                self.end_loan();
            }
        }
    }

    /// Closes because whoever handled it has failed.
    pub(crate) fn close_failed(&self) {
        self.close_for(CloseReason::HandlerFailed);
        self.blame_handler();
    }

    /// Ends it at once because a call of its protocol has failed. `report` is given the reason when
    /// that is settled, so nothing that its reader does replaces it; and before `connection_lost` is
    /// queued, so what its reader queues comes first, as in asyncio.
    pub(crate) fn lose_failed(&self, error: Arc<io::Error>, report: impl FnOnce(CloseReason)) {
        let life = self.life.get();
        self.life.set(life.lose());
        let ends = self.life.get() != life;
        if ends {
            self.settle_loss(CloseReason::HandlerFailed, Some(error));
        }
        self.blame_handler();
        report(self.reason.get().unwrap_or(CloseReason::HandlerFailed));
        if ends {
            self.announce_loss();
        }
    }

    /// A handler that fails may have closed before: by dropping its writer it always has. Until the
    /// end is delivered, the failure is a better reason than an end in good order.
    fn blame_handler(&self) {
        let in_good_order = matches!(
            self.reason.get(),
            Some(CloseReason::Closed | CloseReason::PeerEof)
        );
        if in_good_order && self.life.get() != Life::Gone {
            self.reason.set(Some(CloseReason::HandlerFailed));
        }
    }

    pub(crate) fn abort(&self, reason: CloseReason) {
        // One attempt; what becomes of it does not matter any more.
        let _ = self.send_some();
        self.lose(reason, None);
    }

    /// Takes the socket out, with what could not be sent. For the protocol the connection is over.
    pub(crate) fn detach(&self) -> io::Result<(OwnedFd, Vec<u8>, bool)> {
        let handle = self.handle.upgrade().ok_or(LoopClosed)?;
        self.send();
        if self.is_closing() {
            let message = "the transport is closing";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        let unsent = self.socket.with(|socket| socket.unsent.as_slice().to_vec());
        let eof_pending = self.eof_asked() && !unsent.is_empty();
        let stream = match self.descriptor() {
            Some(_) => self.take_stream(),
            None => None,
        };
        let stream = stream.ok_or(io::ErrorKind::Unsupported)?;
        let fd = handle.driver(|driver| driver.release(stream))?;
        self.lose(CloseReason::Detached, None);
        Ok((fd, unsent, eof_pending))
    }

    /// The system says that the connection is broken. Not worth a report: it happens.
    pub(crate) fn fail(&self, error: io::Error) {
        log::debug!("{}: {error}", self.peer);
        let reason = CloseReason::of(&error).unwrap_or(CloseReason::Reset);
        self.lose(reason, Some(Arc::new(error)));
    }

    /// Ends the connection at once; what is unsent is dropped. The first cause wins.
    pub(crate) fn lose(&self, reason: CloseReason, error: Option<Arc<io::Error>>) {
        let life = self.life.get();
        self.life.set(life.lose());
        if self.life.get() != life {
            self.queue_lost(reason, error);
        }
    }

    /// The life has just become `Ending`: `connection_lost` is an entry of its own in the queue.
    pub(super) fn queue_lost(&self, reason: CloseReason, error: Option<Arc<io::Error>>) {
        self.settle_loss(reason, error);
        self.announce_loss();
    }

    fn settle_loss(&self, reason: CloseReason, error: Option<Arc<io::Error>>) {
        self.look_no_more();
        self.left_unsent.set(self.unsent());
        self.notices.set([None; 2]);
        self.passed_on.set(Part::NONE);
        self.reason.set(Some(reason));
        if let Some(error) = error {
            drop(self.error.put(error));
        }
        let unsent = self.socket.with(|socket| {
            socket.unsent.clear();
            socket.unsent.reclaim()
        });
        self.spares().give(unsent);
    }

    /// How many bytes were written here and never sent; `None` before the end.
    pub(crate) fn left_unsent(&self) -> Option<usize> {
        self.is_lost().then(|| self.left_unsent.get())
    }

    fn announce_loss(&self) {
        self.enqueue(Entry::Lost);
        self.end_loan();
    }

    /// Takes the step to `Gone`: true for the one caller who delivers `connection_lost`.
    pub(crate) fn deliver_loss(&self) -> bool {
        let life = self.life.get();
        self.life.set(life.deliver());
        self.life.get() != life
    }

    /// The descriptor of the socket, while there is one.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.socket
            .with(|socket| socket.stream.as_ref()?.descriptor())
    }

    /// Gives up the socket. The caller drops it. What stands on another transport ends, and stays
    /// for what it knows.
    pub(crate) fn take_stream(&self) -> Option<Box<dyn Stream>> {
        if let Some(layer) = self.layer() {
            layer.end();
            return None;
        }
        self.socket.with(|socket| socket.stream.take())
    }

    /// `connection_made` is on its way.
    pub(crate) fn set_made(&self) {
        self.made.set(true);
    }

    pub(crate) fn is_made(&self) -> bool {
        self.made.get()
    }

    /// Why the connection is over, or is about to be.
    pub(crate) fn given_reason(&self) -> Option<CloseReason> {
        self.reason.get()
    }

    /// Why the connection is over, if it is.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason.get().filter(|_| self.is_lost())
    }

    /// The error that ended it, which `connection_lost` is told.
    pub(crate) fn error(&self) -> Option<Arc<io::Error>> {
        self.error.get()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.life.get().is_closing()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.life.get().is_lost()
    }

    // What is known.

    pub(crate) fn peer_name(&self) -> &Address {
        &self.peer
    }

    pub(crate) fn sock_name(&self) -> Option<Address> {
        self.socket.with(|socket| {
            let known = Known::sock_name(socket.known.as_ref());
            known.or_else(|| {
                let address = socket.stream.as_ref()?.local_address().ok()?;
                Known::set_sock_name(&mut socket.known, address.clone());
                Some(address)
            })
        })
    }

    /// Whom a proxy spoke for, or whoever knows better than the system does.
    pub(crate) fn real_peer(&self) -> Option<Address> {
        self.socket
            .with(|socket| Known::real_peer(socket.known.as_ref()))
    }

    pub(crate) fn set_real_peer(&self, address: Address) {
        self.socket
            .with(|socket| Known::set_real_peer(&mut socket.known, address));
    }

    /// For a transport that stands on this one.
    #[cfg(feature = "tls")]
    pub(crate) fn known(&self) -> Option<Rc<Known>> {
        self.socket.with(|socket| socket.known.clone())
    }

    pub(crate) fn peer_credentials(&self) -> Option<Credentials> {
        self.socket
            .with(|socket| socket.stream.as_ref()?.peer_credentials())
    }

    pub(crate) fn handle(&self) -> &WeakHandle {
        &self.handle
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    pub(super) fn spares(&self) -> &Spares {
        self.handle.agenda().spares()
    }

    pub(super) fn enqueue(&self, entry: Entry) {
        self.handle.agenda().enqueue(self.id, entry);
    }
}
