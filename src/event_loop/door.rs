//! The one door through which user code is entered, and the reports of what went wrong behind it.
//!
//! Owns: [`catch`], and the [`ExceptionContext`] that an exception handler gets. Why: a panic in
//! a callback must cost its own connection or task and nothing else. Invariants: a panic of user
//! code on the loop's thread is caught by [`catch`] and by nothing else; a report is made once for
//! each failure. asyncio's counterpart: the `except` in `Handle._run`, and the `context` of
//! `call_exception_handler`.
//!
//! With `panic = "abort"` there is no door: the process ends at the first panic. Rust's own panic
//! hook prints a caught panic as well as our report does.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Runs `f` and turns a panic into a value.
///
/// Unwind safety: everything that the loop owns is in cells that are not borrowed while user code
/// runs, so a panic cannot leave one half changed.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

/// A caught panic, as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicError {
    message: String,
}

impl PanicError {
    pub(crate) fn new(payload: &(dyn Any + Send)) -> Self {
        let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
            (*text).to_owned()
        } else if let Some(text) = payload.downcast_ref::<String>() {
            text.clone()
        } else {
            "a value that is no text".to_owned()
        };
        Self { message }
    }

    /// What the panic said.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for PanicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.message)
    }
}

impl Error for PanicError {}

/// What an exception handler is told: asyncio's `context` dictionary, with types for keys.
///
/// The message and the error have methods of their own; everything else that the failure
/// concerns (a [`Transport`](crate::Transport), an [`Address`](crate::Address) of the peer, …)
/// is asked for by its type.
///
/// ```
/// use evloop::ExceptionContext;
///
/// let context = ExceptionContext::new("Exception in callback").subject(42_u8);
/// assert_eq!(context.message(), "Exception in callback");
/// assert_eq!(context.get::<u8>(), Some(&42));
/// assert_eq!(context.get::<u16>(), None);
/// ```
pub struct ExceptionContext {
    message: Cow<'static, str>,
    exception: Option<Rc<dyn Error>>,
    subjects: Vec<Box<dyn Subject>>,
}

impl ExceptionContext {
    /// A report that says `message`.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            exception: None,
            subjects: Vec::new(),
        }
    }

    /// Adds the error that is reported (asyncio's key `exception`).
    #[must_use]
    pub fn error(mut self, error: impl Into<Box<dyn Error>>) -> Self {
        self.exception = Some(Rc::from(error.into()));
        self
    }

    /// Adds something that the failure concerns.
    #[must_use]
    pub fn subject(mut self, subject: impl fmt::Debug + 'static) -> Self {
        self.subjects.push(Box::new(subject));
        self
    }

    /// The message (asyncio's key `message`).
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error, if there is one (asyncio's key `exception`). A panic is a [`PanicError`].
    pub fn exception(&self) -> Option<&(dyn Error + 'static)> {
        self.exception.as_deref()
    }

    /// What the failure concerns, by its type (asyncio's other keys).
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.subjects
            .iter()
            .find_map(|subject| (**subject).as_any().downcast_ref())
    }

    /// What becomes of a report that no handler takes.
    pub(crate) fn log(&self) {
        if log::max_level() == log::LevelFilter::Off {
            // A stderr that nobody reads is no reason to fail.
            let _ = writeln!(io::stderr(), "{self}");
        } else {
            log::error!("{self}");
        }
    }

    pub(crate) fn panic(message: &'static str, payload: &(dyn Any + Send)) -> Self {
        Self::new(message).error(PanicError::new(payload))
    }
}

impl fmt::Display for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(error) = &self.exception {
            write!(f, ": {error}")?;
        }
        for subject in &self.subjects {
            write!(f, "; {subject:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExceptionContext")
            .field("message", &self.message)
            .field("exception", &self.exception)
            .field("subjects", &self.subjects)
            .finish()
    }
}

trait Subject: fmt::Debug {
    fn as_any(&self) -> &dyn Any;
}

impl<T: fmt::Debug + 'static> Subject for T {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
