//! The file that a unix socket is in the file system.
//!
//! Owns: [`SocketFile`], a path that we bound, and [`make_room`]. Why: the system neither replaces
//! what a crashed server left behind nor removes what it made, and who does so carelessly takes a
//! live server's address away. Invariants: nothing but a socket is ever unlinked; no socket that
//! takes connections is; on close only the very file that we made. asyncio's counterpart: the
//! beginning of `create_unix_server`, and `_stop_serving`.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{self, Path, PathBuf};

/// The file of a socket that we bound. Dropping it removes it, while it still is that one.
pub(crate) struct SocketFile {
    /// Absolute: the program may go into another folder meanwhile.
    path: PathBuf,
    identity: Identity,
}

impl SocketFile {
    /// The file at `path`, where a socket was bound just now.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let path = path::absolute(path).ok()?;
        // Whoever has removed it already spares us the work.
        let identity = Identity::of(&fs::symlink_metadata(&path).ok()?);
        Some(Self { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let outcome = match fs::symlink_metadata(&self.path) {
            Ok(now) if Identity::of(&now) == self.identity => fs::remove_file(&self.path),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.path.display();
                log::error!("unable to clean up the listening unix socket {path}: {error}");
            }
            _ => {}
        }
    }
}

/// Removes the socket at `path` if `is_deaf`: if nobody listens there any more.
pub(crate) fn make_room(path: &Path, is_deaf: impl FnOnce() -> bool) -> io::Result<()> {
    let look = || match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    };
    let Some(found) = look()? else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(in_use(kind_of(found.file_type())));
    }
    if !is_deaf() {
        return Err(in_use("a live socket"));
    }
    match look()? {
        None => Ok(()),
        Some(now) if Identity::of(&now) == Identity::of(&found) => fs::remove_file(path),
        // Another server was as quick as we.
        Some(_) => Err(in_use("a new socket")),
    }
}

/// What tells one file from another: the device and the inode.
#[derive(PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self(file.dev(), file.ino())
    }
}

fn in_use(by: &str) -> io::Error {
    let message = format!("Address already in use by {by}");
    io::Error::new(io::ErrorKind::AddrInUse, message)
}

fn kind_of(file: FileType) -> &'static str {
    if file.is_dir() {
        "a directory"
    } else if file.is_symlink() {
        "a symbolic link"
    } else if file.is_file() {
        "a regular file"
    } else {
        "a file that is no socket"
    }
}
