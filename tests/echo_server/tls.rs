//! echo-server over TLS: its certificate, whose clients it lets in, and new files while it serves.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use evloop::rustls::crypto::aws_lc_rs;
use evloop::rustls::pki_types::pem::PemObject;
use evloop::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use evloop::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::clients::{payload, pipe_through};
use crate::command_line::refused;
use crate::common::certs::{cert, make_as_the_readme_says};
use crate::common::folder::Folder;
use crate::common::peers::require;
use crate::common::{PATIENCE, wait_for};
use crate::process::Running;
#[cfg(target_os = "linux")]
use crate::process::{only_child, signal};
use crate::server::{APIS, BINARY, EchoServer, connect};

/// The path of one of the tests' files, as an argument.
fn file(name: &str) -> String {
    text(&cert(name))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Starts it with one of the tests' certificates, and with more arguments.
#[track_caller]
fn start(api: &str, more: &[&str]) -> EchoServer {
    let arguments = arguments(api);
    let arguments = arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied());
    EchoServer::start(&arguments.collect::<Vec<_>>())
}

/// What it is told, to serve with one of the tests' certificates.
pub(crate) fn arguments(api: &str) -> Vec<String> {
    let (cert, key) = (file("server.pem"), file("server.key"));
    ["--api", api, "--tls-cert", &cert, "--tls-key", &key]
        .map(str::to_owned)
        .to_vec()
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}

/// A client that trusts this certificate and may show one of the tests' own.
pub(crate) fn client_config(trusted: &Path, shown: Option<&str>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(trusted)).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![certificate(&cert(&format!("{name}.pem")))];
            let key = PrivateKeyDer::from_pem_file(cert(&format!("{name}.key"))).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    })
}

/// A client that blocks, and whose every wait ends.
pub(crate) struct Client<S: Read + Write>(StreamOwned<ClientConnection, S>);

impl<S: Read + Write> Client<S> {
    pub(crate) fn new(stream: S, config: Arc<ClientConfig>) -> Self {
        let name = "localhost".try_into().expect("a name");
        let connection = ClientConnection::new(config, name).expect("a connection");
        Self(StreamOwned::new(connection, stream))
    }

    /// The first bytes leave with the last word of the handshake.
    #[track_caller]
    pub(crate) fn echo_at_once(&mut self, bytes: &[u8]) {
        self.0.conn.writer().write_all(bytes).expect("to be kept");
        let mut echoed = vec![0; bytes.len()];
        self.0.read_exact(&mut echoed).expect("an echo");
        assert!(echoed == bytes, "other bytes came back");
    }

    fn try_echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()?;
        let mut echoed = vec![0; bytes.len()];
        self.0.read_exact(&mut echoed)?;
        assert!(echoed == bytes, "other bytes came back");
        Ok(())
    }

    #[track_caller]
    pub(crate) fn echo(&mut self, bytes: &[u8]) {
        self.try_echo(bytes).expect("an echo");
    }

    /// The certificate that the server has shown.
    fn shown(&self) -> &CertificateDer<'static> {
        &self.0.conn.peer_certificates().expect("a handshake")[0]
    }

    /// Ends our side, and expects the end of the other one, by a `close_notify`.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.0.conn.send_close_notify();
        self.0.flush().expect("to send");
        assert_eq!(self.0.read(&mut [0]).expect("close_notify"), 0);
    }
}

/// A client that trusts the tests' authority.
#[track_caller]
fn client(server: &EchoServer) -> Client<TcpStream> {
    let config = client_config(&cert("ca.pem"), None);
    Client::new(connect(server.address()), config)
}

#[test]
fn what_is_sent_over_tls_comes_back_and_so_does_its_end() {
    for api in APIS {
        let server = start(api, &["--log-level", "off"]);
        let mut client = client(&server);
        client.echo(b"hello");
        for _ in 0..16 {
            client.echo(&payload(65_000));
        }
        client.end();
        let end = server.stop();
        assert_eq!((end.stdout, end.stderr), (vec![], String::new()));
    }
}

#[test]
fn an_end_over_tls_without_a_byte_is_answered_by_an_end() {
    for api in APIS {
        let server = start(api, &[]);
        let mut client = client(&server);
        while client.0.conn.is_handshaking() {
            client.0.conn.complete_io(&mut client.0.sock).unwrap();
        }
        client.end();
        server.stop();
    }
}

