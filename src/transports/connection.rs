//! A connection in the loop's table: where events become calls of the protocol.
//!
//! Owns: [`Connection`], which pairs a transport's core with its protocol. Why: the protocol owns
//! its transport, so somebody else has to own the protocol. Invariants: this is the only place
//! where a protocol is borrowed; after every call into it the state is asked again; the entry
//! leaves the table where `connection_lost` is delivered, and nowhere else. asyncio's
//! counterpart: the read half of `_SelectorSocketTransport`, and `_call_connection_lost`.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::event_loop::cells::{Part, Slot};
use crate::event_loop::{Entry, ExceptionContext, LoopHandle, PanicError, Progress, Source};
use crate::sansio::byte_queue;
use crate::sansio::water_marks::Flow;
use crate::sys::{Address, Readiness, SourceId, Stream};
use crate::transports::close_reason::CloseReason;
use crate::transports::contract::{Owner, Protocol, ProtocolSide, Transport};
use crate::transports::core::{Carries, Core};
use crate::transports::fault::Fault;
use crate::transports::known::Known;
use crate::transports::policies::Policies;
use crate::transports::receiving::{RECEIVE_SIZE, Received};

pub(crate) struct Connection {
    transport: Transport,
    /// `None` once the connection is over.
    protocol: Slot<Rc<RefCell<dyn Protocol>>>,
    owner: Slot<Rc<dyn Owner>>,
}

/// What a connection is made of.
pub(crate) struct Parts {
    pub(crate) id: SourceId,
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) peer: Address,
    /// What is known without asking.
    pub(crate) known: Option<Rc<Known>>,
    /// What is known of the socket's readiness.
    pub(crate) ready: Readiness,
    pub(crate) owner: Option<Rc<dyn Owner>>,
    pub(crate) policies: Policies,
}

impl Connection {
    /// [`prepare`](Self::prepare)s a connection and begins it.
    pub(crate) fn start(
        handle: &LoopHandle,
        parts: Parts,
        protocol: Rc<RefCell<dyn Protocol>>,
    ) -> Transport {
        let transport = Self::prepare(handle, parts, Some(protocol));
        Self::begin(handle, &transport);
        transport
    }

    /// Queues `connection_made`, from which the beginning of reading follows.
    pub(crate) fn begin(handle: &LoopHandle, transport: &Transport) {
        let core = transport.core();
        if !core.is_lost() {
            core.set_made();
            handle.enqueue(core.id(), Entry::Made);
            core.begin_vigil();
        }
    }

    /// Puts a connection into the loop's table. Its protocol hears of nothing, not even of its end,
    /// before it has begun.
    pub(crate) fn prepare(
        handle: &LoopHandle,
        parts: Parts,
        protocol: Option<Rc<RefCell<dyn Protocol>>>,
    ) -> Transport {
        let id = parts.id;
        let connection = Rc::new_cyclic(|weak: &Weak<Self>| {
            let core = Core::new(
                handle.downgrade(),
                id,
                parts.stream,
                (parts.peer, parts.known),
                parts.ready,
                parts.policies,
            );
            Self {
                transport: Transport::new(core, weak.clone()),
                protocol: Slot::new(protocol),
                owner: Slot::new(parts.owner),
            }
        });
        if let Some(owner) = connection.owner.get() {
            owner.attach(&connection.transport);
        }
        let transport = connection.transport.clone();
        handle.insert(id, connection);
        transport
    }

    fn core(&self) -> &Core {
        self.transport.core()
    }

    fn take_protocol(&self) -> Option<Rc<RefCell<dyn Protocol>>> {
        self.protocol.take()
    }

    /// Delivers `connection_lost` and lets everything go.
    fn lost(self: Rc<Self>, handle: &LoopHandle) {
        if !self.core().deliver_loss() {
            return;
        }
        if self.core().is_made() {
            let error = self.core().error();
            self.call(handle, "connection_lost", |protocol| {
                protocol.connection_lost(error);
            });
        }
        if let Some(stream) = self.core().take_stream() {
            drop(stream);
            handle.descriptor_freed();
        }
        let entry = handle.remove(self.core().id());
        let protocol = self.take_protocol();
        if self.core().is_layered() {
            let hand_back = || Self::hand_owner_back(&self.transport);
            handle.enter_reporting("Exception in a waker", hand_back);
        }
        let owner = self.owner.take();
        if let Some(owner) = &owner {
            handle.enter_reporting("Exception in a waker", || owner.detach(&self.transport));
        }
        // Apart, since the last connection of a server drops the server's factory as well: a
        // second panic in one drop would end the process.
        handle.enter_quietly(|| drop(protocol));
        handle.enter_quietly(|| drop((owner, entry, self)));
    }

