//! Both ends of a connection, what they are told to do, and the models that watch.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evloop::testing::Random;
use evloop::{BufferedProtocol, LoopHandle, Protocol, Transport, sleep};

use crate::models::transport::{Answers, Transport as Model};
use crate::models::walked::Walked;
use crate::models::watch::{Judgement, Watch, complain_if};

/// Something that one end does, and when.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    side: usize,
    when: When,
    what: Op,
}

/// From a task, in the order of the script, in a step of its own or in that of the one before; or
/// inside a call of the protocol, the next of its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Next,
    AtOnce,
    InConnectionMade,
    InData,
    InEof,
    InPauseWriting,
    InResumeWriting,
    InConnectionLost,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(usize),
    WriteEof,
    Close,
    Abort,
    PauseReading,
    ResumeReading,
    SetLimits { high: usize, low: usize },
    SetProtocol { buffered: bool },
    Sleep(u64),
    KeepOpenAtEof(bool),
}

impl Step {
    pub(crate) fn make(random: &mut Random) -> Self {
        let inside = [
            When::InConnectionMade,
            When::InData,
            When::InData,
            When::InEof,
            When::InPauseWriting,
            When::InResumeWriting,
            When::InConnectionLost,
        ];
        let when = match random.chance(0.3) {
            true => inside[random.below(inside.len())],
            false if random.chance(0.5) => When::AtOnce,
            false => When::Next,
        };
        let what = match random.below(100) {
            0..35 => Op::Write(random_size(random)),
            35..41 => Op::WriteEof,
            41..44 => Op::Close,
            44..46 => Op::Abort,
            46..56 => Op::PauseReading,
            56..68 => Op::ResumeReading,
            68..76 => {
                let high = random_size(random);
                // Some make no sense.
                let low = random.within(0..=high + high / 8);
                Op::SetLimits { high, low }
            }
            76..81 => Op::SetProtocol {
                buffered: random.chance(0.5),
            },
            81..84 => Op::KeepOpenAtEof(random.chance(0.5)),
            _ => Op::Sleep(random.within(0..=20) as u64),
        };
        let side = random.below(2);
        Self { side, when, what }
    }

    fn is_of_the_task(&self) -> bool {
        matches!(self.when, When::Next | When::AtOnce)
    }

    /// Whether the other end would never hear of the connection.
    pub(crate) fn comes_too_early(&self) -> bool {
        let ends = matches!(self.what, Op::Close | Op::Abort);
        ends && self.when == When::InConnectionMade
    }
}

pub(crate) fn random_size(random: &mut Random) -> usize {
    match random.below(4) {
        0 => random.within(0..=2),
        1 => random.within(3..=500),
        2 => random.within(501..=20_000),
        _ => random.within(20_001..=200_000),
    }
}

/// The two ends.
pub(crate) struct Scene {
    sides: [Side; 2],
    /// The network does nothing that a correct program would notice.
    calm: bool,
    /// The network has ended something by itself.
    early_end: Cell<bool>,
    watch: Watch,
}

struct Side {
    model: RefCell<Model>,
    transport: RefCell<Option<Transport>>,
    inside: RefCell<Vec<Step>>,
    next: Vec<Step>,
    keeps_open: Cell<bool>,
    buffered: Cell<bool>,
}

/// A protocol of one of the ends.
pub(crate) struct Plain {
    scene: Rc<Scene>,
    side: usize,
}

/// The same with a buffer.
struct Lender {
    plain: Plain,
    buffer: Vec<u8>,
}

impl Scene {
    pub(crate) fn new(steps: &[Step], calm: bool, walked: &Walked) -> Rc<Self> {
        let side = |number| {
            let own = || steps.iter().filter(move |step| step.side == number);
            let (next, inside) = own().partition(|step| step.is_of_the_task());
            let (next, inside): (Vec<&Step>, Vec<&Step>) = (next, inside);
            Side {
                model: RefCell::new(Model::new(calm, walked)),
                transport: RefCell::default(),
                inside: RefCell::new(inside.into_iter().cloned().collect()),
                next: next.into_iter().cloned().collect(),
                keeps_open: Cell::new(true),
                buffered: Cell::new(false),
            }
        };
        Rc::new(Self {
            sides: [side(0), side(1)],
            calm,
            early_end: Cell::new(false),
            watch: Watch::default(),
        })
    }

