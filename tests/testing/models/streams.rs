//! What streams promise: every byte once, in order, whichever reads are begun and given up; an end
//! that is told from a loss; and waits that end.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use evloop::testing::Random;
use evloop::{LoopHandle, ReadError, StreamReader, StreamWriter, get_running_loop, sleep, timeout};

use crate::models::scene::{Pace, pattern, random_size};
use crate::models::watch::{Judgement, Watch, complain_if};

/// Something that one end does. What waits is given up after so many ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    side: usize,
    what: Op,
    patience: u64,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Read(usize),
    ReadExactly(usize),
    ReadLine,
    ReadUntil(u8),
    Write(usize),
    Drain,
    WriteEof,
    Close,
    Abort,
    WaitClosed,
    Sleep,
}

impl Step {
    pub(crate) fn make(random: &mut Random) -> Self {
        let what = match random.below(100) {
            0..18 => Op::Read(random_size(random)),
            18..28 => Op::ReadExactly(random_size(random)),
            28..34 => Op::ReadLine,
            34..40 => Op::ReadUntil(random.below(256) as u8),
            40..66 => Op::Write(random_size(random)),
            66..80 => Op::Drain,
            80..84 => Op::WriteEof,
            84..87 => Op::Close,
            87..88 => Op::Abort,
            88..92 => Op::WaitClosed,
            _ => Op::Sleep,
        };
        Self {
            side: random.below(2),
            what,
            patience: random.within(0..=50) as u64,
        }
    }
}

/// Both ends of a connection, and what is known of them.
pub(crate) struct Scene {
    sides: [Side; 2],
    calm: bool,
    watch: Watch,
}

#[derive(Default)]
struct Side {
    streams: RefCell<Option<(StreamReader, StreamWriter)>>,
    steps: Vec<Step>,
    /// How many bytes were written before the close, and behind it.
    sent: Cell<usize>,
    sent_late: Cell<usize>,
    received: Cell<usize>,
    /// It has said that it sends no more.
    finished: Cell<bool>,
    closed: Cell<bool>,
    aborted: Cell<bool>,
    done: Cell<bool>,
}

impl Scene {
    pub(crate) fn new(steps: &[Step], calm: bool) -> Rc<Self> {
        let side = |number| Side {
            steps: { steps.iter() }
                .filter(|step| step.side == number)
                .copied()
                .collect(),
            ..Side::default()
        };
        Rc::new(Self {
            sides: [side(0), side(1)],
            calm,
            watch: Watch::default(),
        })
    }

    /// The connection is there.
    pub(crate) fn begin(&self, side: usize, reader: StreamReader, writer: StreamWriter) {
        *self.sides[side].streams.borrow_mut() = Some((reader, writer));
        self.watch.ring();
    }

    /// Has both ends do what the script says, each on its loop, and then come to an end.
    pub(crate) async fn play(self: &Rc<Self>, loops: &[LoopHandle; 2], pace: Pace) -> Judgement {
        let made = |side: &Side| side.streams.borrow().is_some();
        let both = self
            .watch
            .until(pace.patience, || self.sides.iter().all(made));
        if !both.await {
            // A storm may have taken it away.
            return complain_if(self.calm, "nobody was accepted");
        }
        for (side, handle) in loops.iter().enumerate() {
            let scene = Rc::clone(self);
            drop(handle.create_task(async move {
                let streams = scene.sides[side].streams.take();
                if let Some((mut reader, writer)) = streams {
                    for step in &scene.sides[side].steps {
                        let done = scene.act(side, &mut reader, &writer, step, &pace).await;
                        scene
                            .watch
                            .judge(format_args!("side {side}, {:?}", step.what), done);
                    }
                    let ended = scene.finish(side, &mut reader, &writer, &pace).await;
                    scene
                        .watch
                        .judge(format_args!("side {side}, finally"), ended);
                }
                scene.sides[side].done.set(true);
                scene.watch.ring();
            }));
        }
        let done = |side: &Side| side.done.get();
        let both = self
            .watch
            .until(3 * pace.patience, || self.sides.iter().all(done));
        let stuck = !both.await;
        self.watch.judge("finally", complain_if(stuck, "it hangs"));
        self.watch.verdict()
    }