#[test]
fn a_unix_socket_speaks_tls_as_the_port_does() {
    for api in APIS {
        let folder = Folder::new();
        let path = folder.path("echo.sock");
        // The line of the path is no address, so only the port's is waited for here.
        let server = start(api, &["--unix", &text(&path)]);
        client(&server).echo(b"by the port");
        let stream = wait_for("the path is served", || UnixStream::connect(&path).ok());
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Client::new(stream, client_config(&cert("ca.pem"), None));
        client.echo(b"by the path");
        client.end();
        let end = server.stop();
        assert_eq!(end.stdout, [format!("Serving on {}", path.display())]);
    }
}

#[test]
fn openssl_gets_its_line_back_by_tls_1_2_and_by_1_3() {
    if !require("openssl", "openssl") {
        return;
    }
    for api in APIS {
        let server = start(api, &[]);
        for version in ["-tls1_2", "-tls1_3"] {
            let mut command = Command::new("openssl");
            command
                .args(["s_client", "-quiet", "-verify_return_error", version])
                .args(["-verify_hostname", "localhost"])
                .args(["-CAfile", &file("ca.pem")])
                .args(["-connect", &server.address().to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let mut openssl = Running::spawn(&mut command);
            let mut stdin = openssl.0.stdin.take().expect("a pipe");
            let stdout = openssl.0.stdout.take().expect("a pipe");
            stdin.write_all(b"hello\n").expect("to write");
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            assert_eq!(line, "hello\n", "{api} {version}");
        }
        server.stop();
    }
}

#[test]
fn socat_gets_all_back_over_tls() {
    if !require("socat", "socat") {
        return;
    }
    for api in APIS {
        let server = start(api, &[]);
        let mut socat = Command::new("socat");
        socat.args(["-t", "30", "-"]).arg(format!(
            "OPENSSL:{},cafile={},commonname=localhost",
            server.address(),
            file("ca.pem")
        ));
        pipe_through(socat, &payload(3 << 20));
        server.stop();
    }
}

#[test]
fn whoever_speaks_no_tls_is_told_so_and_holds_up_nobody() {
    for api in APIS {
        let server = start(api, &[]);
        let silent = server.connect();
        let mut plain = server.connect();
        plain.write_all(b"hello\n").unwrap();
        let mut answer = Vec::new();
        plain.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
        client(&server).echo(b"hello");
        drop(silent);
        let end = server.stop();
        assert!(!end.stderr.contains("ERROR"), "{}", end.stderr);
    }
}

#[test]
fn a_client_that_never_shakes_hands_cannot_keep_it_alive() {
    for api in APIS {
        let server = start(api, &["--shutdown-timeout", "0.1"]);
        let silent = server.connect();
        // It was accepted before this one.
        client(&server).echo(b"hello");
        server.stop();
        drop(silent);
    }
}

#[test]
fn a_connection_over_tls_is_served_to_its_end_after_a_signal() {
    for api in APIS {
        let server = start(api, &["--shutdown-timeout", "600"]);
        let mut client = client(&server);
        client.echo(b"before");
        server.process.signal("TERM");
        server.wait_until_refused();
        client.echo(&payload(100_000));
        client.end();
        assert_eq!(server.wait().code, Some(0));
    }
}

#[test]
fn only_clients_of_the_named_authority_are_let_in() {
    for api in APIS {
        let ca = file("ca.pem");
        let server = start(api, &["--tls-client-ca", &ca]);
        for shown in [None, Some("stranger")] {
            let config = client_config(&cert("ca.pem"), shown);
            let mut client = Client::new(connect(server.address()), config);
            let error = client.try_echo(b"hello").expect_err("to be refused");
            assert!(!error.to_string().is_empty(), "{shown:?}");
        }
        let config = client_config(&cert("ca.pem"), Some("client"));
        let mut client = Client::new(connect(server.address()), config);
        client.echo(b"hello");
        client.end();
        server.stop();
    }
}

/// Files that a server has been told to use, and that change.
struct Files(Folder);

impl Files {
    fn new() -> Self {
        let files = Self(Folder::new());
        files.are("server.pem", "server.key");
        fs::copy(cert("ca.pem"), files.0.path("client-ca.pem")).unwrap();
        files
    }

    fn are(&self, cert_name: &str, key_name: &str) {
        fs::copy(cert(cert_name), self.0.path("cert.pem")).unwrap();
        fs::copy(cert(key_name), self.0.path("key.pem")).unwrap();
    }

    #[track_caller]
    fn start(&self, api: &str, more: &[&str]) -> EchoServer {
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| text(&self.0.path(name)));
        let mut arguments = vec!["--api", api, "--tls-cert", &cert, "--tls-key", &key];
        arguments.extend(more);
        EchoServer::start(&arguments)
    }
}

/// Sends SIGHUP, and gives the line that it logs about it.
#[track_caller]
fn hang_up(server: &EchoServer) -> String {
    let lines = || {
        let log = server.log();
        let lines = log.lines().filter(|line| line.contains("SIGHUP: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = lines().len();
    server.process.signal("HUP");
    wait_for("a line about SIGHUP", || lines().get(before).cloned())
}

#[test]
fn sighup_gives_new_connections_the_new_certificate_and_old_ones_go_on() {
    for api in APIS {
        let files = Files::new();
        let server = files.start(api, &[]);
        let mut old = client(&server);
        old.echo(b"before");
        assert_eq!(old.shown(), &certificate(&cert("server.pem")));

        files.are("second.pem", "second.key");
        let line = hang_up(&server);
        assert!(line.contains("INFO"), "{line}");
        let mut new = client(&server);
        new.echo(b"after");
        assert_eq!(new.shown(), &certificate(&cert("second.pem")));
        old.echo(&payload(100_000));
        old.end();
        new.end();
        server.stop();
    }
}

/// Whichever of the workers had ended first when it came: it is a matter of chance who has the
/// client, so there are several tries. The numbers are told to the end as well.
#[test]
fn a_sighup_while_it_ends_is_heard_until_the_last_worker_is_over() {
    for _ in 0..8 {
        let files = Files::new();
        let arguments = ["--workers", "2", "--shutdown-timeout", "600"];
        let server = files.start("streams", &[&arguments[..], &["--stats", "0.05"]].concat());
        let mut client = client(&server);
        client.echo(b"before");
        server.process.signal("TERM");
        wait_for("the end of the other worker", || {
            let is_over = server.log().contains("connections: 0 ended in time");
            is_over.then_some(())
        });
        let line = hang_up(&server);
        assert!(line.contains("INFO"), "{line}");
        let lines = || server.log().matches("stats: 1 open").count();
        let before = lines();
        wait_for("the next line of numbers", || {
            (lines() > before).then_some(())
        });
        client.echo(b"after");
        client.end();
        assert_eq!(server.wait().code, Some(0));
    }
}

/// The certificate comes by a pipe, so it waits for us while it starts.
#[test]
fn a_signal_while_it_starts_ends_it_in_order_or_is_no_news() {
    for signal in ["TERM", "INT", "HUP"] {
        let files = Files::new();
        let path = files.0.path("cert.pem");
        let pem = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| text(&files.0.path(name)));
        let mut command = Command::new(BINARY);
        command.args(["--port", "0", "--tls-cert", &cert, "--tls-key", &key]);
        let server = EchoServer::start_with(command, 0);
        // This returns when the server reads.
        let mut pipe = File::options().write(true).open(&path).unwrap();
        server.process.signal(signal);
        pipe.write_all(&pem).unwrap();
        drop(pipe);
        if signal == "HUP" {
            assert!(server.line().starts_with("Serving on "));
            // It asks for the files as they are now.
            fs::write(&path, pem).unwrap();
            wait_for("a line about SIGHUP", || {
                server.log().contains("SIGHUP: new").then_some(())
            });
            server.stop();
        } else {
            let end = server.wait();
            assert_eq!((end.code, end.stdout), (Some(0), Vec::new()));
            assert!(end.stderr.contains("stopping"), "{}", end.stderr);
        }
    }
}

/// One of the workers is held up on its way, so that it does not serve yet.
#[cfg(target_os = "linux")]
#[test]
fn a_sighup_before_all_workers_serve_waits_until_they_do() {
    if !require("strace", "strace") {
        return;
    }
    let files = Files::new();
    let folder = Folder::new();
    let notify = folder.path("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = || {
        let mut message = [0; 1000];
        let length = manager.recv(&mut message).expect("a message");
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        message.lines().next().unwrap_or_default().to_owned()
    };
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| text(&files.0.path(name)));
    let trace = folder.path("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", "trace=listen", "-e"])
        .args(["inject=listen:delay_exit=1000000:when=1+", "-o"])
        .arg(&trace)
        .args([BINARY, "--port", "0", "--tls-cert", &cert])
        .args(["--tls-key", &key])
        .env("NOTIFY_SOCKET", &notify);
    let server = EchoServer::start_with(command, 0);
    // strace writes the call down when it begins to hold it up.
    wait_for("it is about to listen", || {
        let trace = fs::read_to_string(&trace).unwrap_or_default();
        trace.contains("listen(").then_some(())
    });
    let process = only_child(server.process.id());
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0]).is_err(), "ready before it listens");
    manager.set_nonblocking(false).unwrap();
    signal(process, "HUP");
    assert_eq!(
        [hears(), hears(), hears()],
        ["READY=1", "RELOADING=1", "READY=1"]
    );
    assert!(server.line().starts_with("Serving on "));
    signal(process, "TERM");
    assert_eq!(hears(), "STOPPING=1");
    let end = server.wait();
    assert_eq!(end.code, Some(0));
    assert_eq!(end.stderr.matches("SIGHUP: new").count(), 1, "{end:?}");
}

