//! What is asked for on the command line.

use std::ffi::OsString;
use std::time::Duration;

pub(crate) struct Arguments {
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
}

pub(crate) const USAGE: &str = "usage: soak --seconds N --seed S";

impl Arguments {
    /// Takes them apart; an error says what makes no sense.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut seconds, mut seed) = (None, None);
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let slot = match name.to_str() {
                Some("--seconds") => &mut seconds,
                Some("--seed") => &mut seed,
                _ => return Err(format!("{name:?} is no option")),
            };
            let name = name.to_string_lossy();
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a number"))?;
            let number = value.to_str().and_then(|value| value.parse().ok());
            let number = number.ok_or_else(|| format!("{name} is a number, and not {value:?}"))?;
            if slot.replace(number).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        let seconds = seconds.ok_or("--seconds is missing")?;
        if !(1..=MOST_SECONDS).contains(&seconds) {
            return Err(format!("--seconds is between 1 and {MOST_SECONDS}"));
        }
        Ok(Self {
            duration: Duration::from_secs(seconds),
            seed: seed.ok_or("--seed is missing")?,
        })
    }
}

/// A week.
const MOST_SECONDS: u64 = 7 * 24 * 3600;
