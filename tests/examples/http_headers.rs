//! The example `http_headers`: what it asks for, what it prints, what it refuses.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use evloop::rustls::crypto::aws_lc_rs;
use evloop::rustls::pki_types::pem::PemObject;
use evloop::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use evloop::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::certs::cert;
use crate::common::peers::{require, skip};
use crate::common::program::{Ended, Program, example, good};
use crate::common::{PATIENCE, Peer};
use crate::listener;

/// Answers one request with these bytes, and gives the request.
fn answer(listener: TcpListener, answer: &'static [u8]) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let peer = Peer::accept(&listener);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.extend(peer.receive(1));
        }
        peer.send(answer);
        peer.finish();
        peer.receive_all();
        request
    })
}

#[test]
fn http_headers_sends_what_the_url_says() {
    for (url, path) in [
        ("http://127.0.0.1:{}", "/"),
        ("http://127.0.0.1:{}/", "/"),
        ("HTTP://127.0.0.1:{}/a/b.html#below", "/a/b.html"),
        ("http://127.0.0.1:{}/a?q=1&r=a:b/c", "/a?q=1&r=a:b/c"),
        ("http://127.0.0.1:{}?q=http://x", "/?q=http://x"),
        ("http://me:secret@127.0.0.1:{}/who", "/who"),
        ("http://127.0.0.1:{}/gr\u{fc}n", "/gr\u{fc}n"),
    ] {
        let (listener, port) = listener();
        let server = answer(listener, b"HTTP/1.0 200 OK\r\n\r\n");
        let url = url.replace("{}", &port.to_string());
        let ended = Program::example("http_headers", &[&url]).wait();
        assert_eq!(ended, good("HTTP header> HTTP/1.0 200 OK\n"), "{url}");
        let request = server.join().expect("a request");
        let request: String = request.into_iter().map(char::from).collect();
        let expected = format!("HEAD {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        assert_eq!(request, expected, "{url}");
    }
}

#[test]
fn http_headers_knows_ipv6_literals() {
    // A machine may lack the family; nothing can be tested there.
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return;
    };
    let port = listener.local_addr().expect("an address").port();
    let server = answer(listener, b"HTTP/1.0 200 OK\r\n\r\n");
    let ended = Program::example("http_headers", &[&format!("http://[::1]:{port}/x")]).wait();
    assert_eq!(ended, good("HTTP header> HTTP/1.0 200 OK\n"));
    let request = server.join().expect("a request");
    assert_eq!(request, b"HEAD /x HTTP/1.0\r\nHost: [::1]\r\n\r\n");
}

#[test]
fn http_headers_prints_the_header_and_nothing_of_the_body() {
    let (listener, port) = listener();
    let server = answer(
        listener,
        b"HTTP/1.0 200 OK\r\nX-Name: Gr\xfc\xdfe \t \r\nX-Empty:\r\nNo-Return: 1\n\r\nbody\r\n",
    );
    let ended = Program::example("http_headers", &[&format!("http://127.0.0.1:{port}/")]).wait();
    let expected = "HTTP header> HTTP/1.0 200 OK\nHTTP header> X-Name: Grüße\n\
                    HTTP header> X-Empty:\nHTTP header> No-Return: 1\n";
    assert_eq!(ended, good(expected));
    server.join().expect("a request");
}

#[test]
fn http_headers_refuses_what_is_no_http_url() {
    for (url, why) in [
        ("", "does not begin with http://"),
        ("example.com", "does not begin with http://"),
        ("ftp://example.com/", "does not begin with http://"),
        ("https:/example.com/", "does not begin with http://"),
        ("https://", "no host"),
        ("http://", "no host"),
        ("http://:80/", "no host"),
        ("http://[]:80/", "no host"),
        ("http://[::1:80/", "no host"),
        ("http://::1/", "no host"),
        ("http://127.0.0.1:65536/", "port"),
        ("http://127.0.0.1:http/", "port"),
        ("http://127.0.0.1/a b", "space"),
        ("http://127.0.0.1/\r\nX-Evil:1", "control"),
        ("http://127.0.0.1/ж", "latin-1"),
    ] {
        let ended = Program::example("http_headers", &[url]).wait();
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{url}");
        assert!(ended.stderr.contains(why), "{url}: {}", ended.stderr);
        assert!(ended.stderr.contains("usage: http_headers"), "{url}");
    }
    for args in [&[][..], &["http://127.0.0.1:1/", "http://127.0.0.1:1/"]] {
        let ended = Program::example("http_headers", args).wait();
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{args:?}");
        assert!(ended.stderr.contains("usage: http_headers"), "{args:?}");
    }
}

