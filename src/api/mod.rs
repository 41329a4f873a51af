//! What users hold: a [`Node`], its [`Router`]s, [`RouteeRef`](crate::RouteeRef)s, and the futures
//! they give.

mod ask;
mod ask_each;
mod builder;
mod concurrent;
mod error;
mod events;
mod health;
mod keeper;
mod load;
mod log;
mod node;
mod router;
mod select;
mod shared;
#[cfg(test)]
mod tests;
mod times;
mod watch;

pub use self::ask::{Ask, AskFuture};
pub use self::ask_each::{Answers, AskEach, AskEachFuture};
pub use self::builder::{BuildError, NodeBuilder};
pub use self::concurrent::{AsyncReplies, AsyncWork};
pub use self::error::NodeError;
pub use self::events::{DeadLetters, EventGap, Events};
pub use self::health::{Health, PathTimes, Room, Ways, WorkerFill, WorkerHealth, WorkerUse};
pub use self::node::{Node, RouterInfo};
pub use self::router::{Batch, NotReady, Router, RouterBuilder};
pub use self::select::Selection;
pub use self::shared::PartCount;
pub use self::watch::Watch;
pub use crate::part::load::{Load, LoadError};
pub use crate::part::watch::{ArchivedGone, Gone, GoneReason, Target, TooManyWatches};
