//! Makes a failing script small.
//!
//! What is left out changes what asyncio does, so asyncio does each smaller script again.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};

use crate::common::peers;
use crate::recording::Kind;
use crate::rules::Fired;

/// The smallest script with a difference that can be found by leaving steps out, and the
/// difference.
pub(crate) fn describe(kind: &Kind, line: &str, difference: &str) -> String {
    if !peers::require("python3", "python3") {
        return format!("not made smaller: {line}\n  {difference}");
    }
    let mut again = Again::new(kind);
    let mut smallest = (line.to_owned(), difference.to_owned());
    let (head, mut steps) = (kind.split)(line);
    let mut chunk = steps.len();
    while chunk > 0 {
        let mut at = 0;
        while at < steps.len() {
            let end = (at + chunk).min(steps.len());
            let fewer = [&steps[..at], &steps[end..]].concat();
            let recording = again.record(&format!("{head}{}", fewer.concat()));
            let outcome = match recording.is_empty() {
                // asyncio waits for something that does not come.
                true => Ok(()),
                false => kind.try_replay(&recording, &mut Fired::default()),
            };
            match outcome {
                Err(difference) => {
                    // What asyncio could not do is left out as well.
                    steps = (kind.split)(&recording).1;
                    smallest = (recording, difference);
                }
                Ok(()) => at = end,
            }
        }
        chunk /= 2;
    }
    format!("{}\n  {}", smallest.0, smallest.1)
}

/// asyncio, ready to do scripts again.
pub(crate) struct Again {
    output: BufReader<std::process::ChildStdout>,
    input: std::process::ChildStdin,
    _child: peers::Child,
}

impl Again {
    pub(crate) fn new(kind: &Kind) -> Self {
        let args = ["-B", RECORDER, "--again", kind.name].map(OsStr::new);
        let mut child = peers::Child::spawn("python3", &args);
        Self {
            output: BufReader::new(child.stdout()),
            input: child.stdin(),
            _child: child,
        }
    }

    pub(crate) fn record(&mut self, script: &str) -> String {
        writeln!(self.input, "{script}").expect("the recorder to listen");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line of text");
        line.trim_end().to_owned()
    }
}

pub(crate) const RECORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/record.py");
