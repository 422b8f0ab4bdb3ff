//! A server under measurement: started, pinned, watched, stopped.
//!
//! Its processor time is read from the kernel's clock of that process (`clock_getcpuclockid`),
//! which counts user and kernel time of all its threads, io_uring's workers too, in nanoseconds;
//! `/proc/PID/stat` knows nothing finer than ticks of ten milliseconds.

use std::fs;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use evloop_benches::folder::Folder;
use evloop_benches::socket;
use nix::time::ClockId;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketAddrAny;
use rustix::process::Signal;

/// How long a server may take to say where it listens. Python under valgrind takes seconds.
const START: Duration = Duration::from_secs(60);

/// How long a server may take to end, and to fall silent.
const END: Duration = Duration::from_secs(20);

/// A server that uses less than this in a millisecond is doing nothing.
const SILENCE: Duration = Duration::from_micros(10);

/// A running server. Dropping it kills it and waits for its end, so that nothing of it, sockets
/// least of all, is left when the next one is measured; and if the command dies first, the kernel does.
pub struct ServerProcess {
    /// The server, or the tool that runs it.
    child: Child,
    /// The server itself.
    pid: i32,
    clock: ClockId,
    pub address: SocketAddrAny,
    /// Where its temporary files are, the path of a unix socket for one.
    _folder: Folder,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The processor that it runs on.
    pub core: usize,
    /// A tool and its arguments, which runs the server.
    pub tool: Vec<String>,
    /// Whether the server is a child of the tool, or the tool becomes the server.
    pub below_tool: bool,
    /// Never run before whoever wakes it goes to sleep: for counts that come out the same.
    pub yielding: bool,
    pub command_line: Vec<String>,
}

impl Launch {
    /// Without a tool.
    pub fn plain(core: usize, command_line: Vec<String>) -> Self {
        Self {
            core,
            tool: Vec::new(),
            below_tool: false,
            yielding: false,
            command_line,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c"]);
        command.arg(self.core.to_string());
        if self.yielding {
            command.args(["chrt", "--batch", "0"]);
        }
        command.args(&self.tool);
        if self.below_tool {
            // Whatever happens to the tool, the server does not outlive it.
            command.args(["setpriv", "--pdeathsig", "KILL"]);
        }
        command.args(&self.command_line);
        command
    }
}

impl ServerProcess {
    /// Starts a server and waits until it says where it listens.
    pub fn start(launch: &Launch) -> io::Result<Self> {
        let folder = Folder::new()?;
        let mut child = launch
            .command()
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let address = match read_address(&mut child) {
            Ok(address) => address,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(explained(&mut child, error));
            }
        };
        let pid = if launch.below_tool {
            only_child(child.id())?
        } else {
            child.id().try_into().map_err(io::Error::other)?
        };
        Ok(Self {
            clock: ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?,
            child,
            pid,
            address,
            _folder: folder,
        })
    }

    /// Processor time so far, user and kernel, of all threads.
    pub fn cpu(&self) -> io::Result<Duration> {
        Ok(Duration::from(self.clock.now()?))
    }

    /// Waits until the server has done what there was to do, and returns its processor time.
    pub fn settled_cpu(&self) -> io::Result<Duration> {
        let deadline = Instant::now() + END;
        let mut before = self.cpu()?;
        loop {
            thread::sleep(Duration::from_millis(1));
            let after = self.cpu()?;
            if after - before < SILENCE {
                return Ok(after);
            }
            if Instant::now() > deadline {
                // A figure that the server was still working on would be no figure.
                return Err(too_late("it does not fall silent"));
            }
            before = after;
        }
    }

