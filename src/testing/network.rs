//! The network of a simulation, for its users.
//!
//! Owns: [`Network`]. Why: what is done to the network is done from the test or from a task of it.
//! Invariants: conditions are checked before they are in force. asyncio's counterpart: none.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::event_loop::cells::Shared;
use crate::sys::invalid_input;
use crate::testing::conditions::Conditions;
use crate::testing::host::Host;
use crate::testing::world::{World, pair};

/// The network of a [`Simulation`](crate::testing::Simulation), to be made better or worse, also
/// while it runs.
#[derive(Clone)]
pub struct Network(pub(super) Rc<Shared<World>>);

impl Network {
    /// The conditions between all hosts that have none of their own.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if they make no sense.
    pub fn set_conditions(&self, conditions: Conditions) -> io::Result<()> {
        conditions.check()?;
        self.0.with(|world| world.conditions = conditions);
        Ok(())
    }

    /// The conditions between two hosts, or of a host with itself. What is about a host and not
    /// about its connections (its clock, its accepts, its lookups, its polls) is left out.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if they make no sense.
    pub fn set_link(&self, one: &Host, other: &Host, conditions: Conditions) -> io::Result<()> {
        conditions.check()?;
        self.0
            .with(|world| world.links.insert(pair(one.id, other.id), conditions));
        Ok(())
    }

    /// Parts two hosts: what is under way between them, and what is sent, is held until they are
    /// [together again](Self::heal).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a host and itself.
    pub fn partition(&self, one: &Host, other: &Host) -> io::Result<()> {
        if one.id == other.id {
            return Err(invalid_input("a host cannot be parted from itself"));
        }
        self.0.with(|world| world.part(one.id, other.id));
        Ok(())
    }

    /// Ends a partition; one that was not there is no error.
    pub fn heal(&self, one: &Host, other: &Host) {
        self.0.with(|world| world.heal(one.id, other.id));
    }

    /// Resets every connection between two hosts.
    pub fn reset_connections(&self, one: &Host, other: &Host) {
        self.0
            .with(|world| world.reset_connections(one.id, other.id));
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}
