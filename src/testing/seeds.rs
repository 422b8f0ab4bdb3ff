//! Many runs, and the one that failed.
//!
//! Owns: [`explore`], and [`for_each_seed`], on which it stands. Why: a run that fails is worth nothing
//! if nobody can see it again. Invariants: the seed of a failure is printed, whatever the failure is.
//! asyncio's counterpart: none.

use std::env;
use std::io;
use std::panic::resume_unwind;

use crate::event_loop::door::catch;
use crate::testing::simulation::Simulation;

/// Runs `scenario` in a world of its own for each of these seeds, and fails with the first of them
/// that fails. That is the way to use a [`Simulation`] in a test.
///
/// With the environment variable `SEED` only that one is run: the failing one is printed so that it
/// can be copied.
///
/// # Panics
///
/// If a run returns an error, after having printed its seed; if `SEED` is no number; if there are no
/// seeds. A panic of the scenario passes through, after its seed was printed.
///
/// ```
/// use evloop::sleep;
/// use evloop::testing::{Conditions, explore};
///
/// explore(0..20, |simulation| {
///     simulation.network().set_conditions(Conditions::storm())?;
///     let host = simulation.host("only");
///     simulation.run_until_complete(&host, sleep(std::time::Duration::from_secs(60)))??;
///     Ok(())
/// });
/// ```
#[track_caller]
pub fn explore(
    seeds: impl IntoIterator<Item = u64>,
    mut scenario: impl FnMut(&mut Simulation) -> io::Result<()>,
) {
    for_each_seed(seeds, |seed| scenario(&mut Simulation::new(seed)));
}

/// Has each of these seeds run, or the one that `SEED` names, and says which one has failed.
#[track_caller]
#[expect(clippy::print_stderr, reason = "it speaks to whoever runs the test")]
pub(super) fn for_each_seed(
    seeds: impl IntoIterator<Item = u64>,
    mut scenario: impl FnMut(u64) -> io::Result<()>,
) {
    let mut count = 0;
    let mut run = |seed| {
        count += 1;
        let outcome = catch(|| scenario(seed));
        let again = || eprintln!("seed {seed} failed; SEED={seed} runs it again, and no other");
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                again();
                panic!("seed {seed}: {error}");
            }
            Err(payload) => {
                again();
                resume_unwind(payload);
            }
        }
    };
    match env::var("SEED") {
        Ok(seed) => match seed.trim().parse() {
            Ok(seed) => run(seed),
            Err(_) => panic!("SEED={seed}: a seed is a number from 0 to {}", u64::MAX),
        },
        Err(_) => seeds.into_iter().for_each(run),
    }
    assert!(count > 0, "without a seed nothing is run");
}
