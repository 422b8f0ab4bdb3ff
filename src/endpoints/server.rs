//! A server: its listeners, and the connections that came from them.
//!
//! Owns: [`Server`]. Why: closing a server and waiting for the last of its connections are two
//! things. Invariants: `close` stops accepting and touches no connection; whoever waits is woken
//! when the server is closed and its last connection is over, in whichever order; there are never
//! more connections than its limit, and no listener sleeps for long over a place that is free.
//! asyncio's counterpart: `base_events.Server`.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use crate::endpoints::error::EndpointError;
use crate::endpoints::listening::{Accept, Accepted, Listening};
use crate::endpoints::metrics::ServerMetrics;
use crate::endpoints::terms::Terms;
use crate::event_loop::cells::{Shared, Slot};
use crate::event_loop::{ExceptionContext, LoopHandle, WeakHandle, running};
use crate::proxy::stand_in_front;
use crate::sansio::server_life::ServerLife;
use crate::sys::{Address, Readiness, SourceId};
use crate::tasks::{Place, TaskError, Waiting, WakerSet};
use crate::tls::{Prepared, ServerSide, stack, stack_on};
use crate::transports::{CloseReason, Connection, Owner, Parts, Protocol, Transport};

/// Something that listens. Mirrors `asyncio.Server`.
///
/// Cheap to clone: all clones are the same server. Dropping them keeps it serving, until the loop
/// ends; one that does not serve yet gives its addresses back then.
#[derive(Clone)]
pub struct Server {
    inner: Rc<ServerInner>,
}

/// Makes the protocol of a new connection.
pub(crate) type ProtocolFactory = Box<dyn FnMut() -> Rc<RefCell<dyn Protocol>>>;

struct ServerInner {
    /// What its connections hold on to.
    me: Weak<Self>,
    handle: WeakHandle,
    factory: Slot<ProtocolFactory>,
    terms: Terms,
    tls: Option<ServerSide>,
    state: Shared<State>,
    metrics: ServerMetrics,
    /// Who waits for the server to be closed, and for its last connection.
    closing: WakerSet,
    over: WakerSet,
}

struct State {
    life: ServerLife,
    listening: Vec<Rc<Listening>>,
    clients: BTreeMap<SourceId, Transport>,
    /// How many of them are in their handshakes.
    handshakes: usize,
    /// How many places of the limit are ours: one for each client, and while somebody is accepted
    /// one that is not a client's yet.
    places: usize,
    /// Why those ended that go on below, until their descriptors are closed.
    ended: BTreeMap<SourceId, CloseReason>,
    /// How often a listener was let go on because there was room again.
    made_room: usize,
    /// Somebody awaits `serve_forever`.
    forever: bool,
}

impl State {
    fn has_room(&self, terms: &Terms) -> bool {
        self.handshakes < terms.max_handshakes()
    }

    /// Gives up the places that are no client's: how many.
    fn give_up_places(&mut self) -> usize {
        let spare = self.places.saturating_sub(self.clients.len());
        self.places -= spare;
        spare
    }

    /// There is room for a handshake again, of which no event tells the listeners. Another one is
    /// the first each time, or those behind it would never have their turn.
    fn let_go_on(&mut self, mut visit: impl FnMut(&Listening)) {
        let first = self.made_room % self.listening.len().max(1);
        let (behind, front) = self.listening.split_at(first);
        front.iter().chain(behind).for_each(|one| visit(one));
        self.made_room = self.made_room.wrapping_add(1);
    }
}

impl Server {
    pub(crate) fn new(
        handle: &LoopHandle,
        factory: ProtocolFactory,
        terms: Terms,
    ) -> io::Result<Self> {
        let tls = terms.tls.side()?;
        Ok(Self {
            inner: Rc::new_cyclic(|me| ServerInner {
                me: me.clone(),
                handle: handle.downgrade(),
                factory: Slot::new(Some(factory)),
                terms,
                tls,
                state: Shared::new(State {
                    life: ServerLife::Bound,
                    listening: Vec::new(),
                    clients: BTreeMap::new(),
                    handshakes: 0,
                    places: 0,
                    ended: BTreeMap::new(),
                    made_room: 0,
                    forever: false,
                }),
                metrics: ServerMetrics::default(),
                closing: WakerSet::default(),
                over: WakerSet::default(),
            }),
        })
    }

    pub(crate) fn add(&self, listening: Rc<Listening>) {
        self.inner
            .state
            .with(|state| state.listening.push(listening));
    }

