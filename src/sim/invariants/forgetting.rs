//! What a node keeps of others goes with them: words, loads and channels are those of members. Only
//! who is not known yet, or not any more, may still speak on a channel of its own making.

use crate::base::{NodeRef, View};
use crate::route::snapshot::Snapshot;
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "nothing is kept of who is gone";

fn is_member(view: &View, node: NodeRef) -> bool {
    view.member(node.node).is_some_and(|member| member.node_ref() == node)
}

/// One of these nodes that is no member. They are found fast where they come in the members' order.
fn stranger(view: &View, mut nodes: impl Iterator<Item = NodeRef>) -> Option<NodeRef> {
    let mut next = 0;
    nodes.find(|node| {
        let members = &view.members;
        next += members[next..].iter().take_while(|member| member.id < node.node).count();
        let is_next = members.get(next).is_some_and(|member| member.node_ref() == *node);
        !is_next && !is_member(view, *node)
    })
}

impl World {
    /// A process was told something, or its view is another one.
    pub(in crate::sim) fn check_kept(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let (control, view) = (&body.control, body.control.view());
        let ledger = &mut *self.ledger.lock();
        let me = control.me();
        let wrong = |what, nodes: &mut dyn Iterator<Item = NodeRef>| {
            stranger(view, nodes.filter(|node| *node != me)).map(|node| (what, node))
        };
        let wrong = wrong("a word", &mut control.speakers())
            .or_else(|| wrong("a load", &mut ledger.parts.loads.known(life)))
            .or_else(|| wrong("a channel", &mut control.spoken_to()));
        if let Some((what, node)) = wrong {
            let seen = format!("life {life} keeps {what} of {node}, which is no member");
            ledger.blame(NAME, seen);
        }
    }

    /// A process's view has changed.
    pub(super) fn check_forgotten(&mut self, life: LifeId, before: &Snapshot, now: &Snapshot) {
        let members = before.view.members.iter().map(|member| member.node_ref());
        let gone = members.filter(|node| *node != now.view.me && !is_member(&now.view, *node));
        for node in gone {
            let Some(body) = self.lives[life].body.as_deref() else { return };
            let listens = body.control.listened_to().any(|other| other == node);
            self.checks.forgotten +=
                u64::from(self.ledger.lock().parts.loads.has_known(life, node));
            if listens {
                self.blame(NAME, format!("life {life} still listens to {node}, which is gone"));
            }
        }
        self.check_kept(life);
    }
}
