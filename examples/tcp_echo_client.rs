//! A TCP echo client with streams: sends a message, waits for the answer, closes.
//!
//! ```text
//! cargo run --example tcp_echo_client -- [MESSAGE] [--port PORT]
//! ```
//!
//! It wants a server on 127.0.0.1, such as the example `tcp_echo_server`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::{env, io, process};

use evloop::open_connection;

async fn tcp_echo_client(message: &str, port: u16) -> io::Result<()> {
    let (mut reader, writer) = open_connection(("127.0.0.1", port)).await?;

    println!("Send: '{}'", message.escape_debug());
    writer.write(message.as_bytes());
    writer.drain().await?;

    let data = reader.read(100).await?;
    let answer = String::from_utf8_lossy(&data);
    println!("Received: '{}'", answer.escape_debug());

    println!("Close the socket");
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let Some((message, port)) = arguments() else {
        eprintln!("usage: tcp_echo_client [MESSAGE] [--port PORT]");
        process::exit(2);
    };
    evloop::run(tcp_echo_client(&message, port))?
}

/// The message and the port.
fn arguments() -> Option<(String, u16)> {
    let (mut message, mut port) = (None, 8888);
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str()? {
            "--port" => port = arguments.next()?.to_str()?.parse().ok()?,
            option if option.starts_with("--") => return None,
            _ if message.is_some() => return None,
            text => message = Some(text.to_owned()),
        }
    }
    Some((message.unwrap_or_else(|| "Hello World!".to_owned()), port))
}
