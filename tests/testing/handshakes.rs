//! The time that a handshake has unless told otherwise, which is a minute: here it costs nothing.

use std::io;
use std::time::Duration;

use evloop::testing::Simulation;
use evloop::{
    StreamReader, StreamWriter, TlsClientContext, TlsError, TlsServerContext, get_running_loop,
    open_connection, sleep, start_server,
};

use crate::support::cert;

async fn greet(_: StreamReader, _: StreamWriter) {
    panic!("nobody has shaken hands");
}

/// How long a server of TLS bears with a client that says these bytes, one each second.
fn borne(bytes: Vec<u8>) -> io::Result<Duration> {
    let mut simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let context = TlsServerContext::from_pem_files(cert("server.pem"), cert("server.key"))?;
    let starting = start_server(greet, ("server", 7)).ssl(context);
    let _serving = simulation.run_until_complete(&server, starting)??;
    let before = server.descriptors();
    let took = simulation.run_until_complete(&client, async {
        let handle = get_running_loop()?;
        let begun = handle.time();
        let (mut reader, writer) = open_connection(("server", 7)).await?;
        let talking = handle.create_task(async move {
            for byte in bytes {
                writer.write(&[byte]);
                sleep(SECOND).await?;
            }
            io::Result::Ok(writer)
        });
        let end = reader.read(1).await;
        let took = handle.time() - begun;
        assert_eq!(end?, b"");
        let _ = talking.cancel();
        io::Result::Ok(took)
    })??;
    assert_eq!(server.descriptors(), before);
    Ok(took)
}

#[track_caller]
fn a_minute(took: Duration) {
    assert!(took >= MINUTE && took < MINUTE + SECOND, "{took:?}");
}

#[test]
fn a_silent_client_is_left_after_a_minute() -> io::Result<()> {
    a_minute(borne(Vec::new())?);
    Ok(())
}

/// What counts is the whole handshake, and not when something came last.
#[test]
fn a_client_that_says_a_byte_each_second_is_left_after_a_minute() -> io::Result<()> {
    // A record of 512 bytes with a hello of as many.
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    hello.resize(100, 0);
    a_minute(borne(hello)?);
    Ok(())
}

#[test]
fn a_silent_server_is_left_after_a_minute() -> io::Result<()> {
    let mut simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let silent = async |_reader: StreamReader, _writer: StreamWriter| sleep(60 * MINUTE).await;
    let starting = start_server(silent, ("server", 7));
    let _serving = simulation.run_until_complete(&server, starting)??;
    let context = TlsClientContext::builder()
        .root_file(cert("ca.pem"))
        .build()?;
    let (outcome, took) = simulation.run_until_complete(&client, async {
        let handle = get_running_loop().unwrap();
        let begun = handle.time();
        let connecting = open_connection(("server", 7)).ssl(context);
        let outcome = connecting.server_hostname("localhost").await;
        (outcome, handle.time() - begun)
    })?;
    let error = outcome.map(drop).unwrap_err();
    let expected = TlsError::HandshakeTimeout(MINUTE);
    assert_eq!(TlsError::of(&error), Some(&expected));
    a_minute(took);
    assert_eq!(client.descriptors(), 0);
    Ok(())
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
