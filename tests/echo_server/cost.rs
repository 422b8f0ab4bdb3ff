//! What it costs: system calls, memory, descriptors, and time while descriptors are short.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::common::certs::cert;
use crate::common::folder::Folder;
use crate::common::peers::{self, script};
use crate::common::{PATIENCE, wait_for};
use crate::process::{Running, signal};
use crate::server::{APIS, BINARY, EchoServer, echo, end, expect};
use crate::tls;

// What the system says about a process.

/// A line of `/proc/PID/FILE` in KiB.
#[track_caller]
fn kib(process: u32, file: &str, name: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.unwrap_or_else(|| panic!("no {name} in {file}: {text}"));
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Resident memory, counted page by page: the sum in `status` may lag behind.
#[track_caller]
pub(crate) fn resident_kib(process: u32) -> usize {
    kib(process, "smaps_rollup", "Rss:")
}

#[track_caller]
fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// How long it has used a processor, in user and in system mode.
#[track_caller]
fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // After the name, which may have spaces: the state is the third field of the page proc(5).
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields
        .split(' ')
        .skip(14 - 3)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Part of the interface of Linux, whatever the kernel counts in.
const TICKS_PER_SECOND: u64 = 100;

// Many clients.

/// A process with many connections. This one may have too few descriptors for them.
pub(crate) struct Crowd {
    _process: Running,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crowd {
    #[track_caller]
    pub(crate) fn of(server: &EchoServer) -> Self {
        let mut command = Command::new("python3");
        command
            .arg(script("crowd.py"))
            .args([server.host(), server.port()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Running::spawn(&mut command);
        let commands = process.0.stdin.take().unwrap();
        let answers = BufReader::new(process.0.stdout.take().unwrap());
        Self {
            _process: process,
            commands,
            answers,
        }
    }

    #[track_caller]
    pub(crate) fn open(&mut self, connections: usize) {
        self.ask(&format!("open {connections}"), "opened");
    }

    /// All at once, and each answer is looked at.
    #[track_caller]
    pub(crate) fn echo(&mut self) {
        self.ask("echo", "echoed");
    }

    #[track_caller]
    pub(crate) fn close(&mut self) {
        self.ask("close", "closed");
    }

    /// Its own waits are bounded, so it answers or ends.
    #[track_caller]
    fn ask(&mut self, command: &str, expected: &str) {
        writeln!(self.commands, "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), expected, "{command}");
    }
}

// Memory.

#[test]
fn an_idle_connection_costs_less_than_a_kilobyte() {
    if !peers::require("python3", "python3") {
        return;
    }
    const CONNECTIONS: usize = 5000;
    for api in APIS {
        let server = EchoServer::start_with_descriptors(6000, &["--api", api]);
        let process = server.process.id();
        let mut crowd = Crowd::of(&server);
        crowd.open(10);
        let before = resident_kib(process);
        crowd.open(CONNECTIONS);
        let grown = (resident_kib(process) - before) * 1024;
        // A debug build has about 920 and 490.
        let most = if api == "streams" { 1000 } else { 560 };
        assert!(
            grown < most * CONNECTIONS,
            "{api}: {} bytes for each connection",
            grown / CONNECTIONS
        );
        crowd.close();
        server.stop();
    }
}

#[test]
fn peers_that_write_and_never_read_do_not_fill_the_memory() {
    for api in APIS {
        let server =
            EchoServer::start_with_descriptors(1024, &["--api", api, "--shutdown-timeout", "0"]);
        let process = server.process.id();
        let clients: Vec<TcpStream> = (0..200)
            .map(|_| {
                let client = server.connect();
                client.set_nonblocking(true).unwrap();
                // The kernel's part is not ours, and need not be large.
                SockRef::from(&client)
                    .set_recv_buffer_size(16 * 1024)
                    .unwrap();
                SockRef::from(&client)
                    .set_send_buffer_size(64 * 1024)
                    .unwrap();
                client
            })
            .collect();
        let chunk = vec![b'x'; 256 * 1024];
        let mut written = vec![0; clients.len()];
        let mut rounds_stuck = 0;
        wait_for("the server reads from nobody any more", || {
            let mut stuck = true;
            for (client, written) in clients.iter().zip(&mut written) {
                loop {
                    match (&*client).write(&chunk) {
                        Ok(n) => *written += n,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    }
                    stuck = false;
                }
            }
            rounds_stuck = if stuck { rounds_stuck + 1 } else { 0 };
            (rounds_stuck == 50).then_some(())
        });
        let least = written.iter().min().unwrap();
        assert!(*least > 64 * 1024, "{api}: nothing was read: {least}");
        let peak = kib(process, "status", "VmHWM:");
        assert!(peak < 132 * 1024, "{api}: {peak} KiB");
        drop(clients);
        server.stop();
    }
}

#[test]
fn twenty_times_a_thousand_connections_leave_nothing_behind() {
    if !peers::require("python3", "python3") {
        return;
    }
    for api in APIS {
        let server = EchoServer::start_with_descriptors(2048, &["--api", api]);
        let process = server.process.id();
        let idle = descriptors(process);
        let mut crowd = Crowd::of(&server);
        let mut memory = Vec::new();
        for _ in 0..20 {
            crowd.open(1000);
            assert_eq!(descriptors(process), idle + 1000);
            crowd.close();
            wait_for("all descriptors are closed", || {
                (descriptors(process) == idle).then_some(())
            });
            memory.push(resident_kib(process));
        }
        // The first round takes what a thousand connections need, the others find it there. A few
        // pages more are the allocator's; 14 bytes lost with each connection would show.
        assert!(
            memory[19] < memory[0] + 256,
            "{api}: resident KiB after each round: {memory:?}"
        );
        server.stop();
    }
}

// System calls.

/// How often each system call was made while clients did `work`, from the server's start to its
/// end.
#[track_caller]
fn system_calls(arguments: &[&str], work: impl FnOnce(&EchoServer)) -> BTreeMap<String, i64> {
    let folder = Folder::new();
    let table = folder.path("table");
    let mut command = Command::new("strace");
    command
        .args(["-c", "-f", "-o"])
        .arg(&table)
        .args([BINARY, "--port", "0"])
        .args(arguments);
    let server = EchoServer::start_with(command, 1);
    work(&server);
    let strace = server.process.id();
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap();
    signal(children.trim().parse().unwrap(), "TERM");
    assert_eq!(server.wait().code, Some(0));
    let text = fs::read_to_string(&table).unwrap();
    // The calls are the fourth column, the name is the last one: errors may stand between them.
    text.lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let calls = columns.get(3)?.parse().ok()?;
            Some((columns.last()?.to_string(), calls))
        })
        .filter(|(name, _)| name != "total")
        .collect()
}

/// The calls that it takes to do `work` so many times more, without those that stay the same.
#[track_caller]
fn calls_for_more(
    arguments: &[&str],
    times: usize,
    work: impl Fn(&EchoServer, usize),
) -> BTreeMap<String, i64> {
    let mut calls = system_calls(arguments, |server| work(server, 2 * times));
    for (name, few) in system_calls(arguments, |server| work(server, times)) {
        *calls.entry(name).or_default() -= few;
    }
    calls.retain(|_, calls| *calls != 0);
    calls
}

/// The calls for so many messages more that one client sends and gets back.
#[track_caller]
fn calls_for_echoes(api: &str, message: &[u8], times: usize) -> BTreeMap<String, i64> {
    calls_for_more(&["--api", api], times, |server, times| {
        let client = server.connect();
        for _ in 0..times {
            echo(&client, message);
        }
        end(&client);
    })
}

/// One receive, one send and one poll for each echo, and nothing else.
#[track_caller]
fn assert_one_of_each(mut calls: BTreeMap<String, i64>, times: usize) {
    let times = i64::try_from(times).unwrap();
    // Linux has both; which one is used depends on the architecture.
    let polls = ["epoll_wait", "epoll_pwait"].iter();
    let polls = polls.filter_map(|name| calls.remove(*name)).sum();
    calls.insert("poll".to_owned(), polls);
    for name in ["recvfrom", "sendto", "poll"] {
        let surplus = calls.remove(name).unwrap_or(0) - times;
        assert!(
            surplus.abs() <= CHANCE,
            "{times} echoes: {surplus} more {name}"
        );
    }
    let by_chance = |name: &str| if name == "futex" { MEETINGS } else { CHANCE };
    calls.retain(|name, calls| calls.abs() > by_chance(name));
    assert!(calls.is_empty(), "{times} echoes, and besides: {calls:?}");
}

/// The connection and its first bytes may come in one poll or in two, and so may its end and the
/// signal: a run differs from another by so many calls, and not with the number of echoes.
const CHANCE: i64 = 4;

/// At the start and at the end threads wait for each other, or come just in time.
const MEETINGS: i64 = 40;

#[test]
fn an_echo_is_one_receive_one_send_and_one_poll() {
    if !peers::require("strace", "strace") {
        return;
    }
    for api in APIS {
        let calls = calls_for_echoes(api, &[b'x'; 64], 2000);
        assert_one_of_each(calls, 2000);
    }
}

#[test]
fn sixteen_pipelined_lines_are_one_send() {
    if !peers::require("strace", "strace") {
        return;
    }
    for api in APIS {
        let lines = b"a line of a pipeline\n".repeat(16);
        let calls = calls_for_echoes(api, &lines, 200);
        assert_one_of_each(calls, 200);
    }
}

/// The tickets leave with the echo: who sets limits, as the protocol does, sends nothing by that.
#[test]
fn a_resumed_connection_over_tls_is_three_receives_and_three_sends() {
    const TIMES: usize = 50;
    if !peers::require("strace", "strace") {
        return;
    }
    for api in APIS {
        let (arguments, config) = (
            tls::arguments(api),
            tls::client_config(&cert("ca.pem"), None),
        );
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let calls = calls_for_more(&arguments, TIMES, |server, times| {
            for _ in 0..times {
                let mut client = tls::Client::new(server.connect(), Arc::clone(&config));
                client.echo_at_once(b"hello");
                client.end();
            }
        });
        // Of one piece, or of several.
        let sends: &[&str] = &["sendto", "sendmsg"];
        for (names, each) in [(&["recvfrom"][..], 3), (sends, 3), (&["close"], 1)] {
            let count: i64 = names.iter().filter_map(|name| calls.get(*name)).sum();
            let surplus = count - each * TIMES as i64;
            assert!(surplus.abs() <= CHANCE, "{api}: {surplus} more {names:?}");
        }
    }
}

// Too few descriptors.

#[test]
fn starved_of_descriptors_it_waits_quietly_and_serves_all_in_the_end() {
    const CLIENTS: usize = 300;
    for api in APIS {
        let arguments = ["--api", api, "--backlog", "512", "--shutdown-timeout", "0"];
        let server = EchoServer::start_with_descriptors(64, &arguments);
        let process = server.process.id();
        let idle = descriptors(process);
        let clients: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| {
                let client = server.connect();
                (&client).write_all(b"hello").unwrap();
                client
            })
            .collect();
        wait_for("the shortage is in the log", || {
            server
                .log()
                .contains("out of system resource")
                .then_some(())
        });
        let served = descriptors(process) - idle;
        assert!(served < 64, "the limit of descriptors is not in force");
        for client in &clients[..served] {
            expect(client, b"hello");
        }

        // A window on a server that has nothing it could do.
        let (began, used) = (Instant::now(), processor_time(process));
        thread::sleep(Duration::from_secs(3));
        let used = processor_time(process) - used;
        let window = began.elapsed();
        assert!(used * 20 < window, "{api}: {used:?} of {window:?}");

        // One goes, the next is served: before another one goes, and not a second later, or
        // this would take minutes.
        let began = Instant::now();
        let mut clients: VecDeque<TcpStream> = clients.into();
        while let Some(client) = clients.pop_front() {
            drop(client);
            if let Some(next) = clients.get(served - 1) {
                expect(next, b"hello");
            }
            assert!(began.elapsed() < PATIENCE, "{api}: {} wait", clients.len());
        }

        let log = server.log();
        assert_eq!(log.lines().count(), 1, "{log}");
        wait_for("all descriptors are closed", || {
            (descriptors(process) == idle).then_some(())
        });
        server.stop();
    }
}
