//! Streams over TLS, on both sides ours.

use std::time::Duration;

use evloop::{
    CloseReason, ClosedBecause, StreamReader, StreamWriter, TlsSession, open_connection,
    start_server, timeout,
};

use crate::support::{client_context, server_context};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    loop {
        let data = reader.read(64 * 1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(data);
        writer.drain().await?;
    }
}

#[test]
fn an_echo_and_both_ends() {
    evloop::run(async {
        let server = start_server(echo, ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .await
            .unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let (mut reader, writer) = open_connection(("localhost", address.port()))
            .ssl(client_context())
            .await
            .unwrap();
        let details = writer.get_extra_info(TlsSession).unwrap();
        assert_eq!(details.version, rustls::ProtocolVersion::TLSv1_3);
        writer.write(b"hello\n");
        assert_eq!(reader.readline().await.unwrap(), b"hello\n");
        let big: Vec<u8> = (0..8 << 20).map(|i: u32| (i / 7) as u8).collect();
        let sent = big.clone();
        let writer = std::rc::Rc::new(writer);
        let w = std::rc::Rc::clone(&writer);
        let task = evloop::get_running_loop().unwrap().create_task(async move {
            for piece in sent.chunks(100_000) {
                w.write(piece);
                w.drain().await.unwrap();
            }
            w.write_eof().unwrap();
        });
        let got = timeout(Duration::from_secs(20), reader.read_to_end(usize::MAX))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(got.len(), big.len());
        assert!(got == big);
        task.await.unwrap();
        writer.close();
        timeout(Duration::from_secs(5), writer.wait_closed())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            writer.get_extra_info(ClosedBecause),
            Some(CloseReason::PeerEof)
        );
        assert!(writer.get_extra_info(TlsSession).is_some());
        server.close();
        timeout(Duration::from_secs(5), server.wait_closed())
            .await
            .unwrap()
            .unwrap();
    })
    .unwrap();
}
