//! What comes behind an end, and what is left of a connection afterwards.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use evloop::{
    CloseReason, ClosedBecause, StreamReader, StreamWriter, TlsServerContext, create_server,
    open_connection, start_server,
};

use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::{run, within};
use crate::pairs::{Ours, address_of, pair};
use crate::probe::Probe;
use crate::scripted::{self, Scripted, TLS12, TLS13};
use crate::support::{cert, client_context, server_context};

/// Both halves could go on, the peer has ended its own in good order, and then it resets.
#[test]
fn a_reset_behind_the_peers_end_is_the_end() {
    run(async {
        let trace = Trace::default();
        let (transport, mut peer) =
            pair(Ours::Server, TLS13, Probe::new(&trace).keeping_open()).await;
        let bytes = peer.close_notify();
        peer.send(&bytes).await;
        peer.finish();
        within("the end", trace.until("eof")).await;
        peer.reset();
        within("the reset", trace.until("lost BrokenPipe")).await;
        assert_eq!(
            transport.get_extra_info(ClosedBecause),
            Some(CloseReason::Reset)
        );
    });
}

/// What comes behind a `close_notify` is read by nobody, and keeps no policy from its work.
#[test]
fn garbage_behind_the_peers_end_does_not_keep_it_alive() {
    run(async {
        let trace = Trace::default();
        let theirs = trace.clone();
        let server = create_server(move || Probe::new(&theirs).keeping_open(), ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .idle_timeout(Duration::from_millis(200))
            .await
            .unwrap();
        let mut peer = Scripted::connect(address_of(&server), scripted::client_config(TLS13));
        peer.shake_hands().await.unwrap();
        let bytes = peer.close_notify();
        peer.send(&bytes).await;
        within("the end", trace.until("eof")).await;
        peer.socket.set_nonblocking(true).unwrap();
        // As much as the system takes now.
        let taken = (&peer.socket).write(&vec![0; 300_000]).unwrap();
        assert!(taken > 64 * 1024, "{taken}");
        within("the idle timeout", trace.until("lost TimedOut")).await;
        server.close();
        within("the server", server.wait_closed()).await.unwrap();
    });
}

async fn upgraded(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    writer.start_tls(server_context("second")).await?;
    assert_eq!(reader.read_to_end(None).await?, b"inside");
    writer.write(b"heard");
    writer.drain().await
}

/// The outer version has no half-close, and so does nothing where the inner one ends its half.
#[test]
fn tls_1_3_in_tls_1_2_ends_its_half_and_closes() {
    run(async {
        let server = start_server(upgraded, ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .await
            .unwrap();
        let port = address_of(&server).port();
        let outer = Arc::new(scripted::client_config(TLS12));
        let (mut reader, mut writer) = within("the outer one", async {
            open_connection(("localhost", port)).ssl(outer).await
        })
        .await
        .unwrap();
        within("the inner one", async {
            let start = writer.start_tls(client_context());
            start.server_hostname("localhost").await
        })
        .await
        .unwrap();
        assert!(writer.can_write_eof());
        writer.write(b"inside");
        writer.write_eof().unwrap();
        let answer = within("the answer", reader.read_to_end(None))
            .await
            .unwrap();
        assert_eq!(answer, b"heard");
        writer.close();
        within("the close", writer.wait_closed()).await.unwrap();
        server.close();
        within("the server", server.wait_closed()).await.unwrap();
    });
}

#[test]
fn a_husk_knows_still_what_it_could() {
    run(async {
        for (version, half) in [(TLS13, true), (TLS12, false)] {
            let trace = Trace::default();
            let (transport, peer) = pair(Ours::Server, version, Probe::new(&trace)).await;
            assert_eq!(transport.can_write_eof(), half);
            peer.reset();
            within("the reset", trace.until("lost ConnectionReset")).await;
            assert_eq!(transport.can_write_eof(), half);
            let kind = transport.write_eof().map_err(|error| error.kind());
            let expected = if half {
                Ok(())
            } else {
                Err(ErrorKind::Unsupported)
            };
            assert_eq!(kind, expected);
        }
    });
}

#[test]
fn of_several_hosts_the_name_has_to_be_said() {
    run(async {
        let greet = |_reader: StreamReader, writer: StreamWriter| async move {
            writer.write(b"hello");
            writer.drain().await
        };
        let server = start_server(greet, ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .await
            .unwrap();
        let hosts = (["127.0.0.1", "localhost"], address_of(&server).port());
        let refused = open_connection(hosts)
            .ssl(client_context())
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            refused.to_string(),
            "You must set server_hostname when using ssl with several hosts"
        );
        let named = open_connection(hosts)
            .ssl(client_context())
            .server_hostname("localhost");
        let (mut reader, _writer) = within("the connection", async { named.await })
            .await
            .unwrap();
        assert_eq!(reader.readexactly(5).await.unwrap(), b"hello");
        server.close();
    });
}

#[test]
fn a_bound_of_handshakes_without_ssl_is_refused() {
    run(async {
        let server = create_server(|| Probe::new(&Trace::default()), ("127.0.0.1", 0));
        let refused = server.max_handshakes(3).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "max_handshakes is only meaningful with ssl"
        );
        let server = start_server(|_, _| (), ("127.0.0.1", 0)).ssl(None);
        server.await.unwrap().close();
    });
}

#[test]
fn a_key_with_a_password_is_called_that() {
    let folder = Folder::new();
    let key = folder.path("encrypted.key");
    let status = std::process::Command::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:x", "-in"])
        .arg(cert("server.key"))
        .arg("-out")
        .arg(&key)
        .status()
        .unwrap();
    assert!(status.success());
    let refused = TlsServerContext::from_pem_files(cert("server.pem"), &key).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let said = refused.to_string();
    assert!(said.starts_with(&key.display().to_string()), "{said}");
    assert!(
        said.ends_with("the key is encrypted, and nobody is asked for a password here"),
        "{said}"
    );
}
