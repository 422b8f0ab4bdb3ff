//! The benchmark command.

mod report;
mod results;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// `--render FILE [--docs REPOSITORY]`; without a file, an empty run.
fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let run = match value("--render") {
        Some(file) => serde_json::from_str(&fs::read_to_string(file)?)?,
        None => results::Run::default(),
    };
    if let Some(repository) = value("--docs") {
        report::write_docs(&run, Path::new(repository))?;
    }
    io::stdout().write_all(report::markdown(&run).as_bytes())
}
