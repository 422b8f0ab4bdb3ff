//! Scripts for two ends of a connection. Their grammar stands in `record.py`.
//!
//! Each script is done by CPython with CPython, and then by us with the same peer.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use evloop::{
    EventLoop, Protocol, StreamReader, StreamWriter, Transport, create_connection, open_connection,
};

use crate::common::{peers, within};
use crate::recording::{Kind, replay_all};
use crate::rules::{Fired, Rule};
use crate::shrink::RECORDER;

#[test]
fn a_connection_does_what_asyncio_does() {
    if !peers::require("python3", "python3") {
        return;
    }
    replay_all(&Kind {
        name: "connections",
        live: true,
        split,
        replay,
    });
}

const EOF_AGAIN: Rule = "`eof_received` comes again after a pause and a resume";
const RESET_AFTER_EOF: Rule = "a reset after the peer's end shows in a later write, or never";

const RAISES_AFTER_LOSS: Rule =
    "`write` and `abort` raise `AttributeError` once a `close` that had to wait is over";
const EOF_RAISES: Rule = "`write_eof` raises when the peer has reset the connection";

pub(crate) const RULES: &[Rule] = &[EOF_AGAIN, RESET_AFTER_EOF, RAISES_AFTER_LOSS, EOF_RAISES];

// ---------------------------------------------------------------------------------- grammar

fn split(line: &str) -> (String, Vec<String>) {
    let (head, rest) = line.split_once(':').unwrap_or_default();
    let steps = rest.split_inclusive(')').map(str::to_owned);
    (format!("{head}:"), steps.collect())
}

/// What is done, and what was seen.
struct Step<'a> {
    act: &'a str,
    events: &'a str,
    flags: &'a str,
    /// What the peer has seen, if that is new.
    peer: &'a str,
}

fn steps(text: &str) -> impl Iterator<Item = Step<'_>> {
    let steps = text.split(')').filter(|step| !step.is_empty());
    steps.map(|step| {
        let (act, seen) = step.split_once('(').expect("what was seen");
        let mut seen = seen.split('|');
        let mut next = || seen.next().expect("three parts");
        Step {
            act,
            events: next(),
            flags: next(),
            peer: next(),
        }
    })
}

/// Bytes of one direction, from number `start` on: what `record.py` calls a stretch.
fn stretch(start: usize, count: usize) -> Vec<u8> {
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..1 << 16).map(|i| (i * 7 + i / 251) as u8).collect());
    let mut bytes = Vec::with_capacity(count);
    let mut at = start % PATTERN.len();
    while bytes.len() < count {
        let end = PATTERN.len().min(at + count - bytes.len());
        bytes.extend_from_slice(&PATTERN[at..end]);
        at = 0;
    }
    bytes
}

// ----------------------------------------------------------------------------------- replay

/// What a protocol has seen.
#[derive(Default)]
struct Seen {
    events: RefCell<Vec<String>>,
    received: Cell<usize>,
    eof: Cell<bool>,
    lost: Cell<bool>,
    paused: Cell<bool>,
}

impl Seen {
    fn say(&self, event: impl Into<String>) {
        self.events.borrow_mut().push(event.into());
    }

    fn alternate(&self, paused: bool) {
        if self.paused.replace(paused) == paused {
            self.say("X");
        }
    }

    fn story(&self) -> String {
        self.events.borrow().concat()
    }
}

struct End {
    keep: bool,
    seen: Rc<Seen>,
}

impl Protocol for End {
    fn data_received(&mut self, data: &[u8]) {
        let seen = &self.seen;
        let before = seen.received.get();
        if seen.eof.get() || data != stretch(before, data.len()) {
            seen.say("X");
        }
        seen.received.set(before + data.len());
        let mut n = data.len();
        let last = seen.events.borrow_mut().pop();
        match last.as_deref().map(|last| (last, last.strip_prefix('d'))) {
            Some((_, Some(number))) => n += number.parse::<usize>().expect("a number"),
            Some((other, None)) => seen.say(other),
            None => {}
        }
        seen.say(format!("d{n}"));
    }

    fn eof_received(&mut self) -> bool {
        self.seen.eof.set(true);
        self.seen.say("e");
        self.keep
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        self.seen.lost.set(true);
        self.seen.say(match exc.map(|error| error.kind()) {
            None => "l-",
            Some(io::ErrorKind::ConnectionReset) => "lR",
            Some(io::ErrorKind::BrokenPipe) => "lB",
            Some(io::ErrorKind::ConnectionAborted) => "lA",
            Some(_) => "lO",
        });
    }

    fn pause_writing(&mut self) {
        self.seen.alternate(true);
    }

    fn resume_writing(&mut self) {
        self.seen.alternate(false);
    }
}

/// The peer's process, and the way to it.
struct Stage {
    reader: StreamReader,
    writer: StreamWriter,
    port: u16,
    _child: peers::Child,
}

impl Stage {
    async fn new() -> Self {
        let args = ["-B", RECORDER, "--peer"].map(std::ffi::OsStr::new);
        let mut child = peers::Child::spawn("python3", &args);
        let line = child.first_line().await;
        let (port, control) = line.split_once(' ').expect("two ports");
        let control: u16 = control.parse().expect("a port");
        let (reader, writer) = open_connection(("127.0.0.1", control))
            .await
            .expect("the peer to be there");
        Self {
            reader,
            writer,
            port: port.parse().expect("a port"),
            _child: child,
        }
    }

    async fn ask(&mut self, command: &str) -> String {
        self.writer.write(format!("{command}\n").as_bytes());
        let answer = within("the peer's answer", self.reader.readline())
            .await
            .expect("an answer");
        assert!(!answer.is_empty(), "the peer is gone");
        String::from_utf8(answer).expect("text").trim().to_owned()
    }

