//! Both sides of the contract, since each names the other.
//!
//! Owns: [`Protocol`] and [`BufferedProtocol`], named in past participles, since the loop tells
//! them what has happened; [`Transport`], named in imperatives, since the user tells it what to do;
//! [`ExtraInfo`], the keys of what a transport knows. Why: who calls whom can be read from the
//! grammar. Invariants: no method of a transport calls user code; a transport kept after the end of
//! its connection is a husk that answers and ignores. asyncio's counterpart: `asyncio.Protocol`,
//! `asyncio.BufferedProtocol`, `asyncio.Transport`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::event_loop::Agenda;
use crate::sys::{Address, SourceId};
use crate::transports::close_reason::CloseReason;
use crate::transports::core::Core;
use crate::transports::data::Data;
use crate::transports::fault::EMPTY_BUFFER;

/// Receives what happens on a connection. Mirrors `asyncio.Protocol`.
///
/// The methods are called by the loop, one at a time, never from inside a call that the protocol
/// makes; so they take `&mut self`, and a protocol is plain fields. A panic in one of them is
/// reported to the exception handler and costs this connection only.
///
/// A protocol lives in an `Rc<RefCell<_>>`, so that others can look at it. Whoever does borrows
/// it for a moment and never over an `.await`: a protocol that is found borrowed when it has to
/// be called is a bug that is reported, and its connection is aborted.
///
/// ```
/// use evloop::{Protocol, Transport};
///
/// #[derive(Default)]
/// struct Echo {
///     transport: Option<Transport>,
/// }
///
/// impl Protocol for Echo {
///     fn connection_made(&mut self, transport: Transport) {
///         self.transport = Some(transport);
///     }
///
///     fn data_received(&mut self, data: &[u8]) {
///         if let Some(transport) = &self.transport {
///             transport.write(data);
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    note = "implement `Protocol`, or `BufferedProtocol` for one that brings its own buffer"
)]
pub trait Protocol: 'static {
    /// The connection is there. Called once, before everything else.
    fn connection_made(&mut self, transport: Transport) {
        drop(transport);
    }

    /// Bytes arrived: at least one, cut as the system cut them.
    fn data_received(&mut self, data: &[u8]) {
        let _ = data;
    }

    /// The peer will send no more. Called at most once. `true` keeps the connection open for
    /// writing; `false`, which is the default, closes it after what was written is sent.
    fn eof_received(&mut self) -> bool {
        false
    }

    /// The connection is over. Called once for every `connection_made`, last of all. `None` after
    /// a close or an abort of ours and after the peer's regular end, else what ended it.
    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        let _ = exc;
    }

    /// More than the high-water mark of bytes waits to be sent: please write no more. It is
    /// called when the step that wrote has ended, before anything else runs.
    fn pause_writing(&mut self) {}

    /// The waiting bytes have fallen to the low-water mark: please go on.
    fn resume_writing(&mut self) {}

    /// [`data_received`](Self::data_received) with the storage of the bytes, for a protocol that
    /// keeps them: large pieces come to a stream that way.
    ///
    /// Not to be written by hand; a protocol that wraps another one may hand it on.
    fn data_handed_over(&mut self, data: Vec<u8>) {
        self.data_received(&data);
    }

    /// This protocol as a [`BufferedProtocol`], if it is one: then bytes go into its own buffer
    /// and [`data_received`](Self::data_received) is not called.
    ///
    /// Not to be written by hand: every `BufferedProtocol` has it. A protocol that wraps another
    /// one may hand it on. It is asked before the first bytes, and the answer is kept until
    /// [`set_protocol`](Transport::set_protocol).
    fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
        None
    }
}

