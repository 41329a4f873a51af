//! Keyway.

// The derive macros speak of `::keyway`, also in here.
extern crate self as keyway;

pub mod admin;
pub mod api;
pub mod ask;
pub mod base;
pub mod config;
pub mod control;
pub mod hash;
pub mod member;
pub mod net;
pub mod queue;
pub mod route;
pub mod runtime;
pub mod wire;
pub mod worker;

pub use api::{
    Ask, AskFuture, AsyncReplies, Batch, BuildError, DeadLetters, EventGap, Events, Node,
    NodeBuilder, NodeError, NotReady, Router, RouterBuilder, RouterInfo, Selection,
};
pub use base::fate::{AskError, Counts, DeathReason, Refusal};
pub use base::{Member, MemberEvent, MemberState, NodeId, NodeRef, Time, View, WorkerIndex};
pub use config::{ConfigError, NodeConfig};
pub use hash::{HashKey, HashSeed};
pub use keyway_macros::{Message, Routee};
pub use member::{Manual, PartitionPolicy};
pub use net::discovery::{Discovery, SeedList};
pub use rkyv;
pub use route::LocalPreference;
pub use runtime::control::Ended;
pub use runtime::proxies::DeadLetter;
pub use wire::Message;
pub use worker::{
    Context, Handler, HandlerTable, IntoReply, Later, OnReply, Replier, Routee, RouteeRef,
};
