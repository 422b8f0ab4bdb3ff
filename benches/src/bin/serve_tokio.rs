//! tokio's server: one `current_thread` runtime, one task for each connection.
//!
//! Tasks are spawned with plain `tokio::spawn`, which on this runtime costs less than a `LocalSet`.
#![forbid(unsafe_code)]

use std::io;

use evloop_benches::contract::{self, COUNT, Listener, Options, Work};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};
use tokio::net::{TcpListener, UnixListener};

fn main() -> io::Result<()> {
    let options = contract::options();
    contract::raise_descriptor_limit();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(options))
}

async fn serve(options: Options) -> io::Result<()> {
    match contract::listen(options.listen)? {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            accept_all(async || Ok(listener.accept().await?.0), options).await
        }
        Listener::Unix(listener) => {
            let listener = UnixListener::from_std(listener)?;
            accept_all(async || Ok(listener.accept().await?.0), options).await
        }
    }
}

/// A connection's socket, whatever it is over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

async fn accept_all<S: Stream>(
    accept: impl AsyncFn() -> io::Result<S>,
    options: Options,
) -> io::Result<()> {
    loop {
        match accept().await {
            // How a connection ends, by a reset for example, is its own affair.
            Ok(stream) => drop(tokio::spawn(work(stream, options))),
            Err(error) => tokio::time::sleep(contract::pause_after_failed_accept(&error)).await,
        }
    }
}

async fn work(stream: impl Stream, options: Options) -> io::Result<()> {
    let buffer = options.buffer;
    match options.work {
        Work::Echo => echo(stream, buffer).await,
        Work::Lines => lines(stream, buffer).await,
        Work::LinesBuffered => lines_buffered(stream, buffer).await,
        Work::Upload => upload(stream, buffer).await,
        Work::Download => download(stream).await,
    }
}

async fn echo(mut stream: impl Stream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}

async fn lines(stream: impl Stream, buffer: usize) -> io::Result<()> {
    // What is written goes straight to the socket.
    let mut stream = BufReader::with_capacity(buffer, stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

async fn lines_buffered(stream: impl Stream, buffer: usize) -> io::Result<()> {
    let stream = BufWriter::with_capacity(buffer, stream);
    let mut stream = BufReader::with_capacity(buffer, stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&line).await?;
        line.clear();
        if !stream.buffer().contains(&b'\n') {
            stream.flush().await?;
        }
    }
    Ok(())
}

async fn upload(mut stream: impl Stream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut count = 0_u64;
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            break;
        }
        count += received as u64;
    }
    stream.write_all(&count.to_le_bytes()).await
}

async fn download(mut stream: impl Stream) -> io::Result<()> {
    let mut count = [0; COUNT];
    stream.read_exact(&mut count).await?;
    let mut left = u64::from_le_bytes(count);
    while left > 0 {
        stream.write_all(contract::next_chunk(&mut left)).await?;
    }
    Ok(())
}
