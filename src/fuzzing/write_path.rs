//! Writes, and a system that takes what it likes.
//!
//! Owns: the target of the write path, and its model: a count of what was written. Why: what is
//! unsent is in one of four places, and the protocol is told of it late. Invariants: what goes out
//! is what was written, in order, and nothing behind the end; the size that is told is right;
//! `pause_writing` and `resume_writing` alternate and fit the marks when the loop is at rest; a
//! connection that is closed sends everything and ends once. asyncio's counterpart: none.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::fuzzing::script::Script;
use crate::fuzzing::stage::{Stage, Wire};
use crate::transports::{Connection, Protocol, Transport};

/// Writes by a script, on a connection that takes by the same script, and compares.
pub fn write_path(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut play = Play::new();
    for _ in 0..MOST_STEPS {
        if script.is_over() {
            break;
        }
        play.step(&mut script);
    }
    play.finish();
}

struct Play {
    stage: Stage,
    wire: Rc<Wire>,
    transport: Transport,
    seen: Rc<Seen>,
    model: Rc<Model>,
}

/// What the protocol was told.
#[derive(Default)]
struct Seen {
    paused: Cell<bool>,
    lost: Cell<bool>,
}

/// What must come of it.
#[derive(Default)]
struct Model {
    /// Accepted by `write`, in bytes.
    written: Cell<usize>,
    /// Taken by the system.
    sent: Cell<usize>,
    /// Nothing more is accepted.
    ended: Cell<bool>,
    /// What is unsent is lost.
    cut_off: Cell<bool>,
}

enum Op {
    Write(usize),
    WriteOwned(usize),
    WriteLines([usize; 3]),
    WriteEof,
    Limits(Option<usize>, Option<usize>),
    Close,
    Abort,
}

impl Play {
    fn new() -> Self {
        let mut stage = Stage::new();
        let (parts, wire) = stage.wire();
        let seen = Rc::new(Seen::default());
        let protocol = Rc::new(RefCell::new(Told(Rc::clone(&seen))));
        let transport = Connection::start(&stage.event_loop, parts, protocol);
        stage.turns(2);
        Self {
            stage,
            wire,
            transport,
            seen,
            model: Rc::default(),
        }
    }

    /// What happens between two rests of the loop: calls in one step or several, and what the
    /// system does meanwhile.
    fn step(&mut self, script: &mut Script<'_>) {
        for _ in 0..1 + script.byte() % 4 {
            match script.byte() % 16 {
                0 => self.wire.give_room(script.size()),
                1 => self.wire.give_room(0),
                2 => self.wire.give_room(usize::MAX),
                3 => self.wire.nudge(),
                4 => self.stage.turn(),
                5 => {
                    // Seldom, or little is tried.
                    if script.byte() == 255 {
                        self.wire.break_off();
                        self.model.cut_off.set(true);
                    }
                }
                _ => {
                    let n = 1 + script.byte() % 4;
                    let ops: Vec<Op> = (0..n).map(|_| Op::next(script)).collect();
                    let (transport, model) = (self.transport.clone(), Rc::clone(&self.model));
                    let wire = Rc::clone(&self.wire);
                    drop(self.stage.event_loop.call_soon(move || {
                        for op in &ops {
                            op.run(&transport, &model);
                            model.look(&wire, &transport);
                        }
                    }));
                }
            }
        }
        self.rest(8);
    }

    fn rest(&mut self, turns: usize) {
        self.stage.turns(turns);
        self.model.look(&self.wire, &self.transport);
        if self.seen.lost.get() || self.transport.is_closing() || self.model.cut_off.get() {
            return;
        }
        let (low, high) = self.transport.get_write_buffer_limits();
        let size = self.model.unsent();
        let paused = self.seen.paused.get();
        assert!(paused || size <= high, "{size} bytes of {high}: not paused");
        assert!(!paused || size > low, "{size} bytes of {low}: paused");
    }