    async fn act(
        &self,
        side: usize,
        reader: &mut StreamReader,
        writer: &StreamWriter,
        step: &Step,
        pace: &Pace,
    ) -> Judgement {
        let here = &self.sides[side];
        let limit = pace.tick * (step.patience as u32);
        match step.what {
            Op::Read(size) => match given_up(limit, reader.read(size)).await {
                Some(Ok(bytes)) => {
                    complain_if(bytes.len() > size, "more than was asked for")?;
                    self.took(side, &bytes)?;
                    complain_if(size == 0 && !bytes.is_empty(), "none were asked for")?;
                    self.saw_end_if(size > 0 && bytes.is_empty(), side)?;
                }
                Some(Err(_)) => self.broke()?,
                None => {}
            },
            Op::ReadExactly(size) => {
                let outcome = given_up(limit, reader.readexactly(size)).await;
                self.took_whole(side, outcome, |bytes| bytes.len() == size)?;
            }
            Op::ReadUntil(end) => {
                let outcome = given_up(limit, reader.readuntil([end])).await;
                let first = |bytes: &[u8]| bytes.iter().position(|byte| *byte == end);
                self.took_whole(side, outcome, |bytes| first(bytes) == Some(bytes.len() - 1))?;
            }
            Op::ReadLine => match given_up(limit, reader.readline()).await {
                Some(Ok(line)) => {
                    self.took(side, &line)?;
                    self.saw_end_if(!line.ends_with(b"\n"), side)?;
                }
                outcome => self.took_whole(side, outcome, |_| true)?,
            },
            Op::Write(size) => {
                let from = here.sent.get() + here.sent_late.get();
                let outcome = writer.transport().try_write(pattern(side, from, size));
                complain_if(outcome.is_err() != here.finished.get(), "refused, or not")?;
                match (outcome, here.closed.get()) {
                    (Err(_), _) => {}
                    (Ok(()), false) => here.sent.set(here.sent.get() + size),
                    (Ok(()), true) => here.sent_late.set(here.sent_late.get() + size),
                }
            }
            Op::Drain => match given_up(limit, writer.drain()).await {
                Some(Ok(())) if !writer.is_closing() => {
                    let transport = writer.transport();
                    let high = transport.get_write_buffer_limits().1;
                    let full = transport.get_write_buffer_size() > high;
                    complain_if(full, "drained, and it is full")?;
                }
                Some(Ok(())) | None => {}
                Some(Err(_)) => self.broke()?,
            },
            Op::WriteEof => {
                let outcome = writer.write_eof();
                complain_if(outcome.is_err(), "write_eof was refused")?;
                if !writer.is_closing() {
                    here.finished.set(true);
                }
            }
            Op::Close => self.close(side, writer),
            Op::Abort => self.abort(side, writer),
            Op::WaitClosed => {
                if let Some(outcome) = given_up(limit, writer.wait_closed()).await {
                    self.is_over(side, outcome)?;
                }
            }
            Op::Sleep => drop(sleep(limit).await),
        }
        Ok(())
    }

    /// Everything is read, to the end, and then it is closed.
    async fn finish(
        &self,
        side: usize,
        reader: &mut StreamReader,
        writer: &StreamWriter,
        pace: &Pace,
    ) -> Judgement {
        let here = &self.sides[side];
        // One of them may wait for room: the other one reads. And it collects what comes, which may
        // be more than its reader would hold otherwise.
        let first = side == 0;
        if first {
            let _ = self.in_time(pace.patience, writer.drain()).await?;
        }
        let _ = writer.write_eof();
        here.finished.set(true);
        while !here.closed.get() {
            let read = async {
                match first {
                    true => reader.readexactly(MORE_THAN_EVER).await,
                    false => reader.read(10_000).await.map_err(ReadError::from),
                }
            };
            let outcome = self.in_time(pace.patience, read).await?;
            let ended = matches!(&outcome, Some(Ok(bytes)) if bytes.is_empty());
            let goes_on = matches!(&outcome, Some(Ok(bytes)) if !bytes.is_empty());
            self.took_whole(side, outcome, |_| true)?;
            if !goes_on {
                self.saw_end_if(ended, side)?;
                break;
            }
        }
        self.close(side, writer);
        // Two that close with something unsent may wait for each other for ever.
        let mut closed = given_up(pace.moment, writer.wait_closed()).await;
        if closed.is_none() {
            self.abort(side, writer);
            closed = self.in_time(pace.moment, writer.wait_closed()).await?;
        }
        let outcome = closed.ok_or("wait_closed did not come")?;
        self.is_over(side, outcome)
    }

