//! A TCP echo client with a protocol: what `tcp_echo_client` does with streams, done with
//! callbacks and `create_connection`.
//!
//! ```text
//! cargo run --example tcp_echo_client_protocol -- [MESSAGE] [--port PORT]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::sync::Arc;
use std::{env, io, process};

use evloop::{EventLoop, Protocol, Transport, Waiter};

struct EchoClientProtocol {
    message: String,
    transport: Option<Transport>,
    /// Told when the connection is over, and of the error that ended it.
    on_con_lost: Waiter<Option<Arc<io::Error>>>,
}

impl Protocol for EchoClientProtocol {
    fn connection_made(&mut self, transport: Transport) {
        println!("Send: '{}'", self.message.escape_debug());
        transport.write(self.message.as_bytes());
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        let answer = String::from_utf8_lossy(&data[..data.len().min(100)]);
        println!("Received: '{}'", answer.escape_debug());
        println!("Close the socket");
        // After this nothing is received any more: one answer is all we wait for.
        self.transport.iter().for_each(Transport::close);
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        // Set here only, and this is called once.
        let _ = self.on_con_lost.set_result(exc);
    }
}

fn main() -> io::Result<()> {
    let Some((message, port)) = arguments() else {
        eprintln!("usage: tcp_echo_client_protocol [MESSAGE] [--port PORT]");
        process::exit(2);
    };
    let mut event_loop = EventLoop::new()?;
    let on_con_lost = event_loop.create_future();
    let protocol = EchoClientProtocol {
        message,
        transport: None,
        on_con_lost: on_con_lost.clone(),
    };
    let connection = event_loop.create_connection(|| protocol, ("127.0.0.1", port));
    event_loop.run_until_complete(connection)?;
    let exc = event_loop.run_until_complete(on_con_lost)?;
    event_loop.close();
    exc.map_or(Ok(()), |error| Err(io::Error::new(error.kind(), error)))
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
