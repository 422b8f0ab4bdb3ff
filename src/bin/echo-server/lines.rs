//! Lines on stderr that hold up no loop: a thread writes them, and it is that thread which waits
//! when nobody reads.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::arguments::NAME;

/// Where they go in.
#[derive(Debug)]
pub(crate) struct Lines {
    /// `None` after the last one.
    given: Option<Sender<String>>,
    unwritten: Arc<AtomicUsize>,
    /// Disconnected when the last one is out.
    written: Receiver<()>,
}

impl Lines {
    pub(crate) fn new() -> io::Result<Self> {
        let (given, taken) = mpsc::channel::<String>();
        let (until_written, written) = mpsc::channel::<()>();
        let unwritten = Arc::<AtomicUsize>::default();
        let waiting = Arc::clone(&unwritten);
        thread::Builder::new()
            .name("stats".to_owned())
            .spawn(move || {
                let _until_written = until_written;
                for line in taken {
                    tell(&line);
                    waiting.fetch_sub(1, AcqRel);
                }
            })?;
        Ok(Self {
            given: Some(given),
            unwritten,
            written,
        })
    }

    /// Whether one still waits for its reader. Whoever adds others then needs room for all.
    pub(crate) fn is_stuck(&self) -> bool {
        self.unwritten.load(Acquire) > 0
    }

    pub(crate) fn tell(&self, line: String) {
        if let Some(given) = &self.given {
            self.unwritten.fetch_add(1, AcqRel);
            // The thread ends after us.
            let _ = given.send(line);
        }
    }

    /// Waits for a moment until it is out. It is not told if nobody reads for so long.
    pub(crate) fn tell_last(&mut self, line: String) {
        self.tell(line);
        self.given = None;
        let _ = self.written.recv_timeout(PATIENCE);
    }
}

fn tell(line: &str) {
    // A stderr that is gone is no reason to stop serving.
    let _ = writeln!(io::stderr(), "{NAME}: {line}");
}

const PATIENCE: Duration = Duration::from_secs(1);
