//! A clustered message router: processes that embed it find each other, agree who is alive, and
//! carry messages to the right routee anywhere in the cluster: by rule, by key, by path or by
//! reference. A routee is an object of yours that takes the messages sent to a path; each worker that
//! serves the path has its own. Workers are threads, one per core, pinned on request. Handlers run on
//! them and read messages in place from the receive buffer. From one handler to the next a message
//! meets no lock, no mailbox and, on the steady path, no allocation. Every message ends in exactly
//! one count.
//!
//! # A whole program
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//!
//! use keyway::{Context, Handler, Message, Node, Routee};
//! use rkyv::{Archive, Deserialize, Serialize};
//!
//! #[derive(Archive, Serialize, Deserialize, Message)]
//! #[message(name = "shop.add_item", key = cart, reply = u32)]
//! struct AddItem {
//!     cart: u64,
//! }
//!
//! #[derive(Default, Routee)]
//! #[routee(handles(AddItem))]
//! struct Carts(BTreeMap<u64, u32>);
//!
//! impl Handler<AddItem> for Carts {
//!     type Reply = u32;
//!     fn handle(&mut self, message: &ArchivedAddItem, _: &mut Context<'_>) -> u32 {
//!         let items = self.0.entry(message.cart.to_native()).or_default();
//!         *items += 1;
//!         *items
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let node = Node::builder().bind("127.0.0.1:0").start()?;
//!     node.serve("/user/carts", |_worker| Carts::default())?;
//!
//!     let carts = node.router("/user/carts").consistent_hash().build()?;
//!     // The table has its routees a moment after `serve` and `build` have returned.
//!     carts.wait_ready(1, Duration::from_secs(5))?; // or `carts.ready(1).await`
//!     carts.tell(&AddItem { cart: 7 })?; // from any thread, never waits
//!     let items = carts.ask(&AddItem { cart: 7 }).wait()?; // or `.await`, on any runtime
//!     assert_eq!(items, 2);
//!
//!     node.leave_and_wait()?;
//!     Ok(())
//! }
//! ```
//!
//! With `.seed("127.0.0.1:7401")` the node joins another on this machine, and with
//! `.bind("10.0.0.2:7400")`, a `.secret(..)` and `.seed("10.0.0.1:7400")` others of its network; the
//! rest stays as it is. `Archive`,
//! `Serialize` and `Deserialize` come from [`rkyv`], which is a dependency of your crate as well.
//! Types of your own in a message's fields, and as its reply, derive [`Layout`](derive@Layout) beside
//! these.
//!
//! # What there is
//!
//! | type | what it is for |
//! |---|---|
//! | [`Node`], [`NodeBuilder`], [`NodeConfig`] | one process's part in its cluster: start, [`serve`](Node::serve) on every worker or by a [`Placement`], watch, [`leave`](Node::leave) |
//! | [`Message`](derive@Message), [`Layout`](derive@Layout) | a type that travels: name, key, type of the reply; what such types are made of |
//! | [`Routee`](derive@Routee), [`Handler`] | what takes messages: one instance per path on each worker that serves it |
//! | [`Context`] | a handler's hands: send, ask, reply later, set times |
//! | [`Later`], [`Replier`], [`AsyncReplies`] | replies that come later, from a thread or from async code |
//! | [`Router`] | [`tell`](Router::tell), [`ask`](Router::ask), [`batch`](Router::batch), by a strategy and within the roles it was given |
//! | [`RouteeRef`], [`RouteeId`] | one routee, to [tell](Node::tell_to), [ask](Node::ask_to) or [watch](Node::watch) |
//! | [`Selection`], [`Pattern`] | all handlers by path pattern, to [tell](Selection::tell), [ask](Selection::ask) or [find](Selection::identify) |
//! | [`View`], [`Member`], [`Events`] | who is here, and what changes |
//! | [`Refusal`], [`AskError`], [`DeathReason`] | why a message was not accepted, not answered, not handled |
//! | [`Counts`], [`DeadLetters`] | what became of every message |
//! | [`route::Strategy`], [`PartitionPolicy`], [`Discovery`] | what you can put in its place |
//!
//! # Guarantees in short
//!
//! - A message is delivered at most once, and messages from one sender to one routee arrive in the
//!   order in which they were sent. A sender is a [`Router`] handle, or a routee.
//! - `sent = delivered + refused + dead + unknown + in flight`, at all times: see [`Counts`].
//! - Equal views give equal tables: every node that sees the same members sends a key to the same
//!   routee. A join moves keys to the joiner only, a leave from the leaver only.
//! - All queues and buffers are bounded. A full one is a [`Refusal`], never a wait.
//! - A member that does not answer keeps its place until it answers again, leaves, restarts, or is
//!   removed with [`Node::down`]; meanwhile it gets no messages.
//!
//! The README tells these with all conditions, and what is *not* guaranteed. In the repository,
//! `docs/ARCHITECTURE.md` explains how it works and why it is so, `docs/PROTOCOL.md` every byte on
//! the wire, and `examples/` holds programs to run.
//!
//! # Modules
//!
//! What an application needs is re-exported here. The modules are the layers it is built of, from
//! the bottom up: [`base`]; [`hash`], [`queue`], [`config`]; [`wire`]; the deciders [`member`],
//! [`route`], [`ask`]; [`part`], capabilities beside plain routing; [`worker`] and [`control`], which
//! compose them; [`net`]; the drivers [`runtime`] and [`sim`], the simulator; [`api`]; [`testing`],
//! your own routees in that simulator; and, with the feature `admin`, a running node over HTTP.

