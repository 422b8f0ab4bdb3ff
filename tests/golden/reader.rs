//! Scripts for a reader. Their grammar stands in `record.py`.

use std::cell::OnceCell;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use evloop::{
    EventLoop, Protocol, ReadError, StreamFeeder, StreamReader, StreamReaderProtocol, Transport,
    create_connection,
};

use crate::common::{listener, turns, within};
use crate::recording::{Kind, replay_all};
use crate::rules::{Fired, Rule};

#[test]
fn readers_do_what_asyncio_does() {
    replay_all(&Kind {
        name: "reader",
        live: false,
        split,
        replay,
    });
}

const ERROR_AFTER_WAKE: Rule = "data and an error in one turn leave a waiting `readline` hanging";
const LONG_LINE: Rule = "`readline` over the limit raises `ValueError` and drops data";
const READ_ALL: Rule = "`read(-1)` that is cancelled loses what it had collected";
const READ_ALL_FAILS: Rule = "`read(-1)` that fails loses what it had collected";
const READ_ALL_PAUSES: Rule = "`read(-1)` keeps what it has collected out of the buffer";

const AFTER_LOSS: Rule = "after a reset, bytes that had arrived cannot be read";

pub(crate) const RULES: &[Rule] = &[
    AFTER_LOSS,
    ERROR_AFTER_WAKE,
    LONG_LINE,
    READ_ALL,
    READ_ALL_FAILS,
    READ_ALL_PAUSES,
];

// ---------------------------------------------------------------------------------- grammar

/// What is done, and what was seen behind it.
#[derive(Debug)]
struct Step {
    act: Act,
    /// Calls of `pause_reading` and `resume_reading`, as the last one left it.
    reading: Option<bool>,
    refused: bool,
    end: Option<End>,
    /// So many bytes have left the buffer, and nobody got them.
    lost: usize,
}

#[derive(Debug)]
enum Act {
    Feed(Vec<u8>),
    FeedEof,
    SetException(u8),
    SetTransport,
    /// `connection_lost`, with the exception [`LOSS`] or with none.
    Lost(bool),
    Start(Call),
    Cancel,
    Turn,
}

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Read(usize),
    ReadAll,
    ReadExactly(usize),
    ReadLine,
    ReadUntil(Vec<u8>),
}

/// How a read ended there.
#[derive(Debug)]
enum End {
    /// The next so many bytes.
    Next(usize),
    Other(Vec<u8>),
    Incomplete(usize, Option<usize>),
    Overrun(usize, bool),
    LongLine(bool),
    BadSeparator,
    Exception(u8),
    Cancelled,
}

struct Text<'a>(&'a str);

impl Text<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.0.chars().next()?;
        self.0 = &self.0[1..];
        Some(c)
    }

    fn next_if(&mut self, wanted: &str) -> Option<char> {
        let c = self.0.chars().next()?;
        if !wanted.contains(c) {
            return None;
        }
        self.next()
    }

    fn number(&mut self) -> Option<usize> {
        let end = self.0.find(|c: char| !c.is_ascii_digit());
        let (digits, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        digits.parse().ok()
    }

    fn wanted(&mut self) -> usize {
        self.number().expect("a number")
    }

    fn runs(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        while let Some(letter) = self.next_if("abcn") {
            let byte = if letter == 'n' { b'\n' } else { letter as u8 };
            let count = self.number().unwrap_or(1);
            data.resize(data.len() + count, byte);
        }
        data
    }

    fn found(&mut self) -> bool {
        self.next() == Some('y')
    }

    fn step(&mut self) -> Option<Step> {
        let act = match self.next()? {
            'F' => Act::Feed(self.runs()),
            'E' => Act::FeedEof,
            'X' => Act::SetException(self.wanted() as u8),
            'S' => Act::SetTransport,
            'L' => Act::Lost(true),
            'D' => Act::Lost(false),
            'R' => Act::Start(Call::Read(self.wanted())),
            'A' => Act::Start(Call::ReadAll),
            'B' => Act::Start(Call::ReadExactly(self.wanted())),
            'N' => Act::Start(Call::ReadLine),
            'U' => Act::Start(Call::ReadUntil(self.runs())),
            'C' => Act::Cancel,
            'T' => Act::Turn,
            other => panic!("no step begins with {other:?}"),
        };
        let mut step = Step {
            act,
            reading: None,
            refused: false,
            end: None,
            lost: 0,
        };
        while let Some(seen) = self.next_if("-+!=\"?>vzxk#") {
            match seen {
                '-' => step.reading = Some(false),
                '+' => step.reading = Some(true),
                '!' => step.refused = true,
                '#' => step.lost = self.wanted(),
                '=' => step.end = Some(End::Next(self.wanted())),
                '"' => step.end = Some(End::Other(self.runs())),
                '?' => {
                    let partial = self.wanted();
                    self.next();
                    let expected = self.number();
                    if expected.is_none() {
                        self.next();
                    }
                    step.end = Some(End::Incomplete(partial, expected));
                }
                '>' => {
                    let consumed = self.wanted();
                    step.end = Some(End::Overrun(consumed, self.found()));
                }
                'v' => step.end = Some(End::LongLine(self.found())),
                'z' => step.end = Some(End::BadSeparator),
                'x' => step.end = Some(End::Exception(self.wanted() as u8)),
                _ => step.end = Some(End::Cancelled),
            }
        }
        Some(step)
    }
}