#[test]
fn sighup_gives_all_workers_the_new_certificate() {
    let files = Files::new();
    let server = files.start("streams", &["--workers", "2"]);
    files.are("second.pem", "second.key");
    hang_up(&server);
    // All of them at one worker: that has a chance of one in half a million.
    let clients = (0..20).map(|_| {
        let mut client = client(&server);
        client.echo(b"hello");
        assert_eq!(client.shown(), &certificate(&cert("second.pem")));
        client
    });
    clients
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(Client::end);
    let end = server.stop();
    assert_eq!(end.stderr.matches("SIGHUP: ").count(), 1, "{}", end.stderr);
}

#[test]
fn sighup_with_files_that_cannot_be_used_is_one_line_and_the_old_certificate_stays() {
    for api in APIS {
        let files = Files::new();
        let server = files.start(api, &[]);
        let [cert_file, key_file] = ["cert.pem", "key.pem"].map(|name| files.0.path(name));
        let (cert_name, key_name) = (text(&cert_file), text(&key_file));

        files.are("second.pem", "server.key");
        let mismatch = hang_up(&server);
        fs::write(&key_file, "no key").unwrap();
        let garbage = hang_up(&server);
        fs::remove_file(&cert_file).unwrap();
        let absent = hang_up(&server);
        for (line, why) in [
            (
                &mismatch,
                format!("{key_name}: the key is not the one of the certificate in {cert_name}"),
            ),
            (
                &garbage,
                format!("{key_name}: there is no private key in it"),
            ),
            (
                &absent,
                format!("{cert_name}: No such file or directory (os error 2)"),
            ),
        ] {
            assert!(line.contains("ERROR"), "{line}");
            let expected = format!("SIGHUP: the certificate stays as it was: {why}");
            assert!(line.ends_with(&expected), "{line}");
        }
        let mut client = client(&server);
        client.echo(b"still");
        assert_eq!(client.shown(), &certificate(&cert("server.pem")));
        client.end();

        // And the next one may be good again.
        files.are("second.pem", "second.key");
        let line = hang_up(&server);
        assert!(line.contains("INFO"), "{line}");
        let end = server.stop();
        assert_eq!(end.stderr.matches("SIGHUP: ").count(), 4, "{}", end.stderr);
    }
}

