//! Keyway.

pub mod base;
pub mod hash;
