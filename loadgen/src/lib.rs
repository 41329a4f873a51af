//! The load generator: what it measures with, what it measures against, and what it writes down.
//!
//! The binary in `main.rs` only parses the command line; everything else is here, so that
//! tests can reach it.

pub mod analysis;
pub mod error;
pub mod machine;
pub mod process;
pub mod summary;
