//! evloop, with its protocols and with its streams, each written as its own pages show it.
#![forbid(unsafe_code)]

use std::io;

use evloop::{
    Outcome, Protocol, Server, Ssl, StreamReader, StreamWriter, TlsServerContext, Transport,
    create_server, create_unix_server, start_server, start_unix_server,
};
use evloop_benches::contract::{self, Api, COUNT, Options, Work};
use evloop_benches::tls;

const ANYWHERE: (&str, u16) = ("127.0.0.1", 0);
const BACKLOG: u32 = contract::BACKLOG as u32;

fn main() -> io::Result<()> {
    let options = contract::options_with_tls();
    contract::raise_descriptor_limit();
    evloop::run(serve(options))?
}

async fn serve(options: Options) -> io::Result<()> {
    let server = match options.api {
        Api::Protocol => serve_protocol(options).await?,
        Api::Streams | Api::StreamsInto => serve_streams(options).await?,
    };
    for address in server.sockets() {
        match address.port() {
            Some(port) => contract::announce(port)?,
            None => contract::announce(address)?,
        }
    }
    server.serve_forever().await
}

async fn serve_protocol(options: Options) -> io::Result<Server> {
    let (listen, write) = (options.listen, options.write);
    match options.work {
        Work::Echo => with_protocols(Echo::default, listen).await,
        Work::Lines => with_protocols(Lines::default, listen).await,
        Work::Upload => with_protocols(Upload::default, listen).await,
        Work::Download => with_protocols(move || Download::of(write), listen).await,
        Work::LinesBuffered => contract::refuse("evloop needs no buffering by hand"),
    }
}

async fn with_protocols<P: Protocol>(
    factory: impl FnMut() -> P + 'static,
    listen: contract::Transport,
) -> io::Result<Server> {
    match listen {
        contract::Transport::Tcp | contract::Transport::Tls => {
            create_server(factory, ANYWHERE)
                .backlog(BACKLOG)
                .ssl(ssl(listen)?)
                .await
        }
        contract::Transport::Unix => {
            create_unix_server(factory, contract::socket_path())
                .backlog(BACKLOG)
                .await
        }
    }
}

async fn serve_streams(options: Options) -> io::Result<Server> {
    let buffer = options.buffer;
    match (options.work, options.api) {
        (Work::Echo, Api::StreamsInto) => {
            with_streams(move |r, w| echo_into(r, w, buffer), options).await
        }
        (Work::Echo, _) => with_streams(move |r, w| echo(r, w, buffer), options).await,
        (Work::Lines, _) => with_streams(lines, options).await,
        (Work::Upload, _) => with_streams(move |r, w| upload(r, w, buffer), options).await,
        (Work::Download, _) => {
            with_streams(move |r, w| download(r, w, options.write), options).await
        }
        (Work::LinesBuffered, _) => contract::refuse("evloop needs no buffering by hand"),
    }
}

async fn with_streams<R: Outcome<K>, K>(
    handler: impl FnMut(StreamReader, StreamWriter) -> R + 'static,
    options: Options,
) -> io::Result<Server> {
    let limit = options.buffer.max(contract::CHUNK);
    match options.listen {
        contract::Transport::Tcp | contract::Transport::Tls => {
            start_server(handler, ANYWHERE)
                .backlog(BACKLOG)
                .limit(limit)
                .ssl(ssl(options.listen)?)
                .await
        }
        contract::Transport::Unix => {
            start_unix_server(handler, contract::socket_path())
                .backlog(BACKLOG)
                .limit(limit)
                .await
        }
    }
}

/// With what connections are encrypted, if they are.
fn ssl(listen: contract::Transport) -> io::Result<Ssl<TlsServerContext>> {
    Ok(match listen {
        contract::Transport::Tls => tls::server_config()?.into(),
        contract::Transport::Tcp | contract::Transport::Unix => false.into(),
    })
}

