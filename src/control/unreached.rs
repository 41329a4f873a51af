//! A node that has met others, and that none of them lists: it does not answer at the address that it
//! advertises, or what it says of itself does not arrive. It sees them all, they answer it, and to
//! itself it seems to be up; but it gets no keys, and nobody else knows of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::joining::JoinState;
use super::log_line::LogLine;
use super::repeats::Repeats;
use super::{Control, ControlSink, ControlTimer};
use crate::base::{LogKind, LogLimiter, NodeId, Time, View};

/// How often it is looked whether it is over.
const LOOK: Duration = Duration::from_secs(1);
/// A look that comes so much later than it was due says nothing yet: this process did not run, and
/// what others sent meanwhile lies in its socket.
const LATE: Duration = Duration::from_millis(500);
/// Whose word is kept.
const MOST: usize = 8;

/// What others say of this node's address.
#[derive(Debug, Default)]
pub(super) struct Unreached {
    address: Option<SocketAddr>,
    /// Who says so, and when last.
    by: BTreeMap<SocketAddr, Time>,
    /// For how long a word counts: until it must have come again.
    lately: Duration,
    /// Since when this node has met others and was not seen to be listed.
    unlisted_since: Option<Time>,
    /// How long that may last: each round of comparing asks for it.
    patience: Duration,
    unlisted: bool,
    looking: bool,
    /// When the next look is due, while there are looks.
    due: Time,
    news: bool,
    repeats: Repeats,
    log: LogLimiter,
}

impl Unreached {
    pub fn new(retry_max_ms: u64, sync_ms: u64) -> Self {
        let lately = Duration::from_secs(1).max(2 * Duration::from_millis(retry_max_ms));
        let patience = Duration::from_millis(2 * sync_ms) + LOOK;
        Self { lately, patience, ..Self::default() }
    }

    /// Whether this node has met others, and none of them was seen to list it. Gives the same, for as
    /// long as it is worth another look.
    fn watch(&mut self, now: Time, is_unlisted: bool) -> bool {
        self.unlisted_since = is_unlisted.then(|| self.unlisted_since.unwrap_or(now));
        let unlisted = self.unlisted_since.is_some_and(|since| now.since(since) >= self.patience);
        self.news |= unlisted != self.unlisted;
        self.unlisted = unlisted;
        if unlisted {
            self.repeats.count();
        }
        is_unlisted
    }

    fn said(&mut self, now: Time, from: SocketAddr, address: SocketAddr) {
        if self.by.contains_key(&from) || self.by.len() < MOST {
            self.news |= self.by.insert(from, now).is_none();
        }
        self.address = Some(address);
        self.repeats.count();
    }

    /// Who has not said so lately counts no more. Whether nobody is left.
    fn forget(&mut self, now: Time, is_listed: bool) -> bool {
        let before = self.by.len();
        self.by.retain(|_, last| !is_listed && now.since(*last) < self.lately);
        self.news |= before != self.by.len();
        self.by.is_empty()
    }

    /// When the first look is due, if nobody looks yet.
    fn begins(&mut self, now: Time) -> Option<Time> {
        (!std::mem::replace(&mut self.looking, true)).then(|| self.next(now))
    }

    /// Looks. When the next one is due, if it goes on.
    fn look(&mut self, now: Time, is_listed: bool, is_unlisted: bool) -> Option<Time> {
        if now.since(self.due) > LATE {
            let late = now.since(self.due);
            self.unlisted_since = self.unlisted_since.map(|since| since.plus(late));
            self.by.values_mut().for_each(|last| *last = last.plus(late));
            return Some(self.next(now));
        }
        let watches = self.watch(now, is_unlisted);
        self.looking = !self.forget(now, is_listed) || watches;
        self.looking.then(|| self.next(now))
    }

    fn next(&mut self, now: Time) -> Time {
        self.due = now.plus(LOOK);
        self.due
    }

