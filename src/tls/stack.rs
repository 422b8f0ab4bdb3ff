//! A transport on a transport.
//!
//! Owns: the making of a TLS transport above one that there is, or that is just being made. Why:
//! clients, servers and `start_tls` differ in what they bring, and in nothing that happens here.
//! Invariants: whoever owns the connection owns the transport above, which ends last; each policy
//! is kept by the transport that knows best: time by the one below, which sees the system take and
//! give, unsent bytes by the one above, where they pile up. asyncio's counterpart:
//! `_make_ssl_transport`.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use crate::event_loop::LoopHandle;
use crate::sys::Readiness;
use crate::tls::core::TlsCore;
use crate::tls::layer::TlsStream;
use crate::tls::options::Prepared;
use crate::tls::protocol::{Handshake, HandshakeWaiter, TlsProtocol};
use crate::transports::{Connection, Owner, Parts, Policies, Protocol, Transport};

/// Makes a TLS connection of a socket that is connected. `waiter` is told how the handshake went,
/// behind the protocol; `place` is let go of then.
pub(crate) fn stack(
    handle: &LoopHandle,
    mut parts: Parts,
    prepared: Prepared,
    protocol: Rc<RefCell<dyn Protocol>>,
    waiter: Option<HandshakeWaiter>,
    place: Option<Box<dyn Any>>,
) -> Transport {
    let plan = Plan {
        prepared,
        begins: true,
        received: Vec::new(),
        waiter,
        place,
        owner: parts.owner.take(),
        policies: parts.policies.split(),
    };
    let lower = Connection::prepare(handle, parts, None);
    let (upper, below) = put_on(handle, &lower, plan, protocol);
    lower.change_protocol(below);
    Connection::begin(handle, &lower);
    upper
}

/// The same on a transport whose protocol, one of ours, has come to its end.
pub(crate) fn stack_on(
    handle: &LoopHandle,
    lower: &Transport,
    prepared: Prepared,
    protocol: Rc<RefCell<dyn Protocol>>,
    place: Box<dyn Any>,
) {
    let plan = Plan {
        prepared,
        begins: true,
        received: Vec::new(),
        waiter: None,
        place: Some(place),
        owner: None,
        policies: lower.core().policies().split(),
    };
    let (upper, below) = put_on(handle, lower, plan, protocol);
    Connection::hand_owner_on(lower, &upper);
    Connection::hand_to(handle, lower, below);
}

/// What the transport above is made with.
pub(super) struct Plan {
    pub(super) prepared: Prepared,
    /// Whether the protocol is told that it has a connection: after `start_tls` it has one.
    pub(super) begins: bool,
    /// What has come already, and is the beginning of the handshake.
    pub(super) received: Vec<u8>,
    pub(super) waiter: Option<HandshakeWaiter>,
    pub(super) place: Option<Box<dyn Any>>,
    pub(super) owner: Option<Rc<dyn Owner>>,
    pub(super) policies: Policies,
}

/// The transport above `lower`, and the protocol that `lower` is to have.
pub(super) fn put_on(
    handle: &LoopHandle,
    lower: &Transport,
    plan: Plan,
    protocol: Rc<RefCell<dyn Protocol>>,
) -> (Transport, Rc<RefCell<dyn Protocol>>) {
    let Prepared { engine, times } = plan.prepared;
    let core = TlsCore::new(lower.clone(), engine, times.shutdown());
    core.take_over(plan.received);
    let parts = Parts {
        id: handle.reserve(),
        stream: Box::new(TlsStream(Rc::clone(&core))),
        peer: lower.core().peer_name().clone(),
        known: lower.core().known(),
        ready: Readiness::WRITE,
        owner: plan.owner,
        policies: plan.policies,
    };
    let upper = Connection::prepare(handle, parts, Some(protocol));
    lower.core().carry();
    let handshake = Handshake {
        timeout: times.handshake(),
        begins: plan.begins,
        waiter: plan.waiter,
        place: plan.place,
    };
    let below = TlsProtocol::new(core, upper.clone(), handshake);
    (upper, Rc::new(RefCell::new(below)))
}
