//! The command line: what can be asked for, and what is said when it makes no sense.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use evloop::LoopGroup;
use log::LevelFilter;

/// Sends every byte back to whoever sent it.
///
/// SIGINT or SIGTERM: no new connections; those that are open may finish for the shutdown
/// timeout and are closed then. A second signal aborts them at once.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = ENVIRONMENT)]
pub(crate) struct Options {
    /// Address or name to serve, may be given several times; '' is all interfaces
    /// [default: 127.0.0.1]
    #[arg(long, help_heading = SOCKETS)]
    pub(crate) host: Vec<String>,

    /// Port to serve; 0 picks a free one [default: 8888]
    #[arg(long, help_heading = SOCKETS, allow_negative_numbers = true)]
    pub(crate) port: Option<u16>,

    /// Unix socket to serve, may be given several times
    ///
    /// No TCP then, unless --host or --port is given as well. Of several workers the first one
    /// serves it.
    #[arg(long, help_heading = SOCKETS, value_name = "PATH")]
    pub(crate) unix: Vec<PathBuf>,

    /// How many connections may wait to be accepted
    #[arg(
        long,
        help_heading = SOCKETS,
        value_name = "NUMBER",
        default_value_t = 1024,
        allow_negative_numbers = true
    )]
    pub(crate) backlog: u32,

    /// Certificate to show, in a PEM file: everything is encrypted then
    ///
    /// Those behind it are in the same file. SIGHUP has it and the other files read again, for new
    /// connections.
    #[arg(long, help_heading = TLS, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in a PEM file
    #[arg(long, help_heading = TLS, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Let in only clients whose certificate one in this PEM file has signed
    #[arg(long, help_heading = TLS, value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// Take connections from a proxy, with headers of the PROXY protocol
    ///
    /// Version 1 or 2, in front of everything else, also of TLS. It says who the client is, which is
    /// logged. A connection that does not begin with one, or not within 5 seconds, is closed.
    #[arg(long, help_heading = CONNECTIONS)]
    pub(crate) proxy_protocol: bool,

    /// Bytes to buffer for a connection
    ///
    /// With streams reading pauses above twice as many, with protocols it pauses when more than
    /// these wait to be sent.
    #[arg(long, help_heading = CONNECTIONS, value_name = "BYTES", default_value = "65536", value_parser = positive, allow_negative_numbers = true)]
    pub(crate) limit: usize,

    /// How many connections there may be at a time [default: no limit]
    ///
    /// On all sockets and of all workers together. Others wait until one of them ends.
    #[arg(long, help_heading = CONNECTIONS, value_name = "NUMBER", value_parser = positive, allow_negative_numbers = true)]
    pub(crate) max_connections: Option<usize>,

    /// End a connection on which no byte came or went for so long [default: never]
    #[arg(long, help_heading = CONNECTIONS, value_name = "SECONDS", value_parser = period, allow_negative_numbers = true)]
    pub(crate) idle_timeout: Option<Duration>,

    /// End a connection that took nothing of what it is owed for so long [default: never]
    #[arg(long, help_heading = CONNECTIONS, value_name = "SECONDS", value_parser = period, allow_negative_numbers = true)]
    pub(crate) write_timeout: Option<Duration>,

    /// How long connections may go on after a signal
    #[arg(long, help_heading = CONNECTIONS, value_name = "SECONDS", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) shutdown_timeout: Duration,

    /// How many event loops to run, each on a thread of its own
    ///
    /// The system spreads connections over them. 0 is one for each core, or one where only --unix
    /// is served.
    #[arg(long, help_heading = RUNNING, value_name = "NUMBER", default_value = "1", value_parser = workers, allow_negative_numbers = true)]
    pub(crate) workers: usize,

    /// Which face of the library echoes
    #[arg(long, help_heading = RUNNING, value_enum, default_value_t = Api::Streams)]
    pub(crate) api: Api,

    /// Tell numbers on stderr every so often, 0.01 at least, and at the end
    ///
    /// How many connections came and went and why, how many bytes and errors there were, and how
    /// late the loops were.
    #[arg(long, help_heading = RUNNING, value_name = "SECONDS", value_parser = interval, allow_negative_numbers = true)]
    pub(crate) stats: Option<Duration>,

    /// What to log on stderr
    #[arg(long, help_heading = RUNNING, value_name = "LEVEL", default_value = "info", value_parser = log_level())]
    pub(crate) log_level: LevelFilter,

    /// Write a manual page, or completions for a shell, to stdout, and serve nothing
    #[arg(long, value_name = "WHAT", value_enum, exclusive = true)]
    pub(crate) generate: Option<Generated>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Api {
    Streams,
    Protocol,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Generated {
    Man,
    Bash,
    Zsh,
    Fish,
}

impl Options {
    /// What the process was given.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        Self::try_parse()?.with_all_of_tls()
    }

    /// Whether there is a TCP port to serve, by itself or since nothing else is.
    pub(crate) fn serves_tcp(&self, has_inherited: bool) -> bool {
        let is_asked_for = !self.host.is_empty() || self.port.is_some();
        is_asked_for || (self.unix.is_empty() && !has_inherited)
    }

    /// The same with as many workers as there are to be. Where only paths are served, which one
    /// worker has to itself, that is one.
    pub(crate) fn with_workers(mut self, has_inherited: bool) -> io::Result<Self> {
        if self.serves_tcp(has_inherited) || has_inherited {
            self.workers = LoopGroup::new(self.workers)?.count();
        } else if self.workers > 1 {
            let message = "--workers: only the first one could serve what --unix names";
            let refusal = Self::command().error(ErrorKind::ArgumentConflict, message);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
        } else {
            self.workers = 1;
        }
        Ok(self)
    }
}

