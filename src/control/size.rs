//! Warns before a cluster has as many members as fit: those that are gone and were never removed
//! keep their places, and one day nobody is let in any more.

use std::fmt;
use std::net::SocketAddr;

use super::log_line::LogLine;
use super::{Control, ControlSink};
use crate::base::{LogKind, LogLimiter, Time, View};
use crate::member::MAX_RECORDS;

/// What whoever operates a cluster can do about it.
const MAKE_ROOM: &str = "remove those that will not come back (`keyway down NAME`, `Node::down`), or \
     set `membership.partition_policy` to \"remove-after\" on the members";

/// From how many members on there is a warning.
const FROM: usize = MAX_RECORDS / 4 * 3;
/// After how many more members there is another.
const STEP: usize = MAX_RECORDS / 20;

/// How near a cluster is to the number of members that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowding {
    /// How many members there are.
    pub members: usize,
    /// How many of them do not answer.
    pub unreachable: usize,
}

impl Crowding {
    /// Set from three quarters of the members that fit on.
    pub fn of(view: &View) -> Option<Self> {
        let members = view.members.len();
        let unreachable = || view.members.iter().filter(|member| !member.reachable).count();
        (members >= FROM).then(|| Self { members, unreachable: unreachable() })
    }
}

impl fmt::Display for Crowding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { members, unreachable } = self;
        write!(
            f,
            "the cluster has {members} of at most {MAX_RECORDS} members, {unreachable} of them \
             unreachable; when it is full nobody is let in: {MAKE_ROOM}"
        )
    }
}

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct SizeWarning {
    /// How many members there were then; 0 if there is nothing to warn of.
    said_at: usize,
    log: LogLimiter,
}

impl SizeWarning {
    fn follow(
        &mut self,
        now: Time,
        members: usize,
        unreachable: impl FnOnce() -> usize,
    ) -> Option<LogLine> {
        if members < FROM {
            // So far below that members who come and go cause no line each.
            if members < FROM - STEP {
                self.said_at = 0;
            }
            return None;
        }
        if self.said_at != 0 && members < self.said_at + STEP {
            return None;
        }
        let kind = LogKind::Size;
        let left_out = self.log.line(now, kind)?;
        self.said_at = members;
        let text = Crowding { members, unreachable: unreachable() }.to_string();
        Some(LogLine { kind, left_out, text })
    }
}

impl Control {
    /// The view is another one.
    pub(super) fn warn_of_size(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let members = &self.membership.view().members;
        let unreachable = || members.iter().filter(|member| !member.reachable).count();
        if let Some(line) = self.size.follow(now, members.len(), unreachable) {
            sink.log(line);
        }
    }

    /// A member has no room for this node, which others know.
    pub(super) fn not_listed(
        &mut self,
        now: Time,
        from: SocketAddr,
        limit: u32,
        sink: &mut dyn ControlSink,
    ) {
        self.say(now, LogKind::Size, sink, || {
            format!(
                "the member at {from} does not list this node, and sends it nothing: it keeps {limit} \
                 members, as many as fit; {MAKE_ROOM}"
            )
        });
    }

    /// A newcomer was not let in, for want of room.
    pub(super) fn turned_away(&mut self, now: Time, from: SocketAddr, sink: &mut dyn ControlSink) {
        self.say(now, LogKind::Size, sink, || {
            format!(
                "{from} was not let in: the cluster has {MAX_RECORDS} members, as many as fit; \
                 {MAKE_ROOM}"
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: usize) -> Time {
        Time(second as u64 * 2_000_000_000)
    }

    #[test]
    fn three_quarters_are_told_once_and_each_twentieth_more_again() {
        let mut size = SizeWarning::default();
        let mut told = Vec::new();
        let counts = (3_000..=4_096).chain((3_060..4_096).rev()).chain(3_060..3_300);
        for (second, members) in counts.enumerate() {
            if size.follow(at(second), members, || 7).is_some() {
                told.push(members);
            }
        }
        assert_eq!(told, [3_072, 3_276, 3_480, 3_684, 3_888, 4_092]);
        assert_eq!(size.follow(at(10_000), 2_000, || 0), None);
        let line = size.follow(at(10_001), 3_100, || 50).unwrap();
        assert!(line.text.contains("3100 of at most 4096 members, 50 of them unreachable"));
    }
}
