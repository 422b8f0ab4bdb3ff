//! What a service manager hears.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::command_line::refused_by;
use crate::common::PATIENCE;
use crate::common::certs::cert;
use crate::common::folder::Folder;
use crate::process::Running;
#[cfg(target_os = "linux")]
use crate::server::expect;
use crate::server::{BINARY, EchoServer, echo};
use crate::signals::full;

/// The end that listens.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _folder: Folder,
}

impl Manager {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path("notify");
        let name = path.to_str().unwrap().to_owned();
        Self::of(UnixDatagram::bind(path).unwrap(), name, folder)
    }

    fn of(socket: UnixDatagram, name: String, folder: Folder) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            name,
            _folder: folder,
        }
    }

    #[track_caller]
    fn hears(&self) -> String {
        let mut message = [0; 1000];
        let length = self.socket.recv(&mut message).expect("a message");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// A server that has the name, and says so many lines.
    fn serve(&self, arguments: &[&str]) -> EchoServer {
        EchoServer::start_with(self.command(arguments), 1)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["--port", "0"]).args(arguments);
        command.env("NOTIFY_SOCKET", &self.name);
        command
    }
}

#[track_caller]
fn readiness_and_the_end(manager: &Manager, workers: &str) {
    let server = manager.serve(&["--workers", workers, "--shutdown-timeout", "600"]);
    assert_eq!(manager.hears(), "READY=1");
    let client = server.connect();
    echo(&client, b"hello");
    server.process.signal("TERM");
    // While the last connection goes on.
    assert_eq!(manager.hears(), "STOPPING=1");
    echo(&client, b"hello");
    drop(client);
    assert_eq!(server.wait().code, Some(0));
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 1000]).is_err(), "once each");
    manager.socket.set_nonblocking(false).unwrap();
}

#[test]
fn hears_when_all_is_served_and_when_the_end_begins() {
    let manager = Manager::new();
    for workers in ["1", "3"] {
        readiness_and_the_end(&manager, workers);
    }
}

