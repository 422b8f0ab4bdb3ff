//! Which directions an event speaks of.
//!
//! Owns: [`Readiness`]. Why: one byte that is kept for each source, and joined and asked at every
//! event. Invariants: a hint; the system call is the truth. asyncio's counterpart: the event
//! masks of `selectors`.

use std::fmt;
use std::ops::BitOr;

/// A set of [`READ`](Self::READ), [`WRITE`](Self::WRITE), [`BEYOND`](Self::BEYOND) and
/// [`ERROR`](Self::ERROR).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

impl Readiness {
    /// Reading may get on: readable, the read side closed, or an error.
    pub(crate) const READ: Self = Self(1);
    /// Writing may get on: writable, the write side closed, or an error.
    pub(crate) const WRITE: Self = Self(1 << 1);
    /// The event said closed, error or priority: a short read does not show that the socket is
    /// drained, since an end, a loss or urgent data stands behind it.
    pub(crate) const BEYOND: Self = Self(1 << 2);
    /// The event said error: the connection is broken, whatever a read says.
    pub(crate) const ERROR: Self = Self(1 << 3);

    /// `self` if `condition` holds, else nothing.
    pub(crate) fn when(self, condition: bool) -> Self {
        Self(self.0 * u8::from(condition))
    }

    /// Whether it speaks of any of these.
    pub(crate) fn says(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Whether it speaks of nothing.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// All of it but these.
    pub(crate) fn without(self, these: Self) -> Self {
        Self(self.0 & !these.0)
    }
}

/// What two events say together.
impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READ, "READ"),
            (Self::WRITE, "WRITE"),
            (Self::BEYOND, "BEYOND"),
            (Self::ERROR, "ERROR"),
        ];
        let said = names.iter().filter(|(flag, _)| self.says(*flag));
        f.debug_set().entries(said.map(|(_, name)| name)).finish()
    }
}
