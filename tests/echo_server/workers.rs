//! Several loops on one port.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::command_line::refused_by;
use crate::common::folder::Folder;
#[cfg(target_os = "linux")]
use crate::common::peers::skip;
use crate::common::{PATIENCE, wait_for};
use crate::server::{APIS, BINARY, EchoServer, connect, echo, end, expect_eof};
use crate::unix::echoes;

/// So many that not all of them come to one of two workers: that has a chance of one in 10^15.
const MANY: usize = 50;

#[track_caller]
fn clients(server: &EchoServer) -> Vec<TcpStream> {
    let clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
    for client in &clients {
        echo(client, b"hello");
    }
    clients
}

/// How many connections each worker had in the end.
fn closed_by_each(log: &str) -> Vec<usize> {
    let number = |line: &str| {
        let (_, report) = line.split_once("connections: 0 ended in time, ")?;
        report.split(' ').next()?.parse().ok()
    };
    log.lines().filter_map(number).collect()
}

#[test]
fn all_workers_serve_one_port_and_all_of_them_hear_of_the_end() {
    for api in APIS {
        let arguments = ["--workers", "2", "--shutdown-timeout", "0"];
        let server = EchoServer::start(&[&["--api", api], &arguments[..]].concat());
        let clients = clients(&server);
        server.process.signal("TERM");
        clients.iter().for_each(expect_eof);
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // The port was told once, before.
        assert_eq!(ended.stdout, Vec::<String>::new());
        let each = closed_by_each(&ended.stderr);
        assert_eq!(each.len(), 2, "{}", ended.stderr);
        assert_eq!(each.iter().sum::<usize>(), MANY, "{each:?}");
        assert!(!each.contains(&0), "{each:?}");
        assert_eq!(ended.stderr.matches("stopping;").count(), 1);
    }
}

#[test]
fn a_second_signal_aborts_what_each_of_them_has() {
    let arguments = [
        "--workers",
        "2",
        "--shutdown-timeout",
        "600",
        "--stats",
        "600",
    ];
    let server = EchoServer::start(&arguments);
    let clients = clients(&server);
    server.process.signal("TERM");
    server.wait_until_refused();
    clients.iter().for_each(|client| echo(client, b"go on"));
    server.process.signal("INT");
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for mut client in &clients {
        let outcome = client.read(&mut [0]);
        assert!(!matches!(outcome, Ok(1..)), "{outcome:?}");
    }
    // And perhaps one by which we have asked whether it listens.
    for part in ["stats in all: 0 open, ", "50 aborted)"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

/// Wherever they came: with one place for two workers nobody waits in vain at one of them.
#[test]
fn the_workers_share_the_connections_that_are_allowed() {
    for (most, number) in [("1", 1), ("3", 3)] {
        let server = EchoServer::start(&["--workers", "2", "--max-connections", most]);
        let mut waiting: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        for mut client in &waiting {
            client.write_all(b"x").unwrap();
            client.set_nonblocking(true).unwrap();
        }
        let mut open = Vec::new();
        while !waiting.is_empty() {
            wait_for("all places are taken", || {
                for client in std::mem::take(&mut waiting) {
                    let is_answered = matches!((&client).read(&mut [0]), Ok(1));
                    let place = if is_answered { &mut open } else { &mut waiting };
                    place.push(client);
                }
                (open.len() >= number || waiting.is_empty()).then_some(())
            });
            assert!(open.len() <= number, "{}", open.len());
            // Whoever ends lets the next one in.
            open.pop();
        }
        drop(open);
        server.stop();
    }
}

#[test]
fn all_sockets_share_the_connections_that_are_allowed() {
    let folder = Folder::new();
    let path = folder.path("limited");
    let unix = path.to_str().unwrap();
    let server = EchoServer::start(&["--unix", unix, "--max-connections", "1"]);
    assert_eq!(server.line(), format!("Serving on {unix}"));
    let first = server.connect();
    echo(&first, b"hello");
    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(b"x").unwrap();
    for _ in 0..20 {
        echo(&first, b"still here");
    }
    second.set_nonblocking(true).unwrap();
    let outcome = second.read(&mut [0]);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
    end(&first);
    second.set_nonblocking(false).unwrap();
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    second.read_exact(&mut [0]).unwrap();
    drop(second);
    server.stop();
}

/// The kernel lets it, since it is the same user's.
#[cfg(target_os = "linux")]
#[test]
fn who_shares_a_port_with_another_server_says_so() {
    let first = EchoServer::start(&["--workers", "2"]);
    let mut command = Command::new(BINARY);
    command.args(["--workers", "2", "--port", &first.port()]);
    let second = EchoServer::start_with(command, 1);
    assert_eq!(second.address(), first.address());
    let warning = format!("{}: another server shares it", first.address());
    assert_eq!(second.stop().stderr.matches(&warning).count(), 1);
    let log = first.stop().stderr;
    assert!(!log.contains("WARN"), "{log}");
}

/// In a network without IPv6, with a name that has addresses of both families.
#[cfg(target_os = "linux")]
#[test]
fn a_family_that_is_missing_is_told_once() {
    let folder = Folder::new();
    let hosts = folder.path("hosts");
    std::fs::write(&hosts, "127.0.0.1 both\n::1 both\n").unwrap();
    let apart = "mount --bind \"$0\" /etc/hosts && ip link set lo up \
                 && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rnm", "sh", "-c", script]).arg(&hosts);
        command
    };
    if !unshare(apart).status().is_ok_and(|status| status.success()) {
        skip("no network of one's own is permitted (unshare)");
        return;
    }
    for port in ["0", "7007"] {
        for workers in ["1", "2"] {
            let mut command = unshare(&format!("{apart} && exec \"$@\""));
            command.args([BINARY, "--host", "both", "--port", port]);
            command.args(["--workers", workers]);
            let log = EchoServer::start_with(command, 1).stop().stderr;
            let warnings: Vec<_> = log.lines().filter(|it| it.contains("WARN")).collect();
            assert_eq!(warnings.len(), 1, "{log}");
            assert!(warnings[0].contains("[::1]:"), "{log}");
        }
    }
}

