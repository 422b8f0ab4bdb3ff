//! What a behaviour has to do with: the two sides of a world, and a way from the one to the other.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    Address, ClientConnectedCb, IncompleteReadError, LimitOverrunError, LoopHandle, Protocol,
    Server, StreamReader, StreamReaderProtocol, TlsClientContext, TlsError, TlsServerContext,
    Transport, UnixAddress, create_connection, create_server, create_unix_connection,
    create_unix_server, sleep,
};
use futures::channel::oneshot;

use crate::cast::{End, Role, Streams};
use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::within;
use crate::worlds::{Link, Weather, World};

/// Where a behaviour takes place.
pub(crate) struct Place {
    pub(crate) world: World,
    /// Whether `here` is the end that accepts.
    pub(crate) accepting: bool,
    /// Of here, and of there: the same one where there are no two hosts.
    pub(crate) loops: [LoopHandle; 2],
    pub(crate) ips: [IpAddr; 2],
    pub(crate) folder: Option<Folder>,
    pub(crate) tls: Option<(TlsClientContext, TlsServerContext)>,
}

/// `Here` is where the behaviour runs.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Here,
    There,
}

/// The keyword arguments of a server.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) start_serving: bool,
    pub(crate) backlog: u32,
    pub(crate) max_connections: usize,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) max_write_buffer: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            start_serving: true,
            backlog: 100,
            max_connections: usize::MAX,
            idle_timeout: None,
            write_timeout: None,
            max_write_buffer: usize::MAX,
        }
    }
}

/// Awaits a server's builder with its keyword arguments, which each kind of builder has for its own.
macro_rules! on_terms {
    ($builder:expr, $terms:expr, $context:expr) => {{
        let mut builder = $builder
            .ssl($context)
            .start_serving($terms.start_serving)
            .backlog($terms.backlog)
            .max_connections($terms.max_connections)
            .max_write_buffer($terms.max_write_buffer);
        if let Some(timeout) = $terms.idle_timeout {
            builder = builder.idle_timeout(timeout);
        }
        if let Some(timeout) = $terms.write_timeout {
            builder = builder.write_timeout(timeout);
        }
        builder.await?
    }};
}

/// A server, and where it is.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) server: Server,
    pub(crate) address: Address,
}

#[derive(Clone)]
pub(crate) struct Net(Rc<Inner>);

struct Inner {
    place: Place,
    trace: Trace,
    linked: Cell<bool>,
    paths: Cell<u32>,
    forgotten: RefCell<Vec<String>>,
}

impl Net {
    pub(crate) fn new(place: Place) -> Self {
        let trace = Trace::default();
        for handle in &place.loops {
            let trace = trace.clone();
            handle.set_exception_handler(move |_, context| {
                trace.say(format!("report: {}", context.message()));
            });
        }
        Self(Rc::new(Inner {
            place,
            trace,
            linked: Cell::new(false),
            paths: Cell::new(0),
            forgotten: RefCell::default(),
        }))
    }

    pub(crate) fn world(&self) -> World {
        self.0.place.world
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.0.trace
    }

    pub(crate) fn say(&self, line: impl Into<String>) {
        self.0.trace.say(line);
    }

    /// Everything that was said, but for what may come at any time.
    pub(crate) fn said(&self) -> Vec<String> {
        let forgotten = self.0.forgotten.borrow();
        let mut lines = self.0.trace.lines();
        lines.retain(|line| !forgotten.contains(line));
        lines
    }

    /// This line is no part of the answer.
    pub(crate) fn forget(&self, line: &str) {
        self.0.forgotten.borrow_mut().push(line.to_owned());
    }

    /// Whether there was a connection of which here was one end.
    pub(crate) fn is_linked(&self) -> bool {
        self.0.linked.get()
    }