fn split(line: &str) -> (String, Vec<String>) {
    let (limit, rest) = line.split_once(':').expect("a limit");
    let mut text = Text(rest);
    let mut steps = Vec::new();
    loop {
        let before = text.0;
        if text.step().is_none() {
            return (format!("{limit}:"), steps);
        }
        steps.push(before[..before.len() - text.0.len()].to_owned());
    }
}

// ----------------------------------------------------------------------------------- replay

/// How a read ended here.
#[derive(Debug)]
enum Outcome {
    Ended(Result<Vec<u8>, ReadError>),
    Cancelled,
}

async fn perform(reader: &mut StreamReader, call: Call) -> Result<Vec<u8>, ReadError> {
    match call {
        Call::Read(n) => Ok(reader.read(n).await?),
        Call::ReadAll => reader.read_to_end(None).await,
        Call::ReadExactly(n) => reader.readexactly(n).await,
        Call::ReadLine => reader.readline().await,
        Call::ReadUntil(separator) => reader.readuntil(separator).await,
    }
}

type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, ReadError>> + 'a>>;

/// A read that is polled once a turn, if it was woken.
struct Pending<'a> {
    future: Option<Reading<'a>>,
    woken: Arc<Flag>,
    waker: Waker,
    /// It was polled before.
    waits: bool,
    /// It waits, and something was fed since.
    fed: bool,
    /// It waits, something was fed since, and then an error was set.
    then_failed: bool,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Pending<'a> {
    fn new(reader: &'a mut StreamReader, call: &Call) -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        Self {
            future: Some(Box::pin(perform(reader, call.clone()))),
            waker: Waker::from(Arc::clone(&woken)),
            woken,
            waits: false,
            fed: false,
            then_failed: false,
        }
    }

    fn turn(&mut self) -> Option<Outcome> {
        self.waits = true;
        self.fed = false;
        let Some(future) = &mut self.future else {
            return Some(Outcome::Cancelled);
        };
        if !self.woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
        match future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => Some(Outcome::Ended(result)),
            Poll::Pending => None,
        }
    }

    /// Something is about to happen to what it waits for.
    fn note(&mut self, act: &Act) {
        let wakes = match act {
            Act::Feed(data) => !data.is_empty(),
            Act::FeedEof | Act::Lost(false) => true,
            Act::SetException(_) | Act::Lost(true) => {
                self.then_failed |= self.fed;
                true
            }
            _ => false,
        };
        self.fed |= wakes && self.waits;
    }
}

