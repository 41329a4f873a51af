//! Keyway.

pub mod base;
pub mod hash;
pub mod queue;
pub mod route;
