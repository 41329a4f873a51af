//! What the control thread tells everybody.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};

use super::proxies::DeadLetter;
use crate::base::MemberEvent;
use crate::control::joining::JoinState;
use crate::member::MemberFault;
use crate::route::snapshot::Snapshot;

/// What the control thread tells everybody.
pub struct Published {
    /// What application threads route by.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The same, to wait for.
    pub changes: watch::Sender<Arc<Snapshot>>,
    /// Changes of membership.
    pub events: broadcast::Sender<MemberEvent>,
    /// Messages that died on this node.
    pub dead_letters: broadcast::Sender<DeadLetter>,
    /// Set when the node cannot go on, or has stopped in good order.
    pub ended: watch::Sender<Option<Ended>>,
    /// How datagrams and strangers fared.
    pub strangers: watch::Sender<Strangers>,
    /// How far it has got with joining.
    pub join: watch::Sender<JoinState>,
    /// Set before the workers are stopped: from then on application threads are refused.
    pub closing: Arc<AtomicBool>,
}

/// How a node's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It left its cluster; true if everything was drained in time.
    Left {
        /// Whether everything was drained in time.
        drained: bool,
    },
    /// It was stopped.
    Stopped,
    /// It could not go on.
    Fault(MemberFault),
}

/// What came to this node's port that was not let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Strangers {
    /// Connections that completed the handshake.
    pub accepted: u64,
    /// Connections that were refused or broke during the handshake.
    pub refused: u64,
    /// Connections that had to give way to others, or found no place.
    pub turned_away: u64,
    /// What became of datagrams.
    pub datagrams: crate::control::DatagramCounts,
    /// Frames from other nodes' control threads of kinds or parts that this one does not know.
    pub frames_skipped: u64,
}
