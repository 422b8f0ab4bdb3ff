//! The simulated world, as its users see it.

mod world;
