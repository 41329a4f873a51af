//! The end of a process: its workers are told to stop, and waited for, but not for ever: a handler
//! may block its worker.

use std::time::Duration;

use super::{Control, ControlSink, ControlTimer};
use crate::base::Time;
use crate::worker::{Command, Report};

/// How long workers may take to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same at the end of a leave whose time is over. More than a worker waits for its siblings and
/// for control to take its last reports.
pub(super) const LAST_PATIENCE: Duration = Duration::from_millis(2_500);

/// How far the end has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// It has not begun; so many workers were lost.
    Running(u16),
    /// So many workers have not stopped yet.
    Stopping(u16),
    Over,
}

impl Default for Ending {
    fn default() -> Self {
        Self::Running(0)
    }
}

impl Control {
    /// Ends the process: stops its workers. From here on nothing else is done. Ends with
    /// [`ControlTells::stopped`](super::ControlTells::stopped).
    pub fn stop(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let Ending::Running(lost) = self.ending else { return };
        self.joining.give_up();
        let running = self.workers - lost;
        self.ending = Ending::Stopping(running);
        self.tell_all(sink, || Command::Stop);
        let left = self.leaving.left(now).unwrap_or(PATIENCE);
        sink.schedule(now.plus(left.clamp(LAST_PATIENCE, PATIENCE)), ControlTimer::Stop);
        self.end_without(running, sink);
    }

    /// A worker is no more, though nobody told it to stop: the node cannot go on without it.
    pub(super) fn lost_worker(&mut self) {
        if let Ending::Running(lost) = &mut self.ending {
            *lost += 1;
        }
    }

    /// Whether [`Control::stop`] was called.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(self.ending, Ending::Running(_))
    }

    /// What matters of reports at the end.
    pub(super) fn last_report(&mut self, report: &Report, sink: &mut dyn ControlSink) {
        let Ending::Stopping(running) = &mut self.ending else { return };
        if let Report::Ended(_) | Report::Lost(_) = report {
            *running -= 1;
            let running = *running;
            self.end_without(running, sink);
        }
    }

    fn end_without(&mut self, running: u16, sink: &mut dyn ControlSink) {
        if running == 0 {
            self.ending = Ending::Over;
            sink.stopped(0);
        }
    }

    /// The patience is over.
    pub(super) fn stop_due(&mut self, sink: &mut dyn ControlSink) {
        if let Ending::Stopping(running) = self.ending {
            self.ending = Ending::Over;
            sink.stopped(running);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::WorkerIndex;
    use crate::control::testnet::{Bench, WORKERS};

    #[test]
    fn an_end_waits_for_all_workers_but_those_that_were_lost_before() {
        let mut bench = Bench::new();
        bench.run(|control, hands| {
            control.report(Time(1), Report::Lost(WorkerIndex(1)), hands);
            control.stop(Time(2), hands);
        });
        for worker in [0, 2] {
            assert!(bench.hands.stopped.is_empty());
            let ended = Report::Ended(WorkerIndex(worker));
            bench.run(|control, hands| control.report(Time(3), ended, hands));
        }
        assert_eq!(bench.hands.stopped, [0]);
        // None of them comes to its end in time, and that is told once.
        let mut bench = Bench::new();
        bench.run(|control, hands| {
            control.stop(Time(2), hands);
            control.timer(Time(3), ControlTimer::Stop, hands);
            control.report(Time(4), Report::Ended(WorkerIndex(0)), hands);
        });
        assert_eq!(bench.hands.stopped, [WORKERS]);
    }
}
