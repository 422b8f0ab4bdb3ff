//! A file, sent as it is.
//!
//! Owns: [`sendfile`] and [`Sendfile`]. Why: the system brings a file to a socket without a way
//! through our memory, and where it cannot, another thread reads what the loop writes. Invariants:
//! what was written before goes first and nothing goes in between; a turn sends one piece at most;
//! one block of the file is in memory at a time, two while it is exchanged for the next;
//! the file's position follows what was sent, however it ends. asyncio's counterpart:
//! `loop.sendfile` and `loop.sock_sendfile`.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::future::{Future, IntoFuture};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoints::sock::nonblocking;
use crate::event_loop::{Direction, LoopHandle, loop_of};
use crate::sys::{self, SocketType, invalid_input};
use crate::tasks::sleep;
use crate::transports::{Loan, Transport};

/// Sends `file` through `transport`, from [`offset`](Sendfile::offset) on, to its end or
/// [`count`](Sendfile::count) bytes of it, and gives the number of bytes that were sent. Mirrors
/// `loop.sendfile`; it runs on the transport's loop.
///
/// What was written before goes first. Until it is done nobody else may write:
/// [`write`](Transport::write) panics and [`try_write`](Transport::try_write) is `ResourceBusy`, as
/// asyncio raises. Reading is paused, and the protocol is not asked to pause or resume writing. When
/// it returns, the system has taken every byte.
///
/// The system copies from the file to the socket. Where it cannot (a file that is a pipe, a
/// transport that is no socket, as under TLS, a system other than Linux) the file is read on
/// another thread, by [`run_in_executor`](LoopHandle::run_in_executor), and written, with 64 KiB in
/// memory at a time; without [`fallback`](Sendfile::fallback) that is an error. A piece of 256 KiB
/// at most is sent in a turn of the loop, and one that is not in the system's cache holds the loop up
/// until it is read.
///
/// The file's own position does not matter: `offset` counts from its beginning (a pipe has none, and
/// is read from where it is). Afterwards it stands behind the last byte that was sent, however it
/// ended; it stays if nothing was sent.
///
/// Dropping the future ends it, at any time: what was sent is the beginning of what was asked for,
/// the file's position says how much, and the connection goes on from there. Of a pipe, what was just
/// being read is lost.
///
/// A peer that is gone is an error. The system raises a signal as well, `SIGPIPE`, which Rust's
/// programs ignore; one whose `main` is not Rust's has to.
///
/// # Errors
///
/// The future's: a [`SendfileError`]. `NotConnected` if the transport is closing, `BrokenPipe` after
/// [`write_eof`](Transport::write_eof), `ResourceBusy` during another sendfile, `InvalidInput` for a
/// count of 0; `Unsupported` without the fallback. Midway: what broke the connection,
/// `ConnectionAborted` if it was closed by us, and what the file's reading says, after which the
/// connection goes on. [`NoRunningLoop`](crate::NoRunningLoop) outside its loop.
///
/// ```
/// use std::io::Write;
///
/// use evloop::{open_connection, sendfile, start_server};
///
/// # let path = std::env::temp_dir().join(format!("evloop-sendfile-{}", std::process::id()));
/// # let mut file = std::fs::File::options().read(true).write(true).create(true).open(&path)?;
/// # std::fs::remove_file(&path)?;
/// file.write_all(b"<p>hello</p>")?;
/// let file = std::rc::Rc::new(file);
/// evloop::run(async move {
///     let serve = move |_reader, writer: evloop::StreamWriter| {
///         let file = std::rc::Rc::clone(&file);
///         async move {
///             writer.write(b"HTTP/1.0 200 OK\r\n\r\n");
///             sendfile(writer.transport(), &file).await?;
///             Ok::<(), std::io::Error>(())
///         }
///     };
///     let server = start_server(serve, ("127.0.0.1", 0)).await?;
///     let port = server.sockets()[0].port().unwrap();
///     let (mut reader, _writer) = open_connection(("127.0.0.1", port)).await?;
///     assert_eq!(reader.read_to_end(None).await?, b"HTTP/1.0 200 OK\r\n\r\n<p>hello</p>");
///     server.close();
///     server.wait_closed().await
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sendfile<'a>(transport: &Transport, file: &'a File) -> Sendfile<'a> {
    let loop_number = transport.core().handle().number();
    Sendfile::new(To::Transport(transport.clone()), file, loop_number)
}

