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
        self.check(one, other)?;
        self.0
            .with(|world| world.links.insert(pair(one.id, other.id), conditions));
        Ok(())
    }

    /// Parts two hosts: what is under way between them, and what is sent, is held until they are
    /// [together again](Self::heal).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a host and itself, and for one of another simulation.
    pub fn partition(&self, one: &Host, other: &Host) -> io::Result<()> {
        self.check(one, other)?;
        if one.id == other.id {
            return Err(invalid_input("a host cannot be parted from itself"));
        }
        self.0
            .with(|world| world.part(one.id, other.id, |parted| parted.by_hand = true));
        Ok(())
    }

    /// Ends what [`partition`](Self::partition) began, however often that was called. A partition that
    /// the weather made ends by itself.
    ///
    /// # Panics
    ///
    /// If a host is of another simulation.
    pub fn heal(&self, one: &Host, other: &Host) {
        self.check(one, other)
            .unwrap_or_else(|error| panic!("{error}"));
        self.0
            .with(|world| world.heal(one.id, other.id, |parted| parted.by_hand = false));
    }

    /// Resets every connection between two hosts.
    ///
    /// # Panics
    ///
    /// If a host is of another simulation.
    pub fn reset_connections(&self, one: &Host, other: &Host) {
        self.check(one, other)
            .unwrap_or_else(|error| panic!("{error}"));
        self.0
            .with(|world| world.reset_connections(one.id, other.id));
    }

    fn check(&self, one: &Host, other: &Host) -> io::Result<()> {
        let ours = |host: &Host| Rc::ptr_eq(&host.world, &self.0);
        if ours(one) && ours(other) {
            return Ok(());
        }
        Err(invalid_input("this host is of another simulation"))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}