#[test]
fn each_host_is_told_once_and_has_the_same_port() {
    for workers in ["2", "0"] {
        let mut command = Command::new(BINARY);
        command.args(["--port", "0", "--workers", workers]);
        command.args(["--host", "127.0.0.1"]);
        let hosts = if cfg!(target_os = "linux") {
            command.args(["--host", "127.0.0.2"]);
            2
        } else {
            1
        };
        let server = EchoServer::start_with(command, hosts);
        for address in &server.addresses {
            assert_eq!(address.port(), server.address().port());
            let client = connect(*address);
            echo(&client, b"hello");
            end(&client);
        }
        assert_eq!(server.stop().stdout, Vec::<String>::new());
    }
}

/// Where nobody else could have a part in it, as many as there are cores is one.
#[test]
fn workers_without_a_number_are_as_many_as_there_is_to_serve() {
    let folder = Folder::new();
    let path = folder.path("only");
    let unix = path.to_str().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["--workers", "0", "--unix", unix]);
    let server = EchoServer::start_with(command, 0);
    assert_eq!(server.line(), format!("Serving on {unix}"));
    echoes(&path);
    let log = server.stop().stderr;
    assert_eq!(log.matches("connections: ").count(), 1, "{log}");
}

#[test]
fn a_path_is_served_by_the_first_worker() {
    let folder = Folder::new();
    let path = folder.path("first");
    let unix = path.to_str().unwrap();
    let server = EchoServer::start(&["--workers", "2", "--unix", unix]);
    assert_eq!(server.line(), format!("Serving on {unix}"));
    for _ in 0..10 {
        echoes(&path);
    }
    echo(&server.connect(), b"hello");
    assert_eq!(server.stop().stdout, Vec::<String>::new());
    assert!(folder.names().is_empty());
}

#[test]
fn a_taken_port_is_named_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["--workers", "3", "--port", &address.port().to_string()]);
    let line = refused_by(command, 1);
    let expected = format!("echo-server: cannot bind to address {address}: ");
    assert!(line.starts_with(&expected), "{line}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_cannot_begin_ends_the_process() {
    let mut command = Command::new("sh");
    let script = "ulimit -n 64 && exec \"$0\" --host '' --port 0 --workers 20";
    command.args(["-c", script, BINARY]);
    let line = refused_by(command, 1);
    let begins = line.starts_with("echo-server: no loop for worker ");
    assert!(begins && line.ends_with("(os error 24)"), "{line}");
}

/// The system takes the poller of a loop away from it, when it has polled more often than one does
/// that only waits.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_panics_ends_the_process() {
    if !crate::common::peers::require("strace", "strace") {
        return;
    }
    for workers in ["1", "3"] {
        one_of_them_panics(workers);
    }
}

#[cfg(target_os = "linux")]
#[track_caller]
fn one_of_them_panics(workers: &str) {
    let inject = "inject=epoll_wait,epoll_pwait,epoll_pwait2:error=EBADF:when=60+";
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e", inject, BINARY])
        .args(["--port", "0", "--workers", workers, "--stats", "600"]);
    let server = EchoServer::start_with(command, 1);
    // Of one worker only a few, or it has polled too often already.
    let others = match workers {
        "1" => Vec::new(),
        _ => clients(&server),
    };
    let client = server.connect();
    wait_for("its worker fails", || {
        let answered = (&client).write_all(b"x").and_then(|()| {
            let mut answer = [0];
            (&client).read_exact(&mut answer)
        });
        answered.is_err().then_some(())
    });
    let ended = server.wait();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let line = ended.stderr.lines().last().unwrap_or_default();
    let panicked = line.strip_prefix("echo-server: worker ").expect(line);
    let message = " panicked: the event loop cannot poll: Bad file descriptor (os error 9)";
    assert_eq!(&panicked[1..], message);
    // Those of the other workers have not been forgotten either.
    for mut client in &others {
        let outcome = client.read(&mut [0]);
        assert!(!matches!(outcome, Ok(1..)), "{outcome:?}");
    }
}
