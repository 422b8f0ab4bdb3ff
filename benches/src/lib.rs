//! What the server programs of this package share: the contract in README.md, in code.
//!
//! [`contract`] does not run while a server serves, so it cannot speed up or slow down anybody;
//! [`bare`] is what the two servers without a runtime do on a connection. [`task_program`] is the
//! frame of the programs that measure without sockets. Whoever starts a server has [`folder`] for
//! its temporary files and [`socket`] to reach it. [`foreign`] makes what cargo does not build, and
//! [`tools`] looks for programs of the system.
#![forbid(unsafe_code)]

pub mod bare;
pub mod contract;
pub mod folder;
pub mod foreign;
pub mod socket;
pub mod task_program;
pub mod tls;
pub mod tools;
