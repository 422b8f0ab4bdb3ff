//! Clients of all kinds: what they send comes back, and so does the end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::common::peers::{self, script};
use crate::process::Running;
use crate::server::{APIS, EchoServer, echo, end, expect, expect_eof};

/// Bytes that do not repeat soon.
pub(crate) fn payload(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

#[track_caller]
fn asyncio_client(server: &EchoServer, size: usize, how: &[&str]) {
    let mut command = Command::new("python3");
    command
        .arg(script("echo_client.py"))
        .args([&server.host(), &server.port(), &size.to_string()])
        .args(how)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut client = Running::spawn(&mut command);
    let status = client.wait();
    let mut printed = String::new();
    let stdout = client.0.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    assert!(status.success(), "{size} bytes: {status}");
    assert_eq!(printed, format!("ok {size}\n"));
}

#[test]
fn asyncio_gets_1_byte_to_32_mib_back_and_then_the_end() {
    if !peers::require("python3", "python3") {
        return;
    }
    for api in APIS {
        let server = EchoServer::start_with_api(api);
        for size in [0, 1, 65_537, 1 << 20, 32 << 20] {
            asyncio_client(&server, size, &[]);
        }
        server.stop();
    }
}

#[test]
fn an_asyncio_client_that_reads_late_and_slowly_gets_all() {
    if !peers::require("python3", "python3") {
        return;
    }
    for api in APIS {
        let server = EchoServer::start_with_api(api);
        asyncio_client(&server, 24 << 20, &["slow"]);
        server.stop();
    }
}

/// Runs a program that copies stdin to the server and the server to stdout, with both in files.
#[track_caller]
pub(crate) fn pipe_through(mut command: Command, bytes: &[u8]) {
    let mut input = scratch_file();
    input.write_all(bytes).unwrap();
    input.seek(SeekFrom::Start(0)).unwrap();
    let mut output = scratch_file();
    command
        .stdin(input)
        .stdout(output.try_clone().unwrap())
        .stderr(Stdio::inherit());
    let mut program = Running::spawn(&mut command);
    let status = program.wait();
    assert!(status.success(), "{command:?}: {status}");
    output.seek(SeekFrom::Start(0)).unwrap();
    let mut echoed = Vec::new();
    output.read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed.len(), bytes.len(), "{command:?}");
    assert!(echoed == bytes, "{command:?}: other bytes came back");
}

/// A file without a name.
fn scratch_file() -> File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "echo-server-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

#[test]
fn nc_gets_all_back() {
    if !peers::require("nc", "netcat-openbsd") {
        return;
    }
    for api in APIS {
        let server = EchoServer::start_with_api(api);
        for size in [1, 3 << 20] {
            let mut nc = Command::new("nc");
            nc.args(["-N", &server.host(), &server.port()]);
            pipe_through(nc, &payload(size));
        }
        server.stop();
    }
}

#[test]
fn socat_gets_all_back() {
    if !peers::require("socat", "socat") {
        return;
    }
    for api in APIS {
        let server = EchoServer::start_with_api(api);
        for size in [1, 3 << 20] {
            let mut socat = Command::new("socat");
            // How long it waits for our end after its own.
            socat.args(["-t", "30", "-"]);
            socat.arg(format!("TCP:{}", server.address()));
            pipe_through(socat, &payload(size));
        }
        server.stop();
    }
}

#[test]
fn every_byte_comes_back_as_it_comes() {
    for api in APIS {
        let server = EchoServer::start_with_api(api);
        let client = server.connect();
        for byte in b"no newline, and no waiting for more" {
            echo(&client, &[*byte]);
        }
        end(&client);
        server.stop();
    }
}

#[test]
fn an_end_without_a_byte_is_answered_by_an_end() {
    for api in APIS {
        let server = EchoServer::start_with_api(api);
        end(&server.connect());
        server.stop();
    }
}

#[test]
fn a_limit_of_one_byte_slows_down_and_loses_nothing() {
    for api in APIS {
        let server = EchoServer::start(&["--api", api, "--limit", "1"]);
        let bytes = payload(4 << 20);
        let client = server.connect();
        thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&bytes).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            expect(&client, &bytes);
            expect_eof(&client);
        });
        server.stop();
    }
}

#[test]
fn a_reset_with_bytes_under_way_leaves_the_others_untouched() {
    for api in APIS {
        let server = EchoServer::start(&["--api", api, "--shutdown-timeout", "60"]);
        let other = server.connect();
        echo(&other, b"before");
        for _ in 0..20 {
            let rude = server.connect();
            // Fills what fits, so that the server owes it bytes; then a reset instead of an end.
            rude.set_write_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            let _ = (&rude).write_all(&payload(8 << 20));
            SockRef::from(&rude)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(rude);
            echo(&other, b"between");
        }
        end(&other);
        // Nothing is left of those that were reset, or the server would wait for them.
        let ended = server.stop();
        for level in ["WARN", "ERROR"] {
            assert!(!ended.stderr.contains(level), "{}", ended.stderr);
        }
    }
}