    /// The addresses that are served; none after [`close`](Self::close), nor after the loop's
    /// end. Mirrors `Server.sockets`.
    pub fn sockets(&self) -> Vec<Address> {
        if self.inner.life() == ServerLife::Closed {
            return Vec::new();
        }
        self.inner.state.with(|state| {
            let addresses = state.listening.iter().map(|listening| listening.address());
            addresses.cloned().collect()
        })
    }

    /// Whether connections are accepted. Mirrors `Server.is_serving`.
    pub fn is_serving(&self) -> bool {
        self.inner.life() == ServerLife::Serving
    }

    /// Begins to accept, if it was not begun, on all of its sockets or on none. Mirrors
    /// `Server.start_serving`.
    ///
    /// # Errors
    ///
    /// `NotConnected` on a closed server and after the loop's end; the system's, if it refuses to
    /// listen: then the server is closed, since no socket can be told to stop listening.
    // Async as asyncio's is, though nothing here has to wait.
    pub async fn start_serving(&self) -> io::Result<()> {
        self.listen()
    }

    pub(crate) fn listen(&self) -> io::Result<()> {
        let listening = match self.inner.life() {
            ServerLife::Serving => return Ok(()),
            ServerLife::Closed => return Err(closed()),
            ServerLife::Bound => self.inner.state.with(|state| state.listening.clone()),
        };
        for listening in listening {
            let accept = Rc::clone(&self.inner) as Rc<dyn Accept>;
            if let Err(source) = listening.listen(accept) {
                self.close();
                let address = listening.address().clone();
                return Err(EndpointError::Bind { address, source }.into());
            }
        }
        self.inner
            .state
            .with(|state| state.life = state.life.listen());
        Ok(())
    }

    /// Accepts until [`close`](Self::close) is called. Mirrors `Server.serve_forever`.
    ///
    /// Dropping the future closes the server, as cancelling it does in asyncio: connections go
    /// on.
    ///
    /// # Errors
    ///
    /// `NotConnected` on a closed server, `ResourceBusy` if somebody else awaits it already, and,
    /// as asyncio has it, [`TaskError::Cancelled`] when the server is closed meanwhile.
    pub fn serve_forever(&self) -> ServeForever {
        ServeForever {
            server: self.clone(),
            place: Place::default(),
            serving: false,
        }
    }

    /// Stops accepting and closes the listening sockets, at once; a connection that nobody has
    /// accepted is reset by the system. Connections go on: see
    /// [`close_clients`](Self::close_clients), and [`shutdown`](Self::shutdown) for all of it in
    /// one. Mirrors `Server.close`.
    pub fn close(&self) {
        self.inner.close();
        self.inner.closing.wake_all();
        self.inner.wake_if_over();
    }

    /// Waits until the server is closed and the last of its connections is over. Any number of
    /// tasks may wait, any number of times. Cancellation-safe. Mirrors `Server.wait_closed` (of
    /// CPython 3.12.1 and later).
    ///
    /// # Errors
    ///
    /// [`NoRunningLoop`](crate::NoRunningLoop) outside the server's loop.
    pub async fn wait_closed(&self) -> io::Result<()> {
        let mut waiting = Waiting::on(&self.inner.over);
        poll_fn(|cx| {
            let waits_for = || format!("the end of the server at {:?}", self.sockets());
            running::poll_leaf(self.inner.handle.number(), cx, waits_for, |cx| {
                if self.inner.is_over() {
                    Poll::Ready(())
                } else {
                    waiting.wait(cx)
                }
            })
        })
        .await?;
        Ok(())
    }

    /// What it has counted so far, and goes on to count. Ours alone: asyncio has nothing of the
    /// kind.
    pub fn metrics(&self) -> ServerMetrics {
        self.inner.metrics.clone()
    }

    /// The connections that are not over.
    pub(crate) fn clients(&self) -> Vec<Transport> {
        self.inner.clients()
    }

    /// The number of the loop that it belongs to.
    pub(crate) fn loop_number(&self) -> u64 {
        self.inner.handle.number()
    }

    /// [`Transport::close`]s every connection of this server. Call [`close`](Self::close) first.
    /// Mirrors `Server.close_clients`.
    pub fn close_clients(&self) {
        for transport in self.inner.clients() {
            transport.close();
        }
    }

    /// [`Transport::abort`]s every connection of this server. Call [`close`](Self::close) first.
    /// Mirrors `Server.abort_clients`.
    pub fn abort_clients(&self) {
        for transport in self.inner.clients() {
            transport.abort();
        }
    }
}