    pub(crate) fn protocol(self: &Rc<Self>, side: usize) -> Plain {
        Plain {
            scene: Rc::clone(self),
            side,
        }
    }

    /// The network may have ended something by itself.
    pub(crate) fn expect_early_end(&self) {
        self.early_end.set(true);
    }

    /// Has both ends do what the script says, each on its loop, and then come to an end.
    pub(crate) async fn play(
        self: &Rc<Self>,
        loops: &[LoopHandle; 2],
        pace: &Pace,
    ) -> Result<(), String> {
        let both_made = || { self.sides.iter() }.all(|side| side.transport.borrow().is_some());
        if !self.watch.until(pace.patience, both_made).await {
            // A storm may have taken it away.
            return match self.calm {
                true => Err("connection_made did not come".to_owned()),
                false => self.finish(loops, pace).await,
            };
        }
        let done = Rc::new(Cell::new(0));
        for (side, handle) in loops.iter().enumerate() {
            let (scene, done, tick) = (Rc::clone(self), Rc::clone(&done), pace.tick);
            drop(handle.create_task(async move {
                for step in &scene.sides[side].next {
                    if step.when == When::Next {
                        scene.begin_step(side, step, tick).await;
                    }
                    scene.act(side, step.what);
                }
                done.set(done.get() + 1);
                scene.watch.ring();
            }));
        }
        self.watch.until(pace.patience, || done.get() == 2).await;
        self.finish(loops, pace).await
    }

    /// Lets the loop have a turn, and looks at what has come of the step before.
    async fn begin_step(self: &Rc<Self>, side: usize, step: &Step, tick: Duration) {
        let ticks = match step.what {
            Op::Sleep(ticks) => ticks,
            _ => 0,
        };
        let _ = sleep(tick * (ticks as u32)).await;
        let told = { self.answers(side) }.map_or(Ok(()), |says| {
            self.sides[side].model.borrow().compare_flow(&says)
        });
        self.judge(side, "before the step", told);
    }

    /// Everybody reads, and ends their side: so everybody sees the end. Then everything is closed.
    async fn finish(self: &Rc<Self>, loops: &[LoopHandle; 2], pace: &Pace) -> Result<(), String> {
        self.on_each(loops, |scene, side| {
            scene.sides[side].inside.borrow_mut().clear();
            scene.act(side, Op::ResumeReading);
            scene.act(side, Op::WriteEof);
        })
        .await;
        let ended = |side: &Side| side.model.borrow().ended || side.is_closing();
        let all_ended = self
            .watch
            .until(pace.patience, || self.sides.iter().all(ended));
        let stuck = !all_ended.await && self.calm;
        let ends = complain_if(stuck, "the end did not come");
        self.watch.judge("finally", ends);
        self.on_each(loops, |scene, side| {
            if scene.answers(side).is_some_and(|says| says.unsent == 0) && scene.calm {
                let rest = scene.sides[side].model.borrow().compare_rest();
                scene.judge(side, "at rest", rest);
            }
        })
        .await;
        let lost = |side: &Side| {
            let made = side.transport.borrow().is_some();
            !made || side.model.borrow().life.is("Gone")
        };
        for last in [Op::Close, Op::Abort] {
            self.on_each(loops, move |scene, side| scene.act(side, last))
                .await;
            // Who is closing reads nothing, so two that close may wait for each other for ever.
            self.watch
                .until(pace.moment, || self.sides.iter().all(lost))
                .await;
        }
        let kept = !self.sides.iter().all(lost);
        let is_lost = complain_if(kept, "connection_lost did not come");
        self.watch.judge("finally", is_lost);
        self.watch.verdict()
    }

