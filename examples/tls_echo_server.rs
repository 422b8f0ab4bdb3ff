//! A TLS echo server with streams: one message from each client, sent back. Ctrl+C ends it.
//!
//! ```text
//! cargo run --example tls_echo_server -- CERT KEY [--port PORT]
//! ```
//!
//! The README has a command that makes the two files. It serves 127.0.0.1:8888 unless told
//! otherwise; port 0 lets the system pick one.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::path::PathBuf;
use std::{env, io, process};

use evloop::signals::SIGINT;
use evloop::{
    EventLoop, PeerName, StreamReader, StreamWriter, TlsServerContext, TlsSession, start_server,
};

async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let session = writer.get_extra_info(TlsSession).expect("it is TLS");
    let data = reader.read(100).await?;
    let message = String::from_utf8_lossy(&data);
    let addr = writer.get_extra_info(PeerName).expect("TCP has a peer");

    let version = session.version;
    println!(
        "Received '{}' from {addr} by {version:?}",
        message.escape_debug()
    );

    println!("Send: '{}'", message.escape_debug());
    writer.write(data);
    writer.drain().await?;

    println!("Close the client socket");
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let Some((cert, key, port)) = arguments() else {
        eprintln!("usage: tls_echo_server CERT KEY [--port PORT]");
        process::exit(2);
    };
    let context = TlsServerContext::from_pem_files(cert, key)?;
    let mut event_loop = EventLoop::new()?;
    let starting = start_server(handle_echo, ("127.0.0.1", port)).ssl(context);
    let server = event_loop.run_until_complete(starting)?;

    // Serve until Ctrl+C.
    let handle = event_loop.handle();
    event_loop.add_signal_handler(SIGINT, move || handle.stop())?;
    println!("Serving on {}", server.sockets()[0]);
    event_loop.run_forever();

    server.close();
    server.close_clients();
    event_loop.run_until_complete(server.wait_closed())?;
    event_loop.close();
    Ok(())
}

/// The files of the certificate and its key, and the port.
fn arguments() -> Option<(PathBuf, PathBuf, u16)> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (cert, key, port) = match arguments.as_slice() {
        [cert, key] => (cert, key, 8888),
        [cert, key, option, port] if option == "--port" => {
            (cert, key, port.to_str()?.parse().ok()?)
        }
        _ => return None,
    };
    Some((cert.into(), key.into(), port))
}
