//! A chat of lines: what one client sends, all others get. Shows how tasks share writers, and
//! what to do about a client that does not read. Try it with several `nc 127.0.0.1 8888`.
//!
//! ```text
//! cargo run --example chat -- [--port PORT]
//! ```
//!
//! Nobody waits for a slow reader: its lines wait in its own transport, and once that holds more
//! than `BACKLOG` bytes the client is out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::{env, io, process};

use evloop::signals::SIGINT;
use evloop::{Address, EventLoop, PeerName, StreamReader, StreamWriter, start_server};

/// How many unsent bytes a client may have when the next line comes.
const BACKLOG: usize = 256 * 1024;

type Room = Rc<RefCell<HashMap<Address, Rc<StreamWriter>>>>;

async fn handle_client(room: Room, mut reader: StreamReader, writer: Rc<StreamWriter>) {
    let me = writer.get_extra_info(PeerName).expect("TCP has a peer");
    println!("{me} joined");
    room.borrow_mut().insert(me.clone(), writer);

    // An error (a line that is too long, a reset) ends a visit as the end of the stream does.
    let mut lines = reader.lines();
    while let Ok(Some(mut line)) = lines.next().await {
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        for (peer, writer) in room.borrow().iter().filter(|(peer, _)| **peer != me) {
            if writer.transport().get_write_buffer_size() <= BACKLOG {
                writer.write(&line);
            } else if !writer.is_closing() {
                println!("{peer} does not read");
                writer.transport().abort(); // Its own task sees the end, and leaves.
            }
        }
    }
    room.borrow_mut().remove(&me); // The last of its writer: what was written is sent, then EOF.
    println!("{me} left");
}

fn main() -> io::Result<()> {
    let Some(port) = port() else {
        eprintln!("usage: chat [--port PORT]");
        process::exit(2);
    };
    let room = Room::default();
    let visit = move |reader, writer| handle_client(Rc::clone(&room), reader, Rc::new(writer));
    let mut event_loop = EventLoop::new()?;
    let server = event_loop.run_until_complete(start_server(visit, ("127.0.0.1", port)))?;

    let handle = event_loop.handle();
    event_loop.add_signal_handler(SIGINT, move || handle.stop())?;
    println!("Serving on {}", server.sockets()[0]);
    event_loop.run_forever();

    server.close();
    server.abort_clients(); // Not close_clients: it would wait for those who do not read.
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