/// How a server ends.
enum End {
    /// With close_notify, as it has to be.
    Said,
    /// The connection ends, and nothing was said.
    Unsaid,
    /// The same, but not before this says so.
    UnsaidLater(Receiver<()>),
}

/// Answers one request over TLS, and gives the request; `None` if the client does not shake hands.
fn answer_tls(
    listener: TcpListener,
    name: &str,
    answer: &'static [u8],
    end: End,
) -> thread::JoinHandle<Option<Vec<u8>>> {
    let chain = CertificateDer::from_pem_file(cert(&format!("{name}.pem")));
    let key = PrivateKeyDer::from_pem_file(cert(&format!("{name}.key")));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain.expect("a file")], key.expect("a file"));
    let config = Arc::new(config.expect("a certificate and its key"));
    thread::spawn(move || {
        let peer = Peer::accept(&listener);
        let connection = ServerConnection::new(config).expect("a connection");
        let mut stream = StreamOwned::new(connection, peer.0);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            request.extend(byte);
        }
        stream.write_all(answer).expect("to answer");
        match end {
            End::Said => stream.conn.send_close_notify(),
            End::Unsaid => {}
            End::UnsaidLater(when) => when.recv_timeout(PATIENCE).expect("a word"),
        }
        stream.flush().expect("to answer");
        let peer = Peer(stream.sock);
        peer.finish();
        peer.receive_all();
        Some(request)
    })
}

/// Runs it with the tests' authority as the one that the system trusts.
fn start(url: &str) -> Program {
    let mut command = Command::new(example("http_headers"));
    command
        .arg(url)
        .env("SSL_CERT_FILE", cert("ca.pem"))
        .env_remove("SSL_CERT_DIR");
    Program::run(command)
}

fn http_headers(url: &str) -> Ended {
    start(url).wait()
}

const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nX-By: TLS\r\n\r\n";
const LINES: &str = "HTTP header> HTTP/1.0 200 OK\nHTTP header> X-By: TLS\n";

#[test]
fn http_headers_speaks_tls_where_the_url_says_https() {
    for (host, scheme) in [("localhost", "https"), ("127.0.0.1", "HTTPS")] {
        let (listener, port) = listener();
        let server = answer_tls(listener, "server", ANSWER, End::Said);
        let ended = http_headers(&format!("{scheme}://{host}:{port}/a?b"));
        assert_eq!(ended, good(LINES), "{host}");
        let request = server.join().expect("a request").expect("a handshake");
        let expected = format!("HEAD /a?b HTTP/1.0\r\nHost: {host}\r\n\r\n");
        assert_eq!(String::from_utf8_lossy(&request), expected);
    }
}

#[test]
fn http_headers_refuses_a_certificate_for_another_name_and_one_of_a_stranger() {
    for (name, why) in [
        ("elsewhere", "not valid for name \"localhost\""),
        ("untrusted", "UnknownIssuer"),
        ("expired", "expired"),
    ] {
        let (listener, port) = listener();
        let server = answer_tls(listener, name, ANSWER, End::Said);
        let ended = http_headers(&format!("https://localhost:{port}/"));
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{name}");
        assert_eq!(ended.stderr.lines().count(), 1, "{name}: {ended:?}");
        assert!(ended.stderr.contains(why), "{name}: {ended:?}");
        assert_eq!(server.join().expect("an end"), None, "{name}");
    }
}

/// What it leaves behind when nobody knows whether these lines are all.
fn cut_off(lines: &str) -> Ended {
    let stderr = "http_headers: the peer ended the connection without close_notify: \
                  what it sent may be cut off\n";
    Ended {
        code: Some(1),
        stdout: lines.to_owned(),
        stderr: stderr.to_owned(),
    }
}

