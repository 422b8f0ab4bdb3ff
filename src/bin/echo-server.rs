//! An echo server over TCP and unix sockets: every byte comes back as it came, and so does the end.
//!
//! Shows both faces of the library, streams and protocols, with backpressure: whoever does not
//! read what comes back is not read from. For each connection it holds at most twice the limit,
//! the write buffer's high-water mark and one read. The README has the command to run it.

use std::future::IntoFuture;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use evloop::signals::{SIGINT, SIGTERM};
use evloop::{
    LoopHandle, Protocol, Server, StreamReader, StreamWriter, Transport, Waiter, create_server,
    create_unix_server, get_running_loop, start_server, start_unix_server,
};
use log::LevelFilter;

/// Sends every byte back to whoever sent it.
///
/// SIGINT or SIGTERM: no new connections; those that are open may finish for the shutdown
/// timeout and are closed then. A second signal aborts them at once.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
struct Options {
    /// Address or name to serve, may be given several times; '' is all interfaces
    /// [default: 127.0.0.1]
    #[arg(long)]
    host: Vec<String>,

    /// Port to serve; 0 picks a free one [default: 8888]
    #[arg(long, allow_negative_numbers = true)]
    port: Option<u16>,

    /// Unix socket to serve, may be given several times; no TCP then, unless --host or --port is
    /// given as well
    #[arg(long, value_name = "PATH")]
    unix: Vec<PathBuf>,

    /// Which face of the library echoes
    #[arg(long, value_enum, default_value_t = Api::Streams)]
    api: Api,

    /// Bytes to buffer for a connection: with streams reading pauses above twice as many, with
    /// protocols it pauses when more than these wait to be sent
    #[arg(long, value_name = "BYTES", default_value = "65536", value_parser = positive, allow_negative_numbers = true)]
    limit: usize,

    /// How many connections may wait to be accepted
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1024,
        allow_negative_numbers = true
    )]
    backlog: u32,

    /// What to log on stderr
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_level())]
    log_level: LevelFilter,

    /// How long connections may go on after a signal
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    shutdown_timeout: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Api {
    Streams,
    Protocol,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(answer) => return refuse_or_explain(&answer),
    };
    env_logger::Builder::new()
        .filter_level(options.log_level)
        .init();
    match evloop::run(serve(options)).and_then(|outcome| outcome) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// From the first line on stdout to the last connection.
async fn serve(options: Options) -> io::Result<()> {
    let handle = get_running_loop()?;
    // The level decides alone, also when it is `off`.
    handle.set_exception_handler(|_, context| log::error!("{context}"));
    let servers = start(&options).await?;
    let signals = Signals::listen(&handle)?;
    announce(&servers);

    signals.first.await?;
    let aborted = servers.clone();
    drop(handle.create_task(async move {
        if signals.second.await.is_ok() {
            log::info!("another signal: aborting");
            aborted.iter().for_each(Server::abort_clients);
        }
    }));
    log::info!("stopping; a second signal aborts what is open");
    let endings: Vec<_> = servers
        .iter()
        .map(|server| {
            let shutdown = server.shutdown().drain(options.shutdown_timeout);
            handle.create_task(shutdown.close(FLUSH_TIMEOUT).into_future())
        })
        .collect();
    for ending in endings {
        log::info!("connections: {}", ending.await??);
    }
    Ok(())
}

/// TCP first, then the paths in their order.
async fn start(options: &Options) -> io::Result<Vec<Server>> {
    let mut servers = Vec::new();
    if options.unix.is_empty() || !options.host.is_empty() || options.port.is_some() {
        servers.push(start_tcp(options).await?);
    }
    for path in &options.unix {
        servers.push(start_unix(options, path).await?);
    }
    Ok(servers)
}

async fn start_tcp(options: &Options) -> io::Result<Server> {
    let mut hosts = options.host.clone();
    if hosts.is_empty() {
        hosts.push(DEFAULT_HOST.to_owned());
    }
    let endpoint = (hosts, options.port.unwrap_or(DEFAULT_PORT));
    match options.api {
        Api::Streams => {
            start_server(echo, endpoint)
                .limit(options.limit)
                .backlog(options.backlog)
                .await
        }
        Api::Protocol => {
            create_server(Echo::factory(options.limit), endpoint)
                .backlog(options.backlog)
                .await
        }
    }
}