impl LoopHandle {
    /// [`sendfile`] on this loop: for a transport of another one, or awaited there, it is
    /// [`NoRunningLoop`](crate::NoRunningLoop). Mirrors `loop.sendfile`.
    pub fn sendfile<'a>(&self, transport: &Transport, file: &'a File) -> Sendfile<'a> {
        Sendfile::new(To::Transport(transport.clone()), file, self.number())
    }

    /// [`sendfile`] to a non-blocking stream socket of the caller's. Mirrors `loop.sock_sendfile`.
    ///
    /// Of the socket and of other writers it says what [`sock_sendall`](Self::sock_sendall) says.
    /// Dropped, it has sent what the file's position says.
    ///
    /// # Errors
    ///
    /// The future's: a [`SendfileError`]. `InvalidInput` for a socket that blocks or is no stream,
    /// and for a count of 0; `Unsupported` without the fallback; what the send and the file's
    /// reading say; those of [`add_writer`](Self::add_writer); `ResourceBusy` if another writer
    /// takes the place.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// fn main() -> std::io::Result<()> {
    ///     let (ours, theirs) = UnixStream::pair()?;
    ///     ours.set_nonblocking(true)?;
    ///     theirs.set_nonblocking(true)?;
    ///     let file = std::fs::File::open("Cargo.toml")?;
    ///     evloop::run(async {
    ///         let handle = evloop::get_running_loop()?;
    ///         assert_eq!(handle.sock_sendfile(&theirs, &file).count(9).await?, 9);
    ///         assert_eq!(handle.sock_recv(&ours, 100).await?, b"[package]");
    ///         Ok(())
    ///     })?
    /// }
    /// ```
    pub fn sock_sendfile<'a>(&self, sock: &'a impl AsFd, file: &'a File) -> Sendfile<'a> {
        Sendfile::new(To::Socket(sock.as_fd()), file, self.number())
    }
}

/// A file to be sent: awaiting it sends it. Made by [`sendfile`].
#[must_use = "nothing is sent until it is awaited"]
pub struct Sendfile<'a> {
    to: To<'a>,
    file: &'a File,
    offset: u64,
    count: Option<u64>,
    fallback: bool,
    loop_number: u64,
}

impl<'a> Sendfile<'a> {
    fn new(to: To<'a>, file: &'a File, loop_number: u64) -> Self {
        Self {
            to,
            file,
            offset: 0,
            count: None,
            fallback: true,
            loop_number,
        }
    }

    /// From which byte of the file on; by default from its first. Behind the file's end nothing is
    /// sent.
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// How many bytes at most, and at least one; by default up to the file's end.
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Whether the file is read and written where the system cannot send it by itself; by default
    /// it is.
    pub fn fallback(mut self, fallback: bool) -> Self {
        self.fallback = fallback;
        self
    }

    async fn send(self) -> Result<u64, SendfileError> {
        let mut progress = Progress {
            file: self.file,
            offset: self.offset,
            left: self.count.unwrap_or(u64::MAX),
            sent: 0,
        };
        let outcome = self.send_counting(&mut progress).await;
        let sent = progress.sent;
        outcome.map_err(|source| SendfileError { sent, source })?;
        Ok(sent)
    }

    async fn send_counting(self, progress: &mut Progress<'_>) -> io::Result<()> {
        let handle = loop_of(self.loop_number)?;
        if self.count == Some(0) {
            return Err(invalid_input("count must be a positive integer (got 0)"));
        }
        let way = self.to.way(&handle)?;
        match way.by_the_system(progress).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            outcome => return outcome,
        }
        if !self.fallback {
            let message = "fallback is disabled and native sendfile is not supported here";
            return Err(io::Error::new(ErrorKind::Unsupported, message));
        }
        way.by_reading(&handle, progress).await
    }
}

impl<'a> IntoFuture for Sendfile<'a> {
    type Output = Result<u64, SendfileError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for Sendfile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sendfile")
            .field("offset", &self.offset)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// Why a file was not sent, or not all of it.
#[derive(Debug)]
pub struct SendfileError {
    /// How many of its bytes had been handed over. When the connection broke, the peer may have
    /// received fewer.
    pub sent: u64,
    /// What went wrong.
    pub source: io::Error,
}

impl fmt::Display for SendfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} bytes of the file were sent)",
            self.source, self.sent
        )
    }
}