/// The certificate comes by a pipe, so it waits for us while it starts.
#[test]
fn hears_nothing_before_all_is_served() {
    let manager = Manager::new();
    let folder = Folder::new();
    let path = folder.path("cert");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let mut command = manager.command(&[]);
    command
        .args(["--tls-cert".as_ref(), path.as_os_str()])
        .args(["--tls-key".as_ref(), cert("server.key").as_os_str()]);
    let server = EchoServer::start_with(command, 0);
    // This returns when the server reads.
    let mut pipe = File::options().write(true).open(&path).unwrap();
    manager.socket.set_nonblocking(true).unwrap();
    let outcome = manager.socket.recv(&mut [0; 1000]);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
    manager.socket.set_nonblocking(false).unwrap();
    let pem = std::fs::read(cert("server.pem")).unwrap();
    pipe.write_all(&pem).unwrap();
    drop(pipe);
    assert_eq!(manager.hears(), "READY=1");
    assert!(server.line().starts_with("Serving on "));
    server.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn may_have_an_abstract_name() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("evloop-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let manager = Manager::of(socket, format!("@{name}"), Folder::new());
    readiness_and_the_end(&manager, "1");
}

#[test]
fn hears_of_a_reload_and_how_it_went() {
    use std::fs;

    let manager = Manager::new();
    let folder = Folder::new();
    let [own_cert, own_key] = ["cert", "key"].map(|name| folder.path(name));
    fs::copy(cert("server.pem"), &own_cert).unwrap();
    fs::copy(cert("server.key"), &own_key).unwrap();
    let [tls_cert, tls_key] = [&own_cert, &own_key].map(|path| path.to_str().unwrap());
    let tls = ["--tls-cert", tls_cert, "--tls-key", tls_key];
    let server = manager.serve(&[&tls[..], &["--workers", "2"]].concat());
    assert_eq!(manager.hears(), "READY=1");
    for (key, status) in [
        (fs::read(&own_key).unwrap(), String::new()),
        (
            b"no key".to_vec(),
            format!("the certificate stays as it was: {tls_key}: there is no private key in it"),
        ),
    ] {
        fs::write(&own_key, key).unwrap();
        server.process.signal("HUP");
        let message = manager.hears();
        let micros = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let micros: u64 = micros.expect(&message).parse().expect(&message);
        assert!(micros > 0);
        assert_eq!(manager.hears(), format!("READY=1\nSTATUS={status}"));
    }
    server.stop();
}

/// The one that is asked is the shell's own, which becomes the server.
fn watched(manager: &Manager, process: &str, workers: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("WATCHDOG_PID={process} exec \"$0\" --port 0 --workers {workers}");
    command
        .args(["-c", &script, BINARY])
        .env("NOTIFY_SOCKET", &manager.name);
    command
}

#[test]
fn hears_again_and_again_that_all_loops_run_if_it_asks() {
    let manager = Manager::new();
    for workers in ["1", "3"] {
        let mut command = watched(&manager, "$$", workers);
        command.env("WATCHDOG_USEC", "20000");
        let server = EchoServer::start_with(command, 1);
        let mut messages = Vec::new();
        while messages.len() < 12 {
            messages.push(manager.hears());
        }
        let [ready, alive] =
            ["READY=1", "WATCHDOG=1"].map(|it| messages.iter().filter(|m| *m == it).count());
        assert_eq!((ready, alive), (1, 11), "{messages:?}");
        server.process.signal("TERM");
        while manager.hears() != "STOPPING=1" {}
        assert_eq!(server.wait().code, Some(0));
        // What it said while it ended.
        manager.socket.set_nonblocking(true).unwrap();
        while manager.socket.recv(&mut [0; 1000]).is_ok() {}
        manager.socket.set_nonblocking(false).unwrap();
    }
}

/// Waits until it hears nothing for many times the pause between two signs of life.
#[track_caller]
fn is_silent(manager: &Manager) {
    let silence = Duration::from_millis(500);
    manager.socket.set_read_timeout(Some(silence)).unwrap();
    let heard = |_: &usize| manager.socket.recv(&mut [0; 1000]).is_ok();
    let count = (0..400).take_while(heard).count();
    assert!(count < 400, "it is said to be alive");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn is_left_without_a_sign_of_life_while_one_worker_of_several_hangs() {
    use crate::common::peers::require;
    use crate::process::{only_child, signal};

    if !require("strace", "strace") {
        return;
    }
    let manager = Manager::new();
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e"])
        .args(["inject=recvfrom:delay_enter=2500000:when=1", BINARY])
        .args(["--port", "0", "--workers", "2"])
        .env("NOTIFY_SOCKET", &manager.name)
        .env("WATCHDOG_USEC", "50000");
    let server = EchoServer::start_with(command, 1);
    while manager.hears() != "WATCHDOG=1" {}
    let client = server.connect();
    (&client).write_all(b"x").unwrap();
    is_silent(&manager);
    client.set_nonblocking(true).unwrap();
    let outcome = (&client).read(&mut [0]);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
    client.set_nonblocking(false).unwrap();
    expect(&client, b"x");
    assert_eq!(manager.hears(), "WATCHDOG=1");
    drop(client);
    signal(only_child(server.process.id()), "TERM");
    assert_eq!(server.wait().code, Some(0));
}

/// The loop that has the signals waits for whoever reads stderr.
#[test]
fn is_left_without_a_sign_of_life_while_no_signal_is_heard() {
    let manager = Manager::new();
    let folder = Folder::new();
    let own_key = folder.path("key");
    std::fs::copy(cert("server.key"), &own_key).unwrap();
    let (mut reader, stderr) = full();
    let mut command = manager.command(&["--log-level", "error"]);
    command
        .args(["--tls-cert".as_ref(), cert("server.pem").as_os_str()])
        .args(["--tls-key".as_ref(), own_key.as_os_str()])
        .env("WATCHDOG_USEC", "50000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let mut process = Running::spawn(&mut command);
    drop(command);
    while manager.hears() != "WATCHDOG=1" {}
    std::fs::write(&own_key, "no key").unwrap();
    process.signal("HUP");
    is_silent(&manager);
    let reading = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    while manager.hears() != "WATCHDOG=1" {}
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
    reading.join().unwrap().unwrap();
}

#[test]
fn hears_nothing_of_a_watchdog_that_is_for_another_process() {
    let manager = Manager::new();
    let mut command = watched(&manager, "1", "1");
    command.env("WATCHDOG_USEC", "10");
    let server = EchoServer::start_with(command, 1);
    assert_eq!(manager.hears(), "READY=1");
    echo(&server.connect(), b"hello");
    server.process.signal("TERM");
    assert_eq!(manager.hears(), "STOPPING=1");
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn what_makes_no_sense_is_named_in_one_line() {
    let mut command = Command::new(BINARY);
    command.args(["--port", "0"]).env("NOTIFY_SOCKET", "notify");
    let expected = "echo-server: NOTIFY_SOCKET \"notify\": it must be a path or an abstract name";
    assert_eq!(refused_by(command, 1), expected);

    for (micros, why) in [
        ("soon", "is no number of microseconds"),
        ("-1", "is no number of microseconds"),
        ("0", "is too short: 10000 at least"),
        ("9999", "is too short: 10000 at least"),
    ] {
        let mut command = Manager::new().command(&[]);
        command.env("WATCHDOG_USEC", micros);
        let expected = format!("echo-server: WATCHDOG_USEC: {micros:?} {why}");
        assert_eq!(refused_by(command, 1), expected);
    }
}

#[test]
fn one_that_is_gone_is_a_warning() {
    let manager = Manager::new();
    let mut command = manager.command(&[]);
    command.env("NOTIFY_SOCKET", format!("{}-gone", manager.name));
    let server = EchoServer::start_with(command, 1);
    echo(&server.connect(), b"hello");
    let log = server.stop().stderr;
    assert!(
        log.contains("NOTIFY_SOCKET: \"READY=1\" is not told: "),
        "{log}"
    );
}