/// A [`Protocol`] that brings the buffer to receive into, so that nothing is copied on the way.
/// Mirrors `asyncio.BufferedProtocol`.
///
/// Before each receive [`get_buffer`](Self::get_buffer) is asked where to put the bytes, and
/// [`buffer_updated`](Self::buffer_updated) says how many there are. Everything else is as in a
/// `Protocol`: every `BufferedProtocol` is one, so it goes wherever one is wanted, and each kind
/// may follow the other through [`set_protocol`](Transport::set_protocol). A type implements the
/// one or the other.
///
/// ```
/// use evloop::{BufferedProtocol, Transport, create_server};
///
/// /// Takes records of 16 bytes, wherever the system cuts the stream.
/// struct Records {
///     record: [u8; 16],
///     filled: usize,
/// }
///
/// impl BufferedProtocol for Records {
///     fn get_buffer(&mut self, _sizehint: Option<usize>) -> &mut [u8] {
///         &mut self.record[self.filled..]
///     }
///
///     fn buffer_updated(&mut self, nbytes: usize) {
///         self.filled += nbytes;
///         if self.filled == self.record.len() {
///             // The record is complete; the next one overwrites it.
///             self.filled = 0;
///         }
///     }
/// }
///
/// evloop::run(async {
///     let records = || Records { record: [0; 16], filled: 0 };
///     let server = create_server(records, ("127.0.0.1", 0)).await?;
///     server.close();
///     server.wait_closed().await
/// })?
/// # ; Ok::<(), std::io::Error>(())
/// ```
pub trait BufferedProtocol: 'static {
    /// The connection is there. Called once, before everything else.
    fn connection_made(&mut self, transport: Transport) {
        drop(transport);
    }

    /// Where to put the bytes that come next: at least one byte of room, else the connection
    /// ends with an error. `sizehint` says how many bytes there are, where that is known; the
    /// buffer may be larger or smaller.
    ///
    /// Nothing may come of it, no [`buffer_updated`](Self::buffer_updated): when no bytes are
    /// there after all, or when the stream has ended.
    fn get_buffer(&mut self, sizehint: Option<usize>) -> &mut [u8];

    /// So many bytes, at least one, were put at the beginning of the buffer.
    fn buffer_updated(&mut self, nbytes: usize);

    /// The peer will send no more: see [`Protocol::eof_received`].
    fn eof_received(&mut self) -> bool {
        false
    }

    /// The connection is over: see [`Protocol::connection_lost`].
    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        let _ = exc;
    }

    /// Please write no more: see [`Protocol::pause_writing`].
    fn pause_writing(&mut self) {}

    /// Please go on writing: see [`Protocol::resume_writing`].
    fn resume_writing(&mut self) {}
}

impl<P: BufferedProtocol> Protocol for P {
    fn connection_made(&mut self, transport: Transport) {
        BufferedProtocol::connection_made(self, transport);
    }

    /// For bytes that are somewhere else already: copies them into the protocol's buffer, as
    /// often as it takes.
    fn data_received(&mut self, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let buffer = self.get_buffer(Some(rest.len()));
            assert!(!buffer.is_empty(), "{EMPTY_BUFFER}");
            let (now, later) = rest.split_at(buffer.len().min(rest.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.buffer_updated(now.len());
            rest = later;
        }
    }

    fn eof_received(&mut self) -> bool {
        BufferedProtocol::eof_received(self)
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        BufferedProtocol::connection_lost(self, exc);
    }

    fn pause_writing(&mut self) {
        BufferedProtocol::pause_writing(self);
    }

    fn resume_writing(&mut self) {
        BufferedProtocol::resume_writing(self);
    }

    fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
        Some(self)
    }
}

/// A connection as its protocol sees it. Mirrors `asyncio.Transport`.
///
/// Cheap to clone; neither `Send` nor `Sync`. Dropping it does not close the connection.
///
/// Writes of one step (a callback, or a task's way from one await to the next) leave together
/// when the step ends, in one system call. Whoever asks where the bytes are sends them first:
/// [`close`](Self::close), [`abort`](Self::abort), [`write_eof`](Self::write_eof),
/// [`get_write_buffer_size`](Self::get_write_buffer_size) and
/// [`set_write_buffer_limits`](Self::set_write_buffer_limits). A step that goes on computing for
/// long after a write lets its bytes wait.
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<evloop::Transport>();
/// ```
///
/// ```compile_fail
/// fn sync<T: Sync>() {}
/// sync::<evloop::Transport>();
/// ```
#[derive(Clone)]
pub struct Transport {
    inner: Rc<TransportInner>,
}