impl Error for SendfileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<SendfileError> for io::Error {
    fn from(error: SendfileError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Where the user wants it sent.
enum To<'a> {
    Transport(Transport),
    Socket(BorrowedFd<'a>),
}

impl<'a> To<'a> {
    fn way(self, handle: &LoopHandle) -> io::Result<Way<'a>> {
        match self {
            Self::Transport(transport) => Loan::take(&transport).map(Way::Transport),
            Self::Socket(sock) => {
                nonblocking(&sock)?;
                let (_, kind) = sys::family_and_type(sock)?;
                if kind != SocketType::Stream {
                    let message = "only SOCK_STREAM type sockets are supported";
                    return Err(invalid_input(message));
                }
                Ok(Way::Socket(handle.clone(), sock))
            }
        }
    }
}

/// The way there, ours until it is dropped.
enum Way<'a> {
    Transport(Loan),
    Socket(LoopHandle, BorrowedFd<'a>),
}

impl Way<'_> {
    /// The system sends, a piece in each turn.
    async fn by_the_system(&self, progress: &mut Progress<'_>) -> io::Result<()> {
        while let size @ 1.. = progress.next(PIECE) {
            match self.send_piece(progress.file, progress.at(), size).await? {
                0 => break,
                sent => progress.add(sent),
            }
            sleep(Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn send_piece(&self, file: &File, at: u64, size: usize) -> io::Result<usize> {
        match self {
            Self::Transport(loan) => loan.send_file(file, at, size).await,
            Self::Socket(handle, sock) => {
                let send = || sys::send_file(*sock, file.as_fd(), at, size);
                handle.attempt(*sock, Direction::Write, send).await
            }
        }
    }

    /// Another thread reads, and we write.
    async fn by_reading(&self, handle: &LoopHandle, progress: &mut Progress<'_>) -> io::Result<()> {
        let file = Arc::new(progress.file.try_clone()?);
        while let size @ 1.. = progress.next(self.block_size()) {
            let (file, at, offset) = (Arc::clone(&file), progress.at(), progress.offset);
            let block = handle.run_in_executor(move || read_block(&file, at, offset, size));
            let block = block.await??;
            if block.is_empty() {
                break;
            }
            self.write(block, progress).await?;
        }
        self.finish().await
    }

    fn block_size(&self) -> usize {
        match self {
            Self::Transport(loan) => loan.most_at_once(BLOCK),
            Self::Socket(..) => BLOCK,
        }
    }

    /// Writes a block when the one before it is gone.
    async fn write(&self, block: Vec<u8>, progress: &mut Progress<'_>) -> io::Result<()> {
        match self {
            Self::Transport(loan) => {
                loan.all_sent().await?;
                let size = block.len();
                loan.write(block);
                progress.add(size);
            }
            Self::Socket(handle, sock) => {
                let mut unsent = &block[..];
                while !unsent.is_empty() {
                    let send = || sys::send_to(*sock, unsent);
                    let sent = handle.attempt(*sock, Direction::Write, send).await?;
                    progress.add(sent);
                    unsent = &unsent[sent..];
                }
            }
        }
        Ok(())
    }

    /// Waits until the system has everything.
    async fn finish(&self) -> io::Result<()> {
        match self {
            Self::Transport(loan) => loan.all_sent().await,
            Self::Socket(..) => Ok(()),
        }
    }
}

/// How far it is.
struct Progress<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
    sent: u64,
}

impl Progress<'_> {
    /// The size of the next piece.
    fn next(&self, most: usize) -> usize {
        usize::try_from(self.left).map_or(most, |left| left.min(most))
    }

    /// Where it begins.
    fn at(&self) -> u64 {
        self.offset.saturating_add(self.sent)
    }

    fn add(&mut self, sent: usize) {
        self.sent += sent as u64;
        self.left -= sent as u64;
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.sent > 0 {
            let mut file = self.file;
            // A pipe has no position, and is where it is.
            let _ = file.seek(SeekFrom::Start(self.at()));
        }
    }
}

/// Reads what there is `at` this byte; nothing is the end. What has no bytes but those that come
/// next is read from its beginning only.
fn read_block(mut file: &File, at: u64, offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut block = vec![0; size];
    let read = loop {
        let outcome = match file.read_at(&mut block, at) {
            Err(error) if error.kind() == ErrorKind::NotSeekable && offset == 0 => {
                file.read(&mut block)
            }
            outcome => outcome,
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => break outcome?,
        }
    };
    block.truncate(read);
    Ok(block)
}

/// What the system is asked to send in one turn.
const PIECE: usize = 256 * 1024;
/// What is read at a time.
const BLOCK: usize = 64 * 1024;
