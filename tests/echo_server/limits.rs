//! Limits: of connections, of their silence, of descriptors. And what is counted.

use std::io::{ErrorKind, Read, Write};

use crate::common::certs::cert;
use crate::common::wait_for;
use crate::server::{APIS, EchoServer, echo, end, expect, expect_eof};

#[test]
fn one_connection_more_than_allowed_waits_until_another_one_ends() {
    for api in APIS {
        let server = EchoServer::start(&["--api", api, "--max-connections", "2"]);
        let [one, two] = [server.connect(), server.connect()];
        echo(&one, b"one");
        echo(&two, b"two");
        let three = server.connect();
        (&three).write_all(b"three").unwrap();
        for _ in 0..20 {
            echo(&one, b"still one");
            echo(&two, b"still two");
        }
        three.set_nonblocking(true).unwrap();
        let outcome = (&three).read(&mut [0]);
        assert!(
            matches!(&outcome, Err(error) if error.kind() == ErrorKind::WouldBlock),
            "{api}: {outcome:?}"
        );
        three.set_nonblocking(false).unwrap();
        end(&one);
        expect(&three, b"three");
        drop((two, three));
        server.stop();
    }
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_ended() {
    for api in APIS {
        let server = EchoServer::start(&["--api", api, "--idle-timeout", "0.1", "--stats", "600"]);
        let client = server.connect();
        echo(&client, b"hello");
        expect_eof(&client);
        let log = server.stop().stderr;
        assert!(log.contains("1 closed (1 idle)"), "{log}");
    }
}

/// All that was sent is counted, however the connection ends.
#[test]
fn what_a_late_reader_got_before_it_fell_silent_is_counted() {
    for api in APIS {
        let server = EchoServer::start(&["--api", api, "--idle-timeout", "1", "--stats", "600"]);
        let client = server.connect();
        client.set_nonblocking(true).unwrap();
        // As much as there is room for on the way there and back.
        let mut sent = 0;
        let chunk = [b'x'; 64 * 1024];
        while let Ok(size) = (&client).write(&chunk) {
            sent += size;
        }
        client.set_nonblocking(false).unwrap();
        let mut received = vec![0; sent];
        (&client).read_exact(&mut received).unwrap();
        expect_eof(&client);
        let log = server.stop().stderr;
        let bytes = format!("1 closed (1 idle), {sent} bytes in, {sent} bytes out");
        assert!(log.contains(&bytes), "{api}: {log}");
    }
}

#[test]
fn a_connection_that_takes_nothing_for_too_long_is_ended() {
    for api in APIS {
        let server = EchoServer::start(&["--api", api, "--write-timeout", "0.5", "--stats", "600"]);
        // It sends for as long as the server takes it, and reads nothing of what comes back. A slow
        // machine may find the server at the end of its patience before everything is full.
        let client = server.connect();
        client.set_nonblocking(true).unwrap();
        let chunk = [b'x'; 64 * 1024];
        wait_for("the server gives it up", || match (&client).write(&chunk) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => Some(()),
            Ok(_) => None,
        });
        let log = server.stop().stderr;
        assert!(log.contains("1 closed (1 stuck)"), "{log}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn as_many_descriptors_as_the_administrator_allows_are_used() {
    use std::process::Command;

    use crate::server::BINARY;

    for api in APIS {
        let mut command = Command::new("sh");
        let script = "ulimit -S -n 32 && exec \"$0\" --port 0 \"$@\"";
        command.args(["-c", script, BINARY, "--api", api]);
        let server = EchoServer::start_with(command, 1);
        let clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for client in &clients {
            echo(client, b"hello");
        }
        let log = server.stop().stderr;
        assert!(!log.contains("WARN"), "{log}");
    }
}

// Numbers.

/// The part of the line about everything after `stats in all: `.
#[track_caller]
fn total(log: &str) -> &str {
    let line = log.lines().last().expect("a line");
    line.strip_prefix("echo-server: stats in all: ")
        .unwrap_or_else(|| panic!("{log}"))
}

#[test]
fn what_happened_is_told_every_so_often_and_at_the_end() {
    for api in APIS {
        for workers in ["1", "2"] {
            let arguments = [
                "--workers",
                workers,
                "--stats",
                "0.05",
                "--log-level",
                "off",
            ];
            let server = EchoServer::start(&[&["--api", api], &arguments[..]].concat());
            let [one, two] = [server.connect(), server.connect()];
            echo(&one, &[b'x'; 1000]);
            echo(&two, &[b'x'; 2345]);
            // The one that is being told may know a part of it.
            let lines = || server.log().matches("stats: 2 open, ").count();
            let before = lines();
            wait_for("two lines about two that are open", || {
                (lines() >= before + 2).then_some(())
            });
            end(&one);
            wait_for("a line about one of them", || {
                let closed = "stats: 1 open, 0 accepted, 1 closed (1 by the peer), 0 bytes in";
                server.log().contains(closed).then_some(())
            });
            wait_for("a line in which nothing happened", || {
                let nothing = "stats: 1 open, 0 accepted, 0 closed, 0 bytes in, 0 bytes out, 0 err";
                server.log().contains(nothing).then_some(())
            });
            end(&two);
            let log = server.stop().stderr;
            let expected = "0 open, 2 accepted, 2 closed (2 by the peer), 3345 bytes in, \
                            3345 bytes out, 0 errors, late by ";
            let late = total(&log).strip_prefix(expected).expect(&log);
            let late: f64 = late.strip_suffix(" ms").expect(&log).parse().expect(&log);
            assert!(late > 0.0, "{log}");
            // Each line tells of its own time, all of them together of the whole.
            let told: u64 = log.lines().filter_map(bytes_in).sum();
            assert_eq!(told, 3345, "{log}");
        }
    }
}

/// Before the header of a proxy or a handshake there is no protocol that could count.
#[test]
fn connections_that_come_to_nothing_are_counted_as_well() {
    for api in APIS {
        let arguments = ["--stats", "0.05", "--log-level", "off", "--proxy-protocol"];
        let server = EchoServer::start(&[&["--api", api], &arguments[..]].concat());
        let silent = server.connect();
        wait_for("a line about one that says nothing", || {
            let open = "stats: 1 open, 1 accepted, 0 closed, 0 bytes in";
            server.log().contains(open).then_some(())
        });
        end(&silent);
        let stranger = server.connect();
        (&stranger).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let _ = (&stranger).read(&mut [0]);
        let log = server.stop().stderr;
        let expected = "0 open, 2 accepted, 2 closed (1 by the peer, 1 aborted), 0 bytes in, \
                        0 bytes out, 1 errors, late by ";
        assert!(total(&log).starts_with(expected), "{log}");

        let file = |name| cert(name).to_str().unwrap().to_owned();
        let (cert, key) = (file("server.pem"), file("server.key"));
        let tls = ["--api", api, "--tls-cert", &cert, "--tls-key", &key];
        let server = EchoServer::start(&[&tls[..], &["--stats", "600"]].concat());
        let stranger = server.connect();
        (&stranger).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // It is told why.
        let _ = (&stranger).read_to_end(&mut Vec::new());
        drop(stranger);
        let log = server.stop().stderr;
        let expected = "0 open, 1 accepted, 1 closed (1 TLS failed), 0 bytes in, 0 bytes out, 0 ";
        assert!(total(&log).starts_with(expected), "{log}");
    }
}

/// Each receive takes long.
#[cfg(target_os = "linux")]
#[test]
fn a_loop_that_is_late_is_told_and_what_held_it_up_is_logged() {
    use std::process::Command;

    use crate::common::peers::require;
    use crate::process::{only_child, signal};
    use crate::server::BINARY;

    if !require("strace", "strace") {
        return;
    }
    let inject = "inject=recvfrom:delay_enter=300000:when=1";
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e", inject, BINARY])
        .args(["--port", "0", "--stats", "0.05"]);
    let server = EchoServer::start_with(command, 1);
    let client = server.connect();
    echo(&client, b"hello");
    wait_for("a line about it", || {
        let log = server.log();
        let mut lines = log.lines().filter(|line| line.contains(": stats: "));
        lines.any(|line| late(line) >= 300.0).then_some(())
    });
    // The next ones tell of their own time, and the last one of all.
    let lines = || server.log().matches(": stats: ").count();
    let before = lines();
    wait_for("two more lines", || (lines() >= before + 2).then_some(()));
    let last = server.log().lines().last().map(str::to_owned).unwrap();
    assert!(late(&last) < 300.0, "{last}");
    end(&client);
    signal(only_child(server.process.id()), "TERM");
    let log = server.wait().stderr;
    assert!(late(&log) >= 300.0, "{log}");
    assert!(log.contains("::slow]"), "{log}");
}

/// In milliseconds.
#[cfg(target_os = "linux")]
#[track_caller]
fn late(line: &str) -> f64 {
    let (_, late) = line.rsplit_once("late by ").expect(line);
    let late = late.trim_end().strip_suffix(" ms").expect(line);
    late.parse().expect(line)
}

#[cfg(target_os = "linux")]
#[test]
fn a_loop_that_hangs_is_told_while_it_does() {
    use std::process::Command;

    use crate::common::peers::require;
    use crate::process::{only_child, signal};
    use crate::server::BINARY;

    if !require("strace", "strace") {
        return;
    }
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e"])
        .args(["inject=recvfrom:delay_enter=3000000:when=1", BINARY])
        .args(["--port", "0", "--workers", "2", "--stats", "0.05"]);
    let server = EchoServer::start_with(command, 1);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    wait_for("a line about it", || {
        let log = server.log();
        let mut lines = log.lines().filter(|line| line.contains(": stats: "));
        lines.any(|line| late(line) >= 500.0).then_some(())
    });
    client.set_nonblocking(true).unwrap();
    let outcome = client.read(&mut [0]);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
    client.set_nonblocking(false).unwrap();
    expect(&client, b"x");
    drop(client);
    signal(only_child(server.process.id()), "TERM");
    assert_eq!(server.wait().code, Some(0));
}

/// In a line about an interval.
fn bytes_in(line: &str) -> Option<u64> {
    let line = line.strip_prefix("echo-server: stats: ")?;
    let (before, _) = line.split_once(" bytes in")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[test]
fn without_being_asked_it_tells_no_numbers() {
    let server = EchoServer::start(&["--log-level", "off"]);
    echo(&server.connect(), b"hello");
    assert_eq!(server.stop().stderr, "");
}
