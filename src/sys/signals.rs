//! Signals as events of a loop.
//!
//! Owns: [`numbers`], the signals by name; [`Signals`], what one driver handles; and the
//! process-wide table of the dispositions from before. Why: a signal arrives on any thread, in a
//! place where almost nothing may be done, so its handler only writes a byte into a socket pair
//! of every loop that wants the signal, and each loop reads its own. That handler is
//! signal-hook's, since several libraries share it in peace and installing one takes `unsafe`.
//! Invariants: a signal is never lost between two handlers: until the first loop's pipe is in
//! place the disposition from before is in force, and again from the moment the last loop lets
//! go; whatever else handled the signal before us is called first and keeps being called; a
//! number that cannot be caught is refused with an error. asyncio's counterpart:
//! `add_signal_handler`, `remove_signal_handler` and `signal.set_wakeup_fd`.
//!
//! # How the disposition from before comes back
//!
//! signal-hook never takes its handler out of the system again (another library may have chained
//! itself to it in the meantime), and a handler without actions swallows the signal. So what was
//! in force before is found out ahead of the first registration, once for each number:
//!
//! | before | after the last loop let go |
//! |---|---|
//! | the system's default | an action of ours does what the default does (terminate by that very signal, stop, nothing), while no loop handles the number |
//! | ignored | nothing to do: swallowed is ignored |
//! | caught, through signal-hook or not | nothing to do: signal-hook calls that handler, before, during and after |
//!
//! Limits, for want of a way to ask signal-hook who else is there or to ask the system for a
//! disposition without `unsafe`:
//! - A library that registers a signal *after* the first loop did cannot be seen. When no loop
//!   handles the number any more, the default (most of them terminate) is carried out although
//!   that library is still there. Let such a library register first, or keep the loop's handler.
//!   (asyncio's `remove_signal_handler` sets the default in the same way.)
//! - The disposition is read from Linux's `/proc/self/status`. Where there is none, it is taken
//!   to be the default, or for SIGPIPE ignored, as Rust's runtime arranges.
//! - Signals that signal-hook has no name for, such as the real-time ones, end the process with
//!   status 128 + number, as a shell would report it, and not by the signal itself.
//! - What a child process inherits is a caught signal (reset to the default by exec), also where
//!   it was ignored before.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::FORBIDDEN;
use signal_hook::{SigId, flag, low_level};

use crate::sys::driver::Event;
use crate::sys::error::invalid_input;

/// The numbers of the signals that programs handle most, as this system counts them. Python has
/// them in its module `signal`.
pub mod numbers {
    use signal_hook::consts;

    /// The terminal was closed; by custom, "read your configuration again".
    pub const SIGHUP: i32 = consts::SIGHUP;
    /// Ctrl+C on the terminal.
    pub const SIGINT: i32 = consts::SIGINT;
    /// Ctrl+\ on the terminal: quit with a core dump.
    pub const SIGQUIT: i32 = consts::SIGQUIT;
    /// For the program's own use.
    pub const SIGUSR1: i32 = consts::SIGUSR1;
    /// For the program's own use.
    pub const SIGUSR2: i32 = consts::SIGUSR2;
    /// A pipe or socket was written to that nobody reads. Rust programs ignore it from the start
    /// and get an error from the write instead.
    pub const SIGPIPE: i32 = consts::SIGPIPE;
    /// A timer of `alarm` or `setitimer` ran out.
    pub const SIGALRM: i32 = consts::SIGALRM;
    /// The polite request to end, what `kill` sends and service managers send first.
    pub const SIGTERM: i32 = consts::SIGTERM;
    /// A child process ended or stopped.
    pub const SIGCHLD: i32 = consts::SIGCHLD;
    /// The terminal's window changed its size.
    pub const SIGWINCH: i32 = consts::SIGWINCH;
}

/// The signals that one driver handles. Dropping it lets go of them all.
pub(crate) struct Signals {
    registry: Rc<Registry>,
    handled: BTreeMap<i32, Handled>,
}

impl Signals {
    pub(crate) fn new(registry: Rc<Registry>) -> Self {
        Self {
            registry,
            handled: BTreeMap::new(),
        }
    }

    /// Handles `number` from now on; a number that is handled already stays as it is.
    pub(crate) fn add(&mut self, number: i32) -> io::Result<()> {
        check(number)?;
        if self.handled.contains_key(&number) {
            return Ok(());
        }
        let (inbox, outbox) = StdUnixStream::pair()?;
        inbox.set_nonblocking(true)?;
        let mut inbox = UnixStream::from_std(inbox);
        self.registry
            .register(&mut inbox, token_of(number), Interest::READABLE)?;
        let action =
            claim(number, outbox).map_err(|error| uncatchable_if_invalid(number, error))?;
        self.handled.insert(number, Handled { inbox, action });
        Ok(())
    }