/// Sends back what comes, and receives no faster than it can send.
#[derive(Default)]
struct Echo {
    transport: Option<Transport>,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        if let Some(transport) = &self.transport {
            transport.write(data);
        }
    }

    fn pause_writing(&mut self) {
        self.transport.iter().for_each(Transport::pause_reading);
    }

    fn resume_writing(&mut self) {
        self.transport.iter().for_each(Transport::resume_reading);
    }
}

/// Answers each line with itself, one write for each, and receives no faster than it can send.
#[derive(Default)]
struct Lines {
    transport: Option<Transport>,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Protocol for Lines {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        let Some(transport) = &self.transport else {
            return;
        };
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            if self.partial.is_empty() {
                transport.write(line);
            } else {
                self.partial.extend_from_slice(line);
                transport.write(&self.partial);
                self.partial.clear();
            }
            rest = after;
        }
        self.partial.extend_from_slice(rest);
    }

    fn pause_writing(&mut self) {
        self.transport.iter().for_each(Transport::pause_reading);
    }

    fn resume_writing(&mut self) {
        self.transport.iter().for_each(Transport::resume_reading);
    }
}

/// Counts what comes and answers with the count at the end.
#[derive(Default)]
struct Upload {
    transport: Option<Transport>,
    received: u64,
}

impl Protocol for Upload {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.received += data.len() as u64;
    }

    fn eof_received(&mut self) -> bool {
        if let Some(transport) = &self.transport {
            transport.write(&self.received.to_le_bytes());
        }
        false
    }
}

/// Receives a count and sends so many bytes, as fast as they go.
#[derive(Default)]
struct Download {
    transport: Option<Transport>,
    count: Vec<u8>,
    left: u64,
    write: usize,
    paused: bool,
}

impl Download {
    /// Sends in writes of so many bytes.
    fn of(write: usize) -> Self {
        Self {
            write,
            ..Self::default()
        }
    }

    /// Writes until the transport asks for a pause.
    fn send_more(&mut self) {
        let Some(transport) = &self.transport else {
            return;
        };
        let (_, high) = transport.get_write_buffer_limits();
        while self.left > 0 && !self.paused {
            transport.write(contract::next_write(&mut self.left, self.write));
            // A pause is called for when this step has ended; the size is known at once.
            self.paused = transport.get_write_buffer_size() > high;
        }
        if self.left == 0 {
            transport.close();
        }
    }
}

impl Protocol for Download {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.count.extend_from_slice(data);
        if let Ok(count) = <[u8; COUNT]>::try_from(self.count.as_slice()) {
            self.left = u64::from_le_bytes(count);
            self.send_more();
        }
    }

    fn resume_writing(&mut self) {
        self.paused = false;
        self.send_more();
    }
}

async fn echo(mut reader: StreamReader, writer: StreamWriter, buffer: usize) -> io::Result<()> {
    loop {
        let data = reader.read(buffer).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(data);
        writer.drain().await?;
    }
}

async fn echo_into(
    mut reader: StreamReader,
    writer: StreamWriter,
    buffer: usize,
) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let received = reader.read_into(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        writer.write(&buffer[..received]);
        writer.drain().await?;
    }
}

async fn lines(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let line = reader.readline().await?;
        if line.is_empty() {
            return Ok(());
        }
        writer.write(&line);
        writer.drain().await?;
    }
}

async fn upload(mut reader: StreamReader, writer: StreamWriter, buffer: usize) -> io::Result<()> {
    let mut received = 0;
    loop {
        let data = reader.read(buffer).await?;
        if data.is_empty() {
            break;
        }
        received += data.len() as u64;
    }
    writer.write(&received.to_le_bytes());
    writer.drain().await
}

async fn download(mut reader: StreamReader, writer: StreamWriter, write: usize) -> io::Result<()> {
    let count = reader.readexactly(COUNT).await?;
    let mut left = count.try_into().map_or(0, u64::from_le_bytes);
    while left > 0 {
        writer.write(contract::next_write(&mut left, write));
        writer.drain().await?;
    }
    Ok(())
}
