//! What is news here is passed on once, to a few members. News that follows closely on other news
//! travels with it: where a hundred nodes join at once, each would else send hundreds of datagrams
//! for every one of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::pace::{Pace, Turn};
use crate::base::{NodeId, NodeRef, Time};

use super::timer::TimerKind;
use super::{MemberSink, Membership, schedule};

/// To how many members a node passes on what it has just learned.
const FAN_OUT: usize = 3;
/// How closely news follows on other news to travel with it, at first and at the most.
const GAPS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(160));

/// News that is not passed on yet.
#[derive(Debug)]
pub(super) struct Passing {
    /// Whose record, and who told it.
    news: BTreeMap<NodeId, NodeId>,
    pace: Pace,
}

impl Default for Passing {
    fn default() -> Self {
        Self { news: BTreeMap::new(), pace: Pace::new(GAPS.0, GAPS.1) }
    }
}

impl Membership {
    /// Passes on what was news here.
    pub(super) fn pass_on(
        &mut self,
        now: Time,
        told_by: NodeId,
        fresh: &[NodeRef],
        sink: &mut dyn MemberSink,
    ) {
        self.passing.news.extend(fresh.iter().map(|member| (member.node, told_by)));
        match self.passing.pace.wanted(now) {
            Turn::Now => self.pass_news(now, sink),
            Turn::At(at) => schedule(now, at.since(now), TimerKind::Pass, sink),
            Turn::Waits => {}
        }
    }

    /// To a few members that are not the only ones the news is about, or from.
    pub(super) fn pass_news(&mut self, now: Time, sink: &mut dyn MemberSink) {
        self.passing.pace.done(now);
        let news = std::mem::take(&mut self.passing.news);
        let is_news_to = |whom: NodeId| news.iter().any(|(of, by)| whom != *of && whom != *by);
        let others = self.directory.others().map(|entry| &entry.record.member);
        let listeners = others.filter(|member| member.reachable && is_news_to(member.id));
        let listeners = listeners.map(|member| member.address).collect();
        let to = self.pick(listeners, FAN_OUT);
        let nodes: Vec<NodeId> = news.into_keys().collect();
        self.send_records(&nodes, &to, sink);
    }
}