async fn start_unix(options: &Options, path: &PathBuf) -> io::Result<Server> {
    match options.api {
        Api::Streams => {
            start_unix_server(echo, path)
                .limit(options.limit)
                .backlog(options.backlog)
                .await
        }
        Api::Protocol => {
            create_unix_server(Echo::factory(options.limit), path)
                .backlog(options.backlog)
                .await
        }
    }
}

/// One line for each socket. A stdout that nobody reads is no reason to stop serving.
fn announce(servers: &[Server]) {
    let mut stdout = io::stdout().lock();
    for address in servers.iter().flat_map(Server::sockets) {
        if let Err(error) = writeln!(stdout, "Serving on {address}").and_then(|()| stdout.flush()) {
            log::warn!("stdout: {error}");
            return;
        }
    }
}

/// The first and the second signal, whichever of the two they are.
struct Signals {
    first: Waiter<()>,
    second: Waiter<()>,
}

impl Signals {
    fn listen(handle: &LoopHandle) -> io::Result<Self> {
        let (first, second) = (handle.create_future(), handle.create_future());
        for number in [SIGINT, SIGTERM] {
            let (first, second): (Waiter<()>, Waiter<()>) = (first.clone(), second.clone());
            handle.add_signal_handler(number, move || {
                if first.set_result(()).is_err() {
                    // A third one finds nothing left to ask for.
                    let _ = second.set_result(());
                }
            })?;
        }
        Ok(Self { first, second })
    }
}

// The streams API.

/// A connection that breaks is logged by the library, and there is nobody else to tell.
async fn echo(mut reader: StreamReader, writer: StreamWriter) {
    loop {
        // What was read is gone before we wait: the writer has what is not sent yet.
        match reader.read(READ_SIZE).await {
            Ok(data) if !data.is_empty() => writer.write(&data),
            _ => break,
        }
        if writer.drain().await.is_err() {
            break;
        }
    }
    // Once everything is sent.
    writer.close();
}

// The protocol API.

struct Echo {
    limit: usize,
    transport: Option<Transport>,
}

impl Echo {
    fn factory(limit: usize) -> impl FnMut() -> Self {
        move || Self {
            limit,
            transport: None,
        }
    }
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        // The low mark follows from the high one, so the two cannot contradict each other.
        let _ = transport.set_write_buffer_limits(self.limit, None);
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        if let Some(transport) = &self.transport {
            transport.write(data);
        }
    }

    fn eof_received(&mut self) -> bool {
        // Close once everything is sent.
        false
    }

    fn pause_writing(&mut self) {
        if let Some(transport) = &self.transport {
            transport.pause_reading();
        }
    }

    fn resume_writing(&mut self) {
        if let Some(transport) = &self.transport {
            transport.resume_reading();
        }
    }
}

// The command line.

/// `--help` and `--version` are answered on stdout, all else is refused in one line.
fn refuse_or_explain(answer: &clap::Error) -> ExitCode {
    if matches!(
        answer.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // It fails when nobody reads.
        let _ = answer.print();
        return ExitCode::SUCCESS;
    }
    let text = answer.to_string();
    // What comes after the first paragraph is usage.
    let lines = text.lines().take_while(|line| !line.is_empty());
    let reason = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    complain(reason.strip_prefix("error: ").unwrap_or(&reason));
    ExitCode::from(BAD_ARGUMENT)
}

fn complain(reason: &str) {
    // A stderr that nobody reads leaves only the exit code.
    let _ = writeln!(io::stderr(), "{NAME}: {reason}");
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "it must be a number of seconds, 0 or more".to_owned())
}

fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|name| name.parse::<LevelFilter>())
}

const NAME: &str = "echo-server";
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8888;
const BAD_ARGUMENT: u8 = 2;
/// Read at most so much at once: what the write buffer may hold above its high-water mark.
const READ_SIZE: usize = 64 * 1024;
/// After the shutdown timeout: for what was echoed and is not sent yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
