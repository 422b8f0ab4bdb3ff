//! Where recordings come from, and how a file of them is replayed.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use crate::rules::{Fired, Tally};
use crate::shrink::{self, Again};

/// One kind of script.
pub(crate) struct Kind {
    /// The name of its file, and what `record.py --again` is told.
    pub(crate) name: &'static str,
    /// Whether asyncio does each script again, here and now, before we do.
    pub(crate) live: bool,
    /// How a line is cut into what can be left out: the head stays.
    pub(crate) split: fn(&str) -> (String, Vec<String>),
    /// Replays a line; the error says what is different.
    pub(crate) replay: fn(&str, &mut Fired) -> Result<(), String>,
}

impl Kind {
    /// Replays a line; a panic is a difference like any other.
    pub(crate) fn try_replay(&self, line: &str, fired: &mut Fired) -> Result<(), String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.replay)(line, fired)));
        outcome.unwrap_or_else(|payload| {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(format!("it panics: {}", text.unwrap_or_default()))
        })
    }
}

/// Replays every file of this kind.
pub(crate) fn replay_all(kind: &Kind) {
    let folders = match env::var_os("EVLOOP_GOLDEN") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => stored(),
    };
    for folder in folders {
        replay_file(kind, folder.join(kind.name).with_extension("txt"));
    }
}

/// The recordings in the repository, a folder for each version of CPython.
fn stored() -> Vec<PathBuf> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "recordings"]
        .iter()
        .collect();
    let mut folders: Vec<_> = fs::read_dir(&folder)
        .expect("a folder of recordings")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no recordings in {folder:?}");
    folders
}

fn replay_file(kind: &Kind, path: PathBuf) {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let (header, text) = text.split_once('\n').expect("a first line");
    assert!(
        header.starts_with(&format!("# evloop golden {}: CPython ", kind.name)),
        "not a recording: {header}"
    );
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        header.ends_with(&format!(" {} scripts", lines.len())),
        "{path:?} is not whole"
    );
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut steps = 0;
    let mut different = Vec::new();
    let mut again = kind.live.then(|| Again::new(kind));
    let mut same = 0;
    for &line in &lines {
        let live = again.as_mut().map(|again| again.record(line));
        same += usize::from(live.as_deref() == Some(line));
        let line = live.unwrap_or_else(|| line.to_owned());
        steps += (kind.split)(&line).1.len();
        let mut fired = Fired::default();
        if let Err(difference) = kind.try_replay(&line, &mut fired) {
            different.push((line, difference));
            if kind.live {
                // Each one is waited for, in vain.
                break;
            }
        }
        tally.add(fired);
    }
    println!(
        "{header}\n  {} scripts, {steps} operations, {:.1} s",
        lines.len(),
        began.elapsed().as_secs_f32()
    );
    if kind.live {
        println!("  asyncio did {same} of them as they are recorded");
    }
    if !different.is_empty() {
        let shown: Vec<String> = different
            .iter()
            .take(SHOWN)
            .map(|(line, difference)| shrink::describe(kind, line, difference))
            .collect();
        panic!(
            "{}{} of {} scripts in {path:?} are different\n{}",
            if kind.live { "at least " } else { "" },
            different.len(),
            lines.len(),
            shown.join("\n")
        );
    }
    tally.report(lines.len());
}

/// How many differences are made small and shown.
const SHOWN: usize = 3;
