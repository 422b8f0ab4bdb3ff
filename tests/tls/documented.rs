//! What the page on TLS promises can be done.

use std::process::Command;

use evloop::{
    StreamReader, StreamWriter, TlsClientContext, TlsServerContext, open_connection, start_server,
};

use crate::common::folder::Folder;
use crate::common::peers::require;
use crate::common::{run, within};

const PAGE: &str = include_str!("../../docs/tls.md");

async fn greet(_: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    writer.write(b"hello");
    writer.drain().await
}

#[test]
fn the_command_makes_a_certificate_that_a_client_can_trust() {
    if !require("openssl", "openssl") {
        return;
    }
    let command = PAGE.lines().find(|line| line.starts_with("openssl req"));
    let folder = Folder::new();
    let made = Command::new("sh")
        .args(["-c", command.expect("a command")])
        .current_dir(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    let cert = folder.path("cert.pem");
    let context = TlsServerContext::from_pem_files(&cert, folder.path("key.pem")).unwrap();
    let client = TlsClientContext::builder()
        .root_file(&cert)
        .build()
        .unwrap();
    run(async {
        let server = start_server(greet, ("127.0.0.1", 0)).ssl(context);
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        for host in ["localhost", "127.0.0.1"] {
            let connection = open_connection((host, port)).ssl(&client);
            let (mut reader, _writer) = connection.await.unwrap();
            let greeting = within("a greeting", reader.read_to_end(None)).await;
            assert_eq!(greeting.unwrap(), b"hello");
        }
        server.close();
        within("the server's end", server.wait_closed())
            .await
            .unwrap();
    });
}
