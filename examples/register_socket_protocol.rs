//! A socket that exists already gets a protocol: one end of a connected pair is read, and a
//! callback sends on the other one.
//!
//! ```text
//! cargo run --example register_socket_protocol
//! ```
#![allow(clippy::print_stdout, reason = "an example")]

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use evloop::{EventLoop, LoopHandle, Protocol, Transport};

struct Registered {
    event_loop: LoopHandle,
    transport: Option<Transport>,
}

impl Protocol for Registered {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        println!("Received: {}", data.escape_ascii());
        // We are done: closing the transport leads to `connection_lost`.
        self.transport.iter().for_each(Transport::close);
    }

    fn connection_lost(&mut self, _: Option<std::sync::Arc<io::Error>>) {
        self.event_loop.stop();
    }
}

fn main() -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    // The loop makes its own end non-blocking; the other one is ours.
    let (read_end, mut write_end) = UnixStream::pair()?;

    let protocol = Registered {
        event_loop: event_loop.handle(),
        transport: None,
    };
    let connection = event_loop.create_connection(|| protocol, read_end);
    let (transport, _protocol) = event_loop.run_until_complete(connection)?;

    // Stands for data that comes from the network. So little always fits.
    event_loop.call_soon(move || write_end.write_all(b"abc").expect("an empty socket"));

    event_loop.run_forever();
    assert!(transport.is_closing());
    event_loop.close();
    Ok(())
}
