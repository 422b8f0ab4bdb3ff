//! What CPython's asyncio did with generated scripts, replayed against this crate.
//!
//! `tests/golden/record.py` drives asyncio and writes recordings; here the same steps are done
//! with our types, and what is seen is compared with what was seen there. Nothing here knows how
//! asyncio behaves: where we leave it on purpose, a rule says when, and what we do instead. A
//! rule has the name of its row in `docs/asyncio-map.md`. How often each fired is printed; any
//! other difference fails, made as small as possible if `python3` is there.
//!
//! `EVLOOP_GOLDEN=DIR` replays the recordings in DIR instead of those in the repository.
#![allow(
    clippy::print_stdout,
    reason = "how often the rules fired is worth seeing"
)]

mod common;

#[path = "golden/connections.rs"]
mod connections;
#[path = "golden/event_loop.rs"]
mod event_loop;
#[path = "golden/reader.rs"]
mod reader;
#[path = "golden/recording.rs"]
mod recording;
#[path = "golden/rules.rs"]
mod rules;
#[path = "golden/shrink.rs"]
mod shrink;
