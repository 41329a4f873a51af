//! Routing: which routees a router has, and which of them gets a message.
//!
//! A [`View`](crate::base::View) and a [`RouterSpec`] make a [`RouteTable`]; a [`Picker`] picks from
//! it, message by message. Tables are pure functions of view and spec, so that all nodes that agree
//! about their members also agree about every key's owner, without asking each other. Who of a
//! table's routees answers is a [`RouteeSet`] over it, the *active* ones, which all agree about too:
//! a member that falls silent makes no new table, and its keys go to the next in the same order.
//! What a node knows beyond the view (a link of its own that is down) is another set, the *usable*
//! ones: strategies that do not follow keys skip what is not in it; those that follow keys must not,
//! or two senders would disagree about an owner.
//!
//! ```
//! # use keyway::base::{Incarnation, Member, NodeId, NodeRef, View};
//! use keyway::hash::{HashKey, HashSeed};
//! use keyway::route::{Pick, Picker, RouteTable, RouteeSet, RouterSpec, StrategyKind};
//!
//! # let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
//! # let view = View::new(me, 1, Vec::<Member>::new());
//! let seed = HashSeed::from_cluster("shop");
//! let spec = RouterSpec::new("/user/carts".parse()?, StrategyKind::ConsistentHash, seed);
//! spec.validate()?;
//!
//! let table = RouteTable::build(&view, &spec, None);
//! let active = RouteeSet::all(table.len());
//! let mut picker = Picker::new(&spec, 1);
//! match picker.pick(&table, Some(7u64.hash_key(seed)), &active, &active) {
//!     Pick::One(routee) => println!("to {}", table.routees()[usize::from(routee)].node),
//!     Pick::All => println!("to all of {}", active.count()),
//!     Pick::None(reason) => println!("{reason}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Adding a strategy
//!
//! An application's own strategy is one type and one line, `StrategyKind::Custom(Arc::new(..))`:
//!
//! ```
//! use std::sync::Arc;
//!
//! use keyway::hash::HashSeed;
//! use keyway::route::{
//!     NoRoutee, Pick, PickRequest, PickState, RouteTable, RouterSpec, Strategy, StrategyKind,
//! };
//!
//! /// Everything goes to the first routee that can be reached; the others stand by.
//! #[derive(Debug)]
//! struct FirstAlive;
//!
//! impl Strategy for FirstAlive {
//!     fn name(&self) -> &str {
//!         "first-alive"
//!     }
//!
//!     fn pick(&self, table: &RouteTable, request: &PickRequest, _: &mut PickState) -> Pick {
//!         match request.usable.next_from(0) {
//!             Some(routee) => Pick::One(routee),
//!             None if table.is_empty() => Pick::None(NoRoutee::NoRoutees),
//!             None => Pick::None(NoRoutee::NoneUsable),
//!         }
//!     }
//! }
//!
//! let seed = HashSeed::from_cluster("shop");
//! RouterSpec::new("/user/leader".parse()?, StrategyKind::Custom(Arc::new(FirstAlive)), seed);
//! # Ok::<(), keyway::PathError>(())
//! ```
//!
//! A built-in one, which is dispatched without a virtual call, is a file in `strategy/` and one line
//! in the list in `strategy/mod.rs`.

pub mod accepted;
mod build;
pub mod collisions;
mod error;
pub mod job;
pub mod pick;
pub mod set;
pub mod snapshot;
pub mod spec;
pub mod strategy;
pub mod table;

pub use accepted::{Accepted, Fit};
pub use build::SharedSlots;
pub use collisions::{NameCollision, NameCollisions};
pub use error::SpecError;
pub use pick::Picker;
pub use set::RouteeSet;
pub use spec::{LocalPreference, RouterSpec};
pub use strategy::{NoRoutee, Pick, PickRequest, PickState, Strategy, StrategyKind};
pub use table::{RefusedRoutees, RouteTable, Routee, routee_identity};
