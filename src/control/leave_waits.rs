//! What a leave waits for, in words: for the log while it goes on, and for whoever asks, also after
//! a leave that gave up on it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{NodeId, NodeRef, WorkerIndex};
use crate::worker::Undrained;

/// What the leave of a node waits for, or gave up on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaveWaits {
    /// Asks from here that have not ended.
    pub asks: usize,
    /// Pieces of work of handlers under way elsewhere.
    pub work: usize,
    /// Whether some handler may still reply later.
    pub owes_replies: bool,
    /// What waits within the node.
    pub waiting: usize,
    /// Some of the peers that do not answer asks, have not acknowledged or taken what is for them, or
    /// have not said yet that they send no more.
    pub peers: Vec<(Arc<str>, SocketAddr)>,
    /// Those of them that are no members here and of which no name is known: they have opened links to
    /// this node, which does not hear of them in any other way, or does not see them yet.
    pub strangers: Vec<NodeId>,
    /// Workers that do not say how far they are: a handler holds them.
    pub held: Vec<WorkerIndex>,
    /// All else is done or given up, and no member that stays has shown that it knows. If none does,
    /// the others see this node as unreachable until their policy or an operator removes it.
    pub unheard: bool,
}

impl LeaveWaits {
    /// What is known of all workers. `known` tells a peer's name and address.
    pub(super) fn new(
        undrained: &Undrained,
        held: Vec<WorkerIndex>,
        known: impl Fn(NodeRef) -> Option<(Arc<str>, SocketAddr)>,
    ) -> Self {
        let Undrained { waiting, asks, work, owes_replies, peers: all } = undrained;
        let [waiting, asks, work] = [*waiting, *asks, *work];
        let (mut peers, mut strangers) = (Vec::new(), Vec::new());
        for peer in all {
            match known(*peer) {
                Some(known) => peers.push(known),
                None => strangers.push(peer.node),
            }
        }
        Self {
            asks,
            work,
            owes_replies: *owes_replies,
            waiting,
            peers,
            strangers,
            held,
            unheard: false,
        }
    }
}

impl fmt::Display for LeaveWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asks, work, owes_replies, waiting, peers, strangers, held, unheard } = self;
        let mut parts = Vec::new();
        for (count, what) in [
            (*asks, "asks without a reply"),
            (*work, "pieces of work under way elsewhere"),
            (*waiting, "that wait within the node"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        if *owes_replies {
            parts.push("handlers that may still reply later".to_owned());
        }
        let list = |names: Vec<String>| names.join(", ");
        if !held.is_empty() {
            let names = held.iter().map(ToString::to_string).collect();
            parts.push(format!("handlers that hold the workers {}", list(names)));
        }
        if !peers.is_empty() {
            let names =
                peers.iter().map(|(name, address)| format!("{name} at {address}")).collect();
            parts.push(format!("the peers {}, which have not answered or taken all", list(names)));
        }
        if !strangers.is_empty() {
            let names = strangers.iter().map(ToString::to_string).collect();
            let list = list(names);
            parts.push(format!("the nodes {list}, which are no members here and have links open"));
        }
        if *unheard {
            parts.push(
                "the word of a member that it heard the farewell (if none did, the others see this \
                 node as unreachable until their policy or an operator removes it)"
                    .to_owned(),
            );
        }
        match parts.is_empty() {
            true => f.write_str("nothing that is known"),
            false => f.write_str(&parts.join("; ")),
        }
    }
}
