//! The signals that end it.

use std::io;
use std::sync::Arc;

use evloop::LoopHandle;
use evloop::signals::{SIGINT, SIGTERM};

use crate::count::Count;

/// Has this loop count SIGINT and SIGTERM for all loops, and `changed` called with each new number.
pub(crate) fn listen(
    handle: &LoopHandle,
    came: &Arc<Count>,
    changed: impl Fn(u64) + Clone + 'static,
) -> io::Result<()> {
    for number in [SIGINT, SIGTERM] {
        let (came, changed) = (Arc::clone(came), changed.clone());
        handle.add_signal_handler(number, move || changed(came.raise()))?;
    }
    Ok(())
}