    /// Lets go of `number`, if it is handled here.
    pub(crate) fn remove(&mut self, number: i32) {
        if let Some(handled) = self.handled.remove(&number) {
            // The action goes first and takes the other end of the pair along: a handler that
            // wrote to a pair without a reader would raise SIGPIPE.
            release(number, handled.action);
            drop(handled.inbox);
        }
    }

    /// Appends one event for each delivery of `number` since the last look.
    pub(crate) fn read(&mut self, number: i32, events: &mut Vec<Event>) {
        let Some(handled) = self.handled.get_mut(&number) else {
            return;
        };
        let mut buffer = [0; 256];
        // Not bounded by a count, since the edge would be lost with bytes left behind: a byte
        // costs its sender two system calls and us a fraction of one, so this overtakes any flood.
        loop {
            match handled.inbox.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => events.extend(std::iter::repeat_n(Event::Signal(number), count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // `WouldBlock`: drained. A pair of our own making has no other error.
                Err(_) => return,
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for number in self.handled.keys().copied().collect::<Vec<_>>() {
            self.remove(number);
        }
    }
}

/// The token under which the pair of signal `number` is registered.
fn token_of(number: i32) -> Token {
    // `check` has made sure that the number is positive and small.
    Token(usize::MAX - number.unsigned_abs() as usize)
}

/// The signal whose pair has this token, if it is one of them.
pub(crate) fn signal_of(token: Token) -> Option<i32> {
    i32::try_from(usize::MAX - token.0)
        .ok()
        .filter(|number| (1..=LAST).contains(number))
}

/// What one driver keeps for a signal: its end of the pair, and the action that writes to the
/// other end.
struct Handled {
    inbox: UnixStream,
    action: SigId,
}

/// Refuses what cannot be caught before signal-hook does, which would panic.
fn check(number: i32) -> io::Result<()> {
    if !(1..=LAST).contains(&number) {
        return Err(invalid_input(format!(
            "sig {number} out of range (1 to {LAST})"
        )));
    }
    if FORBIDDEN.contains(&number) {
        return Err(uncatchable(number));
    }
    Ok(())
}

/// The system says "invalid argument" of numbers that it keeps to itself or does not have.
fn uncatchable_if_invalid(number: i32, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::InvalidInput {
        uncatchable(number)
    } else {
        error
    }
}

fn uncatchable(number: i32) -> io::Error {
    invalid_input(format!("sig {number} cannot be caught"))
}

/// What this process knows of one signal that a loop of ours has handled at some time.
struct Claim {
    /// How many drivers handle it now.
    loops: usize,
    /// True while there is none: the disposition from before is in force.
    unclaimed: Arc<AtomicBool>,
}

impl Claim {
    /// Arranges that the disposition from before stays in force while no loop handles `number`.
    /// To be called before anything is registered: afterwards every disposition is "caught".
    fn first(number: i32) -> io::Result<Self> {
        let unclaimed = Arc::new(AtomicBool::new(true));
        if disposition(number) == Disposition::Default {
            keep_default(number, Arc::clone(&unclaimed))?;
        }
        Ok(Self {
            loops: 0,
            unclaimed,
        })
    }
}

/// Installs the action that tells one more loop of `number`.
fn claim(number: i32, outbox: StdUnixStream) -> io::Result<SigId> {
    let mut claims = lock_claims();
    let claim = match claims.entry(number) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(Claim::first(number)?),
    };
    let action = low_level::pipe::register(number, outbox)?;
    claim.loops += 1;
    claim.unclaimed.store(false, Ordering::SeqCst);
    Ok(action)
}

/// Takes the action of one loop out; the last one brings the disposition from before back.
fn release(number: i32, action: SigId) {
    let mut claims = lock_claims();
    if let Some(claim) = claims.get_mut(&number) {
        claim.loops -= 1;
        // Ahead of the unregistering, so that no signal falls between the two.
        claim.unclaimed.store(claim.loops == 0, Ordering::SeqCst);
    }
    low_level::unregister(action);
}

/// Does what the system's default for `number` does, whenever the signal comes while `unclaimed`.
fn keep_default(number: i32, unclaimed: Arc<AtomicBool>) -> io::Result<SigId> {
    if low_level::signal_name(number).is_some() {
        flag::register_conditional_default(number, unclaimed)
    } else {
        // All those without a name terminate by default.
        flag::register_conditional_shutdown(number, SHELL_SIGNAL_STATUS + number, unclaimed)
    }
}

fn lock_claims() -> MutexGuard<'static, BTreeMap<i32, Claim>> {
    // Nothing panics under the lock, and each step leaves the table whole.
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    Default,
    Ignored,
    Caught,
}

/// What the process does with `number` at this moment, as far as the system tells.
fn disposition(number: i32) -> Disposition {
    fs::read_to_string(STATUS_FILE)
        .ok()
        .and_then(|status| disposition_in(&status, number))
        .unwrap_or_else(|| assumed_disposition(number))
}

/// Reads the two masks of Linux's status file, hexadecimal with the lowest bit for signal 1.
fn disposition_in(status: &str, number: i32) -> Option<Disposition> {
    let bit = 1_u64.checked_shl(u32::try_from(number).ok()?.checked_sub(1)?)?;
    let has = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? & bit != 0)
    };
    Some(match (has("SigIgn:")?, has("SigCgt:")?) {
        (true, _) => Disposition::Ignored,
        (false, true) => Disposition::Caught,
        (false, false) => Disposition::Default,
    })
}

