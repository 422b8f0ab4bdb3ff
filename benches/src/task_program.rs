//! What the `tasks_*` programs share: their arguments, their clock, and two futures that every
//! runtime needs alike, so that no program differs from another by anything but its runtime.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Tasks in a batch, and messages in a burst.
pub const BATCH: usize = 1_000;
/// Timers alive beside the one that is measured, in `timer_10000`.
pub const OTHER_TIMERS: usize = 10_000;
/// A deadline that no measurement lives to see.
pub const FAR: Duration = Duration::from_secs(3_600);

/// The deadline of another timer, some earlier than [`FAR`], some later.
pub fn other_deadline(index: usize) -> Duration {
    FAR / 2 + FAR / OTHER_TIMERS as u32 * index as u32
}

/// What the command line asks for: `--measure NAME --operations N`, and `--variant NAME` for those
/// who can be used in two ways.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub measure: String,
    pub operations: usize,
    /// Empty where none was asked for.
    pub variant: String,
}

impl Request {
    /// Reads the command line; says how it should look and ends the program if it does not.
    pub fn from_args() -> Self {
        Self::parse(std::env::args().skip(1)).unwrap_or_else(|| {
            eprintln!("usage: [--variant NAME] --measure NAME --operations N");
            std::process::exit(2)
        })
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut request = Self::default();
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            match name.as_str() {
                "--measure" => request.measure = value,
                "--operations" => request.operations = value.parse().ok()?,
                "--variant" => request.variant = value,
                _ => return None,
            }
        }
        (!request.measure.is_empty() && request.operations > 0).then_some(request)
    }

    /// Ends the program: it cannot be used in the way that was asked for.
    pub fn refuse_variant(&self, reason: &str) -> ! {
        eprintln!("--variant {}: {reason}", self.variant);
        std::process::exit(2)
    }

    /// Ends the program with a status that says: this runtime has no such measure.
    pub fn unknown(&self) -> ! {
        eprintln!("no measure called {}", self.measure);
        std::process::exit(NO_SUCH_MEASURE)
    }
}

/// The exit status for a measure that a program does not have.
pub const NO_SUCH_MEASURE: i32 = 3;

/// Runs `part` for a tenth of the operations to warm up, then for all of them, and prints what
/// one cost in nanoseconds of the whole process's processor time.
pub async fn measure(operations: usize, mut part: impl AsyncFnMut(usize)) {
    part(operations / 10).await;
    let before = processor_time();
    part(operations).await;
    print_per_operation(processor_time() - before, operations);
}

/// [`measure`] for a part that is no future.
pub fn measure_blocking(operations: usize, mut part: impl FnMut(usize)) {
    part(operations / 10);
    let before = processor_time();
    part(operations);
    print_per_operation(processor_time() - before, operations);
}

fn print_per_operation(spent: Duration, operations: usize) {
    println!("{:.3}", spent.as_nanos() as f64 / operations as f64);
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .expect("every process has one")
        .into()
}

/// When the sleep of this index is over: deadlines are spread over 10 to 100 ms.
pub fn spread(index: usize) -> Duration {
    // A step that has no common divisor with the range: neighbours are far apart, as in life.
    Duration::from_micros(10_000 + (index * 7_919 % 90_000) as u64)
}

/// Polls a future once and gives it up. Panics if it was ready: then nothing was measured.
pub async fn poll_once<F: Future>(future: F) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending(), "it should wait");
        Poll::Ready(())
    })
    .await;
}

/// Polls each future once, and keeps them.
pub async fn poll_each_once<F: Future + Unpin>(futures: &mut [F]) {
    poll_fn(|cx| {
        for future in &mut *futures {
            assert!(pin!(future).poll(cx).is_pending(), "it should wait");
        }
        Poll::Ready(())
    })
    .await;
}

/// Says that a chain has come to its end.
#[derive(Default)]
pub struct End {
    reached: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl End {
    pub fn reach(&self) {
        self.reached.set(true);
        let waiting = self.waiting.take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.reached.get() {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Starts a thread that hands `operations` numbers to `send`, in bursts of [`BATCH`]; a burst
/// begins when the one before it was acknowledged, so whoever receives sleeps in between.
pub fn send_bursts(
    operations: usize,
    acknowledged: mpsc::Receiver<()>,
    mut send: impl FnMut(usize) + Send + 'static,
) {
    thread::spawn(move || {
        for number in 0..operations {
            send(number);
            if ends_burst(number) && acknowledged.recv().is_err() {
                return;
            }
        }
    });
}

/// Whether this number is the last of its burst.
pub fn ends_burst(number: usize) -> bool {
    number % BATCH == BATCH - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Request> {
        Request::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn a_request_is_whole_or_none() {
        let request = parse("--variant epoll --measure yield --operations 20").expect("a request");
        assert_eq!((&*request.measure, request.operations), ("yield", 20));
        assert_eq!(request.variant, "epoll");
        for line in [
            "",
            "--measure yield",
            "--measure yield --operations",
            "--measure yield --operations many",
            "--measure yield --operations 20 --colour red",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn sleeps_last_from_10_to_100_milliseconds() {
        let (short, long) = (Duration::from_millis(10), Duration::from_millis(100));
        assert!(
            (0..100_000)
                .map(spread)
                .all(|time| (short..long).contains(&time))
        );
    }

    #[test]
    fn the_others_deadlines_lie_around_the_far_one() {
        assert!(other_deadline(0) < FAR && other_deadline(OTHER_TIMERS - 1) > FAR);
    }
}
