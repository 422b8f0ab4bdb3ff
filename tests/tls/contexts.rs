//! Contexts: a certificate that is read again, sessions that are resumed, files that are not there.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use evloop::{
    Server, StreamReader, StreamWriter, TlsClientContext, TlsError, TlsServerContext, TlsSession,
    open_connection, start_server,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::blocking::{client_config, server_config};
use crate::common::folder::Folder;
use crate::common::{run, within};
use crate::support::{cert, client_context};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    loop {
        let line = reader.readline().await?;
        if line.is_empty() {
            return Ok(());
        }
        writer.write(line);
        writer.drain().await?;
    }
}

/// Puts one of the tests' certificates where the context's files are.
fn put(folder: &Path, name: &str) {
    for end in ["pem", "key"] {
        let to = folder.join(format!("current.{end}"));
        fs::copy(cert(&format!("{name}.{end}")), to).unwrap();
    }
}

fn read(folder: &Folder) -> TlsServerContext {
    TlsServerContext::from_pem_files(folder.path("current.pem"), folder.path("current.key"))
        .unwrap()
}

async fn serve(context: &TlsServerContext) -> (Server, u16) {
    let server = start_server(echo, ("127.0.0.1", 0)).ssl(context);
    let server = server.await.unwrap();
    let port = server.sockets()[0].port().unwrap();
    (server, port)
}

async fn join(port: u16, context: &TlsClientContext) -> (StreamReader, StreamWriter) {
    let connection = open_connection(("localhost", port)).ssl(context);
    within("a connection", async { connection.await })
        .await
        .unwrap()
}

/// A line there and back, behind which also the tickets have come.
async fn talk(reader: &mut StreamReader, writer: &StreamWriter) {
    writer.write(b"line\n");
    let line = within("the line", reader.readline()).await;
    assert_eq!(line.unwrap(), b"line\n");
}

fn shows(writer: &StreamWriter, name: &str) -> bool {
    let shown = CertificateDer::from_pem_file(cert(&format!("{name}.pem"))).unwrap();
    let session = writer.get_extra_info(TlsSession).unwrap();
    session.peer_certificates == [shown]
}

async fn end(server: Server) {
    server.close();
    server.close_clients();
    within("the server's end", server.wait_closed())
        .await
        .unwrap();
}

#[test]
fn a_certificate_that_is_read_again_is_for_new_connections() {
    let folder = Folder::new();
    put(folder.as_ref(), "server");
    let context = read(&folder);
    run(async {
        let (server, port) = serve(&context).await;
        let client = client_context();
        let (mut old_reader, old) = join(port, &client).await;
        talk(&mut old_reader, &old).await;
        assert!(shows(&old, "server"));

        put(folder.as_ref(), "second");
        // A clone is the same context, on any thread.
        let clone = context.clone();
        std::thread::spawn(move || clone.reload().unwrap())
            .join()
            .unwrap();
        let (mut reader, new) = join(port, &client).await;
        assert!(shows(&new, "second"));
        assert!(!new.get_extra_info(TlsSession).unwrap().resumed);
        talk(&mut reader, &new).await;
        talk(&mut old_reader, &old).await;
        drop((old, new));
        end(server).await;
    });
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let folder = Folder::new();
    put(folder.as_ref(), "server");
    let context = read(&folder);
    // The certificate is there already, its key not yet.
    fs::copy(cert("second.pem"), folder.path("current.pem")).unwrap();
    assert_eq!(
        context.reload().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    fs::remove_file(folder.path("current.key")).unwrap();
    let error = context.reload().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("current.key"), "{error}");
    run(async {
        let (server, port) = serve(&context).await;
        let (mut reader, writer) = join(port, &client_context()).await;
        assert!(shows(&writer, "server"));
        talk(&mut reader, &writer).await;
        drop(writer);
        end(server).await;
    });
}

#[test]
fn a_configuration_of_somebody_s_own_cannot_be_read_again() {
    let context = TlsServerContext::from(server_config());
    assert_eq!(context.reload().unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Each of its settings: whom it trusts, and which protocol it speaks.
#[test]
fn a_client_s_configuration_of_somebody_s_own_is_in_force() {
    run(async {
        let context = TlsServerContext::builder(cert("server.pem"), cert("server.key"))
            .alpn(["h2", "http/1.1"])
            .build()
            .unwrap();
        let (server, port) = serve(&context).await;
        let mut config = ClientConfig::clone(&client_config());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        // The keyword argument takes it as it is, and start_tls as well.
        let connecting = open_connection(("localhost", port)).ssl(Arc::clone(&config));
        let (mut reader, mut writer) = connecting.await.unwrap();
        talk(&mut reader, &writer).await;
        let session = writer.get_extra_info(TlsSession).unwrap();
        assert_eq!(session.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert!(shows(&writer, "server"));
        (reader, writer) = open_connection(("localhost", port)).await.unwrap();
        let starting = writer.start_tls(config).server_hostname("localhost");
        starting.await.unwrap();
        talk(&mut reader, &writer).await;
        let session = writer.get_extra_info(TlsSession).unwrap();
        assert_eq!(session.alpn.as_deref(), Some(&b"http/1.1"[..]));
        drop(writer);

        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let connecting = open_connection(("localhost", port)).ssl(Arc::new(config));
        let error = connecting.await.map(drop).unwrap_err();
        let nobody = CertificateError::UnknownIssuer;
        assert_eq!(TlsError::of(&error), Some(&TlsError::Certificate(nobody)));
        end(server).await;
    });
}

#[test]
fn connections_of_one_context_resume_each_other_s_sessions() {
    let folder = Folder::new();
    put(folder.as_ref(), "server");
    let context = read(&folder);
    run(async {
        let (server, port) = serve(&context).await;
        let client = client_context();
        let mut resumed = Vec::new();
        for context in [&client, &client, &client_context()] {
            let (mut reader, writer) = join(port, context).await;
            talk(&mut reader, &writer).await;
            resumed.push(writer.get_extra_info(TlsSession).unwrap().resumed);
            assert!(shows(&writer, "server"), "also of a session that goes on");
        }
        assert_eq!(resumed, [false, true, false], "another context knows none");
        end(server).await;
    });
}
