//! The tables of states, as they are followed.
//!
//! Owns: [`state_machines`]. Why: a page that shows them and a model that is led by them need them as
//! they are, from outside. Invariants: these are the tables of the running code, no copies.
//! asyncio's counterpart: none.

use crate::sansio::lifecycle::{LIFE, READ_SIDE, WRITE_SIDE};
use crate::sansio::server_life::SERVER_LIFE;
use crate::sansio::table::StateMachine;
use crate::tls;

/// The state machines that transports, TLS and servers follow, in every build: for a page that shows
/// them, and for models that tests compare with what happens. `docs/states.md` is made of them.
///
/// Which there are, and the names in them, may change with any version.
///
/// ```
/// use evloop::testing::{Next, state_machines};
///
/// let machines = state_machines();
/// let life = machines.iter().find(|machine| machine.name() == "Life").unwrap();
/// assert_eq!(life.next("Open", "CloseUnsent"), Next::To("Flushing"));
/// assert_eq!(life.next("Open", "Deliver"), Next::Never);
/// ```
pub fn state_machines() -> Vec<StateMachine> {
    let mut machines = vec![LIFE.machine(), READ_SIDE.machine(), WRITE_SIDE.machine()];
    machines.extend(tls::machine());
    machines.push(SERVER_LIFE.machine());
    machines
}
