//! systemd's user instance, with units of our own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::common::peers::{self, script};
use crate::process::Running;
use crate::server::BINARY;

pub(crate) struct Manager {
    process: Running,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Manager {
    /// Where its units find the server: the folder of the build is closed to some of them.
    pub(crate) const PROGRAM: &str = "/run/echo-server";

    /// With the units in a folder. `None`, with a line that says so, where this machine has none or
    /// does not allow it.
    pub(crate) fn start(units: &Path) -> Option<Self> {
        if !peers::require("systemctl", "systemd") || !peers::require("unshare", "util-linux") {
            return None;
        }
        let mut process = Running::spawn(
            Command::new("unshare")
                .args([
                    "--mount",
                    "--pid",
                    "--mount-proc",
                    "--fork",
                    "--kill-child",
                    "sh",
                ])
                .arg(script("systemd.sh"))
                .args([units, Path::new(BINARY)])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        );
        let commands = process.0.stdin.take().unwrap();
        let mut answers = BufReader::new(process.0.stdout.take().unwrap());
        let mut first = String::new();
        answers.read_line(&mut first).unwrap();
        if first.trim_end() != "up" {
            peers::skip("no service manager of one's own is permitted (unshare, systemd --user)");
            return None;
        }
        Some(Self {
            process,
            commands,
            answers,
        })
    }

    /// Has `systemctl` do it, and gives what that prints.
    #[track_caller]
    pub(crate) fn ask(&mut self, arguments: &str) -> String {
        let (output, status) = self.try_ask(arguments);
        assert_eq!(status, "0", "systemctl {arguments}: {output}");
        output
    }

    /// Whether a unit is active, in systemd's word.
    #[track_caller]
    pub(crate) fn state(&mut self, unit: &str) -> String {
        self.ask(&format!("show -P ActiveState {unit}"))
    }

    /// Stops all units.
    #[track_caller]
    pub(crate) fn end(self) {
        let Self {
            mut process,
            commands,
            ..
        } = self;
        drop(commands);
        assert!(process.wait().success());
    }

    fn try_ask(&mut self, arguments: &str) -> (String, String) {
        writeln!(self.commands, "{arguments}").unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "systemd is gone: {lines:?}");
            match line.trim_end().strip_prefix("status ") {
                Some(status) => return (lines.join("\n"), status.to_owned()),
                None => lines.push(line.trim_end().to_owned()),
            }
        }
    }
}
