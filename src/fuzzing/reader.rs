//! A stream's reader against a naive one.
//!
//! Owns: the target of the reader, and its model: a vector that is searched from its beginning each
//! time. Why: the real one remembers how far it has searched, and hands out its storage.
//! Invariants: each read gives what the model gives, whatever the splits in which bytes come, and
//! whether it waited for them; a read that is dropped takes nothing. asyncio's counterpart:
//! `StreamReader`, as its documentation has it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::fuzzing::script::Script;
use crate::fuzzing::stage::Stage;
use crate::streams::{ReadError, StreamFeeder, StreamReader};

/// Feeds and reads by a script, and compares.
pub fn reader(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let limit = 1 + usize::from(script.byte() % 64);
    let Ok(mut reader) = StreamReader::with_limit(limit) else {
        unreachable!("the limit is not zero");
    };
    let feeder = reader.feeder();
    let mut model = Model {
        limit,
        ..Model::default()
    };
    let mut stage = Stage::new();
    stage.event_loop.run_until_complete(async {
        while !script.is_over() {
            step(&mut reader, &feeder, &mut model, &mut script).await;
            assert_eq!(
                reader.at_eof(),
                model.eof && model.buffer.is_empty(),
                "at_eof"
            );
        }
    });
    stage.turn();
}

#[derive(Default)]
struct Model {
    limit: usize,
    buffer: Vec<u8>,
    eof: bool,
    broken: bool,
}

/// What a read gives, so that it can be compared. `None`: it waits.
type Answer = Option<Result<Vec<u8>, Refusal>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    Incomplete(Vec<u8>, Option<usize>),
    Overrun(usize, bool),
    Broken,
}

async fn step(
    reader: &mut StreamReader,
    feeder: &StreamFeeder,
    model: &mut Model,
    script: &mut Script<'_>,
) {
    let size = |script: &mut Script<'_>| usize::from(script.byte() % 40);
    match script.byte() % 12 {
        0..4 => feed(feeder, model, script),
        4 => {
            let n = size(script);
            let read = async { given(reader.read(n).await) };
            compare(read, feeder, model, script, |model| model.read(n)).await;
        }
        5 => {
            let n = size(script);
            let read = async {
                let mut buffer = vec![0; n];
                let got = given(reader.read_into(&mut buffer).await.map(|_| Vec::new()));
                got.map(|_| buffer)
            };
            let expected = |model: &mut Model| {
                let mut answer = model.read(n);
                if let Some(Ok(bytes)) = &mut answer {
                    bytes.resize(n, 0);
                }
                answer
            };
            compare(read, feeder, model, script, expected).await;
        }
        6 => {
            let read = async { refused(reader.readline().await) };
            compare(read, feeder, model, script, |model| {
                match model.until(&[b"\n"]) {
                    Some(Err(Refusal::Incomplete(partial, _))) => Some(Ok(partial)),
                    answer => answer,
                }
            })
            .await;
        }
        7..9 => {
            let sought = SEPARATORS[usize::from(script.byte()) % SEPARATORS.len()];
            let read = async { refused(reader.readuntil(sought).await) };
            compare(read, feeder, model, script, |model| model.until(sought)).await;
        }
        9 => {
            let n = size(script);
            let read = async { refused(reader.readexactly(n).await) };
            compare(read, feeder, model, script, |model| model.exactly(n)).await;
        }
        10 => {
            let cap = size(script);
            let cap = (cap > 0).then_some(cap);
            let read = async { refused(reader.read_to_end(cap).await) };
            compare(read, feeder, model, script, |model| model.until_end(cap)).await;
        }
        _ => match script.byte() {
            0..16 => {
                feeder.feed_eof();
                model.eof = true;
            }
            16..20 => {
                feeder.set_exception(io::Error::from(io::ErrorKind::ConnectionReset));
                model.broken = true;
            }
            _ => {
                let mut skipped = 0;
                let read = async { given(reader.skip_line().await.map(|n| vec![0; n])) };
                compare(read, feeder, model, script, |model| {
                    model.skip_line(&mut skipped)
                })
                .await;
            }
        },
    }
}

fn feed(feeder: &StreamFeeder, model: &mut Model, script: &mut Script<'_>) {
    let n = usize::from(script.byte() % 48);
    // Few different bytes, so that separators are found, and found in part.
    let bytes: Vec<u8> = script
        .bytes(n)
        .iter()
        .map(|byte| b"a-\r\nb;-\n"[usize::from(byte % 8)])
        .collect();
    let fed = feeder.feed_data(&bytes);
    assert_eq!(fed.is_err(), model.eof, "feed_data behind the end");
    if fed.is_ok() {
        model.buffer.extend(bytes);
    }
}

