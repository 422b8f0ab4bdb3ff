//! A socket that exists already becomes a stream: one end of a connected pair is read, and a
//! callback sends on the other one.
//!
//! ```text
//! cargo run --example register_socket_streams
//! ```
#![allow(clippy::print_stdout, reason = "an example")]

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use evloop::{get_running_loop, open_connection};

async fn wait_for_data() -> io::Result<()> {
    // The loop makes its own end non-blocking; the other one is ours.
    let (read_end, mut write_end) = UnixStream::pair()?;

    let (mut reader, writer) = open_connection(read_end).await?;

    // Stands for data that comes from the network.
    get_running_loop()?.call_soon(move || {
        // So little always fits. Dropping the end closes it.
        write_end.write_all(b"abc").expect("an empty socket");
    });

    let data = reader.read(100).await?;
    println!("Received: {}", String::from_utf8_lossy(&data));

    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    evloop::run(wait_for_data())?
}