    /// Gives what has to come the time of a message there and back.
    async fn look(&mut self) -> String {
        self.ask("state 0 0").await
    }
}

struct Scene {
    transport: Transport,
    seen: Rc<Seen>,
    sent: usize,
}

impl Scene {
    fn act(&mut self, act: &str) {
        let transport = &self.transport;
        match act.split_at(1) {
            ("w", n) => self.write(n.parse().expect("a number")),
            ("l", _) => self.write(LARGE),
            ("p", _) => transport.pause_reading(),
            ("q", _) => transport.resume_reading(),
            ("e", _) => transport.write_eof().expect("a socket has an end"),
            ("c", _) => transport.close(),
            ("a", _) => transport.abort(),
            (other, _) => panic!("no act begins with {other}"),
        }
    }

    fn write(&mut self, n: usize) {
        self.transport.write(stretch(self.sent, n));
        self.sent += n;
    }

    fn flags(&self) -> String {
        let transport = &self.transport;
        [
            ("C", transport.is_closing()),
            ("P", !transport.is_reading()),
            ("B", transport.get_write_buffer_size() > 0),
        ]
        .iter()
        .filter_map(|&(name, value)| value.then_some(name))
        .collect()
    }
}

async fn run(line: &str, stage: &mut Stage, fired: &mut Fired) -> Result<(), String> {
    if line.is_empty() {
        return Err("asyncio waits for what does not come".to_owned());
    }
    let (keeps, rest) = line.split_once(':').expect("two flags");
    let keep = keeps.starts_with('1');
    stage.ask(&format!("open {}", &keeps[1..])).await;
    let seen = Rc::new(Seen::default());
    let its = Rc::clone(&seen);
    let factory = move || End { keep, seen: its };
    let (transport, _) = create_connection(factory, ("127.0.0.1", stage.port))
        .await
        .expect("a connection");
    stage.ask("made").await;
    let mut scene = Scene {
        transport,
        seen: Rc::clone(&seen),
        sent: 0,
    };
    let mut outcome = Ok(());
    for (number, step) in steps(rest).enumerate() {
        match do_step(&mut scene, &step, stage, fired).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(difference) => {
                outcome = Err(format!("step {number}, {}: {difference}", step.act));
                break;
            }
        }
    }
    stage.ask("over").await;
    scene.transport.abort();
    let begin = Instant::now();
    while !seen.lost.get() {
        assert!(begin.elapsed() < PATIENCE, "abort does not end it: {line}");
        stage.look().await;
    }
    outcome
}

/// False if what follows cannot be compared.
async fn do_step(
    scene: &mut Scene,
    step: &Step<'_>,
    stage: &mut Stage,
    fired: &mut Fired,
) -> Result<bool, String> {
    let (had_ended, was_lost) = (scene.seen.eof.get(), scene.seen.lost.get());
    let peer_was_gone = stage.look().await.split(' ').nth(1) == Some("g");
    let begin = Instant::now();
    if step.act == "d" {
        while scene.seen.paused.get() && !scene.seen.lost.get() {
            stage.look().await;
            if begin.elapsed() > PATIENCE {
                return Err("writing is not resumed".to_owned());
            }
        }
    } else if step.act.starts_with(|c: char| c.is_ascii_uppercase()) {
        stage.ask(&format!("do {}", step.act)).await;
    } else {
        scene.act(step.act);
    }
    let mut there = step.events;
    if step.act == "q" && had_ended && there.starts_with('e') {
        fired.note(EOF_AGAIN);
        there = &there[1..];
    }
    if let Some(rest) = there.strip_prefix('!') {
        match &step.act[..1] {
            "a" | "w" | "l" if was_lost => fired.note(RAISES_AFTER_LOSS),
            "e" if !was_lost => fired.note(EOF_RAISES),
            _ => return Err("asyncio raises".to_owned()),
        }
        there = rest;
    }
    let mut twice = false;
    loop {
        let here = (scene.seen.story(), scene.flags());
        let may_reset = peer_was_gone || ["C", "A", "R"].contains(&step.act);
        if may_reset && had_ended && !there.contains('l') && ["lB", "lR"].contains(&here.0.as_str())
        {
            fired.note(RESET_AFTER_EOF);
            return Ok(false);
        }
        let peer = stage.look().await;
        let peer = peer.split(' ').next().unwrap_or_default();
        let same = (here.0.as_str(), here.1.as_str()) == (there, step.flags);
        if same && (step.peer.is_empty() || step.peer == peer) {
            if twice {
                scene.seen.events.borrow_mut().clear();
                return Ok(true);
            }
            // What should not come has its time to come.
            twice = true;
        } else {
            twice = false;
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!(
                "asyncio ({there}|{}|{}), we ({}|{}|{peer})",
                step.flags, step.peer, here.0, here.1
            ));
        }
    }
}

thread_local! {
    static STAGE: RefCell<Option<(Stage, EventLoop)>> = const { RefCell::new(None) };
}

fn replay(line: &str, fired: &mut Fired) -> Result<(), String> {
    STAGE.with_borrow_mut(|stage| {
        let (stage, event_loop) = stage.get_or_insert_with(|| {
            let mut event_loop = EventLoop::new().expect("a loop");
            (event_loop.run_until_complete(Stage::new()), event_loop)
        });
        event_loop.run_until_complete(run(line, stage, fired))
    })
}

const LARGE: usize = 6 << 20;
/// What has come after no such time does not come any more.
const PATIENCE: Duration = Duration::from_secs(5);
