//! Keyway.

pub mod base;
pub mod hash;
pub mod member;
pub mod queue;
pub mod route;
pub mod wire;
