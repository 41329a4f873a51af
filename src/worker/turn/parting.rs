//! The end of a worker: what it was handed and what siblings sent gets its fate, then it stops.

use std::time::Duration;

use super::{Turn, TurnOutcome, WorkerIo};
use crate::base::Time;
use crate::worker::{Report, Worker};

/// How long a stopping worker waits for its siblings to stop, and for control to take its last
/// reports.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far the end has come.
pub(super) enum Stage {
    Running,
    /// It is to stop.
    Stopping,
    /// Nothing more is taken from other threads; what siblings sent is handled until each of them
    /// has got as far, or until this time.
    Parting(Time),
    /// Only reports are left, until this time.
    Reporting(Time),
}

impl Stage {
    pub fn stop(&mut self) {
        if let Self::Running = self {
            *self = Self::Stopping;
        }
    }
}

impl Turn {
    /// One turn of a worker that stops.
    #[cold]
    pub(super) fn part<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        now: Time,
    ) -> TurnOutcome {
        if let Stage::Stopping = self.stage {
            io.close_hand_overs(&mut |injection| worker.inject(injection));
            io.let_go();
            self.stage = Stage::Parting(now.plus(PATIENCE));
        }
        if let Stage::Parting(until) = self.stage {
            // Looked at before the last chunks are: what siblings pushed before is there then.
            let awaited = io.is_awaited();
            let handled = self.take_chunks(worker, io);
            if now < until {
                if handled {
                    return TurnOutcome::Again;
                }
                if awaited {
                    return TurnOutcome::Sleep;
                }
            }
            self.bury_chunks(worker, io);
            worker.stop();
            self.report(worker, io);
            worker.sleeps(now);
            self.unsent.push(Report::Ended(self.index));
            self.stage = Stage::Reporting(now.plus(PATIENCE));
        }
        self.send_reports(io);
        match self.stage {
            // Control may be gone already; then nobody needs to know.
            Stage::Reporting(until) if now < until && !self.unsent.is_empty() => {
                if io.is_control_gone() { TurnOutcome::Ended } else { TurnOutcome::Sleep }
            }
            _ => TurnOutcome::Ended,
        }
    }

    /// What there was no time for, here or at a sibling that stopped earlier.
    fn bury_chunks<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) {
        for sibling in self.siblings() {
            if let Some(rest) = self.rests[usize::from(sibling.0)].take() {
                worker.bury_chunk(rest);
            }
            io.close_chunks(sibling, &mut |chunk| worker.bury_chunk(chunk));
        }
    }
}
