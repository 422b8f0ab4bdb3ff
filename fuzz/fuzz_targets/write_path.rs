//! Writes, and a system that takes what it likes: `src/fuzzing/write_path.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| evloop::fuzzing::write_path(bytes));
