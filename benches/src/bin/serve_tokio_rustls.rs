//! tokio's server with TLS by tokio-rustls: one `current_thread` runtime, one task for each
//! connection. What was written is flushed, and the end is said, as tokio-rustls asks for.
#![forbid(unsafe_code)]

use std::io;

use evloop_benches::contract::{self, COUNT, Listener, Options, Work};
use evloop_benches::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

fn main() -> io::Result<()> {
    let options = contract::options_with_tls();
    contract::raise_descriptor_limit();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(options))
}

async fn serve(options: Options) -> io::Result<()> {
    if matches!(options.work, Work::Lines | Work::LinesBuffered) {
        contract::refuse("lines are measured without TLS");
    }
    let acceptor = TlsAcceptor::from(tls::server_config()?);
    let (contract::Transport::Tls, Listener::Tcp(listener)) =
        (options.listen, contract::listen(options.listen)?)
    else {
        contract::refuse("this one has TLS only");
    };
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            // How a connection ends, by a reset for example, is its own affair.
            Ok((socket, _)) => drop(tokio::spawn(work(acceptor.clone(), socket, options))),
            Err(error) => tokio::time::sleep(contract::pause_after_failed_accept(&error)).await,
        }
    }
}

async fn work(acceptor: TlsAcceptor, socket: TcpStream, options: Options) -> io::Result<()> {
    let mut stream = acceptor.accept(socket).await?;
    match options.work {
        Work::Echo => echo(&mut stream, options.buffer).await?,
        Work::Upload => upload(&mut stream, options.buffer).await?,
        Work::Download => download(&mut stream, options.write).await?,
        // Refused at the start.
        Work::Lines | Work::LinesBuffered => {}
    }
    stream.shutdown().await
}

async fn echo(stream: &mut TlsStream<TcpStream>, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
        stream.flush().await?;
    }
}

async fn upload(stream: &mut TlsStream<TcpStream>, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut count = 0_u64;
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            break;
        }
        count += received as u64;
    }
    stream.write_all(&count.to_le_bytes()).await?;
    stream.flush().await
}

async fn download(stream: &mut TlsStream<TcpStream>, write: usize) -> io::Result<()> {
    let mut count = [0; COUNT];
    stream.read_exact(&mut count).await?;
    let mut left = u64::from_le_bytes(count);
    while left > 0 {
        stream
            .write_all(contract::next_write(&mut left, write))
            .await?;
    }
    stream.flush().await
}