/// What a script has come to, beside the reader itself.
struct Scene<'a> {
    limit: usize,
    feeder: StreamFeeder,
    protocol: StreamReaderProtocol,
    transport: &'a Transport,
    /// Whether asyncio's transport would read now.
    reading: bool,
    fed: Vec<u8>,
    /// So much of it has left asyncio's buffer.
    taken: usize,
    /// So much more of it is in ours.
    kept: usize,
    exception: Option<u8>,
    /// A `read(-1)` may have filled our buffer, and not asyncio's.
    collecting: bool,
    fired: &'a mut Fired,
}

/// Whether what follows can be compared.
#[derive(PartialEq)]
enum Go {
    On,
    Stop,
}

type Compared = Result<Go, String>;

impl Scene<'_> {
    /// A step that is no turn and starts nothing.
    fn act(&mut self, step: &Step) -> Result<(), String> {
        match &step.act {
            Act::Feed(data) => {
                let refused = self.feeder.feed_data(data).is_err();
                same("refused", &refused, &step.refused)?;
                if !refused {
                    self.fed.extend(data);
                }
            }
            Act::FeedEof => self.feeder.feed_eof(),
            Act::SetException(k) => {
                self.feeder.set_exception(io::Error::other(trouble(*k)));
                self.exception = Some(*k);
            }
            Act::SetTransport => {
                let refused = self.feeder.set_transport(self.transport.clone()).is_err();
                same("refused", &refused, &step.refused)?;
            }
            Act::Lost(broken) => {
                let error = broken.then(|| Arc::new(io::Error::other(trouble(LOSS))));
                self.protocol.connection_lost(error);
                if *broken {
                    self.exception = Some(LOSS);
                }
            }
            Act::Start(_) | Act::Cancel | Act::Turn => {}
        }
        Ok(())
    }

    fn look(&mut self, step: &Step) -> Result<(), String> {
        self.reading = step.reading.unwrap_or(self.reading);
        let reading = self.transport.is_reading();
        if (self.collecting || self.kept > 0) && !reading && self.reading {
            self.fired.note(READ_ALL_PAUSES);
            return Ok(());
        }
        same("is_reading", &reading, &self.reading)
    }

    /// The reader is free: what is left in it?
    fn look_inside(&mut self, reader: &StreamReader, step: &Step) -> Result<(), String> {
        self.taken += step.lost;
        let expected = self.fed.len() - self.taken + self.kept;
        same("bytes left", &buffered(reader), &expected)?;
        self.look(step)
    }

    /// A turn has passed, and a read was waiting or has begun.
    fn judge(
        &mut self,
        reader: &mut StreamReader,
        (call, then_failed): (&Call, bool),
        outcome: Option<Outcome>,
        step: &Step,
    ) -> Compared {
        if then_failed && self.has_failed(outcome.as_ref()) {
            let there = matches!(step.end, Some(End::Exception(k)) if Some(k) == self.exception);
            if !there {
                // There the error is lost, or comes with the next read, or another one came.
                self.fired.note(ERROR_AFTER_WAKE);
                return Ok(Go::Stop);
            }
        }
        let untouched = self.fed.len() - self.taken + self.kept;
        match (&step.end, &outcome) {
            (None, None) => {}
            (Some(End::Cancelled), Some(Outcome::Cancelled)) => {
                if step.lost > 0 && *call == Call::ReadAll {
                    same("bytes left", &buffered(reader), &untouched)?;
                    self.fired.note(READ_ALL);
                    match self.exception {
                        None => self.drop_bytes(reader, step.lost)?,
                        // No read gets at them any more.
                        Some(_) => self.kept += step.lost,
                    }
                }
            }
            (Some(End::LongLine(there)), Some(Outcome::Ended(result))) => {
                let Err(ReadError::LimitOverrun(error)) = result else {
                    return differ(step, &outcome);
                };
                same("found", &error.found, there)?;
                same("limit", &error.limit, &self.limit)?;
                same("bytes left", &buffered(reader), &untouched)?;
                self.fired.note(LONG_LINE);
                self.drop_bytes(reader, step.lost)?;
            }
            (Some(End::Exception(LOSS)), Some(Outcome::Ended(result)))
                if !self.has_failed(outcome.as_ref()) =>
            {
                if !self.is_left(call, result) {
                    return differ(step, &outcome);
                }
                self.fired.note(AFTER_LOSS);
                return Ok(Go::Stop);
            }
            (Some(there), Some(Outcome::Ended(here))) => {
                if !self.is_same(there, here) {
                    return differ(step, &outcome);
                }
                if matches!(there, End::Exception(_)) && *call == Call::ReadAll && step.lost > 0 {
                    self.fired.note(READ_ALL_FAILS);
                    self.kept += step.lost;
                }
            }
            _ => return differ(step, &outcome),
        }
        Ok(Go::On)
    }

    fn has_failed(&self, outcome: Option<&Outcome>) -> bool {
        let Some(Outcome::Ended(Err(ReadError::Io(error)))) = outcome else {
            return false;
        };
        self.exception
            .is_some_and(|k| error.to_string() == trouble(k))
    }

    fn is_same(&mut self, there: &End, here: &Result<Vec<u8>, ReadError>) -> bool {
        match (there, here) {
            (&End::Next(n), Ok(value)) => self.take(n) == value,
            (End::Other(bytes), Ok(value)) => bytes == value,
            (&End::Incomplete(n, expected), Err(ReadError::Incomplete(error))) => {
                error.expected == expected && self.take(n) == error.partial
            }
            (&End::Overrun(consumed, found), Err(ReadError::LimitOverrun(error))) => {
                (error.consumed, error.found, error.limit) == (consumed, found, self.limit)
            }
            (End::BadSeparator, Err(ReadError::Io(error))) => {
                error.kind() == io::ErrorKind::InvalidInput
            }
            (&End::Exception(k), Err(ReadError::Io(error))) => error.to_string() == trouble(k),
            _ => false,
        }
    }

    /// Whether this is what was left to read when the connection was lost.
    fn is_left(&self, call: &Call, here: &Result<Vec<u8>, ReadError>) -> bool {
        let left = &self.fed[self.taken - self.kept..];
        let separated = |separator: &[u8]| {
            let at = left.windows(separator.len()).position(|w| w == separator);
            at.map(|at| at + separator.len())
        };
        let until = match call {
            Call::ReadLine => separated(b"\n"),
            Call::ReadUntil(separator) => separated(separator),
            Call::Read(n) if *n > 0 && left.is_empty() => None,
            Call::Read(n) => Some(left.len().min(*n)),
            Call::ReadExactly(n) => Some(*n),
            Call::ReadAll => None,
        };
        match here {
            Ok(value) => until == Some(value.len()) && left.starts_with(value),
            Err(ReadError::LimitOverrun(error)) => {
                error.found == until.is_some() && error.consumed > self.limit
            }
            Err(_) => false,
        }
    }

    /// What asyncio's reader has returned.
    fn take(&mut self, n: usize) -> &[u8] {
        self.taken += n;
        &self.fed[self.taken - n..self.taken]
    }

    /// What asyncio drops and we keep is dropped here, so that both go on with the same bytes.
    fn drop_bytes(&mut self, reader: &mut StreamReader, n: usize) -> Result<(), String> {
        match at_once(reader, Call::ReadExactly(n)) {
            Some(Ok(value)) if value == self.fed[self.taken..self.taken + n] => Ok(()),
            other => Err(format!("the bytes kept are not there: {other:?}")),
        }
    }
}