    fn line(&mut self, now: Time) -> Option<LogLine> {
        let kind = LogKind::Unreached;
        // What has no room stays due.
        let is_due = self.repeats.is_due(now) && self.log.has_room(now, kind);
        let state = self.state().filter(|_| is_due)?;
        let left_out = self.log.line(now, kind)?;
        self.repeats.tell(now);
        Some(LogLine { kind, left_out, text: format!("this node is not let in: {state}") })
    }

    fn state(&self) -> Option<JoinState> {
        match self.address.filter(|_| !self.by.is_empty()) {
            Some(address) => {
                Some(JoinState::Unreached { address, by: self.by.keys().copied().collect() })
            }
            None => self.unlisted.then_some(JoinState::Unlisted),
        }
    }
}

impl Control {
    /// How far this node has got with joining.
    pub fn join_state(&self) -> JoinState {
        let state = self.joining.state();
        let unreached = self.unreached.state().filter(|_| state == JoinState::Joined);
        unreached.unwrap_or(state)
    }

    /// Tells the same, if that has changed since it was last told.
    pub fn tell_join_state(&mut self, sink: &mut dyn ControlSink) {
        if self.joining.take_news() | std::mem::take(&mut self.unreached.news) {
            sink.join_state(self.join_state());
        }
    }

    /// A member says that this node does not answer at its address, though this node sees it.
    pub(super) fn unreached(
        &mut self,
        now: Time,
        from: SocketAddr,
        address: SocketAddr,
        sink: &mut dyn ControlSink,
    ) {
        if self.membership.is_listed() {
            // Others reach it, and the cluster takes their word.
            let kind = LogKind::Unreached;
            let Some(left_out) = self.unreached.log.line(now, kind) else { return };
            let text = format!(
                "the member at {from} cannot reach this node at {address}, which it advertises and \
                 where others reach it: look at the network between the two"
            );
            return sink.log(LogLine { kind, left_out, text });
        }
        self.unreached.said(now, from, address);
        if let Some(line) = self.unreached.line(now) {
            sink.log(line);
        }
        self.look_for_listing(now, sink);
    }

    fn look_for_listing(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if let Some(due) = self.unreached.begins(now) {
            sink.schedule(due, ControlTimer::Unreached);
        }
    }

    /// The view is another one: there may be somebody by now who should list this node.
    pub(super) fn listing_follows(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if self.is_unlisted() {
            self.look_for_listing(now, sink);
        }
    }

    /// It has met others, and none of them was seen to list it, though some answer.
    fn is_unlisted(&self) -> bool {
        let joined = self.joining.state() == JoinState::Joined;
        joined
            && !self.is_ending()
            && !self.membership.is_listed()
            && another_answers(self.membership.view(), self.me.node)
    }

    /// Is it over?
    pub(super) fn unreached_due(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let (is_listed, is_unlisted) = (self.membership.is_listed(), self.is_unlisted());
        let next = self.unreached.look(now, is_listed, is_unlisted);
        if let Some(line) = self.unreached.line(now) {
            sink.log(line);
        }
        if let Some(due) = next {
            return sink.schedule(due, ControlTimer::Unreached);
        }
        if std::mem::take(&mut self.unreached.repeats).was_told() && is_listed {
            let address = self.unreached.address;
            self.say(now, LogKind::Listed, sink, || {
                let address = address.map(|address| format!(" at {address}")).unwrap_or_default();
                format!("this node is let in: others list it{address}")
            });
        }
    }
}

