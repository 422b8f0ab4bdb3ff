//! A client and a server, and somebody between them.
//!
//! Owns: the target of TLS. Why: what comes to the engine comes from whoever can reach the port,
//! and passes everybody on the way. Invariants: what an application receives is the beginning of
//! what the other one has sent, whatever was changed, left out or put in on the way; an end in good
//! order means all of it; memory stays within what was asked for; whatever came, both connections
//! end when the ones below do. asyncio's counterpart: none.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::fuzzing::script::Script;
use crate::fuzzing::stage::{Stage, Wire};
use crate::tls::{ClientOptions, Prepared, ServerOptions, TlsClientContext, TlsServerContext};
use crate::tls::{rustls, stack};
use crate::transports::{Protocol, Transport};

/// Has a client and a server talk by a script, past somebody who plays by the same script.
pub fn tls(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut play = Play::new(script.byte() % 2 == 0);
    for _ in 0..MOST_STEPS {
        if script.is_over() {
            break;
        }
        play.step(&mut script);
        play.compare();
    }
    play.finish(script.byte() % 2 == 0);
}

struct Play {
    stage: Stage,
    /// The client and the server.
    sides: [Side; 2],
}

struct Side {
    wire: Rc<Wire>,
    transport: Transport,
    heard: Rc<Heard>,
    /// What the application has written.
    said: Vec<u8>,
    /// Sent, and still with whoever is between.
    on_the_way: Vec<u8>,
    /// What came from here was changed on the way.
    tampered: bool,
    /// How much had been taken from the wire when reading was paused, and how much may come behind
    /// that.
    paused_at: Option<(usize, usize)>,
}

impl Play {
    fn new(modern: bool) -> Self {
        let mut stage = Stage::new();
        let client = prepare_client(&mut stage, modern);
        let sides = [client, prepare_server()].map(|prepared| {
            let (parts, wire) = stage.wire();
            let heard = Rc::new(Heard::default());
            let protocol = Rc::new(RefCell::new(Hears(Rc::clone(&heard))));
            let handle = &stage.event_loop;
            let transport = stack(handle, parts, prepared, protocol, None, None);
            Side {
                wire,
                transport,
                heard,
                said: Vec::new(),
                on_the_way: Vec::new(),
                tampered: false,
                paused_at: None,
            }
        });
        stage.turns(4);
        Self { stage, sides }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let from = usize::from(script.byte() % 2);
        let to = 1 - from;
        self.collect();
        let Self { stage, sides } = self;
        match script.byte() % 24 {
            0..8 => {
                // The usual thing: everything goes on, in both directions.
                for _ in 0..1 + script.byte() % 4 {
                    self.pass(from, usize::MAX);
                    self.pass(to, usize::MAX);
                }
            }
            8..10 => {
                let n = script.size();
                self.pass(from, n);
            }
            10 => sides[to].wire.cut_reads(script.size()),
            11 => {
                let at = script.size();
                let with = script.byte();
                let side = &mut sides[from];
                if let Some(byte) = side.on_the_way.get_mut(at) {
                    side.tampered |= with != 0;
                    *byte ^= with;
                }
            }
            12 => {
                let n = script.size().min(sides[from].on_the_way.len());
                sides[from].tampered |= n > 0;
                drop(sides[from].on_the_way.drain(..n));
            }
            13..15 => {
                let n = usize::from(script.byte());
                let foreign = script.bytes(n);
                sides[from].tampered |= !foreign.is_empty();
                sides[from].on_the_way.splice(..0, foreign.iter().copied());
            }
            15 => {
                let n = script.size().min(sides[from].on_the_way.len());
                let again = sides[from].on_the_way[..n].to_vec();
                sides[from].tampered |= n > 0;
                sides[from].on_the_way.extend(again);
            }
            16..19 => sides[from].say(script.size()),
            19 => sides[from]
                .wire
                .give_room([0, 1, 20, usize::MAX][usize::from(script.byte() % 4)]),
            20 => match script.byte() % 2 {
                0 => sides[from].pause(),
                _ => sides[from].resume(),
            },
            21 => match script.byte() {
                0..128 => sides[from].finish(),
                128..192 => sides[from].transport.close(),
                192..200 => sides[from].transport.abort(),
                _ => {}
            },
            22 => match script.byte() {
                0..32 => {
                    sides[from].wire.end();
                    sides[to].tampered = true;
                }
                32..40 => sides[from].wire.break_off(),
                _ => sides[from].wire.nudge(),
            },
            _ => stage.turn(),
        }
        self.stage.turns(2);
        self.sides.iter_mut().for_each(Side::look_how_much_came);
    }

