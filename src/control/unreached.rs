//! A node that has met others, and that none of them lists: it does not answer at the address that it
//! advertises. It sees them all, they answer it, and to itself it seems to be up; but it gets no keys,
//! and nobody else knows of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::joining::JoinState;
use super::log_line::LogLine;
use super::repeats::Repeats;
use super::{Control, ControlSink, ControlTimer};
use crate::base::{LogKind, LogLimiter, Time};

/// How often it is looked whether it is over.
const LOOK: Duration = Duration::from_secs(1);
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
    looking: bool,
    news: bool,
    repeats: Repeats,
    log: LogLimiter,
}

impl Unreached {
    pub fn new(retry_max_ms: u64) -> Self {
        let lately = Duration::from_secs(1).max(2 * Duration::from_millis(retry_max_ms));
        Self { lately, ..Self::default() }
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

    fn line(&mut self, now: Time) -> Option<LogLine> {
        let kind = LogKind::Unreached;
        let state = self.state().filter(|_| self.repeats.is_due(now))?;
        let left_out = self.log.line(now, kind)?;
        self.repeats.tell(now);
        Some(LogLine { kind, left_out, text: format!("this node is not let in: {state}") })
    }

    fn state(&self) -> Option<JoinState> {
        let address = self.address.filter(|_| !self.by.is_empty())?;
        Some(JoinState::Unreached { address, by: self.by.keys().copied().collect() })
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
            return self.say(now, LogKind::Unreached, sink, || {
                format!(
                    "the member at {from} cannot reach this node at {address}, which it \
                     advertises and where others reach it: look at the network between the two"
                )
            });
        }
        self.unreached.said(now, from, address);
        if let Some(line) = self.unreached.line(now) {
            sink.log(line);
        }
        if !std::mem::replace(&mut self.unreached.looking, true) {
            sink.schedule(now.plus(LOOK), ControlTimer::Unreached);
        }
    }

    /// Is it over?
    pub(super) fn unreached_due(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let is_listed = self.membership.is_listed();
        if !self.unreached.forget(now, is_listed) {
            return sink.schedule(now.plus(LOOK), ControlTimer::Unreached);
        }
        self.unreached.looking = false;
        if std::mem::take(&mut self.unreached.repeats).was_told() && is_listed {
            let address = self.unreached.address;
            self.say(now, LogKind::TroubleOver, sink, || {
                let address = address.map(|address| format!(" at {address}")).unwrap_or_default();
                format!("this node is let in: others reach it{address}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Time {
        Time(second * 1_000_000_000)
    }

    #[test]
    fn what_others_say_counts_while_they_say_so() {
        let [one, other, own]: [SocketAddr; 3] =
            [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut unreached = Unreached::new(5_000);
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
    fn however_many_say_so_few_are_kept() {
        let mut unreached = Unreached::new(5_000);
        for port in 1..=1_000 {
            let from = SocketAddr::from(([127, 0, 0, 1], port));
            unreached.said(at(0), from, from);
        }
        assert_eq!(unreached.by.len(), MOST);
    }
}