#[test]
fn http_headers_prints_what_came_and_says_that_more_may_have_been_cut_off() {
    // The last line may go on, so it is not one.
    let half = b"HTTP/1.0 200 OK\r\nX-By: T";
    let first = "HTTP header> HTTP/1.0 200 OK\n";
    for (answer, lines) in [(ANSWER, LINES), (half, first)] {
        let (listener, port) = listener();
        let server = answer_tls(listener, "server", answer, End::Unsaid);
        let ended = http_headers(&format!("https://localhost:{port}/"));
        assert_eq!(ended, cut_off(lines));
        assert!(server.join().expect("a request").is_some());
    }
}

#[test]
fn http_headers_waits_for_the_end_to_know_whether_it_is_one() {
    let (listener, port) = listener();
    let (say, when) = mpsc::channel();
    let server = answer_tls(listener, "server", ANSWER, End::UnsaidLater(when));
    let mut program = start(&format!("https://localhost:{port}/"));
    for line in LINES.lines() {
        assert_eq!(program.line(), line);
    }
    say.send(()).expect("the server to listen");
    assert_eq!(program.wait(), cut_off(LINES));
    assert!(server.join().expect("a request").is_some());
}

#[test]
fn http_headers_says_that_a_port_is_of_the_other_kind() {
    let (plain, port) = listener();
    let server = thread::spawn(move || {
        let peer = Peer::accept(&plain);
        peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        peer.finish();
        peer.receive_all_or_error()
    });
    let ended = http_headers(&format!("https://localhost:{port}/"));
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert!(ended.stderr.contains("does not speak TLS"), "{ended:?}");
    drop(server.join().expect("an end"));
}

#[test]
fn http_headers_goes_to_port_443_for_https_and_80_for_http() {
    for (scheme, port) in [("https", 443), ("http", 80)] {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            skip(&format!("somebody serves port {port} here"));
            continue;
        }
        let ended = http_headers(&format!("{scheme}://127.0.0.1/"));
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
        let address = format!("127.0.0.1:{port}");
        assert!(ended.stderr.contains(&address), "{ended:?}");
    }
}

#[test]
fn http_headers_says_where_nobody_answers() {
    let ended = Program::example("http_headers", &["http://127.0.0.1:1/"]).wait();
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert!(ended.stderr.contains("127.0.0.1:1"), "{ended:?}");
}

#[test]
fn http_headers_reads_from_pythons_web_server() {
    if !require("python3", "python3") {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("http_headers");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("page.html"), "<p>Hello</p>").expect("a file");
    let folder = folder.to_str().expect("a path in UTF-8");
    let mut server = Program::start(
        "python3",
        &[
            "-u",
            "-m",
            "http.server",
            "0",
            "--bind",
            "127.0.0.1",
            "--directory",
            folder,
        ],
    );
    let line = server.line();
    let port = line.split(' ').nth(5).unwrap_or_default();
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().expect(&line);

    for (path, status) in [
        ("/page.html?q=1", "200 OK"),
        ("/none", "404 File not found"),
    ] {
        // What another client gets, but for the time of day.
        let peer = Peer::connect(address);
        peer.send(format!("HEAD {path} HTTP/1.0\r\n\r\n").as_bytes());
        let header = String::from_utf8(peer.receive_all()).expect("a header");
        let lines = header.lines().filter(|line| !line.is_empty());
        let expected: Vec<_> = lines.map(|line| format!("HTTP header> {line}")).collect();
        assert_eq!(expected[0], format!("HTTP header> HTTP/1.0 {status}"));

        let url = format!("http://127.0.0.1:{port}{path}");
        let ended = Program::example("http_headers", &[&url]).wait();
        let Ended {
            code,
            stdout,
            stderr,
        } = ended;
        assert_eq!((code, &*stderr), (Some(0), ""), "{path}");
        let lines: Vec<_> = stdout.lines().collect();
        let is_date = |line: &str| line.starts_with("HTTP header> Date: ");
        assert_eq!(lines.len(), expected.len(), "{path}: {stdout}");
        for (line, expected) in lines.iter().zip(&expected) {
            assert!(
                *line == expected || is_date(line) && is_date(expected),
                "{path}: {stdout}"
            );
        }
    }
}
