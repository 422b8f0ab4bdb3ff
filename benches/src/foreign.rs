//! The programs that cargo does not build: libuv's server and the Python ones.
//!
//! What they need is put into a scratch directory once and found there the next time. Where it
//! cannot be had, the answer is a sentence that says why, for the list of what was left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;

/// The version that is compared; a later run with another one would not be the same comparison.
const UVLOOP: &str = "uvloop==0.23.0";

/// The file of this package at `path`.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// libuv's server, compiled into `scratch`.
pub fn libuv(scratch: &Path) -> Result<PathBuf, String> {
    let source = source("c/serve_libuv.c");
    let program = scratch.join("serve_libuv");
    if is_newer(&program, &source) {
        return Ok(program);
    }
    tools::find("pkg-config")?;
    tools::find("cc")?;
    let flags = output(Command::new("pkg-config").args(["--cflags", "--libs", "libuv"]))
        .map_err(|fault| format!("no libuv (Debian package libuv1-dev): {fault}"))?;
    // Under another name first, so that nobody running beside us finds half of it.
    let unfinished = scratch.join(format!("serve_libuv.{}", std::process::id()));
    output(
        Command::new("cc")
            .args(["-std=gnu11", "-O3", "-Wall", "-Wextra", "-o"])
            .args([&unfinished, &source])
            .args(flags.split_whitespace()),
    )
    .and_then(|_| fs::rename(&unfinished, &program).map_err(|error| error.to_string()))
    .map_err(|fault| format!("libuv's server does not compile: {fault}"))?;
    Ok(program)
}

/// The `python3` that is there: enough for asyncio. The interpreter itself and not a script that
/// finds it, because it may be run by tools that look into a program.
pub fn python() -> PathBuf {
    let executable = ["-c", "import sys; print(sys.executable)"];
    output(Command::new("python3").args(executable))
        .map_or_else(|_| PathBuf::from("python3"), |path| path.trim().into())
}

/// A `python3` that has uvloop: the one that is there, or an environment made in `scratch`.
pub fn python_with_uvloop(scratch: &Path) -> Result<PathBuf, String> {
    let environment = scratch.join("python");
    let made = environment.join("bin/python3");
    for python in [python(), made.clone()] {
        if output(Command::new(&python).args(["-c", "import uvloop"])).is_ok() {
            return Ok(python);
        }
    }
    output(
        Command::new(python())
            .args(["-m", "venv", "--clear"])
            .arg(&environment),
    )
    .map_err(|fault| format!("no environment for uvloop: {fault}"))?;
    let pip = ["-m", "pip", "install", "--quiet", "--timeout", "15"];
    output(
        Command::new(&made)
            .args(pip)
            .args(["--retries", "1", UVLOOP]),
    )
    .map_err(|fault| format!("no uvloop: {fault}"))?;
    Ok(made)
}

fn is_newer(made: &Path, source: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    matches!((modified(made), modified(source)), (Ok(made), Ok(source)) if made > source)
}

/// What the command printed, or the last line of its complaint.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().last().unwrap_or("no word about why");
    Err(format!("{name}: {last}"))
}
