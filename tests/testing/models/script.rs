//! Sequences of operations: made up from a seed, and made small when they fail.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use evloop::testing::Random;

/// What is done, in order.
#[derive(Clone)]
pub(crate) struct Script<S> {
    pub(crate) steps: Vec<S>,
}

impl<S: Clone + fmt::Debug> Script<S> {
    pub(crate) fn make(random: &mut Random, most: usize, step: impl Fn(&mut Random) -> S) -> Self {
        let count = random.within(1..=most);
        let steps = (0..count).map(|_| step(random)).collect();
        Self { steps }
    }

    /// Runs it. If it fails, it is made smaller for as long as it still does, and then that is the
    /// panic.
    #[track_caller]
    pub(crate) fn check(self, run: impl Fn(&Self) -> Result<(), String>) {
        let run = |script: &Self| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(script)));
            outcome.unwrap_or_else(|_| Err("it has panicked: see above".to_owned()))
        };
        let Err(mut why) = run(&self) else {
            return;
        };
        let (mut small, mut before) = (self, usize::MAX);
        while small.steps.len() < before {
            before = small.steps.len();
            for at in (0..before).rev() {
                let mut fewer = small.clone();
                fewer.steps.remove(at);
                if let Err(still) = run(&fewer) {
                    (small, why) = (fewer, still);
                }
            }
        }
        panic!("{why}\n{small}");
    }
}

impl<S: fmt::Debug> fmt::Display for Script<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("after:")?;
        for step in &self.steps {
            write!(f, "\n  {step:?}")?;
        }
        Ok(())
    }
}
