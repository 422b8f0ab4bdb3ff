//! smol's server: a `LocalExecutor` on the main thread, one task for each connection.
#![forbid(unsafe_code)]

use std::io;
use std::net::{TcpListener, TcpStream};

use evloop_benches::contract::{self, COUNT, Options, Work};
use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use smol::{Async, LocalExecutor, Timer};

type Stream = Async<TcpStream>;

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
    let listener = Async::<TcpListener>::new(contract::listener()?)?;
    contract::announce(listener.get_ref().local_addr()?.port())?;
    loop {
        match listener.accept().await {
            // How a connection ends, by a reset for example, is its own affair.
            Ok((stream, _)) => executor.spawn(work(stream, options)).detach(),
            Err(error) => drop(Timer::after(contract::pause_after_failed_accept(&error)).await),
        }
    }
}

async fn work(stream: Stream, options: Options) -> io::Result<()> {
    let buffer = options.buffer;
    match options.work {
        Work::Echo => echo(stream, buffer).await,
        Work::Lines => lines(stream, buffer).await,
        Work::LinesBuffered => lines_buffered(stream, buffer).await,
        Work::Upload => upload(stream, buffer).await,
        Work::Download => download(stream).await,
    }
}

async fn echo(mut stream: Stream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}

async fn lines(stream: Stream, buffer: usize) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(buffer, &stream);
    let mut writer = &stream;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        writer.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

async fn lines_buffered(stream: Stream, buffer: usize) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(buffer, &stream);
    let mut writer = BufWriter::with_capacity(buffer, &stream);
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

async fn upload(mut stream: Stream, buffer: usize) -> io::Result<()> {
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

async fn download(mut stream: Stream) -> io::Result<()> {
    let mut count = [0; COUNT];
    stream.read_exact(&mut count).await?;
    let mut left = u64::from_le_bytes(count);
    while left > 0 {
        stream.write_all(contract::next_chunk(&mut left)).await?;
    }
    Ok(())
}
