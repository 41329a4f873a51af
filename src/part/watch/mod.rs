//! Watch: a handler or an application learns, exactly once, that a routee or a node it watches is
//! gone.
//!
//! The watcher's worker asks the watched routee's worker to tell it (`wire::Op::Watch`), over the
//! link that messages take too, and asks again on every new link: the other side forgets what a
//! lost link asked for. What becomes of whole nodes is told by the view.

mod control;
mod members;
mod places;
#[cfg(test)]
mod tests;
mod wire;
mod worker;

use crate::base::debug_as_display;
use rkyv::{Archive, Serialize};

pub use self::control::{Notify, Order, WatchControl};
pub use self::members::{Ended, Members};
pub use self::places::Places;
pub use self::worker::{Report, WatchWorker, Watcher, WorkerOrder};
use super::Part;
use crate::Message;
use crate::base::{NodeRef, RouteeId, WorkerIndex};
use crate::config::WatchConfig;

/// The part's line in the list.
pub struct Watch;

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// One life of a node.
    Node(NodeRef),
    /// One life of a routee: the one that is named, or else the one that runs when the watch gets
    /// there.
    Routee(RouteeId),
}

impl Target {
    /// The life of the node it is on.
    pub fn node(self) -> NodeRef {
        match self {
            Self::Node(node) | Self::Routee(RouteeId { node, .. }) => node,
        }
    }
}

/// Why something that was watched is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[repr(u8)]
pub enum GoneReason {
    /// The handler is not served there, or not any more.
    #[error("the handler is not served there, or not any more")]
    Withdrawn = 1,
    /// The handler panicked, and a fresh instance has its place.
    #[error("the handler panicked and was replaced")]
    Replaced,
    /// The node has left gracefully.
    #[error("the node has left")]
    NodeLeft,
    /// The node was removed.
    #[error("the node was removed")]
    NodeDown,
    /// The node was started anew; the life that was watched is over.
    #[error("the node was started anew")]
    NodeRestarted,
    /// The node is no member here, and did not become one while its record could still have been
    /// on its way.
    #[error("the node is not a member")]
    UnknownNode,
    /// The watched routee's worker keeps as many watches as it may; nothing is known of the
    /// routee.
    #[error("the watched node keeps as many watches as it may")]
    TooManyWatches,
}

debug_as_display!(GoneReason);

/// Why a handler's watch did not begin; nothing will be told of it.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot watch more: this worker keeps {most} watches, those included of whose ends its routees \
     have not been told yet; end some, go on when those were told, or raise `watch.max_watches`"
)]
#[non_exhaustive]
pub struct TooManyWatches {
    /// How many there can be.
    pub most: usize,
}

debug_as_display!(TooManyWatches);

impl GoneReason {
    const ALL: [Self; 7] = [
        Self::Withdrawn,
        Self::Replaced,
        Self::NodeLeft,
        Self::NodeDown,
        Self::NodeRestarted,
        Self::UnknownNode,
        Self::TooManyWatches,
    ];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }
}

/// Tells a handler that what it watched is gone. Comes exactly once per watch, unless it was
/// stopped before.
#[derive(Archive, Serialize, Message, Clone, Copy, Debug, PartialEq, Eq)]
#[message(name = "keyway.gone")]
pub struct Gone {
    /// What the handler gave when it began to watch.
    pub token: u64,
    reason: u8,
}

impl Gone {
    fn new(token: u64, reason: GoneReason) -> Self {
        Self { token, reason: reason as u8 }
    }
}

impl ArchivedGone {
    /// Why.
    pub fn reason(&self) -> GoneReason {
        // Only made from a reason, in this process.
        GoneReason::from_code(self.reason).unwrap_or(GoneReason::UnknownNode)
    }
}

impl Part for Watch {
    const NAME: &'static str = "watch";
    const COUNTERS: &'static [&'static str] = worker::COUNTERS;
    type Settings = WatchConfig;
    type Worker = WatchWorker;
    type Face = Places;
    type Control = WatchControl;

    fn worker(me: NodeRef, _: WorkerIndex, settings: &WatchConfig) -> WatchWorker {
        WatchWorker::new(me, settings.max_watches)
    }

    fn control(_: NodeRef, workers: u16, _: &WatchConfig) -> WatchControl {
        WatchControl::new(workers)
    }

    fn face(workers: usize, settings: &WatchConfig) -> Places {
        Places::new(settings.max_watches * workers)
    }
}
