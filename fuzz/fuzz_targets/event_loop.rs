//! The whole loop in a simulated world: `src/fuzzing/event_loop.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| evloop::fuzzing::event_loop(bytes));
