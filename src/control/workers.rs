//! Where control meets its workers: what all of them are told, and what each of them reports.

use super::letters::DeadLetter;
use super::{Control, ControlSink};
use crate::base::{LogKind, Time, WorkerIndex};
use crate::control::links::JobId;
use crate::control::troubles::PeerTrouble;
use crate::worker::{Command, Dead, Report};

impl Control {
    /// Tells every worker the same.
    pub(super) fn tell_all(
        &self,
        sink: &mut dyn ControlSink,
        command: impl Fn() -> Command<JobId>,
    ) {
        for worker in 0..self.workers {
            sink.command(WorkerIndex(worker), command());
        }
    }

    /// A worker reports.
    pub fn report(&mut self, now: Time, report: Report, sink: &mut dyn ControlSink) {
        match report {
            Report::DeadLetters(dead) => self.dead_letter(now, dead, sink),
            Report::Panicked(panicked) => {
                let kind = LogKind::Panicked;
                self.log.leave_out(kind, panicked.more);
                let left_out = self.log.line(now, kind);
                sink.overheard(Report::Panicked(panicked), left_out);
            }
            report if self.is_ending() => self.last_report(&report, sink),
            Report::Dial { worker, destination } => self.dial(now, worker, destination, sink),
            Report::Suspect(peer) => self.suspect(now, peer, sink),
            Report::Vanished(peer, opened) => {
                self.links(now, sink, |links, _| links.vanished(now, peer, opened));
            }
            Report::Reached(peer) => {
                self.out_of_trouble(now, peer, false, sink);
                self.peer_link_opened(now, peer, sink);
            }
            Report::NoPlace(worker, peer, count) => {
                self.links(now, sink, |links, out| links.no_place(now, worker, peer, count, out));
            }
            Report::InVain(peer) => {
                self.member_in_trouble(now, peer, PeerTrouble::ClosesLinks, None, sink);
            }
            Report::Overtaken(worker, peer, lower) => {
                self.links(now, sink, |links, out| {
                    links.overtaken(now, peer, &format!("worker {worker}"), lower, out);
                });
            }
            Report::Untaken(_, peer, silent, waits) => {
                self.untaken(now, peer, silent, waits, sink);
            }
            Report::Served(_, handler) => self.served(now, handler, sink),
            Report::ServeFailed(handler) => self.serve_failed(now, handler, sink),
            Report::Withdrawn(_, handler) => self.withdrawn(now, handler, sink),
            Report::Drained(worker, answer) => self.drained(now, worker, answer, sink),
            Report::Part(worker, report) => self.part_report(now, worker, report, sink),
            Report::Lost(_) => self.lost_worker(),
            // Where the machine is slow, all workers are.
            Report::SlowTurn(slow) if slow.handled_nothing() => {
                let left_out = self.log.line(now, LogKind::SlowTurn);
                sink.overheard(Report::SlowTurn(slow), left_out);
            }
            // A worker names a handler once, and ends once.
            report @ (Report::SlowTurn(_) | Report::Ended(_)) => sink.overheard(report, Some(0)),
        }
    }

    /// Messages died, also while the node ends. Their names are only looked up for somebody.
    fn dead_letter(&mut self, now: Time, dead: Dead, sink: &mut dyn ControlSink) {
        let left_out = self.log.line(now, LogKind::DeadLetters);
        if left_out.is_some() || sink.hears_dead_letters() {
            let own = dead.about.filter(|about| about.node == self.me());
            let own = own.and_then(|about| self.serving.service_of(about.handler));
            sink.dead_letter(DeadLetter::new(dead, own, self.me(), self.view()), left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testnet::Bench;
    use crate::worker::Panicked;

    #[test]
    fn a_line_about_a_panic_counts_those_that_a_worker_left_out_as_well() {
        let mut bench = Bench::new();
        for (second, more) in [(1, 5), (1, 2), (3, 0)] {
            let (worker, path, at) = (WorkerIndex(0), "/a".into(), "t.a".into());
            let panicked = Panicked { worker, path, at, text: String::new(), more };
            let now = Time(second * 1_000_000_000);
            bench.run(|control, hands| control.report(now, Report::Panicked(panicked), hands));
        }
        let left_out: Vec<_> =
            bench.hands.overheard.iter().map(|(_, left_out)| *left_out).collect();
        assert_eq!(left_out, [Some(5), None, Some(3)]);
    }
}
