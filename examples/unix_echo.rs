//! An echo over a unix socket, server and client in one: the file is there while it is served.
//!
//! ```text
//! cargo run --example unix_echo -- [PATH]
//! ```
//!
//! Without a path it makes one in the folder for temporary files.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::path::{Path, PathBuf};
use std::{env, io, process};

use evloop::{
    PeerCredentials, StreamReader, StreamWriter, open_unix_connection, start_unix_server,
};

async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let data = reader.readline().await?;
    let message = String::from_utf8_lossy(&data);
    // The system's word, and no address that the peer could choose.
    match writer.get_extra_info(PeerCredentials) {
        Some(peer) => println!("Received {message:?} from user {}", peer.uid),
        None => println!("Received {message:?}"),
    }

    println!("Send: {message:?}");
    writer.write(&data);
    writer.drain().await?;

    println!("Close the connection");
    writer.close();
    writer.wait_closed().await
}

async fn echo_client(path: &Path) -> io::Result<()> {
    let (mut reader, writer) = open_unix_connection(path).await?;
    writer.write(b"Hello World!\n");
    writer.drain().await?;
    let answer = reader.readline().await?;
    println!("Answer: {:?}", String::from_utf8_lossy(&answer));
    writer.close();
    writer.wait_closed().await
}

async fn serve_and_ask(path: PathBuf) -> io::Result<()> {
    let server = start_unix_server(handle_echo, &path).await?;
    println!("Serving on {}", server.sockets()[0]);

    echo_client(&path).await?;

    // This removes the path, too.
    server.close();
    server.wait_closed().await
}

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let path = arguments.next().map(PathBuf::from);
    if arguments.next().is_some() {
        eprintln!("usage: unix_echo [PATH]");
        process::exit(2);
    }
    let path = path.unwrap_or_else(|| {
        let name = format!("unix_echo-{}.sock", process::id());
        env::temp_dir().join(name)
    });
    evloop::run(serve_and_ask(path))?
}