/// One pointer for a handle: a connection keeps several of them.
struct TransportInner {
    core: Core,
    /// Where the protocol is, for as long as there is one.
    side: Weak<dyn ProtocolSide>,
}

/// A socket that was taken out of its transport, with everything that was on its way.
#[derive(Debug)]
pub struct Detached {
    /// The socket. It does not block.
    pub socket: OwnedFd,
    /// What a stream had received, and nobody had read.
    pub unread: Vec<u8>,
    /// What was written, and the system had not taken.
    pub unsent: Vec<u8>,
    /// `write_eof` was called, and behind what is unsent the end is still to be told.
    pub eof_pending: bool,
}

/// The end of the connection that holds the protocol.
pub(crate) trait ProtocolSide {
    fn protocol(&self) -> Option<Rc<RefCell<dyn Protocol>>>;
    fn set_protocol(&self, protocol: Rc<RefCell<dyn Protocol>>);
    fn take_owner(&self) -> Option<Rc<dyn Owner>>;
    fn set_owner(&self, owner: Rc<dyn Owner>);
}

/// Whoever counts connections: a server.
pub(crate) trait Owner {
    /// A connection begins.
    fn attach(&self, transport: &Transport);
    /// It goes on as another transport, above or below the one that it was.
    fn replace(&self, from: &Transport, to: &Transport);
    /// A connection is over; its `connection_lost` has been delivered.
    fn detach(&self, transport: &Transport);
}