    /// The system takes everything, and everything has its end.
    fn finish(mut self) {
        self.wire.give_room(usize::MAX);
        self.rest(8);
        let (model, wire) = (&self.model, &self.wire);
        if !model.cut_off.get() {
            assert_eq!(
                model.sent.get(),
                model.written.get(),
                "not everything is sent"
            );
            let ended = model.ended.get() && !self.transport.is_closing();
            assert!(wire.is_shut() || !ended, "the end is not said");
        }
        self.transport.close();
        wire.end();
        self.stage.turns(8);
        assert!(self.seen.lost.get(), "the connection has no end");
        assert!(self.wire.is_closed(), "the socket is open");
    }
}

impl Op {
    fn next(script: &mut Script<'_>) -> Self {
        match script.byte() % 16 {
            0..5 => Self::Write(script.size()),
            5..9 => Self::WriteOwned(script.size()),
            9..11 => Self::WriteLines([script.size(), script.size(), script.size()]),
            11 => Self::Limits(Some(script.size()), None),
            12 => Self::Limits(Some(script.size()), Some(script.size())),
            13 => Self::Limits(None, Some(script.size())),
            _ => match script.byte() {
                0..64 => Self::WriteEof,
                64..96 => Self::Close,
                96..104 => Self::Abort,
                _ => Self::Write(1),
            },
        }
    }

    fn run(&self, transport: &Transport, model: &Model) {
        if model.written.get() > MOST_WRITTEN {
            return;
        }
        let accepts = !model.ended.get();
        match *self {
            Self::Write(n) if accepts => transport.write(&*model.next_bytes(transport, n)),
            Self::WriteOwned(n) if accepts => transport.write(model.next_bytes(transport, n)),
            Self::WriteLines(sizes) if accepts => {
                transport.writelines(sizes.map(|n| model.next_bytes(transport, n)));
            }
            Self::Write(_) | Self::WriteOwned(_) | Self::WriteLines(_) => {}
            Self::WriteEof => {
                let done = transport.write_eof();
                model.ended.set(model.ended.get() || done.is_ok());
            }
            Self::Limits(high, low) => drop(transport.set_write_buffer_limits(high, low)),
            Self::Close => {
                transport.close();
                model.ended.set(true);
            }
            Self::Abort => {
                transport.abort();
                model.ended.set(true);
                model.cut_off.set(true);
            }
        }
    }
}

impl Model {
    /// The bytes that are written next. Behind a loss they count for nothing.
    fn next_bytes(&self, transport: &Transport, n: usize) -> Vec<u8> {
        let from = self.written.get();
        if !(transport.is_closing() || self.cut_off.get()) {
            self.written.set(from + n);
        }
        (from..from + n).map(pattern).collect()
    }

    fn unsent(&self) -> usize {
        self.written.get() - self.sent.get()
    }

    /// Compares what went out, and what the transport says of it.
    fn look(&self, wire: &Wire, transport: &Transport) {
        let told = transport.get_write_buffer_size();
        let out = wire.take_outgoing();
        let from = self.sent.get();
        assert!(from + out.len() <= self.written.get(), "more than written");
        for (i, &byte) in out.iter().enumerate() {
            assert_eq!(byte, pattern(from + i), "byte {} is wrong", from + i);
        }
        self.sent.set(from + out.len());
        if !self.cut_off.get() {
            assert_eq!(told, self.unsent(), "the size of the write buffer");
        }
    }
}

/// No two places within 64 KiB are alike in their neighbourhood.
fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8).wrapping_mul(7)) as u8
}

struct Told(Rc<Seen>);

impl Protocol for Told {
    fn pause_writing(&mut self) {
        assert!(!self.0.paused.replace(true), "paused twice");
        assert!(!self.0.lost.get(), "paused behind the end");
    }

    fn resume_writing(&mut self) {
        assert!(self.0.paused.replace(false), "resumed twice");
        assert!(!self.0.lost.get(), "resumed behind the end");
    }

    fn eof_received(&mut self) -> bool {
        true
    }

    fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
        assert!(!self.0.lost.replace(true), "lost twice");
    }
}

const MOST_STEPS: usize = 200;
/// In bytes: enough for many turns, too little to be slow.
const MOST_WRITTEN: usize = 4 << 20;
