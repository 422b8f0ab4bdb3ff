//! A program in one call.
//!
//! Owns: [`run`]. Why: most programs have one main future and want a loop around it. Invariants:
//! when it returns, every task is over and the loop is closed. asyncio's counterpart:
//! `asyncio.run`.

use std::future::IntoFuture;
use std::io;

use crate::event_loop::EventLoop;

/// Makes an event loop, runs `main` to its end, cancels the tasks that are left, and closes the
/// loop. Mirrors `asyncio.run`, but that what runs in the executor is not waited for: see
/// [`shutdown_default_executor`](crate::LoopHandle::shutdown_default_executor).
///
/// # Errors
///
/// The system's, when it has no descriptor for a loop.
///
/// # Panics
///
/// If a loop is running on this thread, and if [`stop`](crate::LoopHandle::stop) is called before
/// `main` is complete. A panic of `main` passes through.
///
/// ```
/// async fn main_task() -> std::io::Result<u8> {
///     Ok(42)
/// }
///
/// fn main() -> std::io::Result<()> {
///     let answer = evloop::run(main_task())??;
///     assert_eq!(answer, 42);
///     Ok(())
/// }
/// ```
#[track_caller]
pub fn run<F: IntoFuture>(main: F) -> io::Result<F::Output> {
    let mut event_loop = EventLoop::new()?;
    let output = event_loop.run_until_complete(main);
    event_loop.close();
    Ok(output)
}