    /// Tells the protocol what became of writing.
    fn tell(&self, handle: &LoopHandle) {
        while let Some(flow) = self.core().take_notice() {
            match flow {
                Flow::Pause => {
                    self.call_forgiving(handle, "pause_writing", Protocol::pause_writing);
                }
                Flow::Resume => {
                    self.call_forgiving(handle, "resume_writing", Protocol::resume_writing);
                }
            }
        }
    }

    /// There is room again.
    fn go_on_writing(&self, handle: &LoopHandle) {
        if let Some(layer) = self.core().layer() {
            layer.wait_no_longer();
        }
        self.core().flush();
        self.core().note_drained();
        self.tell(handle);
        // `resume_writing` may have written more; only now it is the end, if it is one.
        self.core().send();
    }

    /// The time has come to judge the connection. What the system has, or would take, no event may
    /// have told of yet: so it is asked before anybody is judged by the clock.
    fn look(&self, handle: &LoopHandle) {
        if self.core().is_overdue(handle) {
            self.core()
                .note_readiness(Readiness::READ | Readiness::WRITE);
            self.read(handle);
            if self.core().waits_for_room() {
                self.go_on_writing(handle);
            }
        }
        self.core().look(handle);
    }

    /// Something is there already: what a handshake has left, or what came to the one below. No
    /// look at the world has to come first.
    fn serve_at_once(self: Rc<Self>, handle: &LoopHandle) {
        let id = self.core().id();
        if self.serve(handle, None) == Progress::Again {
            handle.visit(id);
        }
    }

    /// Receives and delivers, a bounded amount; or has whoever stands on this one do so.
    fn read(&self, handle: &LoopHandle) {
        let mut bytes = 0;
        for _ in 0..RECEIVES_PER_VISIT {
            if !self.core().wants_to_read() {
                return;
            }
            if let Some(upper) = self.core().receiver() {
                return handle.serve_source(upper, Readiness::READ);
            }
            let received = if self.core().is_layered() {
                self.receive_from_layer(handle)
            } else {
                match self.is_buffered(handle) {
                    Some(true) => self.receive_into_protocol(handle),
                    Some(false) => match self.core().size_to_keep() {
                        Some(size) => self.receive_and_hand_over(handle, size),
                        None => self.receive_for_protocol(handle),
                    },
                    None => return,
                }
            };
            match received {
                Received::Bytes(n) => bytes += n,
                Received::Eof => {
                    let kept_open = self.call(handle, "eof_received", Protocol::eof_received);
                    if kept_open == Some(false) || !self.core().can_write_eof() {
                        self.core().close();
                    }
                }
                Received::Blocked => {}
                Received::Failed(error) => self.core().fail(error),
            }
            if bytes >= self.core().receive_size() as usize {
                // That is enough for one turn: others wait, and whoever reads takes it first.
                return;
            }
        }
    }

    /// Receives into the loop's buffer and hands out what is there.
    fn receive_for_protocol(&self, handle: &LoopHandle) -> Received {
        let scratch = handle.agenda().received();
        let size = self.core().receive_size() as usize;
        let received = scratch.fill(RECEIVE_SIZE, |buffer| {
            let buffer = &mut buffer[..size];
            self.core().receive(size, |stream| stream.read(buffer))
        });
        if let Received::Bytes(n) = received {
            scratch.lend(Part::first(n), |bytes| {
                self.call(handle, "data_received", |protocol| {
                    protocol.data_received(bytes);
                });
            });
        }
        received
    }

    /// Receives into storage that the protocol may keep, if what comes fills it well enough.
    fn receive_and_hand_over(&self, handle: &LoopHandle, size: usize) -> Received {
        let mut storage = handle.agenda().spares().take(size);
        let room = storage.capacity();
        let received = self
            .core()
            .receive(room, |stream| stream.read_behind(&mut storage));
        self.hand_over(handle, storage, &received);
        received
    }

    /// Receives from the layer below, which may run code of the user's: so behind the door.
    fn receive_from_layer(&self, handle: &LoopHandle) -> Received {
        let size = self.core().size_to_keep();
        let mut storage = handle.agenda().spares().take(size.unwrap_or(FROM_LAYER));
        match handle.enter(|| self.core().receive_from_layer(&mut storage)) {
            Ok(received) => {
                self.hand_over(handle, storage, &received);
                received
            }
            Err(payload) => {
                let fault = Fault::Panic(PanicError::new(&*payload));
                self.fatal(handle, "data_received", fault);
                Received::Blocked
            }
        }
    }

