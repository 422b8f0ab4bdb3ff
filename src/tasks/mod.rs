//! Tasks and what a task waits with.
//!
//! Owns: [`Task`], [`Waiter`], [`sleep()`], [`timeout()`], [`RunInExecutor`]. Why: the loop only
//! knows futures without a result; here they get one, with a way to wait for it and to cancel it.
//! Invariants: everything that is spawned is owned by the loop and can neither vanish nor be lost;
//! a result is stored once; wakers run with nothing borrowed. asyncio's counterpart:
//! `asyncio.tasks`, `asyncio.futures` and `asyncio.timeouts`.

mod error;
mod executor;
mod sleep;
mod task;
mod timeout;
mod waiter;
mod wakers;

pub use self::error::TaskError;
pub use self::executor::{ExecutorError, RunInExecutor};
pub use self::sleep::{Sleep, sleep, sleep_until};
pub use self::task::{IntoTask, Task};
pub use self::timeout::{TimeoutError, timeout};
pub use self::waiter::{InvalidStateError, Waiter};
pub(crate) use self::wakers::{Place, Waiting, WakerSet};