    /// Waits until all threads of the server wait for something.
    pub fn fall_asleep(&self) -> io::Result<()> {
        let deadline = Instant::now() + END;
        while !self.is_asleep()? {
            if Instant::now() > deadline {
                return Err(too_late("it never rests"));
            }
            thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    fn is_asleep(&self) -> io::Result<bool> {
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            // The state follows the name, which is in parentheses and may contain some.
            let state = stat.rsplit(") ").next().unwrap_or_default();
            if !state.starts_with('S') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Resident bytes. `statm` and `status` are not exact on kernels of today; this is.
    pub fn resident(&self) -> io::Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        rollup
            .lines()
            .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("smaps_rollup has no Rss"))
    }

    /// How many sockets the server has open.
    pub fn sockets(&self) -> io::Result<usize> {
        let mut sockets = 0;
        for descriptor in fs::read_dir(format!("/proc/{}/fd", self.pid))? {
            // It may be closed by now.
            let target = fs::read_link(descriptor?.path()).unwrap_or_default();
            sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
        }
        Ok(sockets)
    }

    /// Waits until the server has closed all sockets but so many, and has nothing left to do.
    pub fn close_all_but(&self, sockets: usize) -> io::Result<()> {
        let deadline = Instant::now() + END;
        while self.sockets()? > sockets {
            if Instant::now() > deadline {
                return Err(too_late("it does not close its connections"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.settled_cpu().map(drop)
    }

    /// The most descriptors that the server may have open.
    pub fn descriptor_limit(&self) -> io::Result<u64> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid))?;
        limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| io::Error::other("limits has no open files"))
    }

    /// Asks the server to end, so that the tool around it can write what it counted.
    pub fn terminate(mut self) -> io::Result<ExitStatus> {
        signal(self.pid, Signal::TERM)?;
        let deadline = Instant::now() + END;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(too_late("it does not end"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the server said on stderr, if it has ended or is made to end now.
    pub fn last_words(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        stderr_of(&mut self.child)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the line with the port or the path, and waits for it no longer than [`START`].
fn read_address(child: &mut Child) -> io::Result<SocketAddrAny> {
    let stdout = child.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    let deadline = Instant::now() + START;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut watched = [PollFd::new(&*stdout, PollFlags::IN)];
        if rustix::event::poll(&mut watched, Some(&timeout))? == 0 {
            return Err(too_late("it does not say where it listens"));
        }
        let mut byte = [0];
        if stdout.read(&mut byte)? == 0 {
            return Err(io::Error::other("it ended before it said where it listens"));
        }
        line.push(byte[0]);
    }
    socket::address(String::from_utf8_lossy(&line).trim_end())
}

/// The error with the first line that the ended program wrote on stderr.
fn explained(child: &mut Child, error: io::Error) -> io::Error {
    let words = stderr_of(child);
    match words.lines().next_back() {
        Some(line) => io::Error::new(error.kind(), format!("{error}: {line}")),
        None => error,
    }
}

fn stderr_of(child: &mut Child) -> String {
    let mut words = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.take(64 * 1024).read_to_end(&mut words);
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// The process that `parent` runs.
fn only_child(parent: u32) -> io::Result<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    children
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| io::Error::other("the tool runs nothing"))
}

fn too_late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A shell that says where it listens and then does as it is told.
    fn start(script: &str) -> io::Result<ServerProcess> {
        let core = (0..1024).find(|core| {
            rustix::thread::sched_getaffinity(None).is_ok_and(|allowed| allowed.is_set(*core))
        });
        let words = ["sh", "-c", script].map(str::to_owned);
        ServerProcess::start(&Launch::plain(core.unwrap_or(0), words.to_vec()))
    }

    #[test]
    fn nothing_of_a_server_is_left_when_it_was_dropped() {
        let server = start("echo 4242; exec sleep 100").unwrap();
        assert_eq!(server.address, socket::address("4242").unwrap());
        let process = format!("/proc/{}", server.pid);
        assert!(Path::new(&process).exists());
        drop(server);
        assert!(!Path::new(&process).exists());

        let server = start("touch $TMPDIR/left; echo $TMPDIR/left; exec sleep 100").unwrap();
        let folder = server._folder.path().to_owned();
        let left = folder.join("left");
        let address = socket::address(left.to_str().unwrap()).unwrap();
        assert_eq!(server.address, address);
        assert!(left.exists());
        drop(server);
        assert!(!folder.exists());
    }

    #[test]
    fn a_silent_server_has_a_figure_and_no_sockets() {
        let server = start("echo 1; exec sleep 100").unwrap();
        server.fall_asleep().unwrap();
        assert_eq!(server.settled_cpu().unwrap(), server.cpu().unwrap());
        assert_eq!(server.sockets().unwrap(), 0);
        server.close_all_but(0).unwrap();
    }

    #[test]
    fn what_a_server_says_about_its_failure_is_told() {
        let error = start("echo no libuv here >&2; exit 2").err().unwrap();
        let told = "it ended before it said where it listens: no libuv here";
        assert_eq!(error.to_string(), told);
        let error = start("echo hello").err().unwrap();
        assert_eq!(error.to_string(), "what it said is no port and no path");
    }
}
