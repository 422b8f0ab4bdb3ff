//! Sockets that a service manager has opened.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::command_line::refused_by;
use crate::common::folder::Folder;
use crate::common::peers::{require, script};
use crate::server::{APIS, BINARY, EchoServer, connect, echo, end};
use crate::unix::echoes;

/// The server, after somebody has opened these.
fn activated(sockets: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-B").arg(script("activate.py"));
    command.args(sockets).args(["--", BINARY]).args(arguments);
    command
}

fn address(line: &str) -> SocketAddr {
    let address = line.strip_prefix("Serving on ").expect(line);
    address.parse().expect(line)
}

#[test]
fn what_was_inherited_is_served_by_all_workers_and_nothing_else_is() {
    if !require("python3", "python3") {
        return;
    }
    for api in APIS {
        for workers in ["1", "2"] {
            let folder = Folder::new();
            let path = folder.path("inherited");
            let sockets = ["tcp", path.to_str().unwrap()];
            let command = activated(&sockets, &["--api", api, "--workers", workers]);
            let server = EchoServer::start_with(command, 0);
            let tcp = address(&server.line());
            assert_eq!(server.line(), format!("Serving on {}", path.display()));
            for _ in 0..8 {
                let client = connect(tcp);
                echo(&client, b"hello");
                end(&client);
                echoes(&path);
            }
            assert_eq!(server.stop().stdout, Vec::<String>::new());
            // It is not ours.
            assert_eq!(folder.names(), ["inherited"]);
        }
    }
}

#[test]
fn more_is_served_if_it_is_asked_for() {
    if !require("python3", "python3") {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("ours");
    let ours = path.to_str().unwrap();
    let command = activated(&["tcp"], &["--port", "0", "--unix", ours]);
    let server = EchoServer::start_with(command, 1);
    echo(&server.connect(), b"hello");
    assert_eq!(server.line(), format!("Serving on {ours}"));
    echoes(&path);
    let inherited = address(&server.line());
    assert_ne!(inherited, server.address());
    echo(&connect(inherited), b"hello");
    server.stop();
    assert!(folder.names().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_comes_twice_is_served_once() {
    if !require("python3", "python3") {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("other");
    let sockets = ["tcp", path.to_str().unwrap(), "again"];
    let server = EchoServer::start_with(activated(&sockets, &[]), 1);
    echo(&server.connect(), b"hello");
    assert_eq!(server.line(), format!("Serving on {}", path.display()));
    echoes(&path);
    assert_eq!(server.stop().stdout, Vec::<String>::new());
}

#[test]
fn systemd_hands_its_socket_over() {
    if !require("systemd-socket-activate", "systemd") {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("systemd");
    let mut command = Command::new("systemd-socket-activate");
    command.arg("-l").arg(&path).arg(BINARY);
    let server = EchoServer::start_with(command, 0);
    // It becomes the server when the first client comes.
    crate::common::wait_for("a socket", || UnixStream::connect(&path).ok());
    assert_eq!(server.line(), format!("Serving on {}", path.display()));
    echoes(&path);
    server.stop();
    assert_eq!(folder.names(), ["systemd"]);
}

#[test]
fn what_is_no_listener_is_named_in_one_line() {
    if !require("python3", "python3") {
        return;
    }
    for (sockets, descriptor) in [
        (&["udp"][..], 3),
        (&["file"], 3),
        (&["nothing"], 3),
        (&["tcp", "nothing"], 4),
    ] {
        let line = refused_by(activated(sockets, &[]), 1);
        let expected = format!(
            "echo-server: LISTEN_FDS: descriptor {descriptor} is no TCP or unix stream socket"
        );
        assert_eq!(line, expected, "{sockets:?}");
    }
    for (socket, what) in [
        ("connected", "is connected"),
        ("unbound", "is not bound to any address"),
        ("unbound-unix", "is not bound to any address"),
    ] {
        let line = refused_by(activated(&["tcp", socket], &[]), 1);
        let expected = format!("echo-server: LISTEN_FDS: descriptor 4 {what}");
        assert_eq!(line, expected);
    }
    for number in ["-1", "many", "4000000000", ""] {
        let mut command = activated(&[], &[]);
        command.env("LISTEN_FDS", number);
        let expected = format!("echo-server: LISTEN_FDS: {number:?} is no number of sockets");
        assert_eq!(refused_by(command, 1), expected);
    }
}

/// As `sd_listen_fds` has it: nothing was inherited.
#[test]
fn a_number_of_zero_is_none() {
    if !require("python3", "python3") {
        return;
    }
    let server = EchoServer::start_with(activated(&[], &["--port", "0"]), 1);
    echo(&server.connect(), b"hello");
    assert_eq!(server.stop().stdout, Vec::<String>::new());
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    for process in [None, Some("1"), Some("nobody")] {
        let mut command = Command::new(BINARY);
        command.args(["--port", "0"]).env("LISTEN_FDS", "1");
        if let Some(process) = process {
            command.env("LISTEN_PID", process);
        }
        let server = EchoServer::start_with(command, 1);
        echo(&server.connect(), b"hello");
        assert_eq!(server.stop().stdout, Vec::<String>::new());
    }
}
