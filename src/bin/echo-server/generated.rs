//! The manual page and the completions, made of what the arguments say of themselves.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::{Generated, NAME, Options};

/// Writes it to stdout, or says why that takes nothing.
pub(crate) fn write(what: Generated) -> io::Result<()> {
    let mut text = Vec::new();
    match shell(what) {
        None => Man::new(Options::command()).render(&mut text)?,
        Some(shell) => {
            clap_complete::generate(shell, &mut Options::command(), NAME, &mut text);
        }
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}

fn shell(what: Generated) -> Option<Shell> {
    match what {
        Generated::Man => None,
        Generated::Bash => Some(Shell::Bash),
        Generated::Zsh => Some(Shell::Zsh),
        Generated::Fish => Some(Shell::Fish),
    }
}
