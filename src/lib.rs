//! Keyway.

pub mod base;
pub mod hash;
pub mod route;