impl ServerInner {
    /// The loop's end has closed the listeners, and a server has no other end than that then.
    fn life(&self) -> ServerLife {
        match self.handle.upgrade() {
            Some(_) => self.state.with(|state| state.life),
            None => ServerLife::Closed,
        }
    }

    fn close(&self) {
        let listening = self.state.with(|state| {
            state.life = state.life.close();
            std::mem::take(&mut state.listening)
        });
        for listening in &listening {
            listening.close();
        }
        if let Some(handle) = self.handle.upgrade() {
            for listening in &listening {
                drop(handle.remove(listening.id()));
            }
            if !listening.is_empty() {
                handle.descriptor_freed();
            }
        }
    }

    fn clients(&self) -> Vec<Transport> {
        self.state
            .with(|state| state.clients.values().cloned().collect())
    }

    fn is_over(&self) -> bool {
        self.state
            .with(|state| state.life == ServerLife::Closed && state.clients.is_empty())
    }

    fn wake_if_over(&self) {
        if self.is_over() {
            self.over.wake_all();
        }
    }
}

/// A server that listens is held by its listeners, so this one never began to, or was closed.
impl Drop for ServerInner {
    fn drop(&mut self) {
        self.close();
        // The loop's end drops connections without a word.
        let (clients, places) = self.state.with(|state| (state.clients.len(), state.places));
        (0..clients).for_each(|_| self.metrics.add_closed(CloseReason::LoopClosed));
        if let Some(limit) = &self.terms.max_connections {
            limit.give_back(places);
        }
    }
}

impl Accept for ServerInner {
    fn has_place(&self, handle: &LoopHandle, listener: SourceId) -> bool {
        let has_room = self.state.with(|state| state.has_room(&self.terms));
        let Some(limit) = &self.terms.max_connections else {
            return has_room;
        };
        if !has_room {
            // If it was woken for a place, that is another's.
            limit.pass_on();
            return false;
        }
        if self.state.with(|state| state.places > state.clients.len()) {
            return true;
        }
        let has_place = limit.take(handle, listener);
        if has_place {
            self.state.with(|state| state.places += 1);
        }
        has_place
    }

    fn rest(&self) {
        if let Some(limit) = &self.terms.max_connections {
            limit.give_back(self.state.with(State::give_up_places));
        }
    }

    fn leave(&self, listener: SourceId) {
        if let Some(limit) = &self.terms.max_connections {
            limit.leave(self.handle.number(), listener);
        }
    }

    fn accepted(&self, handle: &LoopHandle, accepted: Accepted) {
        let made = handle.enter(|| self.factory.lend(|factory| factory()));
        let protocol = match made {
            Ok(Some(protocol)) => protocol,
            failed => {
                drop((handle.remove(accepted.id), accepted.stream));
                handle.descriptor_freed();
                if let Err(payload) = failed {
                    let message = "Exception in protocol factory";
                    let context = ExceptionContext::panic(message, &*payload);
                    handle.report(&context.subject(accepted.peer));
                }
                return;
            }
        };
        let parts = Parts {
            id: accepted.id,
            stream: accepted.stream,
            peer: accepted.peer,
            known: accepted.known,
            // A new socket can take bytes; whether it has some, an event will tell.
            ready: Readiness::WRITE,
            owner: self.me.upgrade().map(|me| me as Rc<dyn Owner>),
            policies: self.terms.policies,
        };
        self.begin(handle, parts, protocol);
    }
}

impl ServerInner {
    /// Plain, or with a handshake first; behind the header of a proxy, where that is demanded.
    fn begin(&self, handle: &LoopHandle, parts: Parts, protocol: Rc<RefCell<dyn Protocol>>) {
        // Also before the header: behind it nobody could be left waiting in the kernel.
        let handshake = self.tls.as_ref().map(|side| (side, self.take_place()));
        if let Some(demand) = &self.terms.proxy {
            let me = self.me.clone();
            let place = handshake.map(|(_, place)| place);
            stand_in_front(handle, parts, demand, move |handle, transport| {
                if let Some(me) = me.upgrade() {
                    me.begin_behind(handle, transport, protocol, place);
                }
            });
            return;
        }
        let Some((side, place)) = handshake else {
            Connection::start(handle, parts, protocol);
            return;
        };
        match Self::prepare(handle, side, &parts.peer) {
            Some(prepared) => {
                stack(handle, parts, prepared, protocol, None, Some(place));
            }
            None => {
                drop((handle.remove(parts.id), parts));
                handle.descriptor_freed();
            }
        }
    }

