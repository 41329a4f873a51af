//! Workers that a handler holds are named while it holds them: when it has ended, if it ever does,
//! is too late for whoever wonders why nothing goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Member, Path, Time, WorkerIndex};
use crate::queue::board::PulseReading;

/// The shortest time between two looks, however short a slow turn is said to be.
const MOST_OFTEN: Duration = Duration::from_millis(100);

/// A worker whose turn goes on and on, and what holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldWorker {
    /// Which one.
    pub worker: WorkerIndex,
    /// The path whose handler the turn called last, if it is known.
    pub path: Option<Path>,
    /// The name of the message's type; `None` when the routee was woken or got a reply.
    pub message: Option<Arc<str>>,
    /// How long the turn has lasted so far.
    pub turn: Duration,
    /// Whether it is no more: its thread has panicked, or the system's poll failed it. The path is
    /// then the last that it called, if that is known.
    pub lost: bool,
}

impl HeldWorker {
    /// With the names that this node's own record as a member has.
    pub fn new(
        worker: WorkerIndex,
        reading: PulseReading,
        now: Time,
        own: Option<&Member>,
    ) -> Self {
        let services = own.map_or(&[][..], |own| &own.services);
        let service = services.iter().find(|known| Some(known.handler.0) == reading.handler);
        let message = service.and_then(|service| {
            let mut messages = service.messages.iter();
            let known = messages.find(|known| Some(known.id().0) == reading.message)?;
            Some(Arc::clone(&known.name))
        });
        let path = service.map(|service| service.path.clone());
        Self { worker, path, message, turn: reading.turn(now), lost: false }
    }
}

impl fmt::Display for HeldWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, path, message, turn, lost } = self;
        match lost {
            true => write!(f, "worker {worker} has panicked, or lost its poll, after a call of ")?,
            false => write!(f, "worker {worker} has been held for {} ms by ", turn.as_millis())?,
        }
        match path {
            Some(path) => write!(f, "the handler of {path}")?,
            None => f.write_str("a handler of a path that is not known")?,
        }
        match message {
            Some(message) => write!(f, " with a message {message}"),
            None => Ok(()),
        }
    }
}

/// Which turns are told.
pub struct Lookout {
    slow: Duration,
    /// By worker: when the turn began that was told last.
    told: Vec<Option<u64>>,
}

impl Lookout {
    /// For so many workers, whose turns are slow when they last longer than this.
    pub fn new(workers: usize, slow: Duration) -> Self {
        Self { slow, told: vec![None; workers] }
    }

    /// How long a turn may last before it is slow.
    pub fn slow(&self) -> Duration {
        self.slow
    }

    /// How long after one look the next one is due.
    pub fn pause(&self) -> Duration {
        self.slow.max(MOST_OFTEN)
    }

    /// Looks at what all workers show. Gives those whose turn is slow by now, each turn once.
    pub fn look(&mut self, now: Time, readings: &[PulseReading]) -> Vec<WorkerIndex> {
        let mut held = Vec::new();
        for ((told, reading), worker) in self.told.iter_mut().zip(readings).zip(0..) {
            if reading.turn(now) > self.slow && *told != reading.turn_since_ns {
                *told = reading.turn_since_ns;
                held.push(WorkerIndex(worker));
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slow_turn_is_told_once_while_it_lasts() {
        let slow = Duration::from_millis(250);
        let mut lookout = Lookout::new(3, slow);
        assert_eq!(lookout.pause(), slow);
        let always = Lookout::new(1, Duration::from_millis(1)).pause();
        assert_eq!(always, MOST_OFTEN, "control has other things to do");
        let ms = |ms: u64| ms * 1_000_000;
        let reading =
            |since: Option<u64>| PulseReading { turn_since_ns: since, ..Default::default() };
        let mut look = |at: u64, since: [Option<u64>; 3]| {
            let held = lookout.look(Time(ms(at)), &since.map(|since| reading(since.map(ms))));
            held.into_iter().map(|worker| worker.0).collect::<Vec<_>>()
        };
        assert_eq!(look(250, [None, Some(0), Some(200)]), [0; 0], "none is slow yet");
        assert_eq!(look(500, [None, Some(0), Some(400)]), vec![1]);
        assert_eq!(look(750, [None, Some(0), Some(400)]), vec![2], "the first one is told already");
        assert_eq!(look(1_000, [None, None, Some(999)]), [0; 0], "both have ended");
        assert_eq!(look(1_500, [Some(1_200), Some(1_200), None]), vec![0, 1], "other turns");
    }
}
