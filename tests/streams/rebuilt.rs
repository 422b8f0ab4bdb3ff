//! `open_connection` and `start_server` need nothing that a user has not: here they are again.

use std::io;

use evloop::{
    ClientConnectedCb, Endpoint, Outcome, ReadError, Server, StreamReader, StreamReaderProtocol,
    StreamWriter, create_connection, create_server, get_running_loop,
};

use crate::common::{run, within};

async fn open_connection(
    endpoint: impl Into<Endpoint>,
    limit: usize,
) -> io::Result<(StreamReader, StreamWriter)> {
    let reader = StreamReader::with_limit(limit)?;
    let factory = || StreamReaderProtocol::new(reader, None);
    let (transport, protocol) = create_connection(factory, endpoint).await?;
    let writer = StreamWriter::new(transport, &protocol.borrow());
    let reader = protocol
        .borrow_mut()
        .take_reader()
        .expect("nobody else took it");
    Ok((reader, writer))
}

async fn start_server<R: Outcome<K>, K>(
    client_connected_cb: impl FnMut(StreamReader, StreamWriter) -> R + 'static,
    endpoint: impl Into<Endpoint>,
    limit: usize,
) -> io::Result<Server> {
    drop(StreamReader::with_limit(limit)?);
    let callback = ClientConnectedCb::new(client_connected_cb);
    let factory = move || {
        let reader = StreamReader::with_limit(limit).unwrap_or_default();
        StreamReaderProtocol::new(reader, Some(callback.clone()))
    };
    create_server(factory, endpoint).await
}

#[test]
fn both_work_when_they_are_rebuilt_outside_the_crate() {
    async fn shout(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
        let line = reader.readline().await?;
        writer.write(line.to_ascii_uppercase());
        writer.drain().await
    }
    run(async {
        let server = start_server(shout, ("127.0.0.1", 0), 8).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        for _ in 0..2 {
            let (mut reader, writer) = open_connection(address, 5).await.unwrap();
            writer.write(b"hello\n");
            assert_eq!(reader.readline().await.unwrap(), b"HELLO\n");
            assert_eq!(reader.readline().await.unwrap(), b"");
            writer.close();
            writer.wait_closed().await.unwrap();
        }
        server.close();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
    });
}

#[test]
fn a_client_s_protocol_may_have_a_callback_as_well() {
    run(async {
        let echo = |mut reader: StreamReader, writer: StreamWriter| async move {
            writer.write(&reader.readline().await?);
            writer.drain().await
        };
        let server = start_server(echo, ("127.0.0.1", 0), 8).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let answer = get_running_loop().unwrap().create_future();
        let setter = answer.clone();
        let callback = ClientConnectedCb::new(move |mut reader: StreamReader, writer| {
            let setter = setter.clone();
            async move {
                StreamWriter::write(&writer, b"hello\n");
                let line = reader.readline().await?;
                setter.set_result(line).expect("one connection");
                Ok::<(), ReadError>(())
            }
        });
        let factory = || StreamReaderProtocol::new(StreamReader::new(), Some(callback));
        let (_transport, protocol) = create_connection(factory, address).await.unwrap();
        assert!(protocol.borrow_mut().take_reader().is_none());
        let answer = within("the answer", answer).await;
        assert_eq!(answer.unwrap(), b"hello\n");
    });
}

#[test]
fn plain_callbacks_are_the_rebuilt_one_s_too() {
    run(async {
        let greet = |_: StreamReader, writer: StreamWriter| writer.write(b"hello\n");
        let server = start_server(greet, ("127.0.0.1", 0), 8).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let (mut reader, _writer) = open_connection(address, 5).await.unwrap();
        assert_eq!(reader.read_to_end(None).await.unwrap(), b"hello\n");
    });
}