    /// The same on a transport that has had its header.
    fn begin_behind(
        &self,
        handle: &LoopHandle,
        transport: &Transport,
        protocol: Rc<RefCell<dyn Protocol>>,
        place: Option<Box<dyn Any>>,
    ) {
        let (Some(side), Some(place)) = (&self.tls, place) else {
            Connection::hand_to(handle, transport, protocol);
            return;
        };
        let core = transport.core();
        let client = core.real_peer();
        let client = client.as_ref().unwrap_or_else(|| core.peer_name());
        match Self::prepare(handle, side, client) {
            Some(prepared) => stack_on(handle, transport, prepared, protocol, place),
            None => transport.abort(),
        }
    }

    /// A place among the handshakes that are on their way.
    fn take_place(&self) -> Box<dyn Any> {
        self.state.with(|state| state.handshakes += 1);
        Box::new(HandshakePlace(self.me.clone()))
    }

    /// What a handshake takes. If TLS cannot be had, that is reported.
    fn prepare(handle: &LoopHandle, side: &ServerSide, peer: &Address) -> Option<Prepared> {
        match side.prepare() {
            Ok(prepared) => Some(prepared),
            Err(error) => {
                let context = ExceptionContext::new("TLS cannot be begun").error(error);
                handle.report(&context.subject(peer.clone()));
                None
            }
        }
    }

    /// A handshake is over. The listeners are let go on if that made room.
    fn end_handshake(&self) {
        let agenda = self.handle.agenda();
        self.state.with(|state| {
            let had_room = state.has_room(&self.terms);
            state.handshakes -= 1;
            if !had_room {
                state.let_go_on(|listening| agenda.visit(listening.id()));
            }
        });
    }
}

/// Counts a handshake, until it is dropped.
struct HandshakePlace(Weak<ServerInner>);

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        if let Some(server) = self.0.upgrade() {
            server.end_handshake();
        }
    }
}

impl Owner for ServerInner {
    fn attach(&self, transport: &Transport) {
        self.metrics.add_accepted();
        self.state.with(|state| {
            state.clients.insert(transport.id(), transport.clone());
        });
    }

    fn replace(&self, from: &Transport, to: &Transport) {
        let client = self.state.with(|state| {
            if let Some(reason) = from.core().reason() {
                state.ended.insert(to.id(), reason);
            }
            state.clients.insert(to.id(), to.clone());
            state.clients.remove(&from.id())
        });
        drop(client);
    }

    fn detach(&self, transport: &Transport) {
        let (client, ended) = self.state.with(|state| {
            let client = state.clients.remove(&transport.id());
            (client, state.ended.remove(&transport.id()))
        });
        drop(client);
        let reason = ended.or_else(|| transport.core().reason());
        self.metrics
            .add_closed(reason.unwrap_or(CloseReason::Closed));
        self.rest();
        self.wake_if_over();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("sockets", &self.sockets())
            .field("serving", &self.is_serving())
            .finish_non_exhaustive()
    }
}

/// The future of [`Server::serve_forever`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct ServeForever {
    server: Server,
    place: Place,
    serving: bool,
}

impl Future for ServeForever {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let inner = Rc::clone(&this.server.inner);
        let addresses = this.server.clone();
        let waits_for = || format!("the server at {:?} to close", addresses.sockets());
        running::poll_leaf(inner.handle.number(), cx, waits_for, |cx| {
            if !this.serving {
                let taken = inner.state.with(|state| match state.life {
                    ServerLife::Closed => Err(closed()),
                    _ if state.forever => Err(busy()),
                    _ => {
                        state.forever = true;
                        Ok(())
                    }
                });
                if let Err(error) = taken {
                    return Poll::Ready(Err(error));
                }
                this.serving = true;
                if let Err(error) = this.server.listen() {
                    return Poll::Ready(Err(error));
                }
            }
            if inner.state.with(|state| state.life == ServerLife::Closed) {
                return Poll::Ready(Err(TaskError::Cancelled.into()));
            }
            inner.closing.register(&mut this.place, cx.waker());
            Poll::Pending
        })
        .map(|polled| polled?)
    }
}

impl Drop for ServeForever {
    fn drop(&mut self) {
        self.server.inner.closing.leave(&mut self.place);
        if self.serving {
            self.server.inner.state.with(|state| state.forever = false);
            self.server.close();
        }
    }
}

impl fmt::Debug for ServeForever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServeForever").field(&self.server).finish()
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server is closed")
}

fn busy() -> io::Error {
    let message = "the server is already being awaited on serve_forever()";
    io::Error::new(io::ErrorKind::ResourceBusy, message)
}