    /// Does something on the other side, beginning now; what is returned is its outcome.
    pub(crate) fn there<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        future: F,
    ) -> impl Future<Output = T> + use<T, F> {
        let (done, outcome) = oneshot::channel();
        drop(self.0.place.loops[1].create_task(async move {
            // Nobody waits for what is to go on in the background.
            let _ = done.send(future.await);
        }));
        async {
            outcome
                .await
                .expect("what was begun there to come to its end")
        }
    }

    /// A connection: what each side has of it, when both are told of it.
    pub(crate) async fn link<H: Role, T: Role>(&self, here: H, there: T) -> (H::End, T::End) {
        self.0.linked.set(true);
        let (here, our_end) = here.enter();
        let (there, their_end) = there.enter();
        let net = self.clone();
        if self.0.place.accepting {
            let served = self.serve(Side::Here, Terms::default(), once(here)).await;
            let to = served.address.clone();
            let connect = async move { net.connect(&to, there).await.map(drop) };
            self.there(connect).await.expect("to connect");
            let ends = (received(our_end).await, received(their_end).await);
            served.server.close();
            ends
        } else {
            let served = self.serve(Side::There, Terms::default(), once(there)).await;
            drop(
                self.connect(&served.address, here)
                    .await
                    .expect("to connect"),
            );
            let ends = (received(our_end).await, received(their_end).await);
            self.there(async move { served.server.close() }).await;
            ends
        }
    }

    /// A connection of streams.
    pub(crate) async fn streams(&self) -> (End, End) {
        self.link(Streams::default(), Streams::default()).await
    }

    /// A server on one of the sides.
    pub(crate) async fn serve<P: Protocol>(
        &self,
        side: Side,
        terms: Terms,
        factory: impl FnMut() -> P + 'static,
    ) -> Served {
        let address = self.free_address(side);
        let outcome = match side {
            Side::Here => self.serve_at(&address, terms, factory).await,
            Side::There => {
                let net = self.clone();
                self.there(async move { net.serve_at(&address, terms, factory).await })
                    .await
            }
        };
        outcome.expect("to serve")
    }

    /// A server on the loop that runs.
    pub(crate) async fn serve_at<P: Protocol>(
        &self,
        address: &Address,
        terms: Terms,
        factory: impl FnMut() -> P + 'static,
    ) -> io::Result<Served> {
        let context = self.0.place.tls.as_ref().map(|(_, server)| server.clone());
        let server = match address {
            Address::Unix(path) => on_terms!(create_unix_server(factory, path), terms, context),
            _ => {
                let inet = address.as_inet().expect("an internet address");
                on_terms!(create_server(factory, inet), terms, context)
            }
        };
        let address = server.sockets().remove(0);
        Ok(Served { server, address })
    }

    /// A server there whose clients are handled by this callback.
    pub(crate) async fn handle(&self, callback: ClientConnectedCb) -> Served {
        let factory =
            move || StreamReaderProtocol::new(StreamReader::new(), Some(callback.clone()));
        self.serve(Side::There, Terms::default(), factory).await
    }

    /// A connection from the loop that runs.
    pub(crate) async fn connect<P: Protocol>(
        &self,
        to: &Address,
        factory: impl FnOnce() -> P + 'static,
    ) -> io::Result<(Transport, Rc<RefCell<P>>)> {
        let context = self.0.place.tls.as_ref().map(|(client, _)| client.clone());
        match to {
            Address::Unix(path) => create_unix_connection(factory, path).await,
            _ => {
                let inet = to.as_inet().expect("an internet address");
                match context {
                    Some(context) => {
                        create_connection(factory, inet)
                            .ssl(context)
                            .server_hostname("localhost")
                            .await
                    }
                    None => create_connection(factory, inet).await,
                }
            }
        }
    }

    /// An address that nobody serves, of which the system may have to choose the port.
    pub(crate) fn free_address(&self, side: Side) -> Address {
        let Place {
            world, ips, folder, ..
        } = &self.0.place;
        if world.link != Link::Unix {
            return SocketAddr::new(ips[side as usize], 0).into();
        }
        let number = self.0.paths.get();
        self.0.paths.set(number + 1);
        let name = format!("{number}.sock");
        UnixAddress::from(match folder {
            Some(folder) => folder.path(&name),
            None => format!("/run/{name}").into(),
        })
        .into()
    }

    /// More bytes than the system keeps.
    pub(crate) fn plenty(&self) -> usize {
        match (self.world().weather, self.world().link) {
            (Weather::Real, Link::Unix) => 2 << 20,
            (Weather::Real, _) => 16 << 20,
            (Weather::Fair | Weather::Rough, _) => 512 << 10,
        }
    }

    /// A time that is long enough for everything that is under way.
    pub(crate) async fn settle(&self) {
        let time = match self.world().weather {
            Weather::Real => Duration::from_millis(50),
            Weather::Fair | Weather::Rough => Duration::from_secs(20),
        };
        sleep(time).await.expect("a loop");
    }
}

fn once<P: 'static>(factory: Box<dyn FnOnce() -> P>) -> impl FnMut() -> P {
    let mut factory = Some(factory);
    move || factory.take().expect("one connection only")()
}

async fn received<T>(end: oneshot::Receiver<T>) -> T {
    within("the other side", end).await.expect("a connection")
}

/// What came of something, in a word or two.
pub(crate) fn outcome<T, E: Into<io::Error>>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => failure(&error.into()),
    }
}

/// What a read has brought.
pub(crate) fn read<E: Into<io::Error>>(result: Result<Vec<u8>, E>) -> String {
    match result {
        Ok(data) => bytes(&data),
        Err(error) => failure(&error.into()),
    }
}

/// Bytes, or how many there are.
pub(crate) fn bytes(data: &[u8]) -> String {
    match data {
        [] => "the end".to_owned(),
        data if data.len() > 40 => format!("{} bytes", data.len()),
        data => format!("{:?}", String::from_utf8_lossy(data)),
    }
}

pub(crate) fn failure(error: &io::Error) -> String {
    if let Some(error) = inside::<IncompleteReadError>(error) {
        let expected = error
            .expected
            .map(|n| format!(" of {n}"))
            .unwrap_or_default();
        return format!("only {}{expected}", bytes(&error.partial));
    }
    if inside::<LimitOverrunError>(error).is_some() {
        return "over the limit".to_owned();
    }
    match TlsError::of(error) {
        Some(TlsError::Truncated) => "truncated".to_owned(),
        _ => format!("{:?}", error.kind()),
    }
}

fn inside<E: Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref()?.downcast_ref()
}