impl Options {
    /// Refuses a part of what is needed for TLS, and says which one needs what. clap's own message
    /// names only what is missing.
    fn with_all_of_tls(self) -> Result<Self, clap::Error> {
        let files = [
            ("--tls-client-ca", &self.tls_client_ca),
            ("--tls-cert", &self.tls_cert),
            ("--tls-key", &self.tls_key),
        ];
        let missing = files[1..].iter().filter(|(_, file)| file.is_none());
        let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
        let given = files.iter().find(|(_, file)| file.is_some());
        match given {
            Some((name, _)) if !missing.is_empty() => {
                let message = format!("{name} needs {} as well", missing.join(" and "));
                Err(Self::command().error(ErrorKind::MissingRequiredArgument, message))
            }
            _ => Ok(self),
        }
    }
}

/// `--help` and `--version` are answered on stdout, all else is refused in one line.
pub(crate) fn refuse_or_explain(answer: &clap::Error) -> ExitCode {
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

pub(crate) fn complain(reason: &str) {
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

/// Zero would end what has only just begun.
fn period(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Ok(Duration::ZERO) | Err(_) => Err("it must be a number of seconds above 0".to_owned()),
        period => period,
    }
}

/// What is shorter would be all that it does.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = seconds(text).ok().filter(|it| *it >= SHORTEST_INTERVAL);
    interval.ok_or_else(|| "it must be a number of seconds, 0.01 at least".to_owned())
}

fn workers(text: &str) -> Result<usize, String> {
    let asked = text.parse().map_err(|error| format!("{error}"))?;
    match LoopGroup::new(asked) {
        Ok(_) => Ok(asked),
        Err(error) => Err(error.to_string()),
    }
}

fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|name| name.parse::<LevelFilter>())
}

pub(crate) const NAME: &str = "echo-server";

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

const SOCKETS: &str = "Sockets";
const TLS: &str = "TLS";
const CONNECTIONS: &str = "Connections";
const RUNNING: &str = "Running";

/// What it is told in other ways than by arguments.
const ENVIRONMENT: &str = "\
Environment:
  LISTEN_FDS, LISTEN_PID
        Sockets that a service manager has opened are served; no others
        then, unless --host, --port or --unix is given as well
  NOTIFY_SOCKET
        Is told when all is served, of a reload, and of the end
  WATCHDOG_USEC, WATCHDOG_PID
        NOTIFY_SOCKET hears four times in this time that all loops run

Signals:
  SIGINT, SIGTERM
        End it; a second one ends it at once
  SIGHUP
        With TLS: read the files of certificate and key again

Exit status:
  0     It was ended by a signal, or has answered
  1     It could not serve, or a worker failed
  2     The arguments make no sense
";

const BAD_ARGUMENT: u8 = 2;
