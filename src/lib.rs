//! Keyway.

extern crate self as keyway;

pub mod ask;
pub mod base;
pub mod hash;
pub mod member;
pub mod queue;
pub mod route;
pub mod wire;

pub use base::fate;
pub use hash::{HashKey, HashSeed};
pub use keyway_macros::Message;
pub use rkyv;
pub use wire::Message;