    /// Has something done to each end, on its own loop.
    async fn on_each(
        self: &Rc<Self>,
        loops: &[LoopHandle; 2],
        f: impl Fn(&Rc<Self>, usize) + Copy + 'static,
    ) {
        let done = Rc::new(Cell::new(0));
        for (side, handle) in loops.iter().enumerate() {
            let (scene, done) = (Rc::clone(self), Rc::clone(&done));
            drop(handle.call_soon(move || {
                f(&scene, side);
                done.set(done.get() + 1);
                scene.watch.ring();
            }));
        }
        self.watch.until(SOON, || done.get() == 2).await;
    }

    // One end.

    /// What the transport of this end says, and whether that is as it should be.
    fn answers(&self, side: usize) -> Option<Answers> {
        let transport = self.sides[side].transport.borrow().clone()?;
        // First: to send may be the end of it.
        let unsent = transport.get_write_buffer_size();
        let says = Answers {
            unsent,
            is_closing: transport.is_closing(),
            is_reading: transport.is_reading(),
            high: transport.get_write_buffer_limits().1,
        };
        let (here, there) = (&self.sides[side], &self.sides[1 - side]);
        let right = here
            .model
            .borrow_mut()
            .compare(&says, &there.model.borrow());
        self.judge(side, "asked", right);
        Some(says)
    }

    /// Does it, and says so to the model.
    fn act(self: &Rc<Self>, side: usize, op: Op) {
        let (Some(says), here) = (self.answers(side), &self.sides[side]) else {
            return;
        };
        let Some(transport) = here.transport.borrow().clone() else {
            return;
        };
        let mut model = here.model.borrow_mut();
        let unsent = says.unsent > 0;
        let right = match op {
            Op::Write(size) => {
                let outcome = transport.try_write(pattern(side, model.written(), size));
                let refused = outcome.map_err(|error| error.kind());
                let expected = match model.refuses() {
                    true => Err(io::ErrorKind::BrokenPipe),
                    false => Ok(()),
                };
                if refused.is_ok() {
                    model.write(size);
                }
                equal("try_write", refused, expected)
            }
            Op::WriteEof => {
                let outcome = transport.write_eof().map_err(|error| error.kind());
                let ends = model.write_eof(unsent);
                equal("write_eof", outcome, Ok(())).and(ends)
            }
            Op::Close => {
                transport.close();
                model.close(unsent)
            }
            Op::Abort => {
                transport.abort();
                model.abort()
            }
            Op::PauseReading => {
                transport.pause_reading();
                model.pause_reading()
            }
            Op::ResumeReading => {
                transport.resume_reading();
                model.resume_reading()
            }
            Op::SetLimits { high, low } => {
                let before = transport.get_write_buffer_limits();
                let outcome = transport.set_write_buffer_limits(high, low);
                let outcome = outcome.map_err(|error| error.kind());
                let (expected, limits) = match low > high {
                    true => (Err(io::ErrorKind::InvalidInput), before),
                    false => (Ok(()), (low, high)),
                };
                let are = equal("limits", transport.get_write_buffer_limits(), limits);
                equal("set_write_buffer_limits", outcome, expected).and(are)
            }
            Op::SetProtocol { buffered } => {
                let plain = self.protocol(side);
                match buffered {
                    true => transport.set_protocol(Rc::new(RefCell::new(plain.with_buffer()))),
                    false => transport.set_protocol(Rc::new(RefCell::new(plain))),
                }
                here.buffered.set(buffered);
                Ok(())
            }
            Op::KeepOpenAtEof(keep) => {
                here.keeps_open.set(keep);
                Ok(())
            }
            Op::Sleep(_) => Ok(()),
        };
        drop(model);
        self.judge(side, &format!("{op:?}"), right);
        self.answers(side);
        self.watch.ring();
    }

    fn judge(&self, side: usize, what: &str, judgement: Judgement) {
        self.watch
            .judge(format_args!("side {side}, {what}"), judgement);
    }
}

impl Side {
    fn is_closing(&self) -> bool {
        let transport = self.transport.borrow();
        transport.as_ref().is_none_or(Transport::is_closing)
    }
}

