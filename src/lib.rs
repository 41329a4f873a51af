//! Keyway.

// The derive macros speak of `::keyway`, also in here.
extern crate self as keyway;

pub mod ask;
pub mod base;
pub mod control;
pub mod hash;
pub mod member;
pub mod net;
pub mod queue;
pub mod route;
pub mod runtime;
pub mod wire;
pub mod worker;

pub use base::fate;
pub use hash::{HashKey, HashSeed};
pub use keyway_macros::{Message, Routee};
pub use rkyv;
pub use wire::Message;
pub use worker::{Context, Handler, HandlerTable, IntoReply, Later, OnReply, Replier, Routee};
