//! The contract of the server programs (README.md), for those written in Rust.
//!
//! A server reads [`options`], calls [`raise_descriptor_limit`], then [`listen`] (so that all have
//! the same socket options), and serves until it is killed.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections may wait to be accepted.
pub const BACKLOG: i32 = 4096;

/// The size of one write of [`Work::Download`], unless another one is asked for.
pub const CHUNK: usize = 64 * 1024;

/// The largest of them.
pub const LARGEST_WRITE: usize = 1024 * 1024;

/// What [`Work::Download`] sends, again and again.
pub static PAYLOAD: [u8; LARGEST_WRITE] = [0; LARGEST_WRITE];

/// The bytes of the count that [`Work::Upload`] sends and [`Work::Download`] receives.
pub const COUNT: usize = size_of::<u64>();

/// What a server was asked to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    pub api: Api,
    pub listen: Transport,
    pub work: Work,
    /// Bytes of a read buffer, whoever owns it.
    pub buffer: usize,
    /// Bytes of one write of [`Work::Download`].
    pub write: usize,
    pub driver: Driver,
}

/// `--api`, for those who have both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Api {
    Protocol,
    Streams,
    /// Streams that read into a buffer of the caller's.
    StreamsInto,
}

/// `--listen`: what connections come over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    Tcp,
    Unix,
    /// TCP with TLS, for those who have it.
    Tls,
}

/// `--work`: the table in README.md.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    Echo,
    Lines,
    LinesBuffered,
    Upload,
    Download,
}

/// `--driver`, for those who can be driven in two ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driver {
    Epoll,
    Uring,
}

impl Options {
    /// Reads what stands behind the program's name.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            api: Api::Streams,
            listen: Transport::Tcp,
            work: Work::Echo,
            buffer: CHUNK,
            write: CHUNK,
            driver: Driver::Epoll,
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--api" => options.api = value.parse()?,
                "--listen" => options.listen = value.parse()?,
                "--work" => options.work = value.parse()?,
                "--buffer" => options.buffer = parse_size(&name, &value)?,
                "--write" => options.write = parse_size(&name, &value)?.min(LARGEST_WRITE),
                "--driver" => options.driver = value.parse()?,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(options)
    }
}

impl FromStr for Api {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "protocol" => Ok(Self::Protocol),
            "streams" => Ok(Self::Streams),
            "streams-into" => Ok(Self::StreamsInto),
            _ => Err(format!(
                "--api is protocol, streams or streams-into, not {name}"
            )),
        }
    }
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Unix, Self::Tls];

    /// What every server listens for.
    pub const OF_ALL: [Self; 2] = [Self::Tcp, Self::Unix];

    /// As `--listen` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Tls => "tls",
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| format!("--listen is tcp, unix or tls, not {name}"))
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "echo" => Ok(Self::Echo),
            "lines" => Ok(Self::Lines),
            "lines-buffered" => Ok(Self::LinesBuffered),
            "upload" => Ok(Self::Upload),
            "download" => Ok(Self::Download),
            _ => Err(format!("no --work is called {name}")),
        }
    }
}

impl FromStr for Driver {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "epoll" => Ok(Self::Epoll),
            "uring" => Ok(Self::Uring),
            _ => Err(format!("--driver is epoll or uring, not {name}")),
        }
    }
}

fn parse_size(name: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err(format!("{name} is a number of bytes, not {value}")),
        Ok(bytes) => Ok(bytes),
    }
}

/// The command line's options, or the end of the program with a sentence about what is wrong.
pub fn options() -> Options {
    let options = options_with_tls();
    if options.listen == Transport::Tls {
        refuse("this one has no TLS");
    }
    options
}

/// The same for those who have TLS.
pub fn options_with_tls() -> Options {
    Options::parse(std::env::args().skip(1)).unwrap_or_else(|fault| refuse(fault))
}

/// Ends the program with a sentence on stderr: for what it was asked and cannot do.
pub fn refuse(reason: impl Display) -> ! {
    eprintln!("{reason}");
    std::process::exit(2)
}

/// Raises the soft limit of open descriptors to the hard one.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it is refused the old limit stays, and whoever needs more connections will see.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// A listener that does not block.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Listens, on 127.0.0.1 and a port of the kernel's choice or at [`socket_path`], and announces
/// where.
///
/// TCP_NODELAY is set on the listener: on Linux, accepted sockets inherit it.
pub fn listen(transport: Transport) -> io::Result<Listener> {
    match transport {
        Transport::Tcp | Transport::Tls => {
            let socket = stream_socket(AddressFamily::INET)?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
            rustix::net::listen(&socket, BACKLOG)?;
            let listener = TcpListener::from(socket);
            announce(listener.local_addr()?.port())?;
            Ok(Listener::Tcp(listener))
        }
        Transport::Unix => {
            let path = socket_path();
            let socket = stream_socket(AddressFamily::UNIX)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
            rustix::net::listen(&socket, BACKLOG)?;
            announce(path.display())?;
            Ok(Listener::Unix(socket.into()))
        }
    }
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    Ok(socket)
}

/// Where a unix socket is bound: among the temporary files, and nobody else's path.
pub fn socket_path() -> PathBuf {
    env::temp_dir().join(format!("serve-{}", std::process::id()))
}

/// Tells whoever started the program where it listens: a port or a path.
pub fn announce(place: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{place}")?;
    stdout.flush()
}

/// The next write of [`Work::Download`] when so much is left; empty at the end.
pub fn chunk(left: u64) -> &'static [u8] {
    chunk_of(CHUNK, left)
}

fn chunk_of(write: usize, left: u64) -> &'static [u8] {
    let size = usize::try_from(left).map_or(write, |left| left.min(write));
    &PAYLOAD[..size]
}

/// The same for those who send all of it, taken off `left`.
pub fn next_chunk(left: &mut u64) -> &'static [u8] {
    next_write(left, CHUNK)
}

/// The same in writes of another size.
pub fn next_write(left: &mut u64, write: usize) -> &'static [u8] {
    let chunk = chunk_of(write, *left);
    *left -= chunk.len() as u64;
    chunk
}

/// How long to wait before the next accept after one that failed.
///
/// Without a free descriptor the same error would come back at once, for ever.
pub fn pause_after_failed_accept(error: &io::Error) -> Duration {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            Duration::from_millis(100)
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn every_option_is_read() {
        assert_eq!(
            parse(
                "--api protocol --listen unix --work lines-buffered --buffer 4096 --write 512 --driver uring"
            ),
            Ok(Options {
                api: Api::Protocol,
                listen: Transport::Unix,
                work: Work::LinesBuffered,
                buffer: 4096,
                write: 512,
                driver: Driver::Uring,
            })
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, fault) in [
            ("--work", "--work needs a value"),
            ("--work sing", "no --work is called sing"),
            ("--listen udp", "--listen is tcp, unix or tls, not udp"),
            ("--buffer 0", "--buffer is a number of bytes, not 0"),
            ("--colour red", "there is no option --colour"),
        ] {
            assert_eq!(parse(line), Err(fault.to_owned()));
        }
    }

    #[test]
    fn chunks_add_up_to_what_was_asked_for() {
        let mut left = 2 * CHUNK as u64 + 1;
        let sizes = [(); 4].map(|()| next_chunk(&mut left).len());
        assert_eq!(sizes, [CHUNK, CHUNK, 1, 0]);
    }
}