    /// Gives what was received to the protocol, with its storage if it fills it well enough.
    fn hand_over(&self, handle: &LoopHandle, storage: Vec<u8>, received: &Received) {
        let spares = handle.agenda().spares();
        match received {
            Received::Bytes(n) if byte_queue::fits(*n, storage.capacity()) => {
                self.call(handle, "data_received", |protocol| {
                    protocol.data_handed_over(storage);
                });
            }
            Received::Bytes(_) => {
                self.call(handle, "data_received", |protocol| {
                    protocol.data_received(&storage);
                });
                spares.give(storage);
            }
            _ => spares.give(storage),
        }
    }

    /// Receives into the protocol's own buffer. One call of the protocol, though two methods:
    /// whoever lends the buffer is told what became of it, also if another protocol follows.
    fn receive_into_protocol(&self, handle: &LoopHandle) -> Received {
        let method = Cell::new("get_buffer");
        let outcome = self.enter(handle, |protocol| {
            let Some(protocol) = protocol.as_buffered() else {
                // It has become another kind; it is asked again.
                self.core().set_buffered(None);
                return Ok(Received::Blocked);
            };
            let buffer = protocol.get_buffer(None);
            if buffer.is_empty() {
                return Err(Fault::EmptyBuffer);
            }
            if !self.core().wants_to_read() {
                return Ok(Received::Blocked);
            }
            let room = buffer.len();
            let received = self.core().receive(room, |stream| stream.read(buffer));
            if let Received::Bytes(n) = received {
                method.set("buffer_updated");
                protocol.buffer_updated(n);
            }
            Ok(received)
        });
        match outcome {
            Some(Ok(Ok(received))) => received,
            Some(Ok(Err(fault)) | Err(fault)) => {
                self.fatal(handle, method.get(), fault);
                Received::Blocked
            }
            None => Received::Blocked,
        }
    }

    /// Whether the protocol brings its own buffer: asked once, before the first bytes. `None` if
    /// it failed to say, or would rather not read when it was asked.
    fn is_buffered(&self, handle: &LoopHandle) -> Option<bool> {
        if let Some(known) = self.core().buffered() {
            return Some(known);
        }
        match self.enter(handle, |protocol| protocol.as_buffered().is_some())? {
            Ok(buffered) => {
                self.core().set_buffered(Some(buffered));
                self.core().wants_to_read().then_some(buffered)
            }
            // `data_received` is about to find the same, and says so.
            Err(Fault::Borrowed) => Some(false),
            Err(fault) => {
                self.fatal(handle, "as_buffered", fault);
                None
            }
        }
    }

    /// Calls the protocol; a failure is reported and ends the connection.
    fn call<R>(
        &self,
        handle: &LoopHandle,
        method: &'static str,
        f: impl FnOnce(&mut dyn Protocol) -> R,
    ) -> Option<R> {
        match self.enter(handle, f)? {
            Ok(result) => Some(result),
            Err(fault) => {
                self.fatal(handle, method, fault);
                None
            }
        }
    }

    /// A call of the protocol has failed, and with it the connection.
    fn fatal(&self, handle: &LoopHandle, method: &'static str, fault: Fault) {
        let message = format!("Fatal error: protocol.{method}() call failed.");
        let error = Arc::new(io::Error::other(fault.clone()));
        self.core().lose_failed(error, |reason| {
            let context = ExceptionContext::new(message).subject(reason);
            self.report(handle, context, &fault);
        });
    }

    /// Tells the protocol about its buffer; a panic is reported, and the connection goes on. A
    /// protocol that cannot even be told has missed what it has to know.
    fn call_forgiving(
        &self,
        handle: &LoopHandle,
        method: &'static str,
        f: impl FnOnce(&mut dyn Protocol),
    ) {
        match self.enter(handle, f) {
            None | Some(Ok(())) => {}
            Some(Err(fault @ Fault::Borrowed)) => self.fatal(handle, method, fault),
            Some(Err(fault)) => {
                let message = format!("protocol.{method}() failed");
                self.report(handle, ExceptionContext::new(message), &fault);
            }
        }
    }

    fn report(&self, handle: &LoopHandle, context: ExceptionContext, fault: &Fault) {
        let context = context.subject(self.transport.clone());
        handle.report(&match fault {
            Fault::Panic(error) => context.error(error.clone()),
            Fault::Borrowed | Fault::EmptyBuffer => context.error(fault.clone()),
        });
    }

