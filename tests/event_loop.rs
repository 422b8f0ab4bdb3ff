//! The event loop and its tasks as a user meets them: in which order things run, how a run begins
//! and ends, what other threads may do, and what is left when a loop is gone.
//!
//! Everything here goes through the public API, over real sockets where there are any. Tests that
//! look at what belongs to the whole process (signals, descriptors) run in a process of their own.

#[path = "event_loop/support.rs"]
mod support;

#[path = "event_loop/combinators.rs"]
mod combinators;
#[path = "event_loop/descriptors.rs"]
mod descriptors;
#[path = "event_loop/drops.rs"]
mod drops;
#[path = "event_loop/elsewhere.rs"]
mod elsewhere;
#[path = "event_loop/exception_handler.rs"]
mod exception_handler;
#[path = "event_loop/executor.rs"]
mod executor;
#[path = "event_loop/fairness.rs"]
mod fairness;
#[path = "event_loop/lifecycle.rs"]
mod lifecycle;
#[path = "event_loop/order.rs"]
mod order;
#[path = "event_loop/signals.rs"]
mod signals;
#[path = "event_loop/slow.rs"]
mod slow;
#[path = "event_loop/sock.rs"]
mod sock;
#[path = "event_loop/tasks.rs"]
mod tasks;
#[path = "event_loop/threads.rs"]
mod threads;
#[path = "event_loop/time.rs"]
mod time;
