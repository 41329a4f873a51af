//! Finds connections whose packets vanish, as behind a firewall that has forgotten them. The system
//! repeats what nobody acknowledges for minutes, ever more seldom; and told to give up sooner, it
//! also gives up connections of a peer that is only busy, whose window stays shut. So the facts are
//! looked at, a few times per bound, for those links only on which something was written and from
//! which nothing was heard since.

use std::time::Duration;

use super::io::{Flow, WorkerIo};
use super::{Turn, keep};
use crate::base::{LogKind, Time};
use crate::worker::{LinkId, Report, Worker};

/// Looks until a flow must be found dead.
const LOOKS: u32 = 6;

/// How long a peer may say nothing of what was sent to it until that is told, and how often again.
const UNTAKEN: Duration = Duration::from_secs(5);

/// Probes of a shut window that the peer's system has not answered. One may be on its way.
const PROBES: u8 = 2;

impl Flow {
    /// Whether it is dead. Of what was written before `since` nothing is known.
    fn is_dead(&self, now: Time, since: Time, bound: Duration) -> bool {
        // A peer whose window is shut acknowledges each probe, but these come ever more seldom: it
        // may have said nothing for long, and is no dead flow.
        let asked = self.unacknowledged || self.probes >= PROBES;
        asked && self.silent.min(now.since(since)) >= bound
    }
}

/// When links are looked at.
pub(super) struct Looks {
    bound: Duration,
    next: Time,
}

impl Looks {
    pub fn new(bound: Duration) -> Self {
        Self { bound, next: Time::NEVER }
    }

    /// When the next look is due.
    #[inline]
    pub fn next(&self) -> Option<Time> {
        (self.next != Time::NEVER).then_some(self.next)
    }

    /// Something was written: the link is looked at from now on.
    #[inline]
    pub fn begin(&mut self, now: Time) {
        if self.next == Time::NEVER {
            self.next = now.plus(self.bound / LOOKS);
        }
    }
}

impl Turn {
    /// Looks at the links that have not been heard of, if it is time.
    #[inline]
    pub(super) fn look_at_flows<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        now: Time,
    ) {
        if now >= self.looks.next {
            self.look_at_all(worker, io, now);
        }
    }

    #[cold]
    fn look_at_all<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I, now: Time) {
        self.looks.next = Time::NEVER;
        for place in 0..self.ports.len() {
            let port = &mut self.ports[place];
            let Some(link) = port.link else { continue };
            let heard = std::mem::take(&mut port.heard);
            if let Some(since) = port.owes {
                if heard {
                    // It lives, or did a moment ago: what it owes now it has not owed for longer.
                    port.owes = Some(now);
                } else {
                    self.look_at(worker, io, (link, since), now);
                }
            }
            self.look_whether_taken(worker, link, heard);
        }
        if self.ports.iter().any(|port| port.owes.is_some() || port.quiet > 0) {
            self.looks.begin(now);
        }
    }

    /// Whether the peer says anything of the messages on a link that it has not said anything of. Its
    /// system acknowledges, and its process may take nothing: a handler holds its worker, or
    /// something between keeps what is sent.
    fn look_whether_taken(&mut self, worker: &Worker, link: LinkId, heard: bool) {
        let (pause, own) = (self.looks.bound / LOOKS, self.index);
        let Some(port) = self.port(link) else { return };
        let waits = worker.unanswered(link);
        // What has come may not have been read.
        if heard || waits == 0 || port.is_behind() {
            port.quiet = 0;
            return;
        }
        // Looks are counted, and not time: this worker may have been held itself.
        port.quiet = port.quiet.saturating_add(1);
        let looks = UNTAKEN.as_nanos().div_ceil(pause.as_nanos()).max(2) as u32;
        if port.quiet.is_multiple_of(looks)
            && let Some((peer, of)) = worker.link(link).map(|link| link.peer)
        {
            let silent = pause * port.quiet;
            keep(&mut self.unsent, Report::Untaken(own, (peer, of), silent, waits));
        }
    }

    fn look_at<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        (link, since): (LinkId, Time),
        now: Time,
    ) {
        // Where the system tells nothing, it has to find out by itself.
        let Some(flow) = io.flow(link) else { return };
        if flow.is_dead(now, since, self.looks.bound) {
            let line = self.log.line(now, LogKind::DeadFlow);
            let peer = line.and_then(|_| worker.peer_name(link));
            io.dead(link, peer, flow.silent, line);
            worker.flow_vanished(link);
            self.lose(worker, io, link);
        } else if !flow.waiting
            && let Some(port) = self.port(link)
        {
            port.owes = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(1_500);

    fn dead(silent_ms: u64, unacknowledged: bool, probes: u8, since_ms: u64) -> bool {
        let silent = Duration::from_millis(silent_ms);
        let flow = Flow { waiting: true, unacknowledged, silent, probes };
        let now = Time(100_000_000_000);
        flow.is_dead(now, Time(now.0 - since_ms * 1_000_000), BOUND)
    }

    #[test]
    fn only_silence_after_a_question_is_death() {
        assert!(dead(1_500, true, 0, 1_500));
        assert!(!dead(1_499, true, 0, 60_000), "something came");
        assert!(!dead(60_000, true, 0, 1_499), "it was silent because nothing was said");
        assert!(
            !dead(60_000, false, 0, 60_000),
            "its window is shut, and its last answer was that"
        );
        assert!(!dead(60_000, false, 1, 60_000), "a probe is on its way");
        assert!(dead(1_500, false, 2, 60_000), "the probes of a shut window vanish");
    }
}
