//! A program with which a test talks: what it is told, and everything that it prints. Each of its
//! outputs has an order of its own; a line of one may come while half a line of the other is there.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::common::{PATIENCE, in_thread, wait_for};

/// A running program. It does not outlive the test.
pub(crate) struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Arc<Heard>,
    /// What stands before this in each output was seen.
    seen: [usize; OUTPUTS],
    /// Where something was seen last.
    last: usize,
}

/// What a program printed, on both of its outputs.
#[derive(Default)]
struct Heard {
    so_far: Mutex<Text>,
    changed: Condvar,
}

#[derive(Default)]
struct Text {
    outputs: [Vec<u8>; OUTPUTS],
    /// How many of its outputs have ended.
    ended: usize,
}

impl Talk {
    #[track_caller]
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let heard = Arc::new(Heard::default());
        heard.listen(0, child.stdout.take().expect("a pipe"));
        heard.listen(1, child.stderr.take().expect("a pipe"));
        Self {
            stdin: child.stdin.take(),
            child,
            heard,
            seen: [0; OUTPUTS],
            last: 0,
        }
    }

    /// Says a line to it.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input");
        // In one piece: some look at what each read brings.
        let line = format!("{line}\n");
        stdin
            .write_all(line.as_bytes())
            .expect("the program to listen");
    }

    /// Ends its standard input.
    pub(crate) fn hang_up(&mut self) {
        drop(self.stdin.take());
    }

    /// Waits until it has printed `text`, behind what was waited for before. What stands between.
    pub(crate) async fn see(&mut self, text: &str) -> String {
        self.see_in(0..OUTPUTS, text).await
    }

    async fn see_in(&mut self, outputs: Range<usize>, text: &str) -> String {
        let (heard, seen, wanted) = (Arc::clone(&self.heard), self.seen, text.to_owned());
        match in_thread(move || heard.find(outputs, seen, wanted.as_bytes())).await {
            Ok((before, output, next)) => {
                self.seen[output] = next;
                self.last = output;
                before
            }
            Err(transcript) => panic!("{text:?} was never printed:\n{transcript}"),
        }
    }

    /// Waits for the address that it prints behind `text`, with a newline behind it.
    pub(crate) async fn see_address(&mut self, text: &str) -> SocketAddr {
        self.see(text).await;
        let address = self.see_in(self.last..self.last + 1, "\n").await;
        address.trim().parse().expect("an address")
    }

    /// Waits for its end: its exit code, and everything that it printed.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let heard = Arc::clone(&self.heard);
        let (is_over, transcript) = in_thread(move || heard.all()).await;
        assert!(is_over, "the program does not end:\n{transcript}");
        let status = wait_for("its outputs are closed, so its end is near", || {
            self.child.try_wait().expect("to wait for a child")
        });
        (status.code(), transcript)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        // The child is ours and not waited for, so the number is still its own.
        let script = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("a shell").success());
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Heard {
    fn listen(self: &Arc<Self>, number: usize, mut output: impl Read + Send + 'static) {
        let heard = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(size @ 1..) = output.read(&mut buffer) {
                let mut text = heard.so_far.lock().expect("the text");
                text.outputs[number].extend_from_slice(&buffer[..size]);
                heard.changed.notify_all();
            }
            heard.so_far.lock().expect("the text").ended += 1;
            heard.changed.notify_all();
        });
    }

    /// What stands between `from` and `wanted` in one of the outputs, in which, and where the latter
    /// ends. Everything, if it never comes.
    fn find(
        &self,
        outputs: Range<usize>,
        from: [usize; OUTPUTS],
        wanted: &[u8],
    ) -> Result<(String, usize, usize), String> {
        self.wait(|text| {
            outputs.clone().find_map(|output| {
                let rest = &text.outputs[output][from[output]..];
                let at = rest
                    .windows(wanted.len())
                    .position(|window| window == wanted)?;
                let before = String::from_utf8_lossy(&rest[..at]).into_owned();
                Some((before, output, from[output] + at + wanted.len()))
            })
        })
    }

    /// Whether it ended, and everything until then.
    fn all(&self) -> (bool, String) {
        let nothing = self.wait(|_| None::<()>);
        let transcript = nothing.expect_err("nothing was looked for");
        let is_over = self.so_far.lock().expect("the text").ended == OUTPUTS;
        (is_over, transcript)
    }

    /// Looks again whenever more is there. Everything, if nothing is found until its end.
    fn wait<T>(&self, mut look: impl FnMut(&Text) -> Option<T>) -> Result<T, String> {
        // Sooner than whoever waits for the thread.
        let deadline = Instant::now() + PATIENCE / 2;
        let mut text = self.so_far.lock().expect("the text");
        loop {
            if let Some(found) = look(&text) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if text.ended == OUTPUTS || left.is_zero() {
                return Err(String::from_utf8_lossy(&text.outputs.concat()).into_owned());
            }
            text = self.changed.wait_timeout(text, left).expect("the text").0;
        }
    }
}

/// Standard output and standard error.
const OUTPUTS: usize = 2;
