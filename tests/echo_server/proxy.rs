//! echo-server behind a proxy: whom it speaks for is in the log, and who sends no header is out.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;

use crate::clients::payload;
use crate::common::PATIENCE;
use crate::common::certs::cert;
use crate::common::folder::Folder;
use crate::common::peers::require;
use crate::common::wait_for;
use crate::process::Running;
use crate::server::{APIS, EchoServer, connect, echo, end, lines};
use crate::tls::{Client, client_config};

#[track_caller]
fn start(api: &str, more: &[&str]) -> EchoServer {
    let mut arguments = vec!["--proxy-protocol", "--api", api];
    arguments.extend(more);
    EchoServer::start(&arguments)
}

/// The arguments that have it speak TLS.
fn tls() -> [String; 4] {
    let file = |name: &str| cert(name).to_str().expect("a path in UTF-8").to_owned();
    let (cert, key) = (file("server.pem"), file("server.key"));
    ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key]
}

/// A proxy on a port of its own, which sends headers to this server.
struct Proxy {
    _process: Running,
    _folder: Folder,
    address: SocketAddr,
    /// What it says about its checks, among others.
    log: Receiver<String>,
}

impl Proxy {
    /// `None` if HAProxy is not installed.
    fn start(server: &EchoServer, sends: &str) -> Option<Self> {
        if !require("haproxy", "haproxy") {
            return None;
        }
        // It is given a socket that listens already, so that no port has to be guessed.
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let folder = Folder::new();
        let path = folder.path("haproxy.cfg");
        let configuration = format!(
            "global\n log stdout format raw daemon\n\
             defaults\n log global\n option log-health-checks\n mode tcp\n\
             timeout connect 20s\n timeout client 20s\n timeout server 20s\n\
             listen echo\n bind fd@0\n server one {} {sends}\n",
            server.address()
        );
        fs::write(&path, configuration).expect("a file");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path);
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Running::spawn(&mut command);
        let log = lines(process.0.stdout.take().expect("a pipe"));
        Some(Self {
            _process: process,
            _folder: folder,
            address,
            log,
        })
    }
}

/// Waits until the log has this.
#[track_caller]
fn logged(server: &EchoServer, text: &str) {
    wait_for(text, || server.log().contains(text).then_some(()));
}

#[test]
fn haproxy_says_who_the_client_is() {
    for (api, sends) in [
        ("streams", "send-proxy-v2"),
        ("protocol", "send-proxy-v2"),
        ("streams", "send-proxy"),
    ] {
        let server = start(api, &[]);
        let Some(proxy) = Proxy::start(&server, sends) else {
            return;
        };
        let client = connect(proxy.address);
        echo(&client, &payload(100_000));
        let own = client.local_addr().unwrap();
        logged(&server, &format!("{own} by way of 127.0.0.1:"));
        end(&client);
        let log = server.stop().stderr;
        assert_eq!(log.matches(" by way of ").count(), 1, "{log}");
        assert!(!log.contains("PROXY"), "{log}");
    }
}

#[test]
fn haproxy_says_it_in_front_of_a_handshake() {
    for api in APIS {
        let tls = tls();
        let server = start(api, &tls.each_ref().map(String::as_str));
        let Some(proxy) = Proxy::start(&server, "send-proxy-v2") else {
            return;
        };
        let stream = connect(proxy.address);
        let own = stream.local_addr().unwrap();
        let mut client = Client::new(stream, client_config(&cert("ca.pem"), None));
        client.echo(&payload(100_000));
        logged(&server, &format!("{own} by way of 127.0.0.1:"));
        client.end();
        server.stop();
    }
}

/// For itself: the check is no client, and none of its connections an error.
#[test]
fn haproxy_finds_the_server_alive() {
    let server = start("streams", &["--log-level", "debug"]);
    let sends = "check inter 20ms check-send-proxy send-proxy-v2";
    let Some(proxy) = Proxy::start(&server, sends) else {
        return;
    };
    loop {
        let line = proxy.log.recv_timeout(PATIENCE).expect("a word of a check");
        assert!(!line.contains("failed"), "{line}");
        if line.contains("succeeded") {
            break;
        }
    }
    let client = connect(proxy.address);
    echo(&client, b"hello");
    end(&client);
    let log = server.stop().stderr;
    assert_eq!(log.matches(" by way of ").count(), 1, "{log}");
    assert!(!log.contains("PROXY protocol: "), "{log}");
}

#[test]
fn a_header_may_be_glued_to_what_follows() {
    for api in APIS {
        let server = start(api, &[]);
        let client = connect(server.address());
        (&client)
            .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\nhello")
            .unwrap();
        crate::server::expect(&client, b"hello");
        echo(&client, b"more");
        end(&client);
        let own = client.local_addr().unwrap();
        logged(&server, &format!("192.0.2.7:50000 by way of {own}"));
        server.stop();
    }
}

/// Whether the connection ended without a byte, also if it was reset.
fn is_refused(mut client: &TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(size) => size == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn who_sends_no_header_is_closed_with_one_line_and_nobody_else_is() {
    let too_long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let refusals: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", "malformed PROXY header"),
        (b"PROXY TCP4 1.2.3.4\r\n", "malformed PROXY header"),
        (&too_long, "more than 107 bytes"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            "more than 4112 bytes",
        ),
    ];
    for api in APIS {
        let server = start(api, &[]);
        let fine = connect(server.address());
        (&fine).write_all(b"PROXY UNKNOWN\r\n").unwrap();
        echo(&fine, b"before");
        for (sent, why) in refusals {
            let client = connect(server.address());
            (&client).write_all(sent).unwrap();
            assert!(is_refused(&client), "{sent:?}");
            logged(&server, why);
        }
        echo(&fine, b"behind");
        end(&fine);
        let log = server.stop().stderr;
        assert_eq!(log.matches("PROXY protocol: ").count(), 4, "{log}");
    }
}

#[test]
fn a_header_that_never_ends_is_given_up_after_some_seconds() {
    let server = start("streams", &[]);
    let client = connect(server.address());
    (&client).write_all(b"PROXY TCP4 ").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(is_refused(&client));
    logged(&server, "no complete PROXY header within 5s");
    let log = server.stop().stderr;
    assert_eq!(log.matches("PROXY protocol: ").count(), 1, "{log}");
}

#[test]
fn without_the_flag_a_header_is_as_good_as_any_other_bytes() {
    for api in APIS {
        let server = EchoServer::start_with_api(api);
        let client = connect(server.address());
        echo(&client, b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n");
        end(&client);
        let log = server.stop().stderr;
        assert!(!log.contains("192.0.2.7"), "{log}");
    }
}
