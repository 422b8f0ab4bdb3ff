//! Options, the lines on stdout, and what is said when something is wrong.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use crate::common::wait_for;
use crate::process::Running;
use crate::server::{APIS, BINARY, EchoServer, connect, echo, end};

/// Runs it to its end.
#[track_caller]
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    run_to_its_end(command)
}

#[track_caller]
fn run_to_its_end(mut command: Command) -> Output {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Running::spawn(&mut command);
    // What it says fits into a pipe, so nothing has to be read before its end.
    let status = process.wait();
    let mut output = Output {
        status,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    std::io::Read::read_to_end(process.0.stdout.as_mut().unwrap(), &mut output.stdout).unwrap();
    std::io::Read::read_to_end(process.0.stderr.as_mut().unwrap(), &mut output.stderr).unwrap();
    output
}

/// Runs it and expects one line on stderr and nothing on stdout.
#[track_caller]
pub(crate) fn refused(arguments: &[&str], code: i32) -> String {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    refused_by(command, code)
}

/// The same, started in another way.
#[track_caller]
pub(crate) fn refused_by(command: Command, code: i32) -> String {
    let arguments = format!("{command:?}");
    let output = run_to_its_end(command);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
    assert_eq!(output.stdout, b"", "{arguments}");
    assert!(stderr.ends_with('\n'), "{arguments}: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr}");
    stderr.trim_end().to_owned()
}

const OPTIONS: [&str; 21] = [
    "--host",
    "--port",
    "--unix",
    "--backlog",
    "--tls-cert",
    "--tls-key",
    "--tls-client-ca",
    "--limit",
    "--max-connections",
    "--idle-timeout",
    "--proxy-protocol",
    "--write-timeout",
    "--shutdown-timeout",
    "--workers",
    "--api",
    "--stats",
    "--log-level",
    "--generate",
    "--help",
    "--version",
    "LISTEN_FDS",
];

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn says_where_it_serves_and_nothing_else() {
    for api in APIS {
        let server = EchoServer::start(&["--api", api, "--log-level", "off"]);
        assert_eq!(server.host(), "127.0.0.1");
        let client = server.connect();
        echo(&client, b"hello");
        end(&client);
        let ended = server.stop();
        assert_eq!(ended.stdout, Vec::<String>::new());
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn serves_every_host_on_one_port_in_the_order_of_the_options() {
    let mut hosts = vec!["127.0.0.1"];
    if cfg!(target_os = "linux") {
        hosts.insert(0, "127.0.0.2");
    }
    if has_ipv6() {
        hosts.insert(0, "::1");
    }
    let mut command = Command::new(BINARY);
    command.args(["--port", "0"]);
    for host in &hosts {
        command.args(["--host", host]);
    }
    let server = EchoServer::start_with(command, hosts.len());
    let served: Vec<String> = server
        .addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    assert_eq!(served, hosts);
    for address in &server.addresses {
        assert_eq!(address.port(), server.address().port());
        let client = connect(*address);
        echo(&client, b"hello");
        end(&client);
    }
    assert_eq!(server.stop().stdout, Vec::<String>::new());
}

#[test]
fn prints_an_ipv6_address_in_brackets() {
    if !has_ipv6() {
        return;
    }
    // The helper takes the text after "Serving on " for a socket address, which has brackets.
    let server = EchoServer::start(&["--host", "::1"]);
    assert!(server.address().is_ipv6());
    let client = server.connect();
    echo(&client, b"hello");
    end(&client);
    server.stop();
}

#[test]
fn a_host_given_twice_is_served_once() {
    let server = EchoServer::start(&["--host", "127.0.0.1", "--host", "127.0.0.1"]);
    assert_eq!(server.stop().stdout, Vec::<String>::new());
}

#[test]
fn a_host_may_be_a_name() {
    let mut command = Command::new(BINARY);
    command.args(["--port", "0", "--host", "localhost", "--host", "127.0.0.1"]);
    let server = EchoServer::start_with(command, 1);
    assert!(server.address().ip().is_loopback());
    echo(&server.connect(), b"hello");
    server.stop();
}

#[test]
fn help_and_version_are_answers_and_no_errors() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert_eq!(help.stderr, b"");
    let help = String::from_utf8(help.stdout).unwrap();
    for option in OPTIONS {
        assert!(help.contains(option), "{option} is missing in {help}");
    }
    for heading in [
        "Sockets:",
        "TLS:",
        "Connections:",
        "Running:",
        "Environment:",
        "Signals:",
    ] {
        assert!(help.contains(heading), "{heading} is missing in {help}");
    }
    for default in ["127.0.0.1", "8888", "streams", "65536", "1024", "info", "5"] {
        let default = format!("[default: {default}]");
        assert!(help.contains(&default), "{default} is missing in {help}");
    }

    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(version.stderr, b"");
    let expected = format!("echo-server {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
}

/// `-h` is a summary, and what is not wrapped by its reader is not too wide for a page.
#[test]
fn the_short_help_is_short_and_the_long_one_is_narrow_at_its_end() {
    let [short, long] = ["-h", "--help"].map(|argument| {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(short.len() < long.len(), "{short}");
    let (options, _) = short.split_once("\nEnvironment:").expect(&short);
    for line in options.lines().filter(|line| line.contains("--")) {
        let (_, said) = line.trim().split_once("  ").unwrap_or_default();
        let said = said.split(" [").next().unwrap_or_default();
        assert!(said.trim().len() <= 80, "{line}");
    }
    let (_, verbatim) = long.split_once("\nEnvironment:").expect(&long);
    for line in verbatim.lines() {
        assert!(line.len() <= 71, "{line}");
    }
}

#[test]
fn a_bad_argument_is_named_in_one_line() {
    let cases: [(&[&str], &str); 28] = [
        (
            &["--limit", "0"],
            "invalid value '0' for '--limit <BYTES>': it must be at least 1",
        ),
        (
            &["--limit", "-1"],
            "invalid value '-1' for '--limit <BYTES>'",
        ),
        (
            &["--limit", "many"],
            "invalid value 'many' for '--limit <BYTES>'",
        ),
        (
            &["--port", "65536"],
            "invalid value '65536' for '--port <PORT>'",
        ),
        (&["--port", "-1"], "invalid value '-1' for '--port <PORT>'"),
        (
            &["--port", "http"],
            "invalid value 'http' for '--port <PORT>'",
        ),
        (&["--port", "1\n\n2"], "invalid value '1"),
        (&["--port"], "a value is required for '--port <PORT>'"),
        (
            &["--api", "tasks"],
            "invalid value 'tasks' for '--api <API>' [possible values: streams, protocol]",
        ),
        (
            &["--backlog", "-1"],
            "invalid value '-1' for '--backlog <NUMBER>'",
        ),
        (
            &["--log-level", "loud"],
            "invalid value 'loud' for '--log-level <LEVEL>'",
        ),
        (
            &["--shutdown-timeout", "-1"],
            "invalid value '-1' for '--shutdown-timeout <SECONDS>'",
        ),
        (
            &["--shutdown-timeout", "nan"],
            "invalid value 'nan' for '--shutdown-timeout <SECONDS>'",
        ),
        (
            &["--api", "streams", "--api", "protocol"],
            "the argument '--api <API>'",
        ),
        (
            &["--workers", "1000000"],
            "invalid value '1000000' for '--workers <NUMBER>': 1000000 workers are too many: 1024 \
             at most",
        ),
        (
            &["--workers", "-1"],
            "invalid value '-1' for '--workers <NUMBER>'",
        ),
        (
            &["--max-connections", "0"],
            "invalid value '0' for '--max-connections <NUMBER>': it must be at least 1",
        ),
        (
            &["--idle-timeout", "0"],
            "invalid value '0' for '--idle-timeout <SECONDS>': it must be a number of seconds \
             above 0",
        ),
        (
            &["--idle-timeout", "-1"],
            "invalid value '-1' for '--idle-timeout <SECONDS>'",
        ),
        (
            &["--write-timeout", "0.0"],
            "invalid value '0.0' for '--write-timeout <SECONDS>'",
        ),
        (
            &["--write-timeout", "inf"],
            "invalid value 'inf' for '--write-timeout <SECONDS>'",
        ),
        (
            &["--stats", "0"],
            "invalid value '0' for '--stats <SECONDS>'",
        ),
        (
            &["--stats", "0.009"],
            "invalid value '0.009' for '--stats <SECONDS>': it must be a number of seconds, 0.01 \
             at least",
        ),
        (
            &["--stats", "often"],
            "invalid value 'often' for '--stats <SECONDS>'",
        ),
        (
            &["--generate", "html"],
            "invalid value 'html' for '--generate <WHAT>' [possible values: man, bash, zsh, fish]",
        ),
        (
            &["--generate", "man", "--port", "1"],
            "the argument '--generate <WHAT>' cannot be used with",
        ),
        (&["--loud"], "unexpected argument '--loud' found"),
        (&["8888"], "unexpected argument '8888' found"),
    ];
    for (arguments, expected) in cases {
        let line = refused(arguments, 2);
        let expected = format!("echo-server: {expected}");
        assert!(line.starts_with(&expected), "{arguments:?}: {line}");
    }
}

#[test]
fn workers_that_have_nothing_to_serve_are_refused() {
    // The path is not made either.
    let line = refused(&["--workers", "2", "--unix", "/nowhere"], 2);
    let expected = "echo-server: --workers: only the first one could serve what --unix names";
    assert_eq!(line, expected);
}

#[test]
fn a_manual_page_and_completions_name_every_option() {
    for (what, begins) in [
        ("man", ".ie"),
        ("bash", "_echo__server()"),
        ("zsh", "#compdef echo-server"),
        ("fish", "complete -c echo-server"),
    ] {
        let output = run(&["--generate", what]);
        assert_eq!(output.status.code(), Some(0), "{what}");
        assert_eq!(output.stderr, b"", "{what}");
        // The manual page has its hyphens marked, and fish has none in front.
        let text = String::from_utf8(output.stdout).unwrap().replace('\\', "");
        assert!(text.starts_with(begins), "{what}: {text}");
        for option in OPTIONS
            .iter()
            .filter_map(|option| option.strip_prefix("--"))
        {
            assert!(
                text.contains(option),
                "{option} is missing for {what}: {text}"
            );
        }
    }
}

#[test]
fn a_taken_port_is_named_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    for api in APIS {
        let line = refused(&["--api", api, "--port", &port], 1);
        let expected = format!("echo-server: cannot bind to address {address}: ");
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[test]
fn a_host_that_cannot_be_resolved_is_named_in_one_line() {
    for host in ["no such name", "two\nlines"] {
        let line = refused(&["--host", host, "--port", "0"], 1);
        let expected = format!("echo-server: cannot resolve {host:?}: ");
        assert!(line.starts_with(&expected), "{line}");
        assert_eq!(line.matches("resolve").count(), 1, "named once: {line}");
    }
}

#[test]
fn an_address_of_somebody_else_is_named_in_one_line() {
    // Set aside for documentation (RFC 5737), so it is nobody's.
    let line = refused(&["--host", "192.0.2.1", "--port", "0"], 1);
    let expected = "echo-server: cannot bind to address 192.0.2.1:0: ";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn logs_go_to_stderr_and_as_much_as_was_asked_for() {
    let logged = |level| {
        let server = EchoServer::start(&["--log-level", level]);
        let end = server.stop();
        assert_eq!(end.stdout, Vec::<String>::new());
        end.stderr
    };
    for silent in ["off", "error", "warn"] {
        assert_eq!(logged(silent), "", "--log-level {silent}");
    }
    for open in ["info", "debug", "trace"] {
        assert!(logged(open).contains("INFO"), "--log-level {open}");
    }
}

#[test]
fn a_stdout_that_nobody_reads_does_not_end_it() {
    // Below the ports that systems give out by themselves; one that is taken ends the server.
    let (mut server, address) = (20_011..20_111)
        .step_by(10)
        .find_map(|port| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            drop(ours);
            let mut command = Command::new(BINARY);
            command
                .args(["--port", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(OwnedFd::from(theirs))
                .stderr(Stdio::null());
            let mut server = Running::spawn(&mut command);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            wait_for(
                "it serves, or ends since the port is taken",
                || match server.0.try_wait().unwrap() {
                    Some(_) => Some(false),
                    None => std::net::TcpStream::connect(address)
                        .is_ok()
                        .then_some(true),
                },
            )
            .then_some((server, address))
        })
        .expect("a port that is free");
    let client = connect(address);
    echo(&client, b"hello");
    end(&client);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}
