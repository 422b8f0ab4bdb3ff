//! What a server calls for each connection.
//!
//! Owns: [`ClientConnectedCb`] and [`Outcome`], what it may return. Why: a plain function and an
//! async one, one that can fail and one that cannot, all are what a user writes. Invariants:
//! whatever goes wrong in it is reported once and closes its connection, by one path. asyncio's
//! counterpart: `client_connected_cb`.

use std::any::{Any, type_name};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::event_loop::cells::Slot;
use crate::event_loop::door::catch;
use crate::event_loop::{ExceptionContext, PanicError, TaskFuture, get_running_loop};
use crate::streams::reader::StreamReader;
use crate::streams::writer::StreamWriter;
use crate::transports::{CloseReason, Transport};

/// A function that is called with the reader and the writer of each new connection.
///
/// Clones are the same function. [`start_server`](crate::start_server) makes one by itself; it is
/// needed where a [`StreamReaderProtocol`](crate::StreamReaderProtocol) is made by hand.
/// `start_server` is no more than this:
///
/// ```
/// use std::io;
///
/// use evloop::{
///     ClientConnectedCb, Endpoint, Outcome, Server, StreamReader, StreamReaderProtocol,
///     StreamWriter, create_server,
/// };
///
/// async fn start_server<R: Outcome<K>, K>(
///     client_connected_cb: impl FnMut(StreamReader, StreamWriter) -> R + 'static,
///     endpoint: impl Into<Endpoint>,
/// ) -> io::Result<Server> {
///     let callback = ClientConnectedCb::new(client_connected_cb);
///     let factory =
///         move || StreamReaderProtocol::new(StreamReader::new(), Some(callback.clone()));
///     create_server(factory, endpoint).await
/// }
/// ```
#[derive(Clone)]
pub struct ClientConnectedCb {
    callback: Rc<Slot<Box<Callback>>>,
}

type Callback = dyn FnMut(StreamReader, StreamWriter);

impl ClientConnectedCb {
    /// Wraps a plain or an async function; see [`Outcome`] for what it may return. The future of
    /// an async one becomes a task.
    pub fn new<R, K>(mut callback: impl FnMut(StreamReader, StreamWriter) -> R + 'static) -> Self
    where
        R: Outcome<K>,
    {
        let callback = move |reader, writer: StreamWriter| {
            let transport = writer.transport().clone();
            match catch(|| callback(reader, writer)) {
                Ok(outcome) => outcome.handle(transport),
                Err(payload) => Failure::Panic(payload).report(&transport),
            }
        };
        Self {
            callback: Rc::new(Slot::new(Some(Box::new(callback)))),
        }
    }

    pub(crate) fn call(&self, reader: StreamReader, writer: StreamWriter) {
        self.callback.lend(|callback| callback(reader, writer));
    }
}

impl fmt::Debug for ClientConnectedCb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnectedCb").finish_non_exhaustive()
    }
}

/// What a connection callback may return: `()`, a `Result<(), E>`, or a future of either. `K` is
/// found by the compiler.
///
/// An error, and a panic, is reported to the exception handler as "Unhandled exception in
/// client_connected_cb", with the transport, and closes the connection after what was written is
/// sent.
pub trait Outcome<K> {
    /// Does what follows from the outcome.
    fn handle(self, transport: Transport);
}

/// The kind of a callback that is over when it returns.
#[derive(Debug)]
pub enum PlainCallback {}

/// The kind of a callback that returns a future.
#[derive(Debug)]
pub enum AsyncCallback {}

/// `()` or a `Result<(), E>`.
pub trait Completion {
    /// The error, if there is one.
    fn error(self) -> Option<Box<dyn Error>>;
}

impl Completion for () {
    fn error(self) -> Option<Box<dyn Error>> {
        None
    }
}

impl<E: Into<Box<dyn Error>>> Completion for Result<(), E> {
    fn error(self) -> Option<Box<dyn Error>> {
        self.err().map(Into::into)
    }
}

impl<C: Completion> Outcome<PlainCallback> for C {
    fn handle(self, transport: Transport) {
        if let Some(error) = self.error() {
            Failure::Error(error).report(&transport);
        }
    }
}

impl<F> Outcome<AsyncCallback> for F
where
    F: Future + 'static,
    F::Output: Completion,
{
    fn handle(self, transport: Transport) {
        // Called by the loop, so there is one. A task that nobody can await or cancel needs no
        // `Task`: an idle connection is smaller without.
        if let Ok(handle) = get_running_loop() {
            let supervised = Supervised {
                future: self,
                transport,
            };
            let _ = handle.spawn(supervised);
        }
    }
}

pin_project! {
    /// A handler's future, whose failure has somewhere to go.
    struct Supervised<F> {
        #[pin]
        future: F,
        transport: Transport,
    }
}

impl<F> Future for Supervised<F>
where
    F: Future,
    F::Output: Completion,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let failure = match catch(|| this.future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(completion)) => completion.error().map(Failure::Error),
            Err(payload) => Some(Failure::Panic(payload)),
        };
        if let Some(failure) = failure {
            failure.report(this.transport);
        }
        Poll::Ready(())
    }
}

impl<F> TaskFuture for Supervised<F>
where
    F: Future,
    F::Output: Completion,
{
    fn name(&self) -> &'static str {
        type_name::<F>()
    }
}

/// How a callback failed.
enum Failure {
    Error(Box<dyn Error>),
    Panic(Box<dyn Any + Send>),
}

impl Failure {
    /// The one path for all failures: from the queue, since we may be inside the user's step.
    fn report(self, transport: &Transport) {
        transport.core().close_failed();
        let reason = transport.core().given_reason();
        let context = ExceptionContext::new("Unhandled exception in client_connected_cb");
        let context = match self {
            Self::Error(error) => context.error(error),
            Self::Panic(payload) => context.error(PanicError::new(&*payload)),
        };
        let handle = transport.core().handle();
        let context = context.subject(transport.clone());
        handle.report_soon(context.subject(reason.unwrap_or(CloseReason::HandlerFailed)));
    }
}
