//! Who is tested, and a running server of theirs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use evloop_benches::contract::Transport;
use evloop_benches::folder::Folder;
use evloop_benches::{foreign, socket};
use rustix::net::SocketAddrAny;

/// The status of a server that was asked for something it cannot do here.
const CANNOT: i32 = 2;

/// One of those who are compared.
#[derive(Clone)]
pub(crate) struct Participant {
    name: String,
    listen: Transport,
    command: Result<Vec<PathBuf>, String>,
}

impl Participant {
    /// A program of this package.
    pub(crate) fn built(program: &str, arguments: &[&str]) -> Self {
        // Those of one build lie side by side.
        let tokio = Path::new(env!("CARGO_BIN_EXE_serve_tokio"));
        let path = tokio.with_file_name(program);
        let source = foreign::source("src/bin").join(format!("{program}.rs"));
        let command = match source.exists() {
            true => Ok(path),
            false => Err(format!("{program} has not been written")),
        };
        Self::new(program, command, arguments)
    }

    pub(crate) fn libuv() -> Self {
        Self::new("serve_libuv", foreign::libuv(scratch()), &[])
    }

    pub(crate) fn asyncio(api: &str) -> Self {
        Self::python(Ok(foreign::python()), "asyncio", api)
    }

    pub(crate) fn uvloop(api: &str) -> Self {
        // Made once, for all who ask at the same time.
        static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let python = PYTHON.get_or_init(|| foreign::python_with_uvloop(scratch()));
        Self::python(python.clone(), "uvloop", api)
    }

    fn python(python: Result<PathBuf, String>, runtime: &str, api: &str) -> Self {
        let script = foreign::source("python/serve.py");
        let script = script.to_string_lossy();
        let arguments = [&script, "--runtime", runtime, "--api", api];
        Self::new(runtime, python, &arguments)
    }

    fn new(name: &str, program: Result<PathBuf, String>, arguments: &[&str]) -> Self {
        let words = arguments.iter().map(PathBuf::from);
        Self {
            name: format!("{name} {}", arguments.join(" ")),
            listen: Transport::Tcp,
            command: program.map(|program| [program].into_iter().chain(words).collect()),
        }
    }

    /// The same, listening for connections of this kind.
    pub(crate) fn over(&self, listen: Transport) -> Self {
        Self {
            listen,
            ..self.clone()
        }
    }

    /// Whether it answers lines, which is not asked of anybody over TLS.
    pub(crate) fn has_lines(&self) -> bool {
        self.listen != Transport::Tls
    }

    /// Whether it cannot run here, which is said, and is a failure where everybody is required.
    pub(crate) fn is_absent(&self) -> bool {
        let reason = match &self.command {
            Ok(words) => match Server::start(words, self.listen, "echo", "unlimited") {
                Some(_) => return false,
                None => "it said why on stderr",
            },
            Err(reason) => reason,
        };
        println!("skipped: {}: {reason}", self.name);
        // No package brings io_uring: the kernel permits it or not.
        let required = std::env::var("EVLOOP_PEERS").is_ok_and(|value| value == "required");
        assert!(
            !required || self.name.contains("uring"),
            "{}: {reason}",
            self.name
        );
        true
    }

    /// Starts a server that is to do `work`.
    pub(crate) fn serve(&self, work: &str) -> Server {
        self.serve_with_descriptors(work, "unlimited")
    }

    /// The same with a hard limit of open descriptors, as `ulimit -n` takes it.
    pub(crate) fn serve_with_descriptors(&self, work: &str, limit: &str) -> Server {
        let words = self.command.as_ref().expect("a participant who is there");
        Server::start(words, self.listen, work, limit).expect("the server to start again")
    }
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A server that runs, until this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddrAny,
    pub(crate) listen: Transport,
    /// Where its temporary files are.
    _folder: Folder,
}

impl Server {
    /// `None` if the server says that it cannot.
    fn start(words: &[PathBuf], listen: Transport, work: &str, descriptors: &str) -> Option<Self> {
        let mut command = match descriptors {
            "unlimited" => Command::new(&words[0]),
            limit => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
                shell.arg("-c").arg(script).arg(&words[0]);
                // asyncio tells at length that it found no descriptor, which is the point.
                shell.stderr(Stdio::null());
                shell
            }
        };
        let folder = Folder::new().expect("a folder");
        let mut child = command
            .env("TMPDIR", folder.path())
            .args(&words[1..])
            .args(["--listen", listen.name(), "--work", work])
            .args(["--buffer", "65536"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its stdout"))
            .read_line(&mut line)
            .expect("a line");
        if line.is_empty() {
            let status = child.wait().expect("its end");
            assert_eq!(status.code(), Some(CANNOT), "{words:?} did not start");
            return None;
        }
        let address = socket::address(line.trim_end()).expect("a port or a path");
        Some(Self {
            child,
            address,
            listen,
            _folder: folder,
        })
    }

    /// The most memory that it ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("a server that lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number
            .and_then(|number| number.parse::<u64>().ok())
            .expect("VmHWM")
            * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and the check that minds has failed by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