#[test]
fn sighup_has_the_clients_authority_read_again_as_well() {
    let files = Files::new();
    let client_ca = text(&files.0.path("client-ca.pem"));
    let server = files.start("streams", &["--tls-client-ca", &client_ca]);
    let connect_as = |name| {
        let config = client_config(&cert("ca.pem"), Some(name));
        let mut client = Client::new(connect(server.address()), config);
        client.try_echo(b"hello")
    };
    connect_as("client").unwrap();
    connect_as("stranger").unwrap_err();
    fs::copy(cert("other-ca.pem"), &client_ca).unwrap();
    hang_up(&server);
    connect_as("stranger").unwrap();
    connect_as("client").unwrap_err();
    server.stop();
}

#[test]
fn files_that_take_their_time_hold_up_nobody_and_the_last_signal_counts() {
    for api in APIS {
        let files = Files::new();
        let server = files.start(api, &[]);
        let mut old = client(&server);
        old.echo(b"before");

        // A file that says nothing before its other end does.
        let key_file = files.0.path("key.pem");
        fs::remove_file(&key_file).unwrap();
        let made = Command::new("mkfifo").arg(&key_file).status().unwrap();
        assert!(made.success());
        server.process.signal("HUP");
        let mut open = File::options();
        open.write(true).custom_flags(libc::O_NONBLOCK);
        let pipe = wait_for("the key is read", || open.open(&key_file).ok());
        old.echo(b"meanwhile");
        client(&server).echo(b"by the old certificate");

        fs::remove_file(&key_file).unwrap();
        files.are("second.pem", "second.key");
        server.process.signal("HUP");
        old.echo(b"still");
        drop(pipe);
        wait_for("the second reading", || {
            server.log().contains("INFO").then_some(())
        });
        let mut new = client(&server);
        new.echo(b"after");
        assert_eq!(new.shown(), &certificate(&cert("second.pem")));
        old.end();
        new.end();
        let log = server.stop().stderr;
        assert_eq!(log.matches("SIGHUP: ").count(), 2, "{log}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_in_one_line() {
    let folder = Folder::new();
    let garbage = folder.path("garbage.pem");
    let begin = "-----BEGIN CERTIFICATE-----";
    let end = "-----END CERTIFICATE-----";
    fs::write(&garbage, format!("{begin}\nAAAA\n{end}\n")).unwrap();
    let cut = folder.path("cut.pem");
    fs::write(&cut, format!("{begin}\nAAAA\n")).unwrap();
    let [garbage, cut] = [text(&garbage), text(&cut)];
    let here = text(folder.as_ref());
    let [cert, key, second, ca] = ["server.pem", "server.key", "second.key", "ca.pem"].map(file);
    let absent = "No such file or directory (os error 2)";
    let none = "/none/such.pem";
    for (files, why) in [
        ([none, &*key, &*ca], format!("{none}: {absent}")),
        ([&cert, none, &ca], format!("{none}: {absent}")),
        ([&cert, &key, none], format!("{none}: {absent}")),
        (
            [&here, &key, &ca],
            format!("{here}: Is a directory (os error 21)"),
        ),
        (
            [&key, &key, &ca],
            format!("{key}: there is no certificate in it"),
        ),
        (
            [&cert, &cert, &ca],
            format!("{cert}: there is no private key in it"),
        ),
        (
            [&cert, &key, &key],
            format!("{key}: there is no certificate in it"),
        ),
        (
            [&cert, &second, &ca],
            format!("{second}: the key is not the one of the certificate in {cert}"),
        ),
        (
            [&cut, &key, &ca],
            format!("{cut}: there is no end of \"CERTIFICATE\" in it"),
        ),
        (
            [&garbage, &key, &ca],
            format!("{garbage}: this is no certificate: BadEncoding"),
        ),
        (
            [&cert, &key, &garbage],
            format!("{garbage}: no certificate that could be trusted"),
        ),
    ] {
        let mut arguments = vec!["--port", "0", "--tls-cert", files[0], "--tls-key"];
        arguments.extend([files[1], "--tls-client-ca", files[2]]);
        let line = refused(&arguments, 1);
        assert_eq!(line, format!("echo-server: {why}"));
    }
}

#[test]
fn what_belongs_together_and_is_not_given_together_is_named_in_one_line() {
    for (arguments, why) in [
        (
            &["--tls-cert", "cert.pem"][..],
            "--tls-cert needs --tls-key as well",
        ),
        (
            &["--tls-key", "key.pem"],
            "--tls-key needs --tls-cert as well",
        ),
        (
            &["--tls-client-ca", "ca.pem"],
            "--tls-client-ca needs --tls-cert and --tls-key as well",
        ),
        (
            &["--tls-cert", "cert.pem", "--tls-client-ca", "ca.pem"],
            "--tls-client-ca needs --tls-key as well",
        ),
    ] {
        let line = refused(arguments, 2);
        assert_eq!(line, format!("echo-server: {why}"), "{arguments:?}");
    }
}

#[test]
fn a_certificate_made_as_the_readme_says_is_served() {
    if !require("openssl", "openssl") {
        return;
    }
    let folder = Folder::new();
    make_as_the_readme_says(folder.as_ref());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path(name));
    let server = EchoServer::start(&["--tls-cert", &text(&cert), "--tls-key", &text(&key)]);
    let config = client_config(&cert, None);
    let mut client = Client::new(connect(server.address()), config);
    client.echo(b"hello");
    client.end();
    server.stop();
}
