//! Our futures under the `futures` crate: `join!`, `select!` and `FuturesUnordered`.
//!
//! ```text
//! cargo run --example select_join
//! ```
//!
//! It serves itself: a server that echoes, and clients of it, in one loop.
#![allow(clippy::print_stdout, reason = "an example")]

use std::io;
use std::pin::pin;
use std::time::Duration;

use evloop::{
    StreamReader, StreamWriter, get_running_loop, open_connection, sleep, sleep_until, start_server,
};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, join, select};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(data);
        writer.drain().await?;
    }
}

async fn ask(port: u16, question: &str) -> io::Result<String> {
    let (mut reader, writer) = open_connection(("127.0.0.1", port)).await?;
    writer.writelines([question.as_bytes(), b"\n"]);
    let answer = reader.readline().await?;
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

async fn main_task() -> io::Result<()> {
    let server = start_server(echo, ("127.0.0.1", 0)).await?;
    let port = server.sockets()[0].port().expect("TCP has a port");

    let (one, two) = join!(ask(port, "one"), ask(port, "two"));
    println!("join!: {} and {}", one?, two?);

    // A read that loses a race has taken nothing: the next one finds the whole line.
    let (mut reader, writer) = open_connection(("127.0.0.1", port)).await?;
    writer.write(b"half a ");
    {
        let mut line = pin!(reader.readline().fuse());
        let mut timer = sleep(Duration::from_millis(20)).fuse();
        select! {
            line = line => println!("select!: {line:?}"),
            _ = timer => println!("select!: the timer"),
        }
    }
    writer.write(b"line\n");
    let line = reader.readline().await?;
    println!("then: {}", String::from_utf8_lossy(&line).trim_end());

    let start = get_running_loop()?.time();
    let mut sleepers: FuturesUnordered<_> = [30, 10, 20]
        .into_iter()
        .map(|delay| async move {
            let woken = sleep_until(start + Duration::from_millis(delay)).await;
            woken.map(|()| delay)
        })
        .collect();
    while let Some(woken) = sleepers.next().await {
        println!("FuturesUnordered: {} ms", woken?);
    }

    server.close();
    server.close_clients();
    server.wait_closed().await
}

fn main() -> io::Result<()> {
    evloop::run(main_task())?
}