impl Plain {
    fn with_buffer(self) -> Lender {
        let buffer = vec![0; 3000];
        Lender {
            plain: self,
            buffer,
        }
    }

    /// Tells the model of a call, and does what is to be done inside it.
    fn told(&self, when: When, judge: impl FnOnce(&mut Model, &Model) -> Judgement) {
        let (scene, side) = (&self.scene, self.side);
        let [here, there] = [&scene.sides[side], &scene.sides[1 - side]];
        let right = judge(&mut here.model.borrow_mut(), &there.model.borrow());
        scene.judge(side, &format!("{when:?}"), right);
        // What comes once has all of its steps, what comes often has one each time.
        let once = [When::InConnectionMade, When::InEof, When::InConnectionLost].contains(&when);
        let mut steps = Vec::new();
        here.inside.borrow_mut().retain(|step| {
            let now = step.when == when && (once || steps.is_empty());
            if now {
                steps.push(step.what);
            }
            !now
        });
        for step in steps {
            scene.act(side, step);
        }
        scene.watch.ring();
    }

    fn received(&self, data: &[u8], with_buffer: bool) {
        let here = &self.scene.sides[self.side];
        let wrong = equal("the kind of protocol", with_buffer, here.buffered.get());
        self.told(When::InData, |model, peer| {
            let expected = pattern(1 - self.side, model.received(), data.len());
            wrong?;
            equal("the bytes", data == expected, true)?;
            model.data_received(data.len(), peer)
        });
    }
}

impl Protocol for Plain {
    fn connection_made(&mut self, transport: Transport) {
        let here = &self.scene.sides[self.side];
        *here.transport.borrow_mut() = Some(transport);
        self.told(When::InConnectionMade, |model, _| model.connection_made());
        let begun = here.model.borrow_mut().begin();
        self.scene.judge(self.side, "after connection_made", begun);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.received(data, false);
    }

    fn eof_received(&mut self) -> bool {
        let early = self.scene.early_end.get();
        self.told(When::InEof, |model, peer| model.eof_received(peer, early));
        let here = &self.scene.sides[self.side];
        let keep = here.keeps_open.get();
        if !keep {
            here.model.borrow_mut().close_soon();
        }
        keep
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        self.told(When::InConnectionLost, |model, peer| {
            model.connection_lost(exc.is_some(), peer)
        });
    }

    fn pause_writing(&mut self) {
        self.told(When::InPauseWriting, |model, _| model.pause_writing());
    }

    fn resume_writing(&mut self) {
        self.told(When::InResumeWriting, |model, _| model.resume_writing());
    }
}

impl BufferedProtocol for Lender {
    fn connection_made(&mut self, transport: Transport) {
        self.plain.connection_made(transport);
    }

    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, nbytes: usize) {
        self.plain.received(&self.buffer[..nbytes], true);
    }

    fn eof_received(&mut self) -> bool {
        self.plain.eof_received()
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        self.plain.connection_lost(exc);
    }

    fn pause_writing(&mut self) {
        self.plain.pause_writing();
    }

    fn resume_writing(&mut self) {
        self.plain.resume_writing();
    }
}

/// How long things take, in the simulation or in earnest.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// What a script sleeps by.
    pub(crate) tick: Duration,
    /// What has to come does so within this.
    pub(crate) patience: Duration,
    /// What may never come is not waited for any longer.
    pub(crate) moment: Duration,
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, is: T, should: T) -> Judgement {
    match is == should {
        true => Ok(()),
        false => Err(format!("{what}: {is:?} instead of {should:?}")),
    }
}

/// A callback of a loop runs within this.
const SOON: Duration = Duration::from_secs(20);

/// What one end says, from some place on: any two stretches of it differ.
pub(crate) fn pattern(side: usize, from: usize, size: usize) -> Vec<u8> {
    let mixed = |at: usize| (at + side).wrapping_mul(0x9E37_79B9) >> 13;
    (from..from + size).map(|at| mixed(at) as u8).collect()
}
