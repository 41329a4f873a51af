//! After every input: what follows from it for reachability, the node's own state, the view and
//! the partition policy.

use std::sync::Arc;
use std::time::Duration;

use crate::base::pace::Turn;
use crate::base::{MemberState, NodeRef, Time};

use super::belief::Belief;
use super::records::{self, Entry};
use super::timer::TimerKind;
use super::{MemberFault, MemberSink, Membership, Stage, events, schedule};

impl Membership {
    /// Notes that this node can hear. After a silence in which others were given up, they are all
    /// called, since it was rather this node that was away.
    pub(super) fn heard(&mut self, now: Time, whom: NodeRef, sink: &mut dyn MemberSink) {
        if whom == self.me() {
            return;
        }
        let silent = now.since(self.last_heard);
        self.last_heard = now;
        if silent > Duration::from_millis(self.config.suspect_ms) {
            self.fitness.unsteady(now);
            self.swim.hears_again(now);
            self.recall_all(now, sink);
            // They answer in a moment, and are shown together.
            self.showing.done(now);
        }
    }

    /// Brings everything that follows from the last input up to date, and shows it.
    pub(super) fn settle(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.stage != Stage::Running {
            return;
        }
        // Who is there comes first: by that it is judged whose fault a silence was.
        self.touched.append(&mut self.swim.take_touched());
        let looked = !self.touched.is_empty();
        let returned = self.refresh_reachability(now);
        if self.swim.cannot_renew() {
            return self.end(now, MemberFault::NothingLater { what: "renewal" }, sink);
        }
        if self.swim.take_renewed(now) {
            self.stats.renewals += 1;
            self.swim.look_around(now, sink);
            self.has_renewed(now, sink);
            self.push_own_everywhere(sink);
        }
        let changed = std::mem::take(&mut self.changed);
        if changed || looked {
            if returned {
                self.recall_all(now, sink);
            }
            self.forgive_common(now, sink);
            self.refresh_damping();
            self.go_up_if_ready(now, sink);
        }
        if self.stage != Stage::Running {
            return;
        }
        self.unshown |= changed | std::mem::take(&mut self.changed);
        if self.unshown {
            match self.showing.wanted(now) {
                Turn::Now => self.show(now, sink),
                Turn::At(at) => schedule(now, at.since(now), TimerKind::Show, sink),
                Turn::Waits => {}
            }
        }
    }

    /// Returns whether a member that was unreachable answers again.
    fn refresh_reachability(&mut self, now: Time) -> bool {
        let me = self.me().node;
        let (mut returned, mut was_away) = (false, false);
        for node in std::mem::take(&mut self.touched) {
            let Some(entry) = self.directory.entries.get_mut(&node) else { continue };
            let member = &entry.record.member;
            if node == me || records::is_gone(member.state) {
                continue;
            }
            let belief = self.swim.belief(member.address, member.node_ref());
            let active = belief.is_active();
            if let Belief::Active { renewal, .. } = belief {
                entry.answers(now, renewal);
            }
            let member = &entry.record.member;
            if active == member.reachable && active == entry.unreachable_since.is_none() {
                continue;
            }
            if active {
                returned |= entry.unreachable_since.is_some_and(|since| since < now);
                was_away |= entry.unreachable_since.is_some();
                entry.unreachable_since = None;
            } else if entry.unreachable_since.is_none() {
                entry.unreachable_since = Some(now);
            }
            entry.record.member_mut().reachable = active;
            self.changed = true;
        }
        if was_away {
            self.directory.is_away(now);
        }
        returned
    }

    pub(super) fn show(&mut self, now: Time, sink: &mut dyn MemberSink) {
        self.unshown = false;
        self.showing.done(now);
        let members = self.directory.live().map(|entry| Arc::clone(&entry.record.member)).collect();
        let view = self.view.next(self.me(), members);
        let fate = |member: NodeRef| match self.directory.get(member.node) {
            Some(entry) if entry.node_ref() == member => entry.record.member.state,
            _ => MemberState::Down,
        };
        let events = events::between(&self.view, &view, fate);
        if !events.is_empty() {
            self.view = Arc::new(view);
            sink.view_changed(&self.view, &events);
        }
    }

    /// Ends this node's membership; what it holds about itself is never sent.
    pub(super) fn end(&mut self, now: Time, fault: MemberFault, sink: &mut dyn MemberSink) {
        if self.stage == Stage::Ended {
            return;
        }
        self.stage = Stage::Ended;
        self.directory.own_mut().member_mut().state = MemberState::Down;
        self.show(now, sink);
        sink.fault(fault);
    }

    pub(super) fn ask_policy(&mut self, now: Time, sink: &mut dyn MemberSink) {
        let since =
            |entry: &Entry| entry.unreachable_since.map(|at| (entry.node_ref(), now.since(at)));
        let unreachable: Vec<_> = self.directory.others().filter_map(since).collect();
        if unreachable.is_empty() {
            return;
        }
        for node in self.policy.decide(now, &self.view, &unreachable) {
            if unreachable.iter().any(|(member, _)| member.node == node) {
                // It is a member and not this node, so removing it cannot fail; a policy that
                // names it twice changes nothing more.
                let _ = self.down(now, node, sink);
            }
        }
    }
}
