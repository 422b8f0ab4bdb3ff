//! Makes the programs that are not made yet, and says which cannot be.
//!
//! Cargo builds only the command itself when it runs it, so the command asks for the rest; C is
//! compiled where libuv is installed, and uvloop goes into a scratch environment. Everything
//! lands beside the command, in cargo's target directory.

use std::collections::HashMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use evloop_benches::contract::{CHUNK, Transport};
use evloop_benches::foreign;

use crate::cells::Shape;
use crate::machine::first_line;
use crate::participants::{Participant, Program};

/// How to start each kind of program, or a sentence why not.
pub struct Programs {
    /// Where cargo puts programs.
    folder: PathBuf,
    libuv: Result<PathBuf, String>,
    uvloop: Result<PathBuf, String>,
    /// Of those behind a feature, the ones that could not be built, and why.
    unbuilt: HashMap<&'static str, String>,
}

impl Programs {
    /// Builds these, whoever needs them: when the clock starts everything is there.
    pub fn prepare(programs: &[Program]) -> io::Result<Self> {
        let command = env::current_exe()?;
        let folder = command.parent().unwrap_or(Path::new(".")).to_owned();
        build(&folder, programs)?;
        let asked = |program| match programs.contains(&program) {
            true => Ok(()),
            false => Err("it was not asked for".to_owned()),
        };
        Ok(Self {
            libuv: asked(Program::Libuv).and_then(|()| foreign::libuv(&folder)),
            uvloop: asked(Program::Uvloop).and_then(|()| foreign::python_with_uvloop(&folder)),
            unbuilt: build_with_features(&folder, programs),
            folder,
        })
    }

    /// Where cargo puts programs, and where there is room for files of our own.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How a program is started; where it is in Python, it is the script of this name.
    pub fn start(&self, program: Program, script: &str) -> Result<Vec<String>, String> {
        let script = foreign::source("python").join(script);
        let words = match program {
            Program::Cargo(name) => vec![self.folder.join(name)],
            Program::Feature(name, _) => match self.unbuilt.get(name) {
                Some(reason) => return Err(reason.clone()),
                None => vec![self.folder.join(name)],
            },
            Program::Libuv => vec![self.libuv.clone()?],
            Program::Asyncio => vec![foreign::python(), script],
            Program::Uvloop => vec![self.uvloop.clone()?, script],
        };
        let words = words.iter().map(|path| path.display().to_string());
        Ok(words.collect())
    }

    /// The program and its arguments for a participant's server.
    pub fn command_line(
        &self,
        participant: &Participant,
        listen: Transport,
        shape: Shape,
    ) -> Result<Vec<String>, String> {
        let work = participant.work(listen, shape).unwrap_or(shape.work());
        let program = self.start(participant.program, "serve.py")?;
        let arguments = participant.arguments.iter().map(|&part| part.to_owned());
        let write = match shape {
            // Those who are asked for another size know what that is.
            Shape::Download { write } if write != CHUNK => {
                vec!["--write".to_owned(), write.to_string()]
            }
            _ => Vec::new(),
        };
        let contract = ["--listen", listen.name(), "--work", work, "--buffer"];
        Ok(program
            .into_iter()
            .chain(arguments)
            .chain(contract.map(str::to_owned))
            .chain([participant.buffer(shape).to_string()])
            .chain(write)
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

/// Builds those of this package that need nothing but cargo.
fn build(folder: &Path, programs: &[Program]) -> io::Result<()> {
    let mut names: Vec<_> = programs
        .iter()
        .filter_map(|program| match program {
            Program::Cargo(name) => Some(*name),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    eprintln!("building the programs that are compared");
    let arguments: Vec<_> = names.iter().flat_map(|name| ["--bin", name]).collect();
    cargo_build(folder, &arguments)
}

/// Builds those with features, and says which could not be.
fn build_with_features(folder: &Path, programs: &[Program]) -> HashMap<&'static str, String> {
    let mut unbuilt = HashMap::new();
    for program in programs {
        if let Program::Feature(name, feature) = program {
            if let Err(error) = cargo_build(folder, &["--bin", name, "--features", feature]) {
                unbuilt.insert(*name, error.to_string());
            }
        }
    }
    unbuilt
}

/// Builds programs of this package, in the profile that the command itself was built in.
fn cargo_build(folder: &Path, arguments: &[&str]) -> io::Result<()> {
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
