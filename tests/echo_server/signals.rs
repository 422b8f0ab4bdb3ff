//! How it ends.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::common::{PATIENCE, wait_for};
use crate::process::Running;
use crate::server::{APIS, BINARY, EchoServer, connect, echo, end, expect_eof, lines};

const SIGNALS: [&str; 2] = ["INT", "TERM"];

/// Longer than any test waits: who relies on this timeout fails.
const NEVER: &str = "600";

/// Both signals with both faces of the library.
fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    SIGNALS
        .iter()
        .flat_map(|signal| APIS.iter().map(move |api| (*signal, *api)))
}

fn start(api: &str, shutdown_timeout: &str) -> EchoServer {
    EchoServer::start(&["--api", api, "--shutdown-timeout", shutdown_timeout])
}

/// A client to which the server owes more than any system buffers for it.
fn client_that_never_reads(server: &EchoServer) -> TcpStream {
    let client = connect(server.address());
    client.set_nonblocking(true).unwrap();
    let chunk = [b'x'; 64 * 1024];
    let mut stuck = 0;
    wait_for("the server reads no more", || {
        stuck = match (&client).write(&chunk) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stuck + 1,
            outcome => {
                outcome.unwrap();
                0
            }
        };
        (stuck == 20).then_some(())
    });
    client
}

#[test]
fn without_a_connection_it_ends_at_once() {
    for (signal, api) in cases() {
        let server = start(api, NEVER);
        server.process.signal(signal);
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout, Vec::<String>::new());
    }
}

#[test]
fn a_connection_that_ends_in_time_is_served_to_its_end() {
    for (signal, api) in cases() {
        let server = start(api, NEVER);
        let client = server.connect();
        echo(&client, b"before");
        server.process.signal(signal);
        server.wait_until_refused();
        for _ in 0..10 {
            echo(&client, &[b'x'; 100_000]);
        }
        end(&client);
        assert_eq!(server.wait().code, Some(0));
    }
}

#[test]
fn a_connection_that_goes_on_is_closed_after_the_timeout() {
    for (signal, api) in cases() {
        let server = start(api, "0.2");
        let client = server.connect();
        echo(&client, b"before");
        server.process.signal(signal);
        expect_eof(&client);
        assert_eq!(server.wait().code, Some(0));
    }
}

#[test]
fn a_timeout_of_zero_closes_at_once() {
    for (signal, api) in cases() {
        let server = start(api, "0");
        let client = server.connect();
        echo(&client, b"before");
        server.process.signal(signal);
        expect_eof(&client);
        assert_eq!(server.wait().code, Some(0));
    }
}

#[test]
fn a_connection_that_never_reads_cannot_keep_it_alive() {
    for api in APIS {
        let server = start(api, "0");
        let client = client_that_never_reads(&server);
        server.process.signal("TERM");
        assert_eq!(server.wait().code, Some(0));
        drop(client);
    }
}

#[test]
fn a_second_signal_aborts_at_once() {
    for (first, api) in cases() {
        for second in SIGNALS {
            let server = start(api, NEVER);
            let idle = server.connect();
            echo(&idle, b"before");
            let stuck = client_that_never_reads(&server);
            server.process.signal(first);
            server.wait_until_refused();
            echo(&idle, b"between");
            server.process.signal(second);
            let ended = server.wait();
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let outcome = (&idle).read(&mut [0]);
            assert!(!matches!(outcome, Ok(1..)), "{outcome:?}");
            drop(stuck);
        }
    }
}

/// A stderr that takes nothing: nobody reads, and it is full.
pub(crate) fn full() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while (&theirs).write(&[b'x'; 1000]).is_ok() {}
    theirs.set_nonblocking(false).unwrap();
    (ours, theirs.into())
}

#[test]
fn numbers_that_nobody_reads_hold_up_neither_service_nor_end() {
    let (_reader, stderr) = full();
    let mut command = Command::new(BINARY);
    command
        .args(["--port", "0", "--stats", "0.01", "--log-level", "off"])
        .args(["--shutdown-timeout", NEVER])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    let mut process = Running::spawn(&mut command);
    let stdout = lines(process.0.stdout.take().unwrap());
    let line = stdout.recv_timeout(PATIENCE).unwrap();
    let address = line.strip_prefix("Serving on ").unwrap();
    let client = connect(address.parse().unwrap());
    for _ in 0..20 {
        echo(&client, &[b'x'; 100_000]);
    }
    process.signal("TERM");
    wait_for("nobody listens", || {
        TcpStream::connect(client.peer_addr().unwrap()).err()
    });
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
}
