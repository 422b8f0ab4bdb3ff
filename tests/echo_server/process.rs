//! Child processes that never outlive a test.

use std::process::{Child, Command, ExitStatus};

use crate::common::wait_for;

/// A child process that is killed when its guard goes.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal by its name, as `INT`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("a child process ends", || self.0.try_wait().unwrap())
    }
}

/// The only child of a process, which is what `strace` looks at.
#[cfg(target_os = "linux")]
#[track_caller]
pub(crate) fn only_child(process: u32) -> u32 {
    let children = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(children).unwrap();
    children.trim().parse().expect("one child")
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is gone already, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal, by its name, to a process.
#[track_caller]
pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {process}")])
        .status()
        .unwrap();
    assert!(status.success(), "kill -s {name} {process}");
}
