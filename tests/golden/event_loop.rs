//! Scripts for a loop. Their grammar stands in `record.py`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::{EventLoop, Handle, LoopHandle, TimerHandle};

use crate::recording::{Kind, replay_all};
use crate::rules::Fired;

#[test]
fn a_loop_runs_callbacks_in_the_order_of_asyncio() {
    replay_all(&Kind {
        name: "loop",
        live: false,
        split,
        replay,
    });
}

// ---------------------------------------------------------------------------------- grammar

#[derive(Clone, Copy, Debug)]
enum Act {
    Soon(usize),
    Later(usize),
    Past(u64, usize),
    Far(usize),
    Due(u64, usize),
    Cancel(usize),
    Stop,
    Raise,
}

#[derive(Default)]
struct Script {
    bodies: BTreeMap<usize, Vec<Act>>,
    runs: BTreeMap<usize, Vec<Act>>,
}

fn split(line: &str) -> (String, Vec<String>) {
    let (steps, _) = line.split_once('|').expect("a trace");
    let steps = steps.split_inclusive(',').map(str::to_owned);
    (String::new(), steps.collect())
}

fn parse(steps: &str) -> Script {
    let mut script = Script::default();
    for step in steps.split(',').filter(|step| !step.is_empty()) {
        let (bodies, step) = match step.strip_prefix('@') {
            Some(step) => (&mut script.runs, step),
            None => (&mut script.bodies, step),
        };
        let at = step.find(|c: char| !c.is_ascii_digit()).expect("an act");
        let (owner, act) = step.split_at(at);
        let (kind, numbers) = act.split_at(1);
        let (k, n) = numbers.split_once('/').unwrap_or(("0", numbers));
        let (k, n) = (number(k) as u64, || number(n));
        let act = match kind {
            "s" => Act::Soon(n()),
            "l" => Act::Later(n()),
            "p" => Act::Past(k, n()),
            "f" => Act::Far(n()),
            "d" => Act::Due(k, n()),
            "c" => Act::Cancel(n()),
            "!" => Act::Stop,
            "x" => Act::Raise,
            other => panic!("no act begins with {other}"),
        };
        bodies.entry(number(owner)).or_default().push(act);
    }
    script
}

fn number(digits: &str) -> usize {
    digits.parse().expect("a number")
}

// ----------------------------------------------------------------------------------- replay

enum Scheduled {
    Soon(Handle),
    Timer(TimerHandle),
}

struct Scene {
    handle: LoopHandle,
    script: Script,
    begin: Instant,
    scheduled: RefCell<BTreeMap<usize, Scheduled>>,
    trace: RefCell<Vec<String>>,
    chain: RefCell<Option<Handle>>,
    chained: Cell<bool>,
}

impl Scene {
    fn say(&self, word: impl Into<String>) {
        self.trace.borrow_mut().push(word.into());
    }

    fn call(self: Rc<Self>, n: usize) {
        self.say(n.to_string());
        for &act in self.script.bodies.get(&n).into_iter().flatten() {
            self.act(act);
        }
    }

    fn act(self: &Rc<Self>, act: Act) {
        let scene = Rc::clone(self);
        let call = move |n| move || scene.call(n);
        let (n, scheduled) = match act {
            Act::Soon(n) => (n, Scheduled::Soon(self.handle.call_soon(call(n)))),
            Act::Later(n) => {
                let timer = self.handle.call_later(Duration::ZERO, call(n));
                (n, Scheduled::Timer(timer))
            }
            Act::Past(k, n) => {
                let when = self.begin - Duration::from_millis(k);
                (n, Scheduled::Timer(self.handle.call_at(when, call(n))))
            }
            Act::Far(n) => (n, Scheduled::Timer(self.handle.call_later(HOUR, call(n)))),
            Act::Due(..) => return,
            Act::Cancel(n) => {
                match self.scheduled.borrow().get(&n) {
                    Some(Scheduled::Soon(handle)) => handle.cancel(),
                    Some(Scheduled::Timer(handle)) => handle.cancel(),
                    None => {}
                }
                return;
            }
            Act::Stop => return self.handle.stop(),
            // Without a word from the hook that prints panics.
            Act::Raise => resume_unwind(Box::new("on purpose")),
        };
        self.scheduled.borrow_mut().insert(n, scheduled);
    }

