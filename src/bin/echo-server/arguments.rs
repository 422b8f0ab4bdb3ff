//! The command line: what can be asked for, and what is said when it makes no sense.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use log::LevelFilter;

/// Sends every byte back to whoever sent it.
///
/// SIGINT or SIGTERM: no new connections; those that are open may finish for the shutdown
/// timeout and are closed then. A second signal aborts them at once.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
pub(crate) struct Options {
    /// Address or name to serve, may be given several times; '' is all interfaces
    /// [default: 127.0.0.1]
    #[arg(long)]
    pub(crate) host: Vec<String>,

    /// Port to serve; 0 picks a free one [default: 8888]
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) port: Option<u16>,

    /// Unix socket to serve, may be given several times; no TCP then, unless --host or --port is
    /// given as well
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Vec<PathBuf>,

    /// Certificate to show, in a PEM file, with those behind it: everything is encrypted then.
    /// SIGHUP has it and the other files read again, for new connections
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Let in only clients with a certificate that one of those in this PEM file has signed
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// Take connections from a proxy, which puts a header of the PROXY protocol, version 1 or 2, in
    /// front of each, and of TLS: it says who the client is, which is logged. A connection that
    /// does not begin with one, or not within 5 seconds, is closed
    #[arg(long)]
    pub(crate) proxy_protocol: bool,

    /// Which face of the library echoes
    #[arg(long, value_enum, default_value_t = Api::Streams)]
    pub(crate) api: Api,

    /// Bytes to buffer for a connection: with streams reading pauses above twice as many, with
    /// protocols it pauses when more than these wait to be sent
    #[arg(long, value_name = "BYTES", default_value = "65536", value_parser = positive, allow_negative_numbers = true)]
    pub(crate) limit: usize,

    /// How many connections may wait to be accepted
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1024,
        allow_negative_numbers = true
    )]
    pub(crate) backlog: u32,

    /// What to log on stderr
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_level())]
    pub(crate) log_level: LevelFilter,

    /// How long connections may go on after a signal
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) shutdown_timeout: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Api {
    Streams,
    Protocol,
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

fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|name| name.parse::<LevelFilter>())
}

const NAME: &str = "echo-server";
const BAD_ARGUMENT: u8 = 2;
