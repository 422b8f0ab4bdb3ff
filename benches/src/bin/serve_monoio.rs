//! monoio's server, driven by io_uring or by epoll: one task for each connection.
//!
//! Buffers are lent to the runtime with each operation and come back with its result.
#![forbid(unsafe_code)]

use std::io;

use evloop_benches::contract::{self, COUNT, Driver, Listener, Options, Work};
use monoio::io::{
    AsyncBufReadExt, AsyncReadRent, AsyncReadRentExt, AsyncWriteRent, AsyncWriteRentExt, BufReader,
    BufWriter, Split, Splitable,
};
use monoio::net::{TcpListener, UnixListener};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

fn main() -> io::Result<()> {
    let options = contract::options();
    contract::raise_descriptor_limit();
    match options.driver {
        Driver::Epoll => RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()?
            .block_on(serve(options)),
        Driver::Uring if monoio::utils::detect_uring() => RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()?
            .block_on(serve(options)),
        Driver::Uring => contract::refuse("io_uring is not permitted here"),
    }
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
trait Stream: AsyncReadRent + AsyncWriteRent + Split + 'static {}

impl<S: AsyncReadRent + AsyncWriteRent + Split + 'static> Stream for S {}

async fn accept_all<S: Stream>(
    accept: impl AsyncFn() -> io::Result<S>,
    options: Options,
) -> io::Result<()> {
    loop {
        match accept().await {
            // How a connection ends, by a reset for example, is its own affair.
            Ok(stream) => drop(monoio::spawn(work(stream, options))),
            Err(error) => monoio::time::sleep(contract::pause_after_failed_accept(&error)).await,
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
    let mut buffer = Vec::with_capacity(buffer);
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        (result, buffer) = stream.write_all(buffer).await;
        result?;
        buffer.clear();
    }
}

async fn lines(stream: impl Stream, buffer: usize) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(buffer, reader);
    let mut line = Vec::new();
    let mut result;
    while reader.read_until(b'\n', &mut line).await? > 0 {
        (result, line) = writer.write_all(line).await;
        result?;
        line.clear();
    }
    Ok(())
}

async fn lines_buffered(stream: impl Stream, buffer: usize) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(buffer, reader);
    let mut writer = BufWriter::with_capacity(buffer, writer);
    let mut line = Vec::new();
    let mut result;
    while reader.read_until(b'\n', &mut line).await? > 0 {
        // monoio 0.2.4 does not look at how full its writer is, and would write past its end.
        if writer.buffer().len() + line.len() > buffer {
            writer.flush().await?;
        }
        (result, line) = writer.write_all(line).await;
        result?;
        line.clear();
        if !reader.buffer().contains(&b'\n') {
            writer.flush().await?;
        }
    }
    Ok(())
}

async fn upload(mut stream: impl Stream, buffer: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(buffer);
    let mut result;
    let mut count = 0_u64;
    loop {
        (result, buffer) = stream.read(buffer).await;
        match result? {
            0 => break,
            received => count += received as u64,
        }
        buffer.clear();
    }
    stream.write_all(count.to_le_bytes().to_vec()).await.0?;
    Ok(())
}

async fn download(mut stream: impl Stream) -> io::Result<()> {
    let (result, count) = stream.read_exact(Box::new([0; COUNT])).await;
    result?;
    let mut left = u64::from_le_bytes(*count);
    while left > 0 {
        stream.write_all(contract::next_chunk(&mut left)).await.0?;
    }
    Ok(())
}