    /// The one place where a protocol is borrowed, for as long as one of its methods runs; two, if
    /// it brings a buffer, and the receive between them.
    fn enter<R>(
        &self,
        handle: &LoopHandle,
        f: impl FnOnce(&mut dyn Protocol) -> R,
    ) -> Option<Result<R, Fault>> {
        let protocol = self.protocol()?;
        let outcome = handle.enter(move || {
            let outcome = match protocol.try_borrow_mut() {
                Ok(mut protocol) => Ok(f(&mut *protocol)),
                Err(_) => Err(Fault::Borrowed),
            };
            // The last one, if the protocol was replaced meanwhile: user code, inside the door.
            drop(protocol);
            outcome
        });
        Some(match outcome {
            Ok(outcome) => outcome,
            Err(payload) => Err(Fault::Panic(PanicError::new(&*payload))),
        })
    }
}

impl Source for Connection {
    fn serve(self: Rc<Self>, handle: &LoopHandle, event: Option<Readiness>) -> Progress {
        if self.core().is_lost() {
            return Progress::Done;
        }
        let event = event.unwrap_or_default();
        self.core().note_readiness(event);
        match self.core().receiver() {
            // Once in a turn: twice as much at a time would have to be copied. Its visit tells what
            // this event would have told.
            Some(upper) if handle.agenda().is_to_be_visited(upper) => {
                if self.core().wants_to_read() {
                    handle.agenda().tell(upper, Readiness::READ);
                }
            }
            _ => self.read(handle),
        }
        let is_ours = matches!(self.core().carries.get(), Carries::Nothing | Carries::Ended);
        if event.says(Readiness::ERROR) && self.core().has_ended() && is_ours {
            self.core().look_for_reset();
        }
        if event.says(Readiness::WRITE) {
            if self.core().waits_for_room() {
                self.go_on_writing(handle);
            }
            self.core().tell_borrower();
        }
        // Whoever receives by itself asks for a visit by itself.
        if self.core().wants_to_read() && self.core().receiver().is_none() {
            Progress::Again
        } else {
            Progress::Done
        }
    }

    fn run(self: Rc<Self>, handle: &LoopHandle, entry: Entry) {
        match entry {
            Entry::Made => {
                let transport = self.transport.clone();
                self.call(handle, "connection_made", |p| p.connection_made(transport));
                // Behind what it has queued, and behind whoever waits for the connection: both
                // come before the first bytes.
                handle.enqueue(self.core().id(), Entry::Begin);
            }
            Entry::Begin => {
                self.core().begin_reading();
                if self.core().is_layered() {
                    let id = self.core().id();
                    self.serve_at_once(handle);
                    // Behind whoever answers what was there already.
                    handle.enqueue(id, Entry::Writable);
                }
            }
            Entry::Flow => self.tell(handle),
            Entry::Lost => self.lost(handle),
            Entry::Deadline => self.look(handle),
            Entry::Readable => self.serve_at_once(handle),
            Entry::Writable if self.core().is_lost() => {}
            Entry::Writable => {
                self.go_on_writing(handle);
                self.core().tell_borrower();
            }
        }
    }

    fn settle(self: Rc<Self>, handle: &LoopHandle) {
        self.core().clear_note();
        self.core().send();
        if !self.core().has_notice() {
            return;
        }
        if handle.is_running() {
            self.tell(handle);
        } else {
            // Somebody wrote between two runs: callbacks wait for the next one.
            self.core().queue_notice();
        }
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.core().descriptor()
    }

    fn describe(&self) -> String {
        format!("transport {:?}", self.transport)
    }

    fn abandon(self: Rc<Self>) {
        self.core().abort(CloseReason::LoopClosed);
        drop(self.core().take_stream());
        drop(self.take_protocol());
    }
}

impl ProtocolSide for Connection {
    fn protocol(&self) -> Option<Rc<RefCell<dyn Protocol>>> {
        self.protocol.get()
    }

    fn set_protocol(&self, protocol: Rc<RefCell<dyn Protocol>>) {
        self.core().set_buffered(None);
        self.core().set_wanted(None);
        drop(self.protocol.put(protocol));
    }

    fn take_owner(&self) -> Option<Rc<dyn Owner>> {
        self.owner.take()
    }

    fn set_owner(&self, owner: Rc<dyn Owner>) {
        drop(self.owner.put(owner));
    }
}

/// How much is taken from a layer below at a time, in bytes, for a protocol that has no wish:
/// several records, few enough to be in the cache still when they are read.
const FROM_LAYER: usize = 64 * 1024;
/// After an event that said "closed", reading goes on to the end, a short read or not. This is
/// how long it may go on for.
const RECEIVES_PER_VISIT: usize = 16;
