//! A TCP proxy: two copies for each connection, one in each direction. The end of one direction
//! is passed on while the other goes on. Ctrl+C ends it.
//!
//! ```text
//! cargo run --example proxy -- LISTEN_PORT TARGET_HOST:TARGET_PORT
//! ```
//!
//! A copy that cannot write waits in `drain`, so it reads no more, and the sender has to wait:
//! nothing grows, however much is copied.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::{env, io, process};

use evloop::signals::SIGINT;
use evloop::{EventLoop, StreamReader, StreamWriter, open_connection, start_server};
use futures::try_join;

async fn copy(reader: &mut StreamReader, writer: &StreamWriter) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = reader.read_into(&mut buffer).await?;
        if n == 0 {
            return writer.write_eof();
        }
        writer.write(&buffer[..n]);
        writer.drain().await?;
    }
}

async fn forward(
    (mut reader, writer): (StreamReader, StreamWriter),
    target: (String, u16),
) -> io::Result<()> {
    let (mut far_reader, far_writer) = open_connection(target).await?;
    let copies = try_join!(
        copy(&mut reader, &far_writer),
        copy(&mut far_reader, &writer)
    );
    if copies.is_err() {
        // A broken connection on one side is one on the other, too.
        writer.transport().abort();
        far_writer.transport().abort();
    }
    copies.map(drop)
}

fn main() -> io::Result<()> {
    let Some((port, target)) = arguments() else {
        eprintln!("usage: proxy LISTEN_PORT TARGET_HOST:TARGET_PORT");
        process::exit(2);
    };
    let serve = move |reader, writer| forward((reader, writer), target.clone());
    let mut event_loop = EventLoop::new()?;
    let server = event_loop.run_until_complete(start_server(serve, ("127.0.0.1", port)))?;

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

fn arguments() -> Option<(u16, (String, u16))> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [listen, target] = arguments.as_slice() else {
        return None;
    };
    let (host, port) = target.to_str()?.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']).to_owned();
    Some((listen.to_str()?.parse().ok()?, (host, port.parse().ok()?)))
}
