//! Load: how busy each node is. Every node measures itself and gossips what has changed; who wants
//! to know exactly asks the node itself.

mod control;
#[cfg(test)]
mod tests;
mod worker;

use crate::base::debug_as_display;
use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::control::{Answer, LoadControl, Order, Reading};
pub use self::worker::{LoadWorker, Never};
use super::Part;
use crate::base::{NodeRef, WorkerIndex};
use crate::config::LoadConfig;
use crate::wire::codec::{ReadResult, Reader, Writer};

/// The part's line in the list.
pub struct LoadPart;

/// How busy a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Which part of the time its workers worked, in thousandths, all of them together; looking for
    /// work does not count.
    pub busy_per_mille: u16,
    /// Whether one of its workers stands still: a handler blocks it.
    pub stuck: bool,
}

/// The loads of the members that are known.
pub type Loads = Arc<BTreeMap<NodeRef, Load>>;

/// Why a node's load is not known.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is no member.
    #[error("asking a node for its load failed: it is no member of this cluster")]
    NotAMember,
    /// The question or the answer may be lost.
    #[error("asking a node for its load failed: it could not be reached, or the way there broke")]
    Lost,
    /// It does not say.
    #[error("asking a node for its load failed: it did not answer within 2 s")]
    NoAnswer,
    /// This node has stopped.
    #[error("asking a node for its load failed: this node has stopped")]
    Stopped,
}

debug_as_display!(LoadError);

impl Load {
    fn put(self, out: &mut Writer<'_>) {
        out.u16(self.busy_per_mille).u8(u8::from(self.stuck));
    }

    /// A newer node may add to it.
    fn read(from: &mut Reader<'_>) -> ReadResult<Self> {
        Ok(Self { busy_per_mille: from.u16()?.min(1_000), stuck: from.u8()? != 0 })
    }
}

impl Part for LoadPart {
    const NAME: &'static str = "load";
    const COUNTERS: &'static [&'static str] = &[];
    type Settings = LoadConfig;
    type Worker = LoadWorker;
    type Face = Arc<ArcSwap<Loads>>;
    type Control = LoadControl;

    fn worker(_: NodeRef, _: WorkerIndex, _: &LoadConfig) -> LoadWorker {
        LoadWorker
    }

    fn control(me: NodeRef, _: u16, settings: &LoadConfig) -> LoadControl {
        LoadControl::new(me, settings.every_ms)
    }

    fn face(_: usize, _: &LoadConfig) -> Arc<ArcSwap<Loads>> {
        Arc::default()
    }
}
