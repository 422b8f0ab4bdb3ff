//! A host of a simulation, for its users.
//!
//! Owns: [`Host`]. Why: a host is a loop, and what can be done to it from outside. Invariants: none.
//! asyncio's counterpart: none.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::LoopHandle;
use crate::event_loop::cells::Shared;
use crate::testing::ids::HostId;
use crate::testing::world::World;

/// A host of a [`Simulation`](crate::testing::Simulation): its event loop, to which it
/// dereferences, and its place in the world.
#[derive(Clone)]
pub struct Host {
    pub(super) world: Rc<Shared<World>>,
    pub(super) id: HostId,
    pub(super) handle: LoopHandle,
}

impl Host {
    /// Its name.
    pub fn name(&self) -> String {
        self.world.with(|world| world.name(self.id).to_owned())
    }

    /// Its addresses on the network.
    pub fn addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        self.world.with(|world| {
            let host = world.host(self.id);
            (host.v4, host.v6)
        })
    }

    /// How many sockets it may have, listening ones too; `None`: any number. What is one too many
    /// fails with EMFILE.
    pub fn set_descriptor_limit(&self, limit: impl Into<Option<usize>>) {
        let limit = limit.into();
        self.world.with(|world| world.host(self.id).limit = limit);
    }

    /// How many sockets it has.
    pub fn descriptors(&self) -> usize {
        self.world.with(|world| world.host(self.id).open)
    }

    /// Puts its clock ahead, as if it had been suspended.
    pub fn jump_clock(&self, by: Duration) {
        self.world.with(|world| world.jump(self.id, by));
    }

    /// Sends it a signal. False if it does not handle that, and nothing happens.
    pub fn raise(&self, signal: i32) -> bool {
        self.world.with(|world| world.raise(self.id, signal))
    }
}

impl Deref for Host {
    type Target = LoopHandle;

    fn deref(&self) -> &LoopHandle {
        &self.handle
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.name()).finish()
    }
}
