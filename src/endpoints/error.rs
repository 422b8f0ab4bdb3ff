//! What went wrong on the way to a connection or a server, and with which address.
//!
//! Owns: [`EndpointError`]. Why: "connection refused" without the address is no message.
//! Invariants: the system's error keeps its kind. asyncio's counterpart: the rewritten texts of
//! `OSError` in `create_connection` and `create_server`.

use std::error::Error;
use std::fmt;
use std::io;

use crate::sys::Address;

/// Why an endpoint could not be reached or served. As an `io::Error` it keeps the kind of the
/// system's error and can be downcast.
///
/// ```
/// use evloop::{EndpointError, Protocol, create_connection};
///
/// #[derive(Debug)]
/// struct Idle;
///
/// impl Protocol for Idle {}
///
/// evloop::run(async {
///     // Port 1 of the loopback: nobody listens there.
///     let error = create_connection(|| Idle, ("127.0.0.1", 1)).await.unwrap_err();
///     assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
///     let error = error.downcast::<EndpointError>().unwrap();
///     assert!(matches!(error, EndpointError::Connect { address, .. } if address.port() == Some(1)));
/// })
/// .unwrap();
/// ```
#[non_exhaustive]
pub enum EndpointError {
    /// The host has no address, or nobody can say.
    Resolve {
        /// The name that was looked up.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address did not answer as hoped.
    Connect {
        /// The address that was tried.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The address of our own that was asked for cannot be connected from.
    LocalAddress {
        /// The address that was asked for.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be served.
    Bind {
        /// The address that was asked for.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Several hosts or addresses were tried, in this order, and each of them failed.
    Several(Vec<Self>),
}

impl EndpointError {
    /// The kind of the system's error, the first one where there are several.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::LocalAddress { source, .. }
            | Self::Bind { source, .. } => source.kind(),
            Self::Several(errors) => errors.first().map_or(io::ErrorKind::Other, Self::kind),
        }
    }

    /// All errors: those of [`Several`](Self::Several), or this one.
    pub fn errors(&self) -> &[Self] {
        match self {
            Self::Several(errors) => errors,
            error => std::slice::from_ref(error),
        }
    }

    /// One error for all attempts that failed: the first if all say the same, or all of them.
    pub(crate) fn of(mut errors: Vec<Self>) -> Self {
        let mut texts = errors.iter().map(Self::to_string);
        let first = texts.next();
        if first.is_some() && texts.all(|text| Some(text) == first) {
            errors.swap_remove(0)
        } else {
            Self::Several(errors)
        }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, source } => write!(f, "cannot resolve {host:?}: {source}"),
            Self::Connect { address, source } => {
                write!(f, "cannot connect to {address}: {source}")
            }
            Self::LocalAddress { address, source } => {
                let source = source.to_string().to_lowercase();
                write!(
                    f,
                    "error while attempting to bind on address {address}: {source}"
                )
            }
            Self::Bind { address, source } => {
                write!(f, "cannot bind to address {address}: {source}")
            }
            Self::Several(errors) if errors.is_empty() => f.write_str("no address to try"),
            Self::Several(errors) => {
                f.write_str("Multiple exceptions: ")?;
                for (i, error) in errors.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{error}")?;
                }
                Ok(())
            }
        }
    }
}

/// As it is displayed: a `main` that returns it prints a sentence.
impl fmt::Debug for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for EndpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::LocalAddress { source, .. }
            | Self::Bind { source, .. } => Some(source),
            Self::Several(errors) => errors.first().map(|error| error as _),
        }
    }
}

impl From<EndpointError> for io::Error {
    fn from(error: EndpointError) -> Self {
        Self::new(error.kind(), error)
    }
}
