//! What is kept of who is gone: the records of former members, so that nobody who missed their end
//! can bring them back.
//!
//! Who may have missed it is a member that cannot be heard, and whoever was removed or replaced
//! without having said itself that it ends. Of neither it is known for how long it stays away. So the
//! time after which former members are forgotten runs only while everybody answers, and those that
//! may run still are not forgotten by time at all; where there are too many records the oldest go.
//!
//! Former members are not among what members compare, since each forgets them in its own time.
//! Whoever joined after their end learns of them here: as long as there is somebody to keep them
//! for, each node tells a random member of a few of them once per round, going round.

use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Duration;

use crate::base::{MemberState, NodeId, NodeRef, Time};

use super::belief::Belief;
use super::identity::SwimId;
use super::messages::{self, FLAG_AT_LARGE, SUMMARY_ENTRIES, SummaryEntry};
use super::records::Entry;
use super::sync::summary_entry;
use super::{MemberSink, Membership};

impl Membership {
    /// Forgets what nobody can bring back any more. `due` is when this round should have been: a
    /// node that did not run was away itself, and hears only now of who else was.
    pub(super) fn look_after_tombstones(&mut self, now: Time, due: Time) {
        if now.since(due) > Duration::from_millis(self.config.suspect_ms) {
            self.directory.is_away(now);
        }
        self.directory.expire(now, Duration::from_millis(self.config.tombstone_ms));
    }

    /// Tells a member of some former members that it may never have heard of.
    pub(super) fn tell_of_tombstones(&mut self, to: SocketAddr, sink: &mut dyn MemberSink) {
        let all = self.directory.someone_is_away();
        let me = self.me().node;
        let is_told = |(node, entry): &(&NodeId, &Entry)| {
            **node != me && !entry.record.is_live() && (all || entry.at_large)
        };
        let entries = &self.directory.entries;
        let told = self.told_of_gone;
        let after = entries.range((Bound::Excluded(told), Bound::Unbounded));
        let round = after.chain(entries.range(..=told)).filter(is_told).take(SUMMARY_ENTRIES);
        let (mut at_large, mut others, mut last) = (Vec::new(), Vec::new(), told);
        for (node, entry) in round {
            let about = if entry.at_large { &mut at_large } else { &mut others };
            about.push(summary_entry(entry, Belief::Unknown));
            last = *node;
        }
        self.told_of_gone = last;
        for (flags, about) in [(FLAG_AT_LARGE, at_large), (0, others)] {
            if !about.is_empty() {
                sink.send(to, &messages::former(self.sender(), flags, &about));
            }
        }
    }

    /// A member says of these that they may run still. Whoever hears of their end only now cannot
    /// see that: it would forget them in their time, and be told of them anew for ever.
    pub(super) fn take_marks(&mut self, flags: u8, entries: &[SummaryEntry]) {
        if flags & FLAG_AT_LARGE != 0 {
            entries.iter().for_each(|entry| self.directory.mark_at_large(entry.member));
        }
    }

    /// Whether this life is known to have left.
    pub fn has_left(&self, member: NodeRef) -> bool {
        let held = self.directory.get(member.node).filter(|held| held.node_ref() == member);
        held.is_some_and(|held| held.record.member.state == MemberState::Left)
    }

    /// Whether old news could still count if the detector forgot that this one is down.
    pub(super) fn remembers(&self, id: &SwimId) -> bool {
        let entry = self.directory.get(id.member.node);
        entry.is_some_and(|entry| entry.node_ref() == id.member) && self.swim.is_down(*id)
    }
}
