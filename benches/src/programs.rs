//! Makes the server programs that are not made yet, and says which cannot be.
//!
//! Cargo builds only the command itself when it runs it, so the command asks for the rest; C is
//! compiled where libuv is installed, and uvloop goes into a scratch environment. Everything
//! lands beside the command, in cargo's target directory.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::participants::{Participant, Program};

/// This package's folder.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// How to start each kind of server, or a sentence why not.
pub struct Programs {
    /// Where cargo puts programs.
    folder: PathBuf,
    libuv: Result<PathBuf, String>,
    asyncio: Result<PathBuf, String>,
    uvloop: Result<PathBuf, String>,
}

impl Programs {
    /// Builds what these participants need.
    pub fn prepare(participants: &[Participant]) -> io::Result<Self> {
        let command = env::current_exe()?;
        let folder = command.parent().unwrap_or(Path::new(".")).to_owned();
        cargo_build(&folder, participants)?;
        let needs = |program| participants.iter().any(|one| one.program == program);
        let not_asked = || Err("was not asked for".to_owned());
        let asyncio = find_python();
        Ok(Self {
            libuv: if needs(Program::Libuv) {
                build_libuv(&folder)
            } else {
                not_asked()
            },
            uvloop: if needs(Program::Uvloop) {
                asyncio.clone().and_then(|python| find_uvloop(&python, &folder))
            } else {
                not_asked()
            },
            asyncio,
            folder,
        })
    }

    /// The program and its arguments for a participant's server.
    pub fn command_line(
        &self,
        participant: &Participant,
        work: &str,
        buffer: usize,
    ) -> Result<Vec<String>, String> {
        let python = |interpreter: &Result<PathBuf, String>| {
            let script = Path::new(PACKAGE).join("python/serve.py");
            interpreter.clone().map(|python| vec![python, script])
        };
        let program = match participant.program {
            Program::Cargo(name) => Ok(vec![self.folder.join(name)]),
            Program::Libuv => self.libuv.clone().map(|program| vec![program]),
            Program::Asyncio => python(&self.asyncio),
            Program::Uvloop => python(&self.uvloop),
        }?;
        if let Some(absent) = program.iter().find(|path| !path.exists()) {
            return Err(format!("{} is not there", absent.display()));
        }
        let program = program.iter().map(|path| path.display().to_string());
        let arguments = participant.arguments.iter().map(|&part| part.to_owned());
        let contract = ["--work", work, "--buffer"].map(str::to_owned);
        Ok(program
            .chain(arguments)
            .chain(contract)
            .chain([buffer.to_string()])
            .collect())
    }
}

/// Builds this package's server programs, in the profile that the command itself was built in.
fn cargo_build(folder: &Path, participants: &[Participant]) -> io::Result<()> {
    let mut names: Vec<_> = participants
        .iter()
        .filter_map(|one| match one.program {
            Program::Cargo(name) => Some(name),
            _ => None,
        })
        .filter(|name| Path::new(PACKAGE).join(format!("src/bin/{name}.rs")).exists())
        .collect();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--manifest-path"]);
    build.arg(Path::new(PACKAGE).join("Cargo.toml"));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    for name in names {
        build.args(["--bin", name]);
    }
    eprintln!("building the servers");
    // Standard output is for the tables.
    let status = build.stdout(io::stderr()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other("cargo could not build the servers"))
    }
}

fn build_libuv(folder: &Path) -> Result<PathBuf, String> {
    let absent = "needs cc, pkg-config and libuv's headers (Debian package libuv1-dev)";
    let flags = output(Command::new("pkg-config").args(["--cflags", "--libs", "libuv"]))
        .ok_or_else(|| absent.to_owned())?;
    let program = folder.join("serve_libuv");
    let status = Command::new("cc")
        .args(["-std=c11", "-O3", "-o"])
        .arg(&program)
        .arg(Path::new(PACKAGE).join("c/serve_libuv.c"))
        .args(flags.split_whitespace())
        .stdout(io::stderr())
        .status();
    match status {
        Ok(status) if status.success() => Ok(program),
        Ok(_) => Err("cc could not compile c/serve_libuv.c".to_owned()),
        Err(_) => Err(absent.to_owned()),
    }
}

fn find_python() -> Result<PathBuf, String> {
    output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))
        .map(|path| PathBuf::from(path.trim()))
        .ok_or_else(|| "needs python3".to_owned())
}

/// A python that can import uvloop: the one that is there, or a scratch environment's.
fn find_uvloop(python: &Path, folder: &Path) -> Result<PathBuf, String> {
    let imports = |python: &Path| output(Command::new(python).args(["-c", "import uvloop"])).is_some();
    if imports(python) {
        return Ok(python.to_owned());
    }
    let environment = folder.join("python");
    let own = environment.join("bin/python3");
    if imports(&own) {
        return Ok(own);
    }
    eprintln!("installing uvloop into {}", environment.display());
    let bounded = |seconds: &str| {
        let mut command = Command::new("timeout");
        command.arg(seconds);
        command
    };
    output(bounded("60").arg(python).args(["-m", "venv"]).arg(&environment))
        .ok_or("needs a scratch environment (Debian package python3-venv)")?;
    output(bounded("120").arg(&own).args(["-m", "pip", "install", "--quiet", "uvloop"]))
        .ok_or("could not be installed: the registry is out of reach, or has no build of it")?;
    Ok(own)
}

/// What a command printed, if it succeeded.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