/// Whether there is a member beside `me` that could show whom it lists: one that is gone and stays in
/// the view shows nothing.
fn another_answers(view: &View, me: NodeId) -> bool {
    view.members.iter().any(|member| member.id != me && member.reachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, Member, NodeRef};

    fn at(second: u64) -> Time {
        Time(second * 1_000_000_000)
    }

    #[test]
    fn what_others_say_counts_while_they_say_so() {
        let [one, other, own]: [SocketAddr; 3] =
            [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut unreached = Unreached::new(5_000, 500);
        assert_eq!(unreached.state(), None);
        unreached.said(at(0), one, own);
        let line = unreached.line(at(0)).unwrap().text;
        assert!(line.contains("127.0.0.1:1 cannot reach this node at 127.0.0.1:3"), "{line}");
        for second in 1..9 {
            unreached.said(at(second), other, own);
            assert_eq!(unreached.line(at(second)), None, "it was said");
            assert!(!unreached.forget(at(second), false));
        }
        let by = |by: &[SocketAddr]| Some(JoinState::Unreached { address: own, by: by.to_vec() });
        assert_eq!(unreached.state(), by(&[one, other]));
        assert!(!unreached.forget(at(10), false));
        assert_eq!(unreached.state(), by(&[other]), "the one is silent");
        assert!(unreached.forget(at(18), false));
        assert_eq!(unreached.state(), None);

        unreached.said(at(20), one, own);
        assert!(unreached.forget(at(20), true), "it is listed by now");
    }

    #[test]
    fn who_is_listed_by_nobody_says_so_after_two_rounds_of_comparing() {
        let mut unreached = Unreached::new(5_000, 500);
        for second in 0..2 {
            assert!(unreached.watch(at(second), true));
            assert_eq!((unreached.state(), unreached.line(at(second))), (None, None));
        }
        assert!(unreached.watch(at(2), true) && unreached.news);
        assert_eq!(unreached.state(), Some(JoinState::Unlisted));
        assert!(unreached.line(at(2)).unwrap().text.contains("none of them lists it"));
        assert!(unreached.watch(at(3), true));
        assert_eq!(unreached.line(at(3)), None, "it was said");
        // What members say of its address tells more.
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        unreached.said(at(4), address, address);
        assert!(matches!(unreached.state(), Some(JoinState::Unreached { .. })));
        assert!(unreached.forget(at(60), false));
        assert!(!unreached.watch(at(60), false));
        assert_eq!(unreached.state(), None);
    }

    #[test]
    fn one_look_follows_another_until_it_is_over_and_they_begin_anew_with_the_next_word() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut unreached = Unreached::new(5_000, 500);
        for begun in [0, 100] {
            unreached.said(at(begun), address, address);
            assert_eq!(unreached.begins(at(begun)), Some(at(begun + 1)));
            assert_eq!(unreached.begins(at(begun)), None, "one at a time");
            for second in begun + 1..begun + 10 {
                assert_eq!(unreached.look(at(second), false, false), Some(at(second + 1)));
            }
            let goes_on = unreached.look(at(begun + 10), false, true);
            assert_eq!(goes_on, Some(at(begun + 11)), "it is listed by nobody");
            assert_eq!(unreached.begins(at(begun + 10)), None);
            assert_eq!(unreached.look(at(begun + 11), false, false), None);
        }
    }

    #[test]
    fn the_time_in_which_this_node_did_not_run_is_not_held_against_others() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut unreached = Unreached::new(5_000, 500);
        unreached.begins(at(0));
        unreached.look(at(1), false, true);
        // It was stopped: that it is listed may lie in its socket.
        assert_eq!(unreached.look(at(60), false, true), Some(at(61)));
        assert_eq!(unreached.state(), None);
        assert_eq!(unreached.look(at(61), false, true), Some(at(62)));
        assert_eq!(unreached.state(), Some(JoinState::Unlisted));
        // What is said again and again may lie there as well.
        unreached.said(at(61), address, address);
        unreached.look(at(120), false, true);
        assert!(matches!(unreached.state(), Some(JoinState::Unreached { .. })));
    }

    #[test]
    fn only_a_member_that_answers_is_waited_for_to_list_this_node() {
        let [me, other] =
            [1, 2].map(|node| NodeRef { node: NodeId(node), incarnation: Incarnation(1) });
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let view = |reachable| {
            let other = Member { reachable, ..Member::plain(other, address) };
            View::new(me, 1, vec![Member::plain(me, address), other])
        };
        assert!(another_answers(&view(true), me.node));
        assert!(!another_answers(&view(false), me.node));
    }

    #[test]
    fn however_many_say_so_few_are_kept() {
        let mut unreached = Unreached::new(5_000, 500);
        for port in 1..=1_000 {
            let from = SocketAddr::from(([127, 0, 0, 1], port));
            unreached.said(at(0), from, from);
        }
        assert_eq!(unreached.by.len(), MOST);
    }
}
