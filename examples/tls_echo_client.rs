//! A TLS echo client with streams: sends a message, waits for the answer, closes.
//!
//! ```text
//! cargo run --example tls_echo_client -- CA [MESSAGE] [--port PORT]
//! ```
//!
//! It wants a server on 127.0.0.1, such as the example `tls_echo_server`, with a certificate for
//! `localhost` that one of those in the file CA has signed: its own, if it has signed itself.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::{env, io, process};

use evloop::{TlsClientContext, TlsSession, open_connection};

async fn tls_echo_client(ca: String, message: &str, port: u16) -> io::Result<()> {
    let context = TlsClientContext::builder().root_file(ca).build()?;
    let (mut reader, writer) = open_connection(("127.0.0.1", port))
        .ssl(context)
        .server_hostname("localhost")
        .await?;
    let session = writer.get_extra_info(TlsSession).expect("it is TLS");

    let version = session.version;
    println!("Send: '{}' by {version:?}", message.escape_debug());
    writer.write(message.as_bytes());
    writer.drain().await?;

    let data = reader.read(100).await?;
    let answer = String::from_utf8_lossy(&data);
    println!("Received: '{}'", answer.escape_debug());

    println!("Close the socket");
    writer.close();
    writer.wait_closed().await
}

fn main() {
    let Some((ca, message, port)) = arguments() else {
        eprintln!("usage: tls_echo_client CA [MESSAGE] [--port PORT]");
        process::exit(2);
    };
    let outcome = evloop::run(tls_echo_client(ca, &message, port));
    if let Err(error) = outcome.and_then(|outcome| outcome) {
        eprintln!("tls_echo_client: {error}");
        process::exit(1);
    }
}

/// The file of those to trust, the message and the port.
fn arguments() -> Option<(String, String, u16)> {
    let (mut words, mut port) = (Vec::new(), 8888);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--port" => port = arguments.next()?.parse().ok()?,
            option if option.starts_with("--") => return None,
            _ => words.push(argument),
        }
    }
    let mut words = words.into_iter();
    let (ca, message) = (words.next()?, words.next());
    let message = message.unwrap_or_else(|| "Hello World!".to_owned());
    words.next().is_none().then_some((ca, message, port))
}