fn trouble(k: u8) -> String {
    format!("trouble {k}")
}

fn same<T: PartialEq + Debug>(what: &str, here: &T, there: &T) -> Result<(), String> {
    match here == there {
        true => Ok(()),
        false => Err(format!("{what}: asyncio {there:?}, we {here:?}")),
    }
}

fn differ(step: &Step, outcome: &Option<Outcome>) -> Compared {
    Err(format!("asyncio {:?}, we {outcome:?}", step.end))
}

/// How many bytes a reader holds: it says so when it is printed.
fn buffered(reader: &StreamReader) -> usize {
    let text = format!("{reader:?}");
    let (_, rest) = text.split_once("bytes: ").expect("a number of bytes");
    Text(rest).wanted()
}

fn at_once(reader: &mut StreamReader, call: Call) -> Option<Result<Vec<u8>, ReadError>> {
    let future = std::pin::pin!(perform(reader, call));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

async fn run(line: &str, transport: &Transport, fired: &mut Fired) -> Result<(), String> {
    let (limit, rest) = line.split_once(':').expect("a limit");
    let limit = limit.parse().expect("a limit");
    let mut text = Text(rest);
    let mut steps = std::iter::from_fn(|| text.step()).enumerate();
    let reader = StreamReader::with_limit(limit).expect("a limit above 0");
    let feeder = reader.feeder();
    let mut protocol = StreamReaderProtocol::new(reader, None);
    let mut reader = protocol.take_reader().expect("a reader");
    let mut scene = Scene {
        limit,
        feeder,
        protocol,
        transport,
        reading: true,
        fed: Vec::new(),
        taken: 0,
        kept: 0,
        exception: None,
        collecting: false,
        fired,
    };
    while let Some((number, step)) = steps.next() {
        let at = |number: usize| move |difference| format!("step {number}: {difference}");
        let Act::Start(call) = &step.act else {
            scene.act(&step).map_err(at(number))?;
            if matches!(step.act, Act::Turn) {
                turns(1).await;
            }
            scene.look_inside(&reader, &step).map_err(at(number))?;
            continue;
        };
        scene.look(&step).map_err(at(number))?;
        if *call == Call::ReadAll {
            scene.collecting = true;
        }
        let mut pending = Pending::new(&mut reader, call);
        let ended = loop {
            let Some((number, step)) = steps.next() else {
                break None;
            };
            pending.note(&step.act);
            scene.act(&step).map_err(at(number))?;
            let mut outcome = None;
            match step.act {
                Act::Turn => {
                    turns(1).await;
                    outcome = pending.turn();
                }
                Act::Cancel => pending.future = None,
                _ => {}
            }
            if outcome.is_some() || step.end.is_some() {
                break Some((number, step, outcome));
            }
            scene.look(&step).map_err(at(number))?;
        };
        let then_failed = pending.then_failed;
        drop(pending);
        let Some((number, step, outcome)) = ended else {
            break;
        };
        let call = (call, then_failed);
        if scene
            .judge(&mut reader, call, outcome, &step)
            .map_err(at(number))?
            == Go::Stop
        {
            return Ok(());
        }
        scene.look_inside(&reader, &step).map_err(at(number))?;
        scene.collecting &= scene.transport.is_reading() != scene.reading;
    }
    let exception = reader.exception().map(|error| error.to_string());
    same("exception", &exception, &scene.exception.map(trouble))?;
    if exception.is_none() && buffered(&reader) > 0 {
        let left = at_once(&mut reader, Call::Read(usize::MAX));
        let bytes = left.and_then(Result::ok).unwrap_or_default();
        same(
            "what is left",
            &bytes.as_slice(),
            &&scene.fed[scene.taken..],
        )?;
    }
    Ok(())
}

/// The loop and the transport that all scripts share. A reader that is gone resumes it.
struct Stage {
    event_loop: EventLoop,
    transport: Transport,
    _peer: TcpStream,
}

struct Idle;

impl Protocol for Idle {}

thread_local! {
    static STAGE: OnceCell<std::cell::RefCell<Stage>> = const { OnceCell::new() };
}

fn replay(line: &str, fired: &mut Fired) -> Result<(), String> {
    STAGE.with(|stage| {
        let stage = stage.get_or_init(|| {
            let mut event_loop = EventLoop::new().expect("a loop");
            let (listener, address) = listener();
            let connecting = create_connection(|| Idle, address);
            let (transport, _) = event_loop
                .run_until_complete(async {
                    within("a connection", connecting.into_future()).await
                })
                .expect("a connection");
            let (peer, _) = listener.accept().expect("a connection");
            std::cell::RefCell::new(Stage {
                event_loop,
                transport,
                _peer: peer,
            })
        });
        let mut stage = stage.borrow_mut();
        let transport = stage.transport.clone();
        stage
            .event_loop
            .run_until_complete(run(line, &transport, fired))
    })
}

/// The exception with which a connection is lost.
const LOSS: u8 = 4;
