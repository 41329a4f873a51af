//! What the control thread tells everybody.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::proxies::DeadLetter;
use crate::base::{MemberEvent, WorkerIndex};
use crate::control::given_up::GivenUp;
use crate::control::joining::JoinState;
use crate::control::leaving::LeaveWaits;
use crate::control::troubles::Trouble;
use crate::member::MemberFault;
use crate::queue::gate::Gate;
use crate::queue::stream::StreamSender;
use crate::route::snapshot::Snapshot;

/// What the control thread tells everybody.
pub struct Published {
    /// What application threads route by.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The same, to wait for.
    pub changes: watch::Sender<Arc<Snapshot>>,
    /// Changes of membership.
    pub events: StreamSender<MemberEvent>,
    /// Messages that died on this node.
    pub dead_letters: StreamSender<DeadLetter>,
    /// Set when the node cannot go on, or has stopped in good order.
    pub ended: watch::Sender<Option<Ended>>,
    /// How datagrams and strangers fared.
    pub strangers: watch::Sender<Strangers>,
    /// How far it has got with joining.
    pub join: watch::Sender<JoinState>,
    /// What its leave waits for, or gave up on.
    pub leave: watch::Sender<Option<Arc<LeaveWaits>>>,
    /// What is wrong between it and others.
    pub troubles: watch::Sender<Arc<[Trouble]>>,
    /// What was given up at the end, if something was; set before `ended` is.
    pub given_up: Arc<OnceLock<GivenUp>>,
    /// Closed before the workers are stopped: from then on application threads are refused.
    pub gate: Arc<Gate>,
}

/// How a node's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It left its cluster.
    Left {
        /// Whether everything was drained in time, and a member has shown that it knows, if one
        /// stays. [`Node::leave_waits_for`](crate::Node::leave_waits_for) tells what was not.
        drained: bool,
    },
    /// It was stopped.
    Stopped,
    /// It could not go on.
    Fault(MemberFault),
    /// It could not go on without this worker, whose thread has panicked, or whose poll the system
    /// failed. What the worker had is counted as [`GivenUp`] says.
    WorkerLost(WorkerIndex),
}

/// What came to this node's port that was not let in, and what did not go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Strangers {
    /// Connections that completed the handshake.
    pub accepted: u64,
    /// Connections that were refused or broke during the handshake.
    pub refused: u64,
    /// Connections that had to give way to others, or found no place.
    pub turned_away: u64,
    /// Connections by which members looked whether this node listens.
    pub looked: u64,
    /// What became of datagrams.
    pub datagrams: crate::control::DatagramCounts,
    /// This node's own datagrams that its system did not take: no room in the socket, no way to there,
    /// or not permitted.
    pub unsent: u64,
    /// Frames from other nodes' control threads of kinds or parts that this one does not know.
    pub frames_skipped: u64,
    /// What membership has counted.
    pub membership: crate::member::MemberStats,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::base::{
        HandlerId, Incarnation, LayoutHash, Member, MessageType, NodeId, NodeRef, Placed, Service,
    };
    use crate::config::MEMBER_BYTES;

    /// The longest record of a member.
    const RECORD_BYTES: usize = 8 << 10;

    fn member() -> Member {
        let life = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        Member::plain(life, ([127, 0, 0, 1], 7_400).into())
    }

    /// As many different texts as fit a record, beside so many bytes for each, two for its length.
    fn texts(beside: usize) -> impl Iterator<Item = Arc<str>> {
        let mut left = RECORD_BYTES;
        (0_u32..).map(|number| format!("/{number:x}").into()).take_while(move |text: &Arc<str>| {
            let enough = left.checked_sub(2 + text.len() + beside);
            left = enough.unwrap_or(0);
            enough.is_some()
        })
    }

    /// The bound of what waits to be read is reckoned with this.
    #[test]
    fn no_record_makes_a_member_that_takes_more_than_is_reckoned() {
        let types = texts(8).map(|name| MessageType { name, layout: LayoutHash(1) });
        let service = |path: Arc<str>, messages| Service {
            path: path.parse().expect("a path"),
            handler: HandlerId(1),
            placed: Placed::EVERY,
            messages,
        };
        let shapes = [
            Member { roles: texts(0).collect(), ..member() },
            Member { metadata: texts(2).map(|key| (key, "".into())).collect(), ..member() },
            Member {
                services: texts(6).map(|path| service(path, Vec::new())).collect(),
                ..member()
            },
            Member { services: vec![service("/a".into(), types.collect())], ..member() },
        ];
        for shape in shapes {
            let bytes = shape.memory_bytes();
            assert!(bytes > RECORD_BYTES && bytes <= MEMBER_BYTES, "{bytes}: {shape:?}");
        }
    }
}
