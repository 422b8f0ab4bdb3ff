//! Two thousand clients who come and go, and count how they fared.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::peers::{self, script};
use crate::process::Running;

/// How many of them are connected at a time.
pub(crate) const CLIENTS: u64 = 2000;

/// What is needed for them: python3, and two descriptors for each in a balancer.
pub(crate) fn is_possible() -> bool {
    if !peers::require("python3", "python3") {
        return false;
    }
    let hard = Command::new("sh").args(["-c", "ulimit -Hn"]).output();
    let hard = String::from_utf8(hard.unwrap().stdout).unwrap();
    // "unlimited" is enough.
    let hard: u64 = hard.trim().parse().unwrap_or(u64::MAX);
    let is_enough = hard >= 3 * CLIENTS;
    if !is_enough {
        peers::skip(&format!("the hard limit of descriptors is {hard}"));
    }
    is_enough
}

/// A process with all of them.
pub(crate) struct Load {
    _process: Running,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How many connections ended in which way. Those that began after [`Load::mark`] are the late
/// ones.
#[derive(Debug)]
pub(crate) struct Numbers(BTreeMap<String, u64>);

impl Load {
    /// Waits until all are connected at once.
    #[track_caller]
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut command = Command::new("python3");
        command
            .arg("-B")
            .arg(script("load.py"))
            .args([address.ip().to_string(), address.port().to_string()])
            .args([CLIENTS.to_string(), MESSAGES.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Running::spawn(&mut command);
        let commands = process.0.stdin.take().unwrap();
        let answers = BufReader::new(process.0.stdout.take().unwrap());
        let mut load = Self {
            _process: process,
            commands,
            answers,
        };
        assert_eq!(load.answer(), "open");
        load
    }

    /// Those that begin from now on are late.
    #[track_caller]
    pub(crate) fn mark(&mut self) {
        writeln!(self.commands, "mark").unwrap();
    }

    /// Waits until so many more connections have come to a good end that began after the mark.
    #[track_caller]
    pub(crate) fn wait_for_late(&mut self, more: u64) {
        let begin = self.report().late("done");
        let deadline = Instant::now() + LIMIT;
        loop {
            let numbers = self.report();
            if numbers.late("done") >= begin + more {
                return;
            }
            assert!(Instant::now() < deadline, "{numbers:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// All end what they have begun.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Numbers {
        self.ask("stop")
    }

    #[track_caller]
    fn report(&mut self) -> Numbers {
        self.ask("report")
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> Numbers {
        writeln!(self.commands, "{command}").unwrap();
        let answer = self.answer();
        let pairs = answer.split(' ').filter_map(|pair| pair.split_once('='));
        let numbers = pairs.map(|(name, number)| (name.to_owned(), number.parse().unwrap()));
        Numbers(numbers.collect())
    }

    /// Its own waits are bounded, so it answers or ends.
    #[track_caller]
    fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Numbers {
    pub(crate) fn early(&self, kind: &str) -> u64 {
        self.0[&format!("early_{kind}")]
    }

    pub(crate) fn late(&self, kind: &str) -> u64 {
        self.0[&format!("late_{kind}")]
    }

    /// Connections that got all back, and then the end.
    pub(crate) fn done(&self) -> u64 {
        self.early("done") + self.late("done")
    }

    /// What they got back.
    pub(crate) fn bytes(&self) -> u64 {
        self.0["bytes"]
    }

    #[track_caller]
    pub(crate) fn assert_nobody_failed(&self) {
        self.assert_others_served(&[]);
    }

    /// Nobody failed but in these ways.
    #[track_caller]
    pub(crate) fn assert_others_served(&self, expected: &[&str]) {
        let fine = ["early_done", "late_done", "bytes"];
        for (name, number) in &self.0 {
            let is_fine = fine.iter().chain(expected).any(|known| known == name);
            assert!(is_fine || *number == 0, "{self:?}");
        }
    }
}

/// What each says on one connection. With ten of them a connection lives a second or two.
const MESSAGES: u32 = 10;
const LIMIT: Duration = Duration::from_secs(90);
