//! What hostile and unlucky input may do to the library: one function for each fuzz target.
//!
//! Owns: the targets, which take any bytes and panic where a promise is broken, and the replay of
//! what they have found. Why: a target that is a plain function can be called by the fuzzer, which
//! needs a nightly compiler, and by `cargo test`, which does not. Invariants: in no build of the
//! library but the fuzzer's, which sets `cfg(fuzzing)`, and the tests'; the same bytes do the same
//! thing every time, but for the random numbers of TLS. asyncio's counterpart: none.
//!
//! The parts that are fuzzed are no public items, hence a module in here instead of a package
//! beside: what is public under `cfg(fuzzing)` is one function that takes bytes, for each target.
//! `fuzz/` has the fuzzer's side.

mod event_loop;
#[cfg(feature = "proxy")]
mod proxy;
mod reader;
mod script;
#[cfg_attr(
    not(all(feature = "proxy", feature = "tls")),
    allow(dead_code, reason = "not every target asks for all of it")
)]
mod stage;
#[cfg(feature = "tls")]
mod tls;
mod write_path;

pub use self::event_loop::event_loop;
#[cfg(feature = "proxy")]
pub use self::proxy::proxy;
pub use self::reader::reader;
#[cfg(feature = "tls")]
pub use self::tls::tls;
pub use self::write_path::write_path;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::catch_unwind;
    use std::path::Path;

    /// What was once found, and what the fuzzer begins with.
    #[track_caller]
    fn replay(name: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpora")
            .join(name);
        let mut replayed = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let held = catch_unwind(|| target(&bytes)).is_ok();
            assert!(held, "broken by {}", path.display());
            replayed += 1;
        }
        assert!(replayed > 0, "nothing to replay for {name}");
    }

    /// Input that nobody has chosen, the same every time: enough to see that a target runs.
    fn try_any(target: fn(&[u8])) {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..ROUNDS {
            let bytes = (0..round).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            });
            target(&bytes.collect::<Vec<u8>>());
        }
    }

    const ROUNDS: usize = if cfg!(miri) { 8 } else { 300 };

    #[test]
    fn the_loop_keeps_its_promises_whatever_the_world_does() {
        replay("event_loop", super::event_loop);
        try_any(super::event_loop);
    }

    #[test]
    fn the_reader_keeps_its_promises() {
        replay("reader", super::reader);
        try_any(super::reader);
    }

    #[test]
    fn the_write_path_keeps_its_promises() {
        replay("write_path", super::write_path);
        try_any(super::write_path);
    }

    #[cfg(feature = "proxy")]
    #[test]
    fn the_header_of_a_proxy_takes_nothing_else() {
        replay("proxy", super::proxy);
        try_any(super::proxy);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_believes_nobody_between_its_two_ends() {
        replay("tls", super::tls);
        try_any(super::tls);
    }
}
