//! A protocol that writes down what happens to it, and does what a test wants done then.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use evloop::{Protocol, Transport, create_connection};

use crate::common::trace::Trace;
use crate::common::{Peer, listener};

/// What is happening.
pub(crate) enum Call<'a> {
    Made,
    Data(&'a [u8]),
    Eof,
    Lost(Option<Arc<io::Error>>),
    Pause,
    Resume,
}

type Reaction = dyn FnMut(&Call<'_>, &Transport);

pub(crate) struct Probe {
    trace: Trace,
    prefix: &'static str,
    transport: Option<Transport>,
    keeps_open: bool,
    reaction: Box<Reaction>,
}

impl Probe {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self {
            trace: trace.clone(),
            prefix: "",
            transport: None,
            keeps_open: false,
            reaction: Box::new(|_, _| {}),
        }
    }

    /// What to say before each line.
    pub(crate) fn named(mut self, prefix: &'static str) -> Self {
        self.prefix = prefix;
        self
    }

    /// `eof_received` returns true.
    pub(crate) fn keeping_open(mut self) -> Self {
        self.keeps_open = true;
        self
    }

    /// What to do inside each callback, after it was written down.
    pub(crate) fn doing(mut self, reaction: impl FnMut(&Call<'_>, &Transport) + 'static) -> Self {
        self.reaction = Box::new(reaction);
        self
    }

    /// For a protocol whose `connection_made` went to another one.
    pub(crate) fn on(mut self, transport: &Transport) -> Self {
        self.transport = Some(transport.clone());
        self
    }

    fn on_call(&mut self, line: &str, call: &Call<'_>) {
        self.trace.say(format!("{}{line}", self.prefix));
        let transport = self.transport.clone().expect("a transport");
        (self.reaction)(call, &transport);
    }
}

impl Protocol for Probe {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
        self.on_call("made", &Call::Made);
    }

    fn data_received(&mut self, data: &[u8]) {
        let line = match data.len() {
            0..=40 => format!("data {}", data.escape_ascii()),
            _ => "data".to_owned(),
        };
        self.on_call(&line, &Call::Data(data));
    }

    fn eof_received(&mut self) -> bool {
        self.on_call("eof", &Call::Eof);
        self.keeps_open
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        let line = match &exc {
            None => "lost".to_owned(),
            Some(error) => format!("lost {:?}", error.kind()),
        };
        self.on_call(&line, &Call::Lost(exc));
    }

    fn pause_writing(&mut self) {
        self.on_call("pause", &Call::Pause);
    }

    fn resume_writing(&mut self) {
        self.on_call("resume", &Call::Resume);
    }
}

/// A connection of a probe to a blocking peer.
pub(crate) async fn connected(probe: Probe) -> (Transport, Peer) {
    let (listener, address) = listener();
    let (transport, _) = connect(probe, address).await;
    (transport, Peer::accept(&listener))
}

pub(crate) async fn connect(probe: Probe, address: SocketAddr) -> (Transport, Rc<RefCell<Probe>>) {
    let connected = create_connection(move || probe, address);
    connected.await.expect("to connect")
}

/// Writes until the system takes no more, without a word to the protocol: what is left is told.
pub(crate) fn block(transport: &Transport) -> usize {
    let limit = 1 << 40;
    transport.set_write_buffer_limits(limit, 0).expect("limits");
    let chunk = [b'-'; 64 * 1024];
    while transport.get_write_buffer_size() == 0 {
        transport.write(&chunk);
    }
    transport.get_write_buffer_size()
}
