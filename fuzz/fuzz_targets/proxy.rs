//! A header of a proxy, or what somebody sends instead of one: `src/fuzzing/proxy.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| evloop::fuzzing::proxy(bytes));