    fn link(self: &Rc<Self>, left: usize) {
        if left == 0 {
            self.chained.set(true);
            self.handle.stop();
            return;
        }
        let scene = Rc::clone(self);
        let handle = self.handle.call_soon(move || scene.link(left - 1));
        self.chain.replace(Some(handle));
    }

    fn run_chained(self: &Rc<Self>, event_loop: &mut EventLoop, turns: usize) -> bool {
        self.chained.set(false);
        self.link(turns);
        event_loop.run_forever();
        if let Some(chain) = self.chain.take() {
            chain.cancel();
        }
        self.say(".");
        self.chained.get()
    }

    /// Timers that are waited for, in a loop that has nothing else to do.
    fn run_timed(self: &Rc<Self>, event_loop: &mut EventLoop, acts: &[Act]) {
        while !self.run_chained(event_loop, 4 * CHAIN) {}
        let begin = self.handle.time();
        let after = |k: u64| begin + Duration::from_micros(100 * k);
        let mut last = 0;
        for &act in acts {
            match act {
                Act::Due(k, n) => {
                    last = last.max(k);
                    let scene = Rc::clone(self);
                    let say = move || scene.say(n.to_string());
                    let timer = self.handle.call_at(after(k), say);
                    let timer = Scheduled::Timer(timer);
                    self.scheduled.borrow_mut().insert(n, timer);
                }
                Act::Cancel(_) => self.act(act),
                _ => {}
            }
        }
        let handle = self.handle.clone();
        self.handle.call_at(after(last + 1), move || handle.stop());
        event_loop.run_forever();
        self.say(".");
    }

    fn story(&self) -> String {
        let mut story = self.trace.borrow().join(" ");
        story.push('~');
        let scheduled = self.scheduled.borrow();
        let cancelled = scheduled.iter().filter(|(_, scheduled)| match scheduled {
            Scheduled::Soon(handle) => handle.cancelled(),
            Scheduled::Timer(handle) => handle.cancelled(),
        });
        for (i, (n, _)) in cancelled.enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(story, "{space}{n}").expect("a string takes it");
        }
        story
    }
}

fn replay(line: &str, _: &mut Fired) -> Result<(), String> {
    let (steps, there) = line.split_once('|').expect("a trace");
    let mut event_loop = EventLoop::new().expect("a loop");
    let scene = Rc::new(Scene {
        handle: event_loop.handle(),
        script: parse(steps),
        begin: event_loop.time(),
        scheduled: RefCell::default(),
        trace: RefCell::default(),
        chain: RefCell::default(),
        chained: Cell::new(false),
    });
    let reports = Rc::clone(&scene);
    event_loop.set_exception_handler(move |_, _| reports.say("e"));
    for acts in scene.script.runs.values() {
        if acts.iter().any(|act| matches!(act, Act::Due(..))) {
            scene.run_timed(&mut event_loop, acts);
            continue;
        }
        for &act in acts.iter().filter(|act| !matches!(act, Act::Raise)) {
            scene.act(act);
        }
        scene.run_chained(&mut event_loop, CHAIN);
    }
    event_loop.clear_exception_handler();
    event_loop.close();
    let here = scene.story();
    match here == there {
        true => Ok(()),
        false => Err(format!("asyncio {there}\n  we      {here}")),
    }
}

/// So many turns end a run that nothing else has ended.
const CHAIN: usize = 12;
const HOUR: Duration = Duration::from_secs(3600);
