//! tokio's server: one `current_thread` runtime, one task for each connection.
//!
//! Tasks are spawned with plain `tokio::spawn`, which on this runtime costs less than a `LocalSet`.
#![forbid(unsafe_code)]

use std::io;

use evloop_benches::contract::{self, COUNT, Options, Work};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let options = contract::options();
    contract::raise_descriptor_limit();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(options))
}

async fn serve(options: Options) -> io::Result<()> {
    let listener = TcpListener::from_std(contract::listener()?)?;
    contract::announce(listener.local_addr()?.port())?;
    loop {
        match listener.accept().await {
            // How a connection ends, by a reset for example, is its own affair.
            Ok((stream, _)) => drop(tokio::spawn(work(stream, options))),
            Err(error) => tokio::time::sleep(contract::pause_after_failed_accept(&error)).await,
        }
    }
}

async fn work(stream: TcpStream, options: Options) -> io::Result<()> {
    let buffer = options.buffer;
    match options.work {
        Work::Echo => echo(stream, buffer).await,
        Work::Lines => lines(stream, buffer).await,
        Work::LinesBuffered => lines_buffered(stream, buffer).await,
        Work::Upload => upload(stream, buffer).await,
        Work::Download => download(stream).await,
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}

async fn lines(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::with_capacity(buffer, reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        writer.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

async fn lines_buffered(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let (reader, writer) = stream.split();
    let mut reader = BufReader::with_capacity(buffer, reader);
    let mut writer = BufWriter::with_capacity(buffer, writer);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        writer.write_all(&line).await?;
        line.clear();
        if !reader.buffer().contains(&b'\n') {
            writer.flush().await?;
        }
    }
    Ok(())
}

async fn upload(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
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

async fn download(mut stream: TcpStream) -> io::Result<()> {
    let mut count = [0; COUNT];
    stream.read_exact(&mut count).await?;
    let mut left = u64::from_le_bytes(count);
    while left > 0 {
        stream.write_all(contract::next_chunk(&mut left)).await?;
    }
    Ok(())
}
