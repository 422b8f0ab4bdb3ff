//! The address of one end of a unix socket.
//!
//! Owns: [`UnixAddress`]. Why: std's type cannot be compared, and gives its parts through a trait
//! of one system. Invariants: a leading NUL byte in what a user writes makes an abstract name, as
//! in Python; nothing is checked before the system is asked. asyncio's counterpart: the `str` or
//! `bytes` that stand for the address of an `AF_UNIX` socket.

use std::ffi::{OsStr, OsString};
use std::fmt;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt as _;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where one end of a unix socket is.
///
/// Made from a path, as `&str`, `String`, `&Path`, `PathBuf` or `&OsStr`. A leading NUL byte makes
/// an abstract name, as in Python; [`abstract_name`](Self::abstract_name) says it in words.
///
/// ```
/// use evloop::UnixAddress;
///
/// let path = UnixAddress::from("/run/echo.sock");
/// assert_eq!(path.to_string(), "/run/echo.sock");
/// assert_eq!(UnixAddress::from("\0echo"), UnixAddress::abstract_name("echo"));
/// assert_eq!(UnixAddress::abstract_name("echo").to_string(), "@echo");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnixAddress {
    /// No address: a client that was not bound, or one of a pair. It is `''` in Python.
    Unnamed,
    /// A socket in the file system.
    Path(Box<Path>),
    /// A name in Linux's abstract namespace, without the NUL byte that marks it. No file belongs
    /// to it, and it is gone with the last socket that has it.
    Abstract(Box<[u8]>),
}

impl UnixAddress {
    /// A name in the abstract namespace, given without the NUL byte that marks it. Linux only: on
    /// other systems using it is an error.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Self {
        Self::Abstract(name.as_ref().into())
    }

    /// The path, if it is in the file system.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            _ => None,
        }
    }

    /// The abstract name without its marking NUL byte, if it is one.
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match self {
            Self::Abstract(name) => Some(name),
            _ => None,
        }
    }
}

impl From<PathBuf> for UnixAddress {
    fn from(path: PathBuf) -> Self {
        let bytes = path.into_os_string().into_vec();
        match bytes.split_first() {
            None => Self::Unnamed,
            Some((0, name)) => Self::Abstract(name.into()),
            Some(_) => Self::Path(PathBuf::from(OsString::from_vec(bytes)).into()),
        }
    }
}

impl From<&Path> for UnixAddress {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<&PathBuf> for UnixAddress {
    fn from(path: &PathBuf) -> Self {
        path.clone().into()
    }
}

impl From<&OsStr> for UnixAddress {
    fn from(path: &OsStr) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<&str> for UnixAddress {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<String> for UnixAddress {
    fn from(path: String) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<&String> for UnixAddress {
    fn from(path: &String) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<&SocketAddr> for UnixAddress {
    fn from(address: &SocketAddr) -> Self {
        if let Some(path) = address.as_pathname() {
            return Self::Path(path.into());
        }
        abstract_name_of(address).map_or(Self::Unnamed, Self::abstract_name)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name_of(address: &SocketAddr) -> Option<&[u8]> {
    address.as_abstract_name()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name_of(_: &SocketAddr) -> Option<&[u8]> {
    None
}

/// A path as it is but for control characters, which are escaped, since a peer chooses its own; an
/// abstract name behind an `@`, as other programs print it; and `(unnamed)`.
impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => f.pad("(unnamed)"),
            Self::Path(path) => f.pad(&printable(path)),
            Self::Abstract(name) => f.pad(&format!("@{}", name.escape_ascii())),
        }
    }
}

fn printable(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// The same text as `Display`.
impl fmt::Debug for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes that stand in the system's address.
impl UnixAddress {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Unnamed => Vec::new(),
            Self::Path(path) => path.as_os_str().as_bytes().to_vec(),
            Self::Abstract(name) => [b"\0", &**name].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_is_the_same_address_however_it_is_written() {
        let path = UnixAddress::Path(Path::new("/a/b").into());
        assert_eq!(path, "/a/b".into());
        assert_eq!(path, Path::new("/a/b").into());
        assert_eq!(path, OsStr::new("/a/b").into());
        assert_eq!(path.as_path(), Some(Path::new("/a/b")));
        let name = UnixAddress::from("\0a\0\n");
        assert_eq!(name, UnixAddress::abstract_name(b"a\0\n"));
        assert_eq!(name.as_abstract_name(), Some(&b"a\0\n"[..]));
        assert_eq!(name.to_bytes(), b"\0a\0\n");
        assert_eq!(UnixAddress::from(""), UnixAddress::Unnamed);
    }

    #[test]
    fn prints_what_a_terminal_can_show() {
        let name = UnixAddress::from("\0a\0\n");
        assert_eq!(format!("{name} {name:?}"), r"@a\x00\n @a\x00\n");
        assert_eq!(format!("{:>6}|", UnixAddress::from("/a")), "    /a|");
        let path = UnixAddress::from("/ä b\n\x1b[2J\u{9b}");
        let expected = r"/ä b\n\u{1b}[2J\u{9b}";
        assert_eq!(format!("{path} {path:?}"), format!("{expected} {expected}"));
        assert_eq!(UnixAddress::Unnamed.to_string(), "(unnamed)");
    }
}
