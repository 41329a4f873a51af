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

impl World {
    /// A process was told something, or its view is another one.
    pub(in crate::sim) fn check_kept(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let (control, view) = (&body.control, body.control.view());
        let ledger = &mut *self.ledger.lock();
        let words = control.speakers().map(|node| ("a word", node));
        let loads = ledger.loads.known(life).map(|node| ("a load", node));
        let channels = control.spoken_to().map(|node| ("a channel", node));
        let me = control.me();
        let mut kept = words.chain(loads).chain(channels);
        let wrong = kept.find(|(_, node)| *node != me && !is_member(view, *node));
        drop(kept);
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
            self.checks.forgotten += u64::from(self.ledger.lock().loads.has_known(life, node));
            if listens {
                self.blame(NAME, format!("life {life} still listens to {node}, which is gone"));
            }
        }
        self.check_kept(life);
    }
}
