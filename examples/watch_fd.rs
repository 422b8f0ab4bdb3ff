//! Watches a descriptor for read events: one end of a connected pair, whose other end sends `abc`
//! from a callback.
//!
//! ```text
//! cargo run --example watch_fd
//! ```
#![allow(clippy::print_stdout, reason = "an example")]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use evloop::EventLoop;

fn main() -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    let (reader, mut writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;

    // The callback and we share the descriptor, which stays ours.
    let (reader, handle) = (Rc::new(reader), event_loop.handle());
    let own = Rc::clone(&reader);
    event_loop.add_reader(&reader, move || {
        let mut data = [0; 100];
        match (&*own).read(&mut data) {
            Ok(received) => {
                println!("Received: {}", data[..received].escape_ascii());
                // We are done: stop watching the descriptor, and the loop.
                handle.remove_reader(&own);
                handle.stop();
            }
            // A hint may be wrong; then it is called again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("cannot read: {error}"),
        }
    })?;

    // Stands for the network.
    event_loop.call_soon(move || writer.write_all(b"abc").expect("the reader is there"));

    event_loop.run_forever();
    event_loop.close();
    Ok(())
}
