//! Files that the system sends by itself.
//!
//! Owns: [`send_file`]. Why: the bytes of a file need not pass through our memory on their way to a
//! socket. Invariants: the file's own position is neither used nor moved; whatever says that the
//! system cannot do it with this file or this socket is `Unsupported`, and any other error means
//! that it can. asyncio's counterpart: `os.sendfile`.

use std::io;
use std::os::fd::BorrowedFd;

/// Sends what fits of the `count` bytes of `file` from `offset` on; 0 is the file's end.
///
/// To a peer that is gone this is a signal as well as an error, for which there is no flag here;
/// Rust's programs ignore it from their start.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn send_file(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    mut offset: u64,
    count: usize,
) -> io::Result<usize> {
    use rustix::fs::sendfile;
    use rustix::io::{Errno, retry_on_intr};

    match retry_on_intr(|| sendfile(socket, file, Some(&mut offset), count)) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        outcome => Ok(outcome?),
    }
}

/// The other systems' calls differ from one another, so there files are read and written.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn send_file(
    _: BorrowedFd<'_>,
    _: BorrowedFd<'_>,
    _: u64,
    _: usize,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
