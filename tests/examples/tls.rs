//! The examples that speak TLS.

use crate::common::Peer;
use crate::common::certs::{cert, make_as_the_readme_says};
use crate::common::folder::Folder;
use crate::common::peers::require;
use crate::common::program::{Ended, Program, good};

/// The path of one of the tests' files, as an argument.
fn file(name: &str) -> String {
    cert(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Starts `tls_echo_server` with one of the tests' certificates.
fn echo_server(name: &str) -> Program {
    let (cert, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
    Program::example("tls_echo_server", &[&cert, &key, "--port", "0"])
}

/// Everything that the client says when all goes well.
fn words(message: &str) -> Ended {
    good(format!(
        "Send: '{message}' by TLSv1_3\nReceived: '{message}'\nClose the socket\n"
    ))
}

#[test]
fn the_tls_echo_client_talks_to_the_tls_echo_server() {
    let mut server = echo_server("server");
    let address = server.serving_on();
    let port = address.port().to_string();
    let ca = file("ca.pem");
    let mut expected = format!("Serving on {address}\n");
    for (args, message) in [
        (&[&*ca, "--port", &port][..], "Hello World!"),
        (&[&*ca, "Grüße\n", "--port", &port], "Grüße\\n"),
    ] {
        let ended = Program::example("tls_echo_client", args).wait();
        assert_eq!(ended, words(message));

        let received = server.line();
        let peer = received.strip_prefix(&format!("Received '{message}' from 127.0.0.1:"));
        let peer = peer.and_then(|peer| peer.strip_suffix(" by TLSv1_3"));
        assert!(
            peer.is_some_and(|peer| peer.parse::<u16>().is_ok()),
            "{received}"
        );
        assert_eq!(server.line(), format!("Send: '{message}'"));
        assert_eq!(server.line(), "Close the client socket");
        expected += &format!("{received}\nSend: '{message}'\nClose the client socket\n");
    }
    server.interrupt();
    assert_eq!(server.wait(), good(expected));
}

#[test]
fn the_tls_echo_client_refuses_who_cannot_show_the_right_certificate() {
    for (name, why) in [
        ("elsewhere", "not valid for name"),
        ("untrusted", "UnknownIssuer"),
        ("expired", "expired"),
    ] {
        let mut server = echo_server(name);
        let address = server.serving_on();
        let port = address.port().to_string();
        let args = [&*file("ca.pem"), "--port", &port];
        let ended = Program::example("tls_echo_client", &args).wait();
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{name}");
        assert_eq!(ended.stderr.lines().count(), 1, "{name}: {ended:?}");
        assert!(ended.stderr.contains(why), "{name}: {ended:?}");
        // The server knows of no client.
        server.interrupt();
        let expected = format!("Serving on {address}\n");
        assert_eq!(server.wait(), good(expected), "{name}");
    }
}

#[test]
fn the_tls_echo_server_goes_on_after_a_client_that_speaks_no_tls() {
    let mut server = echo_server("server");
    let address = server.serving_on();
    let plain = Peer::connect(address);
    plain.send(b"Hello World!");
    // An alert, and the end.
    assert_eq!(plain.receive_all().first(), Some(&21));
    let port = address.port().to_string();
    let args = [&*file("ca.pem"), "--port", &port];
    let ended = Program::example("tls_echo_client", &args).wait();
    assert_eq!(ended, words("Hello World!"));
    server.interrupt();
    let ended = server.wait();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn ctrl_c_ends_the_tls_echo_server_in_front_of_a_client_that_says_nothing() {
    let mut server = echo_server("server");
    let address = server.serving_on();
    let silent = Peer::connect(address);
    server.interrupt();
    // Refused or cut off: it depends on who was first.
    drop(silent.receive_all_or_error());
    assert_eq!(server.wait(), good(format!("Serving on {address}\n")));
}

#[test]
fn starttls_tells_its_secret_only_when_nobody_else_can_hear_it() {
    let expected = "> SECRET\n< 530 say STARTTLS first\n> STARTTLS\n< 220 go ahead\n\
                    Encrypted\n> SECRET\n< 250 said by TLSv1_3\n";
    if !require("openssl", "openssl") {
        return;
    }
    let folder = Folder::new();
    make_as_the_readme_says(folder.as_ref());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path(name));
    let args = [&cert, &key].map(|path| path.to_str().expect("a path in UTF-8"));
    assert_eq!(Program::example("starttls", &args).wait(), good(expected));
}

#[test]
fn starttls_says_so_if_the_client_refuses_the_certificate() {
    // It is not trusted by itself: another has signed it.
    let args = [&*file("elsewhere.pem"), &file("elsewhere.key")];
    let ended = Program::example("starttls", &args).wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.ends_with("< 220 go ahead\n"), "{ended:?}");
    // The server's side of it may be reported, too.
    let expected = "starttls: the peer's certificate was refused: UnknownIssuer\n";
    assert!(ended.stderr.ends_with(expected), "{ended:?}");
}

#[test]
fn the_echo_examples_take_a_certificate_made_as_the_readme_says() {
    if !require("openssl", "openssl") {
        return;
    }
    let folder = Folder::new();
    make_as_the_readme_says(folder.as_ref());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path(name));
    let [cert, key] = [&cert, &key].map(|path| path.to_str().expect("a path in UTF-8"));
    let mut server = Program::example("tls_echo_server", &[cert, key, "--port", "0"]);
    let port = server.serving_on().port().to_string();
    let ended = Program::example("tls_echo_client", &[cert, "--port", &port]).wait();
    assert_eq!(ended, words("Hello World!"));
}

#[test]
fn tls_examples_without_their_files_give_the_usage_or_name_the_file() {
    for (name, args) in [
        ("tls_echo_server", &[][..]),
        ("tls_echo_server", &["cert.pem"]),
        (
            "tls_echo_server",
            &["cert.pem", "key.pem", "--port", "65536"],
        ),
        ("tls_echo_client", &[]),
        ("tls_echo_client", &["ca.pem", "one", "two"]),
        ("tls_echo_client", &["ca.pem", "--prot", "1"]),
        ("starttls", &[]),
        ("starttls", &["cert.pem"]),
    ] {
        let ended = Program::example(name, args).wait();
        let (code, usage) = (Some(2), format!("usage: {name} "));
        assert_eq!((ended.code, &*ended.stdout), (code, ""), "{name} {args:?}");
        assert!(ended.stderr.starts_with(&usage), "{name}: {ended:?}");
    }
    for (name, args) in [
        ("tls_echo_server", &["/none/such.pem", "/none/such.key"][..]),
        ("tls_echo_client", &["/none/such.pem"]),
        ("starttls", &["/none/such.pem", "/none/such.key"]),
    ] {
        let ended = Program::example(name, args).wait();
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{name}");
        let expected = "/none/such.pem: No such file or directory";
        assert!(ended.stderr.contains(expected), "{name}: {ended:?}");
    }
}
