//! The signals that end it.

use std::io;

use evloop::signals::{SIGINT, SIGTERM};
use evloop::{LoopHandle, Waiter};

/// The first and the second signal, whichever of the two they are.
pub(crate) struct Signals {
    pub(crate) first: Waiter<()>,
    pub(crate) second: Waiter<()>,
}

impl Signals {
    pub(crate) fn listen(handle: &LoopHandle) -> io::Result<Self> {
        let (first, second) = (handle.create_future(), handle.create_future());
        for number in [SIGINT, SIGTERM] {
            let (first, second): (Waiter<()>, Waiter<()>) = (first.clone(), second.clone());
            handle.add_signal_handler(number, move || {
                if first.set_result(()).is_err() {
                    // A third one finds nothing left to ask for.
                    let _ = second.set_result(());
                }
            })?;
        }
        Ok(Self { first, second })
    }
}