    /// What was sent goes to whoever is between.
    fn collect(&mut self) {
        for side in &mut self.sides {
            let sent = side.wire.take_outgoing();
            side.on_the_way.extend(sent);
        }
    }

    fn pass(&mut self, from: usize, n: usize) {
        self.collect();
        let on_the_way = &mut self.sides[from].on_the_way;
        let bytes: Vec<u8> = on_the_way.drain(..n.min(on_the_way.len())).collect();
        self.sides[1 - from].wire.bring(&bytes);
        self.stage.turns(3);
    }

    fn compare(&self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (&self.sides[from], &self.sides[to]);
            let heard = to.heard.bytes.borrow();
            assert!(
                from.said.starts_with(&heard),
                "what nobody has said is heard"
            );
            if to.heard.ended.get() {
                assert_eq!(from.said.len(), heard.len(), "an early end is believed");
            }
            let size = to.transport.get_write_buffer_size();
            assert!(
                size <= to.said.len() * 2 + SLACK,
                "{size} bytes wait to be sent"
            );
        }
    }

    /// Everything that was sent arrives, then the connections below end.
    fn finish(mut self, in_good_order: bool) {
        for side in &mut self.sides {
            side.wire.give_room(usize::MAX);
            side.wire.cut_reads(usize::MAX);
            side.resume();
        }
        if in_good_order {
            for _ in 0..8 {
                self.pass(0, usize::MAX);
                self.pass(1, usize::MAX);
                self.stage.turns(4);
            }
            self.compare();
            let untouched = self.sides.iter().all(|side| {
                !side.tampered && !side.heard.lost.get() && !side.transport.is_closing()
            });
            if untouched {
                let heard = [0, 1].map(|i| self.sides[1 - i].heard.bytes.borrow().len());
                assert_eq!(
                    heard,
                    [0, 1].map(|i| self.sides[i].said.len()),
                    "lost on the way"
                );
            }
        }
        for side in &self.sides {
            side.transport.close();
        }
        self.stage.turns(4);
        for side in &self.sides {
            side.wire.end();
        }
        self.stage.turns(16);
        self.compare();
        for side in &self.sides {
            assert!(side.wire.is_closed(), "a socket is open");
            assert_eq!(
                side.heard.lost.get(),
                side.heard.made.get(),
                "a connection has no end"
            );
        }
    }
}

impl Side {
    fn pause(&mut self) {
        self.transport.pause_reading();
        let most = match self.heard.made.get() {
            true => 0,
            false => MOST_OF_A_HANDSHAKE,
        };
        if self.paused_at.is_none() {
            self.paused_at = Some((self.wire.taken(), most));
        }
    }

    fn resume(&mut self) {
        self.transport.resume_reading();
        self.paused_at = None;
    }

    /// While reading is paused no more is taken than was promised. A handshake goes on, and behind
    /// the end what comes is thrown away.
    fn look_how_much_came(&mut self) {
        let Some((before, most)) = self.paused_at else {
            return;
        };
        let taken = self.wire.taken();
        if !self.heard.made.get() {
            self.paused_at = Some((taken, most));
        } else if !self.transport.is_closing() {
            let more = taken - before;
            assert!(more <= most, "{more} bytes behind a pause");
        }
    }

