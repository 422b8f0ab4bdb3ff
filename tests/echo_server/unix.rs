//! echo-server on unix sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::PATIENCE;
use crate::common::folder::Folder;
use crate::process::Running;
use crate::server::{APIS, BINARY};

/// A server on paths: its first lines, and the process.
struct Served {
    process: Running,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Served {
    #[track_caller]
    fn start(arguments: &[&str], expected: &[String]) -> (Self, Vec<String>) {
        let mut command = Command::new(BINARY);
        command
            .args(["--log-level", "off"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Running::spawn(&mut command);
        let stdout = process.0.stdout.take().expect("a pipe");
        let mut served = Self {
            process,
            stdout: BufReader::new(stdout),
        };
        let lines = expected.iter().map(|_| served.line()).collect();
        (served, lines)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Ends it, and gives what else it said.
    fn stop(mut self) -> String {
        self.process.signal("TERM");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        assert_eq!(self.process.wait().code(), Some(0));
        rest
    }
}

#[track_caller]
pub(crate) fn echoes(path: &Path) {
    let mut client = UnixStream::connect(path).expect("to connect");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let data = b"hello".repeat(20_000);
    let sent = data.clone();
    let mut writing = client.try_clone().expect("a duplicate");
    let writer = std::thread::spawn(move || {
        writing.write_all(&sent).expect("to send");
        writing.shutdown(Shutdown::Write).expect("to end");
    });
    let mut echo = Vec::new();
    client.read_to_end(&mut echo).expect("the echo");
    writer.join().expect("no panic");
    assert!(echo == data, "other bytes came back");
}

#[test]
fn serves_its_paths_and_no_port_and_removes_them() {
    for api in APIS {
        let folder = Folder::new();
        let paths = [folder.path("a.sock"), folder.path("b.sock")];
        // What a server that crashed left behind is no obstacle.
        folder.stale("b.sock");
        let [a, b] = [0, 1].map(|i| paths[i].to_str().unwrap());
        let expected = [a, b].map(|path| format!("Serving on {path}"));
        let arguments = ["--api", api, "--unix", a, "--unix", b];
        let (served, lines) = Served::start(&arguments, &expected);
        assert_eq!(lines, expected);
        for path in &paths {
            echoes(path);
        }
        assert_eq!(served.stop(), "");
        assert!(folder.names().is_empty());
    }
}

#[test]
fn serves_tcp_as_well_if_a_port_or_a_host_is_given() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let unix = path.to_str().unwrap();
    let both = [String::new(), String::new()];
    for arguments in [
        &["--unix", unix, "--port", "0"][..],
        &["--unix", unix, "--host", "127.0.0.1", "--port", "0"],
    ] {
        let (served, lines) = Served::start(arguments, &both);
        assert!(lines[0].starts_with("Serving on 127.0.0.1:"), "{lines:?}");
        assert_eq!(lines[1], format!("Serving on {unix}"));
        echoes(&path);
        assert_eq!(served.stop(), "");
        assert!(folder.names().is_empty());
    }
}

#[test]
fn a_path_that_cannot_be_served_is_named_in_one_line_and_the_others_are_gone() {
    let folder = Folder::new();
    let live = folder.path("live");
    let _server = UnixListener::bind(&live).unwrap();
    let file = folder.path("file");
    std::fs::write(&file, "precious").unwrap();
    for (path, why) in [(&live, "a live socket"), (&file, "a regular file")] {
        let first = folder.path("first");
        let output = Command::new(BINARY)
            .args(["--unix", first.to_str().unwrap(), "--unix"])
            .arg(path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stdout, b"");
        let expected = format!(
            "echo-server: cannot bind to address {}: Address already in use by {why}\n",
            path.display()
        );
        assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
        assert_eq!(folder.names(), ["file", "live"]);
    }
}