impl Transport {
    pub(crate) fn new(core: Core, side: Weak<dyn ProtocolSide>) -> Self {
        Self {
            inner: Rc::new(TransportInner { core, side }),
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.inner.core
    }

    /// Where its protocol is, until the end of the connection.
    pub(crate) fn side(&self) -> Option<Rc<dyn ProtocolSide>> {
        self.inner.side.upgrade()
    }

    pub(crate) fn id(&self) -> SourceId {
        self.core().id()
    }

    /// What the loop is to do next.
    pub(crate) fn agenda(&self) -> &Agenda {
        self.core().handle().agenda()
    }

    /// Sends `data`, as soon as the step ends and the system takes it. Never blocks, and never
    /// fails: a broken connection shows in `connection_lost`. On a connection that is lost the
    /// bytes are ignored, and the fifth such write and later ones are logged. Mirrors
    /// `Transport.write`.
    ///
    /// Bytes that are given away (a `Vec<u8>`; see [`Data`]), and those that `data_received` was
    /// just told of, are not copied as a rule.
    ///
    /// # Panics
    ///
    /// After [`write_eof`](Self::write_eof), and while a file is being sent by
    /// [`sendfile`](crate::sendfile), as asyncio raises; after `start_tls`, since the bytes would
    /// leave in the clear. See [`try_write`](Self::try_write).
    #[track_caller]
    pub fn write(&self, data: impl Data) {
        let data = data.into_bytes();
        assert!(
            self.core().takes_bytes(),
            "{}",
            self.core().refusal("write")
        );
        self.accept(data);
    }

    /// [`write`](Self::write) for those who cannot know whether the writing side was ended.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` after [`write_eof`](Self::write_eof) and after `start_tls`, `ResourceBusy` during
    /// a [`sendfile`](crate::sendfile); nothing is written.
    pub fn try_write(&self, data: impl Data) -> io::Result<()> {
        let data = data.into_bytes();
        if !self.core().takes_bytes() {
            return Err(self.core().refusal("write"));
        }
        self.accept(data);
        Ok(())
    }

    fn accept(&self, data: Cow<'_, [u8]>) {
        match data {
            Cow::Borrowed(data) => self.core().write(data),
            Cow::Owned(data) => self.core().write_owned(data),
        }
    }

    /// [`write`](Self::write)s several pieces, in order. Mirrors `Transport.writelines`.
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write) does.
    #[track_caller]
    pub fn writelines<I>(&self, lines: I)
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let takes_bytes = self.core().takes_bytes();
        assert!(takes_bytes, "{}", self.core().refusal("writelines"));
        // Collected first: the iterator is user code, and may write itself.
        let lines: Vec<I::Item> = lines.into_iter().collect();
        let lines: Vec<&[u8]> = lines.iter().map(AsRef::as_ref).collect();
        self.core().writelines(&lines);
    }

    /// Ends the writing side after what was written is sent; reading goes on. Does nothing if it
    /// was ended before or the transport is closing. Mirrors `Transport.write_eof`.
    ///
    /// # Errors
    ///
    /// `Unsupported` where [`can_write_eof`](Self::can_write_eof) is false, `ResourceBusy` during a
    /// [`sendfile`](crate::sendfile), `BrokenPipe` after `start_tls`.
    pub fn write_eof(&self) -> io::Result<()> {
        if self.core().carries() {
            return Err(self.core().refusal("write_eof"));
        }
        self.end_writing()
    }

    /// The same, also for what stands on this transport.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        if !self.can_write_eof() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if self.core().is_lent() {
            return Err(self.core().refusal("write_eof"));
        }
        self.core().write_eof();
        Ok(())
    }

    /// Whether this kind of transport can end its writing side alone: all but TLS 1.2. Mirrors
    /// `Transport.can_write_eof`, which is false for any TLS.
    pub fn can_write_eof(&self) -> bool {
        self.core().can_write_eof()
    }

    /// Closes the connection after what was written is sent; nothing is received any more.
    /// `connection_lost` follows from the loop, with `None`. Mirrors `Transport.close`.
    ///
    /// A peer that does not read keeps a closing connection open; [`abort`](Self::abort) does
    /// not wait. Under TLS the peer has some time to end its own side then, the
    /// `ssl_shutdown_timeout`; what is written once everything was sent is ignored.
    pub fn close(&self) {
        self.core().close();
    }

    /// Closes the connection at once; what is not sent yet is lost, but for one attempt.
    /// `connection_lost` follows from the loop, with `None`. Mirrors `Transport.abort`.
    pub fn abort(&self) {
        self.core().abort(CloseReason::Aborted);
    }

    /// Whether the connection is closing or closed. Mirrors `Transport.is_closing`.
    pub fn is_closing(&self) -> bool {
        self.core().is_closing()
    }

    /// Stops receiving, and with it noticing that the peer is gone. Allowed in any state.
    /// Mirrors `Transport.pause_reading`.
    pub fn pause_reading(&self) {
        self.core().pause_reading();
    }

    /// Goes on receiving. Allowed in any state. Mirrors `Transport.resume_reading`.
    pub fn resume_reading(&self) {
        self.core().resume_reading();
    }

    /// Whether the transport is neither paused nor closing. Mirrors `Transport.is_reading`.
    pub fn is_reading(&self) -> bool {
        self.core().is_reading()
    }

    /// Takes the socket out of the loop: for another loop, another thread or another library.
    ///
    /// What was written and the system does not take at once comes with it. What was received the
    /// protocol has had already; what nobody has received yet is still in the socket. For the
    /// protocol the connection is over: `connection_lost(None)` follows, and the transport is a
    /// husk. The socket stays non-blocking. [`StreamWriter::detach`](crate::StreamWriter::detach)
    /// is the same for streams. asyncio has no such method.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the transport is closing or closed; `Unsupported` if there is no socket
    /// right below it, as under TLS, and `BrokenPipe` after `start_tls`, and then nothing has
    /// changed; [`LoopClosed`](crate::LoopClosed) after the loop's end.
    pub fn detach(&self) -> io::Result<Detached> {
        if self.core().carries() {
            return Err(self.core().refusal("detach"));
        }
        let (socket, unsent, eof_pending) = self.core().detach()?;
        Ok(Detached {
            socket,
            unread: Vec::new(),
            unsent,
            eof_pending,
        })
    }

    /// Sets the marks for flow control, in bytes: above `high` waiting bytes the protocol's
    /// `pause_writing` is called, at `low` its `resume_writing`.
    ///
    /// Without `high` it is 64 KiB, or four times `low`; without `low` it is a quarter of
    /// `high`. A change that crosses the bytes that wait now is told from the queue, in both
    /// directions. Mirrors `Transport.set_write_buffer_limits`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `low` is above `high`.
    pub fn set_write_buffer_limits(
        &self,
        high: impl Into<Option<usize>>,
        low: impl Into<Option<usize>>,
    ) -> io::Result<()> {
        self.core().set_limits(high.into(), low.into())
    }

    /// The marks, in bytes, as (low, high). Mirrors `Transport.get_write_buffer_limits`.
    pub fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.core().limits()
    }

    /// How many bytes wait to be sent, after an attempt to send them. Mirrors
    /// `Transport.get_write_buffer_size`.
    pub fn get_write_buffer_size(&self) -> usize {
        self.core().send();
        self.core().waiting()
    }

    /// What is known about the connection; after its end, what was known before. Mirrors
    /// `Transport.get_extra_info`, with types for names: [`PeerName`](crate::PeerName),
    /// [`SockName`](crate::SockName), [`PeerCredentials`](crate::PeerCredentials),
    /// [`ClosedBecause`](crate::ClosedBecause), and `TlsSession` for what TLS has agreed upon.
    pub fn get_extra_info<K: ExtraInfo>(&self, key: K) -> Option<K::Value> {
        key.look_up(self)
    }

    /// Says who the peer is in the end, as a proxy or anybody else we trust has told us: what
    /// [`RealPeer`](crate::RealPeer) gives from now on, here and on what `start_tls` makes of this
    /// transport. asyncio has no such method.
    pub fn set_real_peer(&self, address: impl Into<Address>) {
        self.core().set_real_peer(address.into());
    }

    /// Hands what happens from now on to another protocol. Its `connection_made` is not called.
    /// Inside `data_received` the change takes effect with the next chunk. Both kinds, `Protocol`
    /// and [`BufferedProtocol`], may follow one another. Does nothing after the end of the
    /// connection. Mirrors `Transport.set_protocol`.
    ///
    /// # Panics
    ///
    /// After `start_tls`, as [`write`](Self::write) does: TLS is the protocol.
    #[track_caller]
    pub fn set_protocol(&self, protocol: Rc<RefCell<dyn Protocol>>) {
        assert!(
            !self.core().carries(),
            "{}",
            self.core().refusal("set_protocol")
        );
        self.change_protocol(protocol);
    }

    /// The same, also for what stands on this transport.
    pub(crate) fn change_protocol(&self, protocol: Rc<RefCell<dyn Protocol>>) {
        if let Some(side) = self.inner.side.upgrade() {
            side.set_protocol(protocol);
        }
    }

    /// The current protocol; `None` after the end of the connection. Mirrors
    /// `Transport.get_protocol`.
    pub fn get_protocol(&self) -> Option<Rc<RefCell<dyn Protocol>>> {
        self.inner.side.upgrade()?.protocol()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Transport");
        debug.field("peername", self.core().peer_name());
        if let Some(name) = self.core().sock_name() {
            debug.field("sockname", &name);
        }
        if let Some(name) = self.core().real_peer() {
            debug.field("realpeer", &name);
        }
        debug
            .field("closing", &self.is_closing())
            .finish_non_exhaustive()
    }
}

/// A key of [`Transport::get_extra_info`].
pub trait ExtraInfo {
    /// What is known under this key.
    type Value;

    /// Looks it up.
    fn look_up(self, transport: &Transport) -> Option<Self::Value>;
}