    fn finish(&self) {
        let done = self.transport.write_eof().is_ok();
        self.heard.finished.set(self.heard.finished.get() || done);
    }

    fn say(&mut self, n: usize) {
        let open = !self.transport.is_closing() && !self.heard.finished.get();
        if open && self.heard.made.get() && self.said.len() < MOST_SAID {
            let from = self.said.len();
            let bytes: Vec<u8> = (from..from + n).map(|i| (i ^ (i >> 8)) as u8).collect();
            self.transport.write(&bytes);
            if !self.transport.is_closing() {
                self.said.extend(bytes);
            }
        }
    }
}

/// What an application was told.
#[derive(Default)]
struct Heard {
    bytes: RefCell<Vec<u8>>,
    made: Cell<bool>,
    ended: Cell<bool>,
    lost: Cell<bool>,
    /// It has ended its own side.
    finished: Cell<bool>,
}

struct Hears(Rc<Heard>);

impl Protocol for Hears {
    fn connection_made(&mut self, _: Transport) {
        assert!(!self.0.made.replace(true), "made twice");
    }

    fn data_received(&mut self, data: &[u8]) {
        assert!(self.0.made.get() && !self.0.lost.get() && !self.0.ended.get());
        self.0.bytes.borrow_mut().extend_from_slice(data);
    }

    fn eof_received(&mut self) -> bool {
        assert!(!self.0.ended.replace(true), "ended twice");
        true
    }

    fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
        assert!(!self.0.lost.replace(true), "lost twice");
    }
}

fn prepare_client(stage: &mut Stage, modern: bool) -> Prepared {
    let config = CONFIGS.with(|configs| Arc::clone(&configs.clients[usize::from(modern)]));
    let options = ClientOptions {
        ssl: TlsClientContext::from(config).into(),
        ..ClientOptions::default()
    };
    let Ok(Some(side)) = options.side(Ok("localhost".to_owned())) else {
        unreachable!("a context and a name are given")
    };
    let handle = stage.event_loop.handle();
    let prepared = stage.event_loop.run_until_complete(side.prepare(&handle));
    prepared.unwrap_or_else(|error| unreachable!("{error}"))
}

fn prepare_server() -> Prepared {
    let config = CONFIGS.with(|configs| Arc::clone(&configs.server));
    let options = ServerOptions {
        ssl: TlsServerContext::from(config).into(),
        ..ServerOptions::default()
    };
    let side = options.side().ok().flatten();
    let prepared = side.map(|side| side.prepare());
    let Some(Ok(prepared)) = prepared else {
        unreachable!("a context is given")
    };
    prepared
}

struct Configs {
    /// Of TLS 1.2 and of 1.3. They go on with no session, so that each input stands for itself.
    clients: [Arc<ClientConfig>; 2],
    server: Arc<ServerConfig>,
}

thread_local! {
    static CONFIGS: Configs = Configs::read();
}

impl Configs {
    fn read() -> Self {
        let path = |name| format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"));
        let certificate = |name| CertificateDer::from_pem_file(path(name)).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(path("server.key")).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate("ca.pem")).expect("a root");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = |version: &'static SupportedProtocolVersion| {
            let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        Self {
            clients: [client(&TLS12), client(&TLS13)],
            server: Arc::new(
                ServerConfig::builder_with_provider(Arc::clone(&provider))
                    .with_safe_default_protocol_versions()
                    .expect("versions")
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate("server.pem")], key)
                    .expect("a certificate and its key"),
            ),
        }
    }
}

const MOST_STEPS: usize = 60;
/// In bytes: several records, few enough to be quick.
const MOST_SAID: usize = 512 * 1024;
/// What the end of a handshake may bring with it, in bytes.
const MOST_OF_A_HANDSHAKE: usize = 64 * 1024;
/// What may wait to be sent beside what was written: a handshake, alerts, tickets.
const SLACK: usize = 64 * 1024;
