//! What serving has to do without: a family, descriptors, room for ten thousand.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::common::folder::Folder;
use crate::common::{peers, wait_for};
use crate::cost::{Crowd, resident_kib};
use crate::process::signal;
use crate::server::{APIS, BINARY, EchoServer, connect, echo, end, expect};

/// A server under `strace`, and what that writes down.
struct Traced {
    server: EchoServer,
    log: PathBuf,
}

impl Traced {
    /// `name` tells this run from the others that go on at the same time.
    #[track_caller]
    fn start(name: &str, limit: &str, strace: &[&str], server: &[&str], sockets: usize) -> Self {
        let name = format!("strace-{}-{name}", std::process::id());
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{limit} exec strace -f \"$@\""), "sh", "-o"])
            .arg(&log)
            .args(strace)
            .args([BINARY, "--port", "0", "--shutdown-timeout", "0"])
            .args(server);
        let server = EchoServer::start_with(command, sockets);
        Self { server, log }
    }

    /// The calls so far, without the threads that made them.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap();
        // The last line may be half of one.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let call = |line: &str| {
            line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
                .to_owned()
        };
        whole.lines().map(call).collect()
    }

    /// Ends the server, and gives what it has logged.
    #[track_caller]
    fn stop(self) -> String {
        let strace = self.server.process.id();
        let children = format!("/proc/{strace}/task/{strace}/children");
        let children = fs::read_to_string(children).unwrap();
        signal(children.trim().parse().unwrap(), "TERM");
        let ended = self.server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        fs::remove_file(&self.log).unwrap();
        ended.stderr
    }
}

// Families.

/// All interfaces are the two families; of the second one the system says no, in either way.
#[test]
fn a_family_that_the_machine_lacks_is_reported_once_and_the_other_one_served() {
    if !peers::require("strace", "strace") {
        return;
    }
    for refusal in [
        "socket:error=EAFNOSUPPORT:when=2",
        "bind:error=EADDRNOTAVAIL:when=2",
    ] {
        let inject = format!("inject={refusal}");
        let name = format!("family-{}", &refusal[..4]);
        let traced = Traced::start(&name, "", &["-e", &inject], &["--host", ""], 1);
        assert!(traced.server.address().ip().is_ipv4());
        let port = traced.server.address().port();
        let client = connect(([127, 0, 0, 1], port).into());
        echo(&client, b"hello");
        end(&client);
        let log = traced.stop();
        let reports: Vec<_> = log.lines().filter(|line| line.contains("[::]:")).collect();
        assert_eq!(reports.len(), 1, "{log}");
        assert!(reports[0].contains("WARN"), "{log}");
    }
}

