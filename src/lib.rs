//! Keyway.

pub mod base;
