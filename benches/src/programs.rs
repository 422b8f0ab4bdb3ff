//! Makes the server programs that are not made yet, and says which cannot be.
//!
//! Cargo builds only the command itself when it runs it, so the command asks for the rest; C is
//! compiled where libuv is installed, and uvloop goes into a scratch environment. Everything
//! lands beside the command, in cargo's target directory.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use evloop_benches::foreign;

use crate::machine::first_line;
use crate::participants::{Participant, Program};

/// How to start each kind of server, or a sentence why not.
pub struct Programs {
    /// Where cargo puts programs.
    folder: PathBuf,
    libuv: Result<PathBuf, String>,
    uvloop: Result<PathBuf, String>,
}

impl Programs {
    /// Builds what these participants need.
    pub fn prepare(participants: &[Participant]) -> io::Result<Self> {
        let command = env::current_exe()?;
        let folder = command.parent().unwrap_or(Path::new(".")).to_owned();
        build_servers(&folder, participants)?;
        let needs = |program| participants.iter().any(|one| one.program == program);
        let not_asked = || Err("was not asked for".to_owned());
        Ok(Self {
            libuv: if needs(Program::Libuv) {
                foreign::libuv(&folder)
            } else {
                not_asked()
            },
            uvloop: if needs(Program::Uvloop) {
                foreign::python_with_uvloop(&folder)
            } else {
                not_asked()
            },
            folder,
        })
    }

    /// Where cargo puts programs, and where there is room for files of our own.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The program and its arguments for a participant's server.
    pub fn command_line(
        &self,
        participant: &Participant,
        work: &str,
        buffer: usize,
    ) -> Result<Vec<String>, String> {
        let script = foreign::source("python/serve.py");
        let program = match participant.program {
            Program::Cargo(name) => Ok(vec![self.folder.join(name)]),
            Program::Libuv => self.libuv.clone().map(|program| vec![program]),
            Program::Asyncio => Ok(vec![foreign::python(), script]),
            Program::Uvloop => self.uvloop.clone().map(|python| vec![python, script]),
        }?;
        let program = program.iter().map(|path| path.display().to_string());
        let arguments = participant.arguments.iter().map(|&part| part.to_owned());
        let contract = ["--work", work, "--buffer"].map(str::to_owned);
        Ok(program
            .chain(arguments)
            .chain(contract)
            .chain([buffer.to_string()])
            .collect())
    }

    /// Versions of what is not a crate: name and version.
    pub fn versions(&self) -> Vec<(String, String)> {
        let libuv = self
            .libuv
            .is_ok()
            .then(|| first_line(Command::new("pkg-config").args(["--modversion", "libuv"])));
        let python = "import platform; print(platform.python_version())";
        let python = first_line(Command::new(foreign::python()).args(["-c", python]));
        let uvloop = self.uvloop.iter().map(|python| {
            first_line(
                Command::new(python).args(["-c", "import uvloop; print(uvloop.__version__)"]),
            )
        });
        libuv
            .into_iter()
            .map(|version| ("libuv", version))
            .chain([("CPython", python)])
            .chain(uvloop.map(|version| ("uvloop", version)))
            .filter(|(_, version)| !version.is_empty())
            .map(|(name, version)| (name.to_owned(), version))
            .collect()
    }
}

/// Builds the server programs of these participants.
fn build_servers(folder: &Path, participants: &[Participant]) -> io::Result<()> {
    let mut names: Vec<_> = participants
        .iter()
        .filter_map(|one| match one.program {
            Program::Cargo(name) => Some(name),
            _ => None,
        })
        .collect();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    eprintln!("building the servers");
    let arguments: Vec<_> = names.iter().flat_map(|name| ["--bin", name]).collect();
    cargo_build(folder, &arguments)
}

/// Builds programs of this package, in the profile that the command itself was built in.
pub fn cargo_build(folder: &Path, arguments: &[&str]) -> io::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(foreign::source("Cargo.toml"));
    // Beside the command itself, wherever it was built: those are the programs that are started.
    if let Some(target) = folder.parent() {
        build.arg("--target-dir").arg(target);
    }
    if folder.ends_with("release") {
        build.arg("--release");
    }
    build.args(arguments);
    // Standard output is for the tables.
    let status = build.stdout(io::stderr()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other("cargo could not build it"))
    }
}
