//! The load generator: what it measures with, what it measures against, and what it writes down.
//!
//! The binary in `main.rs` only parses the command line; everything else is here, so that
//! tests can reach it.

pub mod allocations;
pub mod analysis;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod driver;
pub mod error;
pub mod floors;
pub mod machine;
pub mod output;
pub mod process;
pub mod progress;
pub mod scenarios;
pub mod summary;
