//! A stream's reader against a naive one: `src/fuzzing/reader.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| evloop::fuzzing::reader(bytes));
