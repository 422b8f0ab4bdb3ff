//! How much a reader may hold, said before there is a reader.
//!
//! Owns: [`Limit`]. Why: a builder of streams makes the factory of its protocols first and is told
//! the limit afterwards, so the two share it. Invariants: a limit that makes no reader is refused
//! before anything is connected or bound. asyncio's counterpart: the argument `limit`.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use crate::streams::reader::StreamReader;

/// What a builder was told; each clone is the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit(Rc<Cell<Option<usize>>>);

impl Limit {
    pub(crate) fn set(&self, limit: usize) {
        self.0.set(Some(limit));
    }

    /// Refuses a limit with which there is no reader.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.make().map(drop)
    }

    /// A reader with the limit that holds by now.
    pub(crate) fn reader(&self) -> StreamReader {
        // One that makes none was refused before anybody was to read.
        self.make().unwrap_or_default()
    }

    fn make(&self) -> io::Result<StreamReader> {
        self.0
            .get()
            .map_or_else(|| Ok(StreamReader::new()), StreamReader::with_limit)
    }
}