#[test]
fn without_any_family_it_ends_with_both_addresses_named() {
    if !peers::require("strace", "strace") {
        return;
    }
    let output = Command::new("strace")
        .args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "inject=socket:error=EAFNOSUPPORT",
            BINARY,
        ])
        .args(["--host", "", "--port", "0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("0.0.0.0:0"), "{complaint}");
    assert!(complaint.contains("[::]:0"), "{complaint}");
}

/// The port that the system has picked for the first address may be taken on the second one.
#[test]
fn port_0_is_asked_for_again_until_it_is_free_on_every_address() {
    if !peers::require("strace", "strace") {
        return;
    }
    let inject = ["-e", "inject=bind:error=EADDRINUSE:when=2"];
    let hosts = ["--host", "127.0.0.1", "--host", "127.0.0.2"];
    let traced = Traced::start("port", "", &inject, &hosts, 2);
    let addresses = traced.server.addresses.clone();
    assert_eq!(addresses[0].port(), addresses[1].port());
    for address in addresses {
        let client = connect(address);
        echo(&client, b"hello");
        end(&client);
    }
    let calls = traced.calls();
    let binds = calls.iter().filter(|call| call.starts_with("bind("));
    assert_eq!(binds.count(), 4, "{calls:#?}");
    traced.stop();
}

// The queue.

/// For every listener, whoever has opened it.
#[test]
fn a_backlog_is_that_of_every_socket() {
    if !peers::require("strace", "strace") || !peers::require("python3", "python3") {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("queue");
    let unix = path.to_str().unwrap();
    for (workers, listeners) in [("1", 2), ("2", 3)] {
        let arguments = ["--backlog", "7", "--workers", workers, "--unix", unix];
        let name = format!("backlog-{workers}");
        let traced = Traced::start(&name, "", &["-e", "trace=listen"], &arguments, 1);
        assert_eq!(traced.server.line(), format!("Serving on {unix}"));
        let calls = traced.calls();
        let queues = calls.iter().filter(|call| call.contains(", 7"));
        assert_eq!(queues.count(), listeners, "{calls:#?}");
        traced.stop();
    }

    // Here the first one to listen is who opens it.
    let log = folder.path("log");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", "trace=listen", "-o"])
        .args([&log, Path::new("python3")])
        .arg("-B")
        .arg(peers::script("activate.py"))
        .args(["tcp", "--", BINARY, "--backlog", "7"]);
    let server = EchoServer::start_with(command, 1);
    let calls = fs::read_to_string(&log).unwrap();
    let calls: Vec<_> = calls.lines().filter(|it| it.contains("listen(")).collect();
    let queues = calls.iter().filter(|call| call.contains(", 7"));
    assert_eq!((calls.len(), queues.count()), (2, 1), "{calls:#?}");
    drop(server);
}

// Descriptors.

/// While descriptors are short the server tries once a second, and what it does besides is its
/// work for those who are connected.
#[test]
fn starved_of_descriptors_it_makes_a_few_system_calls_a_second_and_its_connections_go_on() {
    if !peers::require("strace", "strace") {
        return;
    }
    let trace = ["-e", "trace=accept,accept4,epoll_wait,epoll_pwait,sendto"];
    for api in APIS {
        let limit = "ulimit -n 64 &&";
        let name = format!("starved-{api}");
        let traced = Traced::start(&name, limit, &trace, &["--api", api], 1);
        let first = traced.server.connect();
        echo(&first, b"hello");
        let connect = || {
            let client = traced.server.connect();
            (&client).write_all(b"hello").unwrap();
            client
        };
        let mut clients: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
        let failures = |calls: &[String]| -> Vec<usize> {
            let calls = calls.iter().enumerate();
            let failed = calls.filter(|(_, call)| call.contains("EMFILE"));
            failed.map(|(number, _)| number).collect()
        };
        wait_for("the shortage", || {
            (!failures(&traced.calls()).is_empty()).then_some(())
        });
        const ECHOES: usize = 20;
        const KNOCKS: usize = 20;
        for _ in 0..ECHOES {
            echo(&first, b"undisturbed");
        }
        let before = failures(&traced.calls()).len();
        let calls = wait_for("three more attempts", || {
            let calls = traced.calls();
            (failures(&calls).len() >= before + 3).then_some(calls)
        });
        // From an attempt to the one after the next: two timers.
        let attempts = &failures(&calls)[before..];
        let quiet = &calls[attempts[0]..attempts[2]];
        assert!(quiet.len() <= 8, "{api}: {quiet:#?}");

        // Whoever knocks meanwhile wakes it, and is no reason to try: the second is.
        let (before, began) = (failures(&traced.calls()).len(), Instant::now());
        for _ in 0..KNOCKS {
            let calls = traced.calls().len();
            clients.push(connect());
            wait_for("the event", || (traced.calls().len() > calls).then_some(()));
        }
        let attempts = failures(&traced.calls()).len() - before;
        let seconds = began.elapsed().as_secs_f64().ceil() as usize;
        assert!(attempts <= seconds, "{api}: {attempts} in {seconds} s");

        // Those who go make room for as many, and nobody was told twice.
        let waiting = clients.iter().rev();
        let waiting = waiting.take_while(|client| !is_answered(client)).count();
        let (served, waiting) = clients.split_at(clients.len() - waiting);
        assert!(!waiting.is_empty());
        for client in served {
            expect(client, b"hello");
            end(client);
        }
        for client in waiting.iter().take(served.len()) {
            expect(client, b"hello");
        }
        drop(clients);
        echo(&first, b"and on");
        end(&first);
        let log = traced.stop();
        let reports = log.matches("out of system resource").count();
        assert_eq!(reports, 1, "{log}");
    }
}

/// Whether something can be read.
fn is_answered(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let answered = client.peek(&mut [0]).is_ok();
    client.set_nonblocking(false).unwrap();
    answered
}

// Ten thousand.

/// Everybody who may have so many descriptors is served, at the same time. A hard limit below it
/// is no failure of ours: then there are fewer, and the test says so.
#[allow(clippy::print_stdout, reason = "it says what it has measured")]
#[test]
fn ten_thousand_connections_at_a_time_are_all_answered() {
    if !peers::require("python3", "python3") {
        return;
    }
    const WANTED: usize = 10_000;
    /// For what a process has open besides.
    const OTHERS: usize = 50;
    let hard = Command::new("sh")
        .args(["-c", "ulimit -Hn"])
        .output()
        .unwrap();
    let hard = String::from_utf8(hard.stdout).unwrap();
    // "unlimited" is enough.
    let hard = hard.trim().parse().unwrap_or(usize::MAX);
    let connections = WANTED.min(hard.saturating_sub(OTHERS));
    if connections < WANTED {
        println!("{connections} connections only: the hard limit of descriptors is {hard}");
    }
    for api in APIS {
        let mut command = Command::new("sh");
        let script = "ulimit -Sn $(ulimit -Hn) && exec \"$0\" --port 0 --shutdown-timeout 0 \"$@\"";
        command.args(["-c", script, BINARY, "--api", api]);
        let server = EchoServer::start_with(command, 1);
        let process = server.process.id();
        let mut crowd = Crowd::of(&server);
        crowd.open(10);
        let before = resident_kib(process);
        crowd.open(connections - 10);
        let idle = (resident_kib(process) - before) * 1024 / (connections - 10);
        crowd.echo();
        let used = (resident_kib(process) - before) * 1024 / (connections - 10);
        println!(
            "{api}: {connections} connections, {idle} bytes resident for each; {used} after all \
             of them were answered at once"
        );
        assert!(idle < 1100, "{api}: {idle} bytes for each connection");
        crowd.close();
        let end = server.stop();
        assert!(!end.stderr.contains("ERROR"), "{}", end.stderr);
    }
}