    /// What has to come, and not only when somebody happens to look.
    async fn in_time<T>(
        &self,
        limit: Duration,
        wait: impl Future<Output = T>,
    ) -> Result<Option<T>, String> {
        let handle = get_running_loop().unwrap();
        let begin = handle.time();
        let outcome = given_up(limit, wait).await;
        let late = handle.time() - begin >= limit;
        complain_if(late && self.calm, "it did not come, or nobody was woken")?;
        Ok(outcome)
    }

    fn close(&self, side: usize, writer: &StreamWriter) {
        self.sides[side].closed.set(true);
        writer.close();
    }

    fn abort(&self, side: usize, writer: &StreamWriter) {
        self.sides[side].closed.set(true);
        self.sides[side].aborted.set(true);
        writer.transport().abort();
    }

    // What has to be true.

    /// These bytes were read.
    fn took(&self, side: usize, bytes: &[u8]) -> Judgement {
        let (here, there) = (&self.sides[side], &self.sides[1 - side]);
        let expected = pattern(1 - side, here.received.get(), bytes.len());
        here.received.set(here.received.get() + bytes.len());
        complain_if(bytes != expected, "other bytes than were written")?;
        let written = there.sent.get() + there.sent_late.get();
        complain_if(here.received.get() > written, "more than was written")
    }

    /// A read that gets what it wants, or says that it cannot.
    fn took_whole(
        &self,
        side: usize,
        outcome: Option<Result<Vec<u8>, ReadError>>,
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> Judgement {
        match outcome {
            Some(Ok(bytes)) => {
                self.took(side, &bytes)?;
                complain_if(!is_whole(&bytes), "not what was asked for")
            }
            Some(Err(ReadError::Incomplete(error))) => {
                self.took(side, &error.partial)?;
                self.saw_end_if(true, side)
            }
            Some(Err(ReadError::LimitOverrun(_))) => Ok(()),
            Some(Err(_)) => self.broke(),
            None => Ok(()),
        }
    }

    fn saw_end_if(&self, seen: bool, side: usize) -> Judgement {
        let (here, there) = (&self.sides[side], &self.sides[1 - side]);
        if !seen || here.closed.get() || !self.calm {
            return Ok(());
        }
        let ended = there.finished.get() || there.closed.get();
        complain_if(!ended, "an end that nobody has made")?;
        let all = there.aborted.get() || here.received.get() >= there.sent.get();
        complain_if(!all, "the end came before the last bytes")
    }

    /// Something was told that the connection is no more.
    fn broke(&self) -> Judgement {
        let closed = self.sides.each_ref().map(|side| side.closed.get());
        let nobody = self.calm && closed == [false, false];
        complain_if(nobody, "a connection that nobody has broken broke")
    }

    /// `wait_closed` has ended.
    fn is_over(&self, side: usize, outcome: io::Result<()>) -> Judgement {
        let (here, there) = (&self.sides[side], &self.sides[1 - side]);
        match outcome {
            Ok(()) => complain_if(!here.closed.get(), "a good end that nobody has made"),
            Err(_) => complain_if(self.calm && !there.closed.get(), "a bad end"),
        }
    }
}

/// Than is ever written.
const MORE_THAN_EVER: usize = 1 << 30;

/// What waits is dropped when its time is over: that loses nothing.
async fn given_up<T>(limit: Duration, wait: impl Future<Output = T>) -> Option<T> {
    timeout(limit, wait).await.ok()
}
