//! What stands in the place of the PROXY protocol where the feature is left out.
//!
//! Owns: nothing. Why: a server need not know whether there is one. Invariants: nobody can ask for
//! it, so nothing here is ever made. asyncio's counterpart: none.

use std::convert::Infallible;
use std::time::Duration;

use crate::event_loop::LoopHandle;
use crate::transports::{Parts, Transport};

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct Demand(Infallible);

impl Demand {
    pub(crate) fn timeout(&self) -> Duration {
        match self.0 {}
    }
}

pub(crate) fn stand_in_front(
    _: &LoopHandle,
    _: Parts,
    demand: &Demand,
    _: impl FnOnce(&LoopHandle, &Transport) + 'static,
) {
    match demand.0 {}
}
