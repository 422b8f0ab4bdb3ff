//! A running echo-server.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::common::{PATIENCE, wait_for};
use crate::process::Running;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_echo-server");

/// Both faces of the library.
pub(crate) const APIS: [&str; 2] = ["streams", "protocol"];

pub(crate) struct EchoServer {
    pub(crate) process: Running,
    pub(crate) addresses: Vec<SocketAddr>,
    stdout: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    reading_stderr: JoinHandle<()>,
}

/// How a server ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    /// What came on stdout after the lines of the start.
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: String,
}

impl EchoServer {
    /// Starts it on a free port, and waits for as many lines as there are sockets.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["--port", "0"]).args(arguments);
        Self::start_with(command, 1)
    }

    #[track_caller]
    pub(crate) fn start_with_api(api: &str) -> Self {
        Self::start(&["--api", api])
    }

    /// Starts it with a limit of file descriptors.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub(crate) fn start_with_descriptors(descriptors: u32, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" --port 0 \"$@\"");
        command.args(["-c", &script, BINARY]).args(arguments);
        Self::start_with(command, 1)
    }

    /// Starts it with a socket that listens already, as a service manager does: the descriptor
    /// comes as standard input, and goes where it belongs.
    #[track_caller]
    pub(crate) fn start_activated(listener: &TcpListener, arguments: &[&str]) -> Self {
        let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, BINARY])
            .args(arguments)
            .stdin(OwnedFd::from(listener.try_clone().unwrap()));
        Self::launch(command, 1)
    }

    #[track_caller]
    pub(crate) fn start_with(mut command: Command, sockets: usize) -> Self {
        command.stdin(Stdio::null());
        Self::launch(command, sockets)
    }

    #[track_caller]
    fn launch(mut command: Command, sockets: usize) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::spawn(&mut command);
        let stdout = lines(process.0.stdout.take().unwrap());
        let (stderr, reading_stderr) = collect(process.0.stderr.take().unwrap());
        let addresses = (0..sockets)
            .map(|_| match stdout.recv_timeout(PATIENCE) {
                Ok(line) => line
                    .strip_prefix("Serving on ")
                    .and_then(|address| address.parse().ok())
                    .unwrap_or_else(|| panic!("no line of a server: {line:?}")),
                Err(error) => panic!(
                    "{command:?} printed no line: {error}; stderr: {}",
                    stderr.lock().unwrap()
                ),
            })
            .collect();
        Self {
            process,
            addresses,
            stdout,
            stderr,
            reading_stderr,
        }
    }

    /// The next line on stdout.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => panic!("no line: {error}; stderr: {}", self.log()),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn host(&self) -> String {
        self.address().ip().to_string()
    }

    pub(crate) fn port(&self) -> String {
        self.address().port().to_string()
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until nobody listens any more.
    #[track_caller]
    pub(crate) fn wait_until_refused(&self) {
        wait_for("new connections are refused", || {
            match TcpStream::connect(self.address()) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(()),
                _ => None,
            }
        });
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub(crate) fn wait(mut self) -> End {
        let code = self.process.wait().code();
        self.reading_stderr.join().unwrap();
        let stderr = self.stderr.lock().unwrap().clone();
        End {
            code,
            stdout: self.stdout.iter().collect(),
            stderr,
        }
    }

    /// Ends it with a signal and checks that it ends well.
    #[track_caller]
    pub(crate) fn stop(self) -> End {
        self.process.signal("TERM");
        let end = self.wait();
        assert_eq!(end.code, Some(0), "{end:?}");
        end
    }
}

/// A client whose every wait ends.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Sends, and expects the same back.
#[track_caller]
pub(crate) fn echo(mut client: &TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    expect(client, bytes);
}

#[track_caller]
pub(crate) fn expect(mut client: &TcpStream, bytes: &[u8]) {
    let mut echoed = vec![0; bytes.len()];
    client.read_exact(&mut echoed).unwrap();
    assert!(echoed == bytes, "other bytes came back");
}

/// Ends our side, and expects the end of the other one and nothing before it.
#[track_caller]
pub(crate) fn end(client: &TcpStream) {
    client.shutdown(Shutdown::Write).unwrap();
    expect_eof(client);
}

#[track_caller]
pub(crate) fn expect_eof(mut client: &TcpStream) {
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end of the stream");
}

pub(crate) fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (give, take) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            if line.map(|line| give.send(line)).is_err() {
                return;
            }
        }
    });
    take
}

fn collect(stream: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    let reading = thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = shared.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    (text, reading)
}
