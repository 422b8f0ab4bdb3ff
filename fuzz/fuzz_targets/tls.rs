//! A client and a server, and somebody between them: `src/fuzzing/tls.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| evloop::fuzzing::tls(bytes));
