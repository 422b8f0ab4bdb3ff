//! A TCP echo server with streams: one message from each client, sent back. Ctrl+C ends it.
//!
//! ```text
//! cargo run --example tcp_echo_server -- [--port PORT]
//! ```
//!
//! It serves 127.0.0.1:8888 unless told otherwise; port 0 lets the system pick one.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::{env, io, process};

use evloop::signals::SIGINT;
use evloop::{EventLoop, PeerName, StreamReader, StreamWriter, start_server};

async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let data = reader.read(100).await?;
    let message = String::from_utf8_lossy(&data);
    let addr = writer.get_extra_info(PeerName).expect("TCP has a peer");

    println!("Received '{}' from {addr}", message.escape_debug());

    println!("Send: '{}'", message.escape_debug());
    writer.write(data);
    writer.drain().await?;

    println!("Close the client socket");
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let Some(port) = port() else {
        eprintln!("usage: tcp_echo_server [--port PORT]");
        process::exit(2);
    };
    let mut event_loop = EventLoop::new()?;
    let server = event_loop.run_until_complete(start_server(handle_echo, ("127.0.0.1", port)))?;

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

fn port() -> Option<u16> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [] => Some(8888),
        [option, port] if option == "--port" => port.to_str()?.parse().ok(),
        _ => None,
    }
}
