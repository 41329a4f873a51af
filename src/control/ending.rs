//! The end of a process: its workers are told to stop, and waited for, but not for ever: a handler
//! may block its worker.

use std::time::Duration;

use super::{Control, ControlSink, ControlTimer};
use crate::base::Time;
use crate::worker::{Command, Report};

/// How long workers may take to stop. More than a worker waits for its siblings and for control to
/// take its last reports.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Ending {
    /// It has not begun.
    #[default]
    Running,
    /// So many workers have not stopped yet.
    Stopping(u16),
    Over,
}

impl Control {
    /// Ends the process: stops its workers. From here on nothing else is done. Ends with
    /// [`ControlSink::stopped`].
    pub fn stop(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if let Ending::Running = self.ending {
            self.ending = Ending::Stopping(self.workers);
            self.tell_all(sink, || Command::Stop);
            sink.schedule(now.plus(PATIENCE), ControlTimer::Stop);
        }
    }

    /// Whether [`Control::stop`] was called.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(self.ending, Ending::Running)
    }

    /// What matters of reports at the end.
    pub(super) fn last_report(&mut self, report: &Report, sink: &mut dyn ControlSink) {
        let Ending::Stopping(running) = &mut self.ending else { return };
        if let Report::Ended(_) = report {
            *running -= 1;
            if *running == 0 {
                self.ending = Ending::Over;
                sink.stopped(0);
            }
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
