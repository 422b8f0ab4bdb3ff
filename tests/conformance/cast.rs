//! Who may be at the end of a connection: streams, or a protocol that tells what it is told.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use evloop::{
    BufferedProtocol, ClientConnectedCb, Protocol, StreamReader, StreamReaderProtocol,
    StreamWriter, Transport,
};
use futures::channel::oneshot;

use crate::common::trace::Trace;
use crate::net::{Net, bytes, failure};

/// One end of a connection, before there is one.
pub(crate) trait Role: 'static {
    type Protocol: Protocol;
    /// What the behaviour has of it.
    type End: 'static;
    fn enter(self) -> (Factory<Self::Protocol>, oneshot::Receiver<Self::End>);
}

pub(crate) type Factory<P> = Box<dyn FnOnce() -> P>;

// ------------------------------------------------------------------------------------ streams

/// A reader and a writer.
pub(crate) struct Streams {
    pub(crate) limit: usize,
}

impl Default for Streams {
    fn default() -> Self {
        Self { limit: 64 << 10 }
    }
}

/// What streams have of a connection.
pub(crate) struct End {
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

impl Role for Streams {
    type Protocol = StreamReaderProtocol;
    type End = End;

    fn enter(self) -> (Factory<StreamReaderProtocol>, oneshot::Receiver<End>) {
        let (made, end) = oneshot::channel();
        let mut made = Some(made);
        let callback = ClientConnectedCb::new(move |reader, writer| {
            let made = made.take().expect("one connection only");
            assert!(made.send(End { reader, writer }).is_ok(), "nobody waits");
        });
        let reader = StreamReader::with_limit(self.limit).expect("a limit");
        let factory = || StreamReaderProtocol::new(reader, Some(callback));
        (Box::new(factory), end)
    }
}

// ---------------------------------------------------------------------------------- protocols

/// A protocol that writes down what it is told, under its name, and does what it was asked to do
/// then. Bytes are told when there are enough of them, or when something else happens.
pub(crate) struct Actor {
    name: &'static str,
    trace: Trace,
    made: Option<oneshot::Sender<Transport>>,
    transport: Option<Transport>,
    keeps_open: bool,
    enough: usize,
    untold: Vec<u8>,
    scenes: Vec<(What, Rc<Scene>)>,
}

type Scene = dyn Fn(&Transport);

/// What a protocol can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Made,
    Data,
    Eof,
    Pause,
    Resume,
    Lost,
}

impl Actor {
    pub(crate) fn new(net: &Net, name: &'static str) -> Self {
        Self {
            name,
            trace: net.trace().clone(),
            made: None,
            transport: None,
            keeps_open: false,
            enough: usize::MAX,
            untold: Vec::new(),
            scenes: Vec::new(),
        }
    }

    /// What to do when this happens.
    pub(crate) fn on(mut self, what: What, scene: impl Fn(&Transport) + 'static) -> Self {
        self.scenes.push((what, Rc::new(scene)));
        self
    }

    /// So many bytes are told at once.
    pub(crate) fn enough(mut self, bytes: usize) -> Self {
        self.enough = bytes;
        self
    }

    /// What `eof_received` returns.
    pub(crate) fn keeping_open(mut self) -> Self {
        self.keeps_open = true;
        self
    }

    fn tell(&mut self, what: What, line: &str) {
        if what != What::Data && !self.untold.is_empty() {
            self.tell_data();
        }
        self.trace.say(format!("{} {line}", self.name));
        self.act(what);
    }

    fn tell_data(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        self.tell(What::Data, &bytes(&untold));
    }

    fn act(&self, what: What) {
        let Some(transport) = &self.transport else {
            return;
        };
        for (_, scene) in self.scenes.iter().filter(|(when, _)| *when == what) {
            scene(transport);
        }
    }
}

impl Protocol for Actor {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport.clone());
        self.tell(What::Made, "made");
        if let Some(made) = self.made.take() {
            assert!(made.send(transport).is_ok(), "nobody waits");
        }
    }

    fn data_received(&mut self, data: &[u8]) {
        self.untold.extend(data);
        if self.untold.len() >= self.enough {
            self.tell_data();
        }
    }

    fn eof_received(&mut self) -> bool {
        self.tell(What::Eof, "eof");
        self.keeps_open
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        let why = exc.map_or_else(|| "None".to_owned(), |error| failure(&error));
        self.tell(What::Lost, &format!("lost: {why}"));
    }

    fn pause_writing(&mut self) {
        self.tell(What::Pause, "pause");
    }

    fn resume_writing(&mut self) {
        self.tell(What::Resume, "resume");
    }
}

impl Role for Actor {
    type Protocol = Self;
    type End = Transport;

    fn enter(mut self) -> (Factory<Self>, oneshot::Receiver<Transport>) {
        let (made, end) = oneshot::channel();
        self.made = Some(made);
        (Box::new(|| self), end)
    }
}

/// An actor with a buffer of its own.
pub(crate) struct Buffered {
    actor: Actor,
    buffer: Vec<u8>,
}

impl Buffered {
    pub(crate) fn new(actor: Actor, size: usize) -> Self {
        Self {
            actor,
            buffer: vec![0; size],
        }
    }
}

impl BufferedProtocol for Buffered {
    fn connection_made(&mut self, transport: Transport) {
        self.actor.connection_made(transport);
    }

    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, nbytes: usize) {
        self.actor.data_received(&self.buffer[..nbytes]);
    }

    fn eof_received(&mut self) -> bool {
        self.actor.eof_received()
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        self.actor.connection_lost(exc);
    }

    fn pause_writing(&mut self) {
        self.actor.pause_writing();
    }

    fn resume_writing(&mut self) {
        self.actor.resume_writing();
    }
}

impl Role for Buffered {
    type Protocol = Self;
    type End = Transport;

    fn enter(mut self) -> (Factory<Self>, oneshot::Receiver<Transport>) {
        let (made, end) = oneshot::channel();
        self.actor.made = Some(made);
        (Box::new(|| self), end)
    }
}