/// Polls a read, feeds while it waits, and drops it if it still waits then.
async fn compare(
    read: impl Future<Output = Result<Vec<u8>, Refusal>>,
    feeder: &StreamFeeder,
    model: &mut Model,
    script: &mut Script<'_>,
    mut expected: impl FnMut(&mut Model) -> Answer,
) {
    let mut read = pin!(read);
    // A step has a budget of awaits; a turn of the loop is a new step.
    give_way().await;
    for feeds in 0..4 {
        let answer = poll_once(read.as_mut()).await;
        assert_eq!(answer, expected(model), "behind {feeds} feeds");
        if answer.is_some() || script.byte() % 2 == 0 {
            return;
        }
        feed(feeder, model, script);
    }
}

async fn poll_once(mut read: Pin<&mut impl Future<Output = Result<Vec<u8>, Refusal>>>) -> Answer {
    poll_fn(|cx| match read.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn given(outcome: io::Result<Vec<u8>>) -> Result<Vec<u8>, Refusal> {
    outcome.map_err(|_| Refusal::Broken)
}

fn refused(outcome: Result<Vec<u8>, ReadError>) -> Result<Vec<u8>, Refusal> {
    outcome.map_err(|error| match error {
        ReadError::Incomplete(error) => Refusal::Incomplete(error.partial, error.expected),
        ReadError::LimitOverrun(error) => Refusal::Overrun(error.consumed, error.found),
        _ => Refusal::Broken,
    })
}

impl Model {
    fn take(&mut self, n: usize) -> Vec<u8> {
        self.buffer.drain(..n.min(self.buffer.len())).collect()
    }

    fn at_end(&mut self, expected: Option<usize>) -> Answer {
        self.eof
            .then(|| Err(Refusal::Incomplete(self.take(usize::MAX), expected)))
    }

    fn read(&mut self, n: usize) -> Answer {
        if self.broken {
            return Some(Err(Refusal::Broken));
        }
        let some = !self.buffer.is_empty() || self.eof || n == 0;
        some.then(|| Ok(self.take(n)))
    }

    fn exactly(&mut self, n: usize) -> Answer {
        if self.broken {
            return Some(Err(Refusal::Broken));
        }
        if self.buffer.len() >= n {
            return Some(Ok(self.take(n)));
        }
        self.at_end(Some(n))
    }

    fn until_end(&mut self, cap: Option<usize>) -> Answer {
        if self.broken {
            return Some(Err(Refusal::Broken));
        }
        let size = self.buffer.len();
        if cap.is_some_and(|cap| size > cap) {
            return Some(Err(Refusal::Overrun(size, false)));
        }
        self.eof.then(|| Ok(self.take(usize::MAX)))
    }

    fn skip_line(&mut self, skipped: &mut usize) -> Answer {
        if self.broken {
            return Some(Err(Refusal::Broken));
        }
        let newline = self.buffer.iter().position(|&byte| byte == b'\n');
        let n = newline.map_or(self.buffer.len(), |at| at + 1);
        *skipped += self.take(n).len();
        (newline.is_some() || self.eof).then(|| Ok(vec![0; *skipped]))
    }

    /// The match that ends first, and of those the shortest.
    fn until(&mut self, separators: &[&[u8]]) -> Answer {
        if self.broken {
            return Some(Err(Refusal::Broken));
        }
        let found = (0..=self.buffer.len()).find_map(|end| {
            let ending = separators
                .iter()
                .filter(|s| self.buffer[..end].ends_with(s));
            ending
                .map(|s| s.len())
                .min()
                .map(|length| (end - length, end))
        });
        let longest = separators.iter().map(|s| s.len()).max().unwrap_or(0);
        let surely = (self.buffer.len() + 1).saturating_sub(longest);
        match found {
            Some((start, _)) if start > self.limit => Some(Err(Refusal::Overrun(start, true))),
            Some((_, end)) => Some(Ok(self.take(end))),
            None if surely > self.limit => Some(Err(Refusal::Overrun(surely, false))),
            None => self.at_end(None),
        }
    }
}

const SEPARATORS: &[&[&[u8]]] = &[
    &[b"\n"],
    &[b"\r\n"],
    &[b"\r\n", b"\n"],
    &[b"\n", b"\r\n", b";"],
    &[b"---"],
    &[b"--", b"-a-"],
    &[b"a-b;", b"-b"],
    &[b";", b";"],
];