fn assumed_disposition(number: i32) -> Disposition {
    if number == numbers::SIGPIPE {
        Disposition::Ignored
    } else {
        Disposition::Default
    }
}

/// The highest number that is taken for a signal; Linux has 64, the others fewer or (FreeBSD,
/// for real-time ones) more.
const LAST: i32 = 64;

/// A shell reports the end by signal n as this plus n.
const SHELL_SIGNAL_STATUS: i32 = 128;

const STATUS_FILE: &str = "/proc/self/status";

/// A lock, since the drivers of several threads share it. No signal handler takes it.
static CLAIMS: Mutex<BTreeMap<i32, Claim>> = Mutex::new(BTreeMap::new());

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use super::*;

    /// What a child does is decided by this variable; a test finds it set only in its own child.
    const CHILD: &str = "EVLOOP_SIGNALS_TEST_CHILD";

    /// Status of a child that came to its end alive.
    const ALIVE: i32 = 77;

    /// Runs `scene` in a process of its own, as the test `name` of this very binary, and says how
    /// it ended. `wrapper` may be a shell snippet that runs `"$0" "$@"`.
    fn in_a_child(name: &str, wrapper: &str, scene: fn()) -> ExitStatus {
        if env::var_os(CHILD).is_some() {
            scene();
            std::process::exit(ALIVE);
        }
        Command::new("/bin/sh")
            .args(["-c", wrapper])
            .arg(env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("{}::{name}", module_path!().split_once("::").unwrap().1),
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap()
    }

    const PLAIN: &str = r#"exec "$0" "$@""#;

    /// A driver's signals, and what keeps their registry alive.
    fn signals() -> (mio::Poll, Signals) {
        let poll = mio::Poll::new().unwrap();
        let registry = Rc::new(poll.registry().try_clone().unwrap());
        (poll, Signals::new(registry))
    }

    fn raise(number: i32) {
        low_level::raise(number).unwrap();
    }

    /// `raise` returns after the handler ran, so what was written can be read at once.
    fn count(signals: &mut Signals, number: i32) -> usize {
        let mut events = Vec::new();
        signals.read(number, &mut events);
        assert!(events.iter().all(|event| *event == Event::Signal(number)));
        events.len()
    }

    #[test]
    fn the_default_is_back_when_the_last_loop_lets_go() {
        let status = in_a_child(
            "the_default_is_back_when_the_last_loop_lets_go",
            PLAIN,
            || {
                let (_first_poll, mut first) = signals();
                let (_second_poll, mut second) = signals();
                first.add(numbers::SIGTERM).unwrap();
                second.add(numbers::SIGTERM).unwrap();
                raise(numbers::SIGTERM);
                assert_eq!(
                    (
                        count(&mut first, numbers::SIGTERM),
                        count(&mut second, numbers::SIGTERM)
                    ),
                    (1, 1)
                );
                first.remove(numbers::SIGTERM);
                raise(numbers::SIGTERM);
                assert_eq!(
                    (
                        count(&mut first, numbers::SIGTERM),
                        count(&mut second, numbers::SIGTERM)
                    ),
                    (0, 1)
                );
                drop(second);
                // A new loop takes it again.
                first.add(numbers::SIGTERM).unwrap();
                raise(numbers::SIGTERM);
                assert_eq!(count(&mut first, numbers::SIGTERM), 1);
                first.remove(numbers::SIGTERM);
                raise(numbers::SIGTERM);
            },
        );
        assert_eq!(status.signal(), Some(numbers::SIGTERM), "{status}");
    }

    #[test]
    fn a_signal_ignored_before_is_ignored_afterwards() {
        let wrapper = r#"trap "" HUP; exec "$0" "$@""#;
        let status = in_a_child(
            "a_signal_ignored_before_is_ignored_afterwards",
            wrapper,
            || {
                assert_eq!(disposition(numbers::SIGHUP), Disposition::Ignored);
                let (_poll, mut signals) = signals();
                signals.add(numbers::SIGHUP).unwrap();
                raise(numbers::SIGHUP);
                assert_eq!(count(&mut signals, numbers::SIGHUP), 1);
                drop(signals);
                raise(numbers::SIGHUP);
            },
        );
        assert_eq!(status.code(), Some(ALIVE), "{status}");
    }

    #[test]
    fn a_library_that_was_there_first_keeps_its_signal() {
        let status = in_a_child(
            "a_library_that_was_there_first_keeps_its_signal",
            PLAIN,
            || {
                let seen = Arc::new(AtomicBool::new(false));
                flag::register(numbers::SIGINT, Arc::clone(&seen)).unwrap();
                let (_poll, mut signals) = signals();
                signals.add(numbers::SIGINT).unwrap();
                raise(numbers::SIGINT);
                assert!(seen.swap(false, Ordering::SeqCst));
                assert_eq!(count(&mut signals, numbers::SIGINT), 1);
                drop(signals);
                raise(numbers::SIGINT);
                assert!(seen.load(Ordering::SeqCst));
            },
        );
        assert_eq!(status.code(), Some(ALIVE), "{status}");
    }

    #[test]
    fn a_signal_without_effect_by_default_has_none_afterwards() {
        let status = in_a_child(
            "a_signal_without_effect_by_default_has_none_afterwards",
            PLAIN,
            || {
                let (_poll, mut signals) = signals();
                for number in [numbers::SIGCHLD, numbers::SIGWINCH, numbers::SIGPIPE] {
                    signals.add(number).unwrap();
                    signals.remove(number);
                    raise(number);
                }
            },
        );
        assert_eq!(status.code(), Some(ALIVE), "{status}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_real_time_signal_ends_the_process_with_a_shells_status() {
        let status = in_a_child(
            "a_real_time_signal_ends_the_process_with_a_shells_status",
            PLAIN,
            || {
                let (_poll, mut signals) = signals();
                signals.add(40).unwrap();
                raise(40);
                assert_eq!(count(&mut signals, 40), 1);
                signals.remove(40);
                raise(40);
            },
        );
        assert_eq!(status.code(), Some(128 + 40), "{status}");
    }

    #[test]
    fn what_cannot_be_caught_is_refused() {
        let (_poll, mut signals) = signals();
        for (number, message) in [
            (9, "sig 9 cannot be caught"),
            (signal_hook::consts::SIGSTOP, "cannot be caught"),
            (signal_hook::consts::SIGSEGV, "cannot be caught"),
            (0, "sig 0 out of range (1 to 64)"),
            (-1, "sig -1 out of range (1 to 64)"),
            (65, "sig 65 out of range (1 to 64)"),
            (i32::MIN, "out of range"),
        ] {
            let error = signals.add(number).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(message), "{error}");
            signals.remove(number);
        }
        assert!(signals.handled.is_empty());
    }

    /// The C library keeps 32 for itself and says so when it is asked.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_the_system_refuses_is_refused() {
        let (_poll, mut signals) = signals();
        assert_eq!(
            signals.add(32).unwrap_err().to_string(),
            "sig 32 cannot be caught"
        );
        assert!(signals.handled.is_empty());
    }

    #[test]
    fn the_status_file_is_read_bit_by_bit() {
        let status = "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t8000000000004002\n";
        for (number, expected) in [
            (1, Disposition::Ignored),
            (2, Disposition::Caught),
            (13, Disposition::Ignored),
            (15, Disposition::Caught),
            (16, Disposition::Default),
            (64, Disposition::Caught),
        ] {
            assert_eq!(
                disposition_in(status, number),
                Some(expected),
                "signal {number}"
            );
        }
        for broken in ["", "SigIgn:\t00\n", "SigIgn:\tzz\nSigCgt:\t00\n"] {
            assert_eq!(disposition_in(broken, 15), None);
        }
        assert_eq!(disposition_in(status, 65), None);
        assert_eq!(disposition_in(status, 0), None);
    }

    #[test]
    fn tokens_lead_back_to_their_signals() {
        for number in 1..=LAST {
            assert_eq!(signal_of(token_of(number)), Some(number));
        }
        assert_eq!(signal_of(Token(usize::MAX)), None);
        assert_eq!(signal_of(Token(usize::MAX - 65)), None);
        assert_eq!(signal_of(Token(0)), None);
    }
}
