//! smol's server: a `LocalExecutor` on the main thread, one task for each connection.
#![forbid(unsafe_code)]

use std::io;

use evloop_benches::contract::{self, COUNT, Listener, Options, Work};
use smol::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};
use smol::{Async, LocalExecutor, Timer};

fn main() -> io::Result<()> {
    let options = contract::options();
    contract::raise_descriptor_limit();
    // Lives as long as the program, so that tasks can spawn tasks on it.
    let executor: &'static LocalExecutor = Box::leak(Box::new(LocalExecutor::new()));
    // What is given to `run` itself is polled whenever anything wakes the thread, and would try
    // to accept each time; a task is not.
    let server = executor.spawn(serve(executor, options));
    smol::block_on(executor.run(server))
}

async fn serve(executor: &LocalExecutor<'static>, options: Options) -> io::Result<()> {
    match contract::listen(options.listen)? {
        Listener::Tcp(listener) => {
            let listener = Async::new(listener)?;
            accept_all(async || Ok(listener.accept().await?.0), executor, options).await
        }
        Listener::Unix(listener) => {
            let listener = Async::new(listener)?;
            accept_all(async || Ok(listener.accept().await?.0), executor, options).await
        }
    }
}

async fn accept_all<S: 'static>(
    accept: impl AsyncFn() -> io::Result<Async<S>>,
    executor: &LocalExecutor<'static>,
    options: Options,
) -> io::Result<()>
where
    for<'a> &'a Async<S>: Stream,
{
    loop {
        match accept().await {
            // How a connection ends, by a reset for example, is its own affair.
            Ok(stream) => {
                let task = async move { work(&stream, options).await };
                executor.spawn(task).detach();
            }
            Err(error) => drop(Timer::after(contract::pause_after_failed_accept(&error)).await),
        }
    }
}

/// A connection's socket, whatever it is over: borrowed, so that it can be read and written.
trait Stream: AsyncRead + AsyncWrite + Unpin + Copy {}

impl<S: AsyncRead + AsyncWrite + Unpin + Copy> Stream for S {}

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
    let mut reader = BufReader::with_capacity(buffer, stream);
    let mut writer = stream;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        writer.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

async fn lines_buffered(stream: impl Stream, buffer: usize) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(buffer, stream);
    let mut writer = BufWriter::with_capacity(buffer, stream);
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
