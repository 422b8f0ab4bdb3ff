//! What the programs of this package share, and nothing that a measured runtime could gain by.
#![forbid(unsafe_code)]

pub mod task_program;
