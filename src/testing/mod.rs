//! A simulated world for tests: hosts, a network between them, time that does not take long, and
//! everything that can go wrong, from a seed.
//!
//! Owns: [`Simulation`] and what it is made of, [`explore`]. Why: tests over real sockets cannot show
//! that nothing is ever lost, since the network they run on is never bad, and never bad in the same
//! way again. Invariants: what runs above the driver is the code that runs in production; the same
//! seed is the same simulation, on every machine; that touches nothing outside the process. asyncio's
//! counterpart: none; its own tests have `test_utils.TestLoop`.
//!
//! | for | see |
//! |---|---|
//! | several hosts and a network | [`Simulation`], [`Host`], [`Network`] |
//! | what goes wrong | [`Conditions`], [`Tally`] |
//! | many runs, and the one that failed | [`explore`] |
//! | why it does not get on | [`SimulationError`], [`Standstill`] |
//! | a peer for a plain unit test | [`stream_pair()`] |
//! | a bad day on real sockets | [`chaotic_loop()`], [`Chaos`] |
//! | numbers from the seed | [`Random`] |
//! | the states of transports and servers | [`state_machines`], [`StateMachine`] |

mod chaos;
mod chaos_driver;
mod chaos_socket;
mod chaotic_loop;
mod conditions;
mod connecting;
mod driver;
mod error;
mod faults;
mod host;
mod ids;
mod listening;
mod mischief;
mod network;
mod packet;
mod random;
mod resolver;
mod run;
mod seeds;
mod simulation;
mod socket;
mod states;
mod stream_pair;
mod tally;
mod traffic;
mod wire;
mod world;

pub use self::chaos::Chaos;
pub use self::chaotic_loop::chaotic_loop;
pub use self::conditions::Conditions;
pub use self::error::{OpenSocket, SimulationError, Standstill, Waiting};
pub use self::host::Host;
pub use self::network::Network;
pub use self::random::Random;
pub use self::seeds::explore;
pub use self::simulation::Simulation;
pub use self::states::state_machines;
pub use self::stream_pair::{StreamPair, stream_pair};
pub use self::tally::Tally;
pub use crate::sansio::table::{Next, StateMachine};
