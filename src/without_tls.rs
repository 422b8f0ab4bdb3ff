//! What stands in the place of TLS where the feature is left out.
//!
//! Owns: nothing. Why: whoever makes connections need not know whether there is TLS. Invariants:
//! nobody can ask for it, so nothing here is ever made. asyncio's counterpart: `ssl = None` in
//! `sslproto`.

use std::any::Any;
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::event_loop::LoopHandle;
use crate::sansio::table::StateMachine;
use crate::tasks::Waiter;
use crate::transports::{Parts, Protocol, Transport};

/// A client can say nothing about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientOptions {}

impl ClientOptions {
    #[allow(clippy::unnecessary_wraps, reason = "with TLS it may fail")]
    pub(crate) fn side(self, _: Result<String, &'static str>) -> io::Result<Option<ClientSide>> {
        Ok(None)
    }
}

/// Nor can a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerOptions {}

impl ServerOptions {
    #[allow(clippy::unnecessary_wraps, reason = "with TLS it may fail")]
    pub(crate) fn side(&self) -> io::Result<Option<ServerSide>> {
        Ok(None)
    }
}

/// There is none.
pub(crate) struct ClientSide(Infallible);

impl ClientSide {
    pub(crate) async fn prepare(self, _: &LoopHandle) -> io::Result<Prepared> {
        match self.0 {}
    }
}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct ServerSide(Infallible);

impl ServerSide {
    pub(crate) fn prepare(&self) -> io::Result<Prepared> {
        match self.0 {}
    }
}

/// There is none.
pub(crate) struct Prepared(Infallible);

pub(crate) fn stack_on(
    _: &LoopHandle,
    _: &Transport,
    prepared: Prepared,
    _: Rc<RefCell<dyn Protocol>>,
    _: Box<dyn Any>,
) {
    match prepared.0 {}
}

pub(crate) fn stack(
    _: &LoopHandle,
    _: Parts,
    prepared: Prepared,
    _: Rc<RefCell<dyn Protocol>>,
    _: Option<Waiter<Result<(), Arc<io::Error>>>>,
    _: Option<Box<dyn Any>>,
) -> Transport {
    match prepared.0 {}
}

/// There is no table.
pub(crate) fn machine() -> Option<StateMachine> {
    None
}
