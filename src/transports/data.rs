//! What can be written.
//!
//! Owns: [`Data`]. Why: bytes that are given away need not be copied, and whoever lends them need
//! not know. Invariants: what comes out is what went in. asyncio's counterpart: `bytes-like object`.

use std::borrow::Cow;

/// What can be written: borrowed bytes (`&[u8]`, `&str`, `&Vec<u8>`, a reference to whatever is
/// `AsRef<[u8]>`), or bytes that are given away (`Vec<u8>`, `Box<[u8]>`, `String`).
///
/// ```
/// fn answer(transport: &evloop::Transport, line: Vec<u8>) {
///     transport.write(b"you said: ");
///     transport.write(line);
/// }
/// ```
pub trait Data {
    /// The bytes, with their storage if that is given away.
    fn into_bytes<'a>(self) -> Cow<'a, [u8]>
    where
        Self: 'a;
}

impl<T: AsRef<[u8]> + ?Sized> Data for &T {
    fn into_bytes<'a>(self) -> Cow<'a, [u8]>
    where
        Self: 'a,
    {
        Cow::Borrowed(self.as_ref())
    }
}

impl<T: AsRef<[u8]> + ?Sized> Data for &mut T {
    fn into_bytes<'a>(self) -> Cow<'a, [u8]>
    where
        Self: 'a,
    {
        Cow::Borrowed((*self).as_ref())
    }
}

impl Data for Vec<u8> {
    fn into_bytes<'a>(self) -> Cow<'a, [u8]> {
        Cow::Owned(self)
    }
}

impl Data for Box<[u8]> {
    fn into_bytes<'a>(self) -> Cow<'a, [u8]> {
        Cow::Owned(self.into_vec())
    }
}

impl Data for String {
    fn into_bytes<'a>(self) -> Cow<'a, [u8]> {
        Cow::Owned(Self::into_bytes(self))
    }
}