// What a public function gives, its caller can name. (Tests make types that nobody else sees.)
#![cfg_attr(not(test), warn(unnameable_types))]

// The derive macros speak of `::keyway`, also in here.
extern crate self as keyway;

#[cfg(feature = "admin")]
pub mod admin;
pub mod api;
pub mod ask;
pub mod base;
pub mod config;
pub mod control;
pub mod hash;
pub mod member;
pub mod net;
pub mod part;
pub mod queue;
pub mod route;
pub mod runtime;
pub mod sim;
pub mod testing;
pub mod wire;
pub mod worker;

pub use api::*;
pub use base::fate::{AskError, Counts, DeathReason, Refusal, WorkEnd};
pub use base::{
    HandlerId, Incarnation, InstanceId, LayoutHash, Member, MemberEvent, MemberState, MessageType,
    MessageTypeId, NodeId, NodeRef, Path, PathError, PatternError, Placed, Placement,
    PlacementError, RouteeId, Service, Time, View, WorkerIndex,
};
pub use config::{ConfigError, NodeConfig};
pub use control::given_up::GivenUp;
pub use control::joining::{JoinState, SeedState};
pub use control::leaving::LeaveWaits;
pub use control::lookout::HeldWorker;
pub use control::size::Crowding;
pub use control::troubles::{PeerTrouble, Trouble};
pub use hash::{HashKey, HashSeed};
pub use keyway_macros::Layout;
/// Makes a type a message, which nodes can send to each other.
///
/// ```
/// use keyway::Message;
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize, Message)]
/// #[message(name = "shop.change", key = cart, reply = u32)]
/// enum Change {
///     Add { cart: u64, sku: u32 },
///     Clear { cart: u64 },
///     #[message(no_key)]
///     Recount,
/// }
/// ```
pub use keyway_macros::Message;
/// Makes a type a routee, which handles messages.
///
/// ```
/// use keyway::{Context, Handler, Message, Routee};
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize, Message)]
/// #[message(name = "doc.hit")]
/// struct Hit;
///
/// #[derive(Default, Routee)]
/// #[routee(handles(Hit), started = Self::open, wake = Self::tick, stopped = Self::close)]
/// struct Counter {
///     hits: u64,
/// }
///
/// impl Counter {
///     fn open(&mut self, cx: &mut Context<'_>) {
///         cx.wake_after(std::time::Duration::from_secs(1), 0);
///     }
///
///     fn tick(&mut self, _token: u64, cx: &mut Context<'_>) {
///         println!("{} hits", std::mem::take(&mut self.hits));
///         cx.wake_after(std::time::Duration::from_secs(1), 0);
///     }
///
///     fn close(&mut self, _: &mut Context<'_>) {
///         println!("{} hits at the end", self.hits);
///     }
/// }
///
/// impl Handler<Hit> for Counter {
///     type Reply = ();
///     fn handle(&mut self, _: &ArchivedHit, _: &mut Context<'_>) {
///         self.hits += 1;
///     }
/// }
/// ```
pub use keyway_macros::Routee;
pub use member::{
    Manual, MemberConfigError, MemberError, MemberFault, PartitionPolicy, RemoveAfter,
};
pub use net::discovery::{Discovery, SeedList};
pub use queue::times::Distribution;
pub use rkyv;
pub use route::{LocalPreference, SpecError};
pub use runtime::proxies::{DeadLetter, OrderError};
pub use runtime::published::{Ended, Strangers};
pub use runtime::start::StartError;
pub use wire::{Layout, Message, WireType};
pub use worker::{
    AskOptions, Context, Handler, HandlerTable, IntoReply, Later, OnReply, Pattern, Replier,
    Routee, RouteeRef, RouterRef, TooMuchWork, WakeKey, Work, WorkKey, WorkLost,
};

/// The code in these documents is compiled and run as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/ARCHITECTURE.md")]
#[doc = include_str!("../docs/MESSAGES.md")]
#[doc = include_str!("../docs/guide/testing.md")]
struct Documents;
