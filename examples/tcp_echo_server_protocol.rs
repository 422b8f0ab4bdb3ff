//! A TCP echo server with a protocol: what `tcp_echo_server` does with streams, done with
//! callbacks and `create_server`. Ctrl+C ends it.
//!
//! ```text
//! cargo run --example tcp_echo_server_protocol -- [--port PORT]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::{env, io, process};

use evloop::signals::SIGINT;
use evloop::{EventLoop, PeerName, Protocol, Transport};

#[derive(Default)]
struct EchoServerProtocol {
    transport: Option<Transport>,
}

impl Protocol for EchoServerProtocol {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        let transport = self.transport.as_ref().expect("connection_made came first");
        let addr = transport.get_extra_info(PeerName).expect("TCP has a peer");
        let data = &data[..data.len().min(100)];
        let message = String::from_utf8_lossy(data);

        println!("Received '{}' from {addr}", message.escape_debug());

        println!("Send: '{}'", message.escape_debug());
        transport.write(data);

        println!("Close the client socket");
        transport.close();
    }
}

fn main() -> io::Result<()> {
    let Some(port) = port() else {
        eprintln!("usage: tcp_echo_server_protocol [--port PORT]");
        process::exit(2);
    };
    let mut event_loop = EventLoop::new()?;
    let serving = event_loop.create_server(EchoServerProtocol::default, ("127.0.0.1", port));
    let server = event_loop.run_until_complete(serving)?;

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
