//! The last counts of a node that does not wait any longer for workers which handlers hold. What
//! they had gets its fate here, and whoever stopped the node is told by name.

use std::time::Duration;

use super::lookout::HeldWorker;
use crate::base::fate::{Counts, DeathReason};
use crate::base::{Time, debug_as_display};
use crate::queue::board::CountsBoard;
use crate::queue::inject::Injector;
use crate::worker::Injection;

/// A node has stopped without some of its workers: handlers hold them, and it waited for 5 s, or
/// at the end of a leave for what was left of its time and 2.5 s at least; or they were lost.
///
/// What they had is given up. What was handed over and waits in a held worker's queue is dead as
/// [`DeathReason::Stopped`]; all else may be with a handler or another node already, and counts as
/// unknown. A handler that returns later can only end the message that it has: its worker handles
/// nothing more, and what it counts from then on is no part of [`GivenUp::counts`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error(
    "the node has stopped, but not all of its workers: {}; of the messages sent from here {messages} \
     were given up, of which {waiting} waited and are dead{}",
    list(workers),
    advice(workers)
)]
pub struct GivenUp {
    /// The workers, in order, and what holds them.
    pub workers: Vec<HeldWorker>,
    /// How many messages that were sent from this node were given up. Those of other nodes, the one
    /// in a handler's hands included, end in the counts of their senders, as unknown.
    pub messages: u64,
    /// How many of them waited in the queue of a held worker.
    pub waiting: u64,
    /// The node's last counts, these messages included.
    pub counts: Box<Counts>,
}

debug_as_display!(GivenUp);

fn list(workers: &[HeldWorker]) -> String {
    let names: Vec<String> = workers.iter().map(HeldWorker::to_string).collect();
    names.join(", and ")
}

fn advice(workers: &[HeldWorker]) -> &'static str {
    match workers.iter().all(|worker| worker.lost) {
        true => "",
        false => "; what takes long belongs on another thread",
    }
}

/// What all workers have counted, hand-overs that wait and turns that are slow by now included. How
/// messages ended is read before
/// how many were sent, of all workers: so one that has not ended is never missing, whatever moves
/// meanwhile.
pub fn count<'a>(
    workers: impl Iterator<Item = (&'a Injector<Injection>, &'a CountsBoard)> + Clone,
    now: Time,
    slow: Duration,
) -> Counts {
    let mut counts = Counts::default();
    for (_, board) in workers.clone() {
        let slow_turns = board.slow_turns(now, slow);
        counts += Counts { slow_turns, ..board.tally.ended() };
    }
    for (injector, board) in workers {
        counts.sent += board.tally.sent.get() + injector.handed_over();
    }
    counts
}

impl GivenUp {
    /// Gives up on workers, of all that a node has. They take, handle and count nothing more that
    /// anybody hears of.
    pub fn close<'a>(
        held: Vec<HeldWorker>,
        workers: impl Iterator<Item = (&'a Injector<Injection>, &'a CountsBoard)> + Clone,
        now: Time,
        slow: Duration,
    ) -> Self {
        let is_held = |index: usize| held.iter().any(|held| usize::from(held.worker.0) == index);
        let theirs = workers.clone().enumerate().filter(|(index, _)| is_held(*index));
        for (_, (injector, board)) in theirs.clone() {
            injector.shut();
            board.give_up();
        }
        let mut counts = count(workers, now, slow);
        let messages = counts.in_flight();
        let waiting = theirs.map(|(_, (injector, board))| {
            injector.handed_over().saturating_sub(board.tally.handed.get())
        });
        let waiting = waiting.sum::<u64>().min(messages);
        counts.dead[DeathReason::Stopped as usize] += waiting;
        counts.unknown += messages - waiting;
        Self { workers: held, messages, waiting, counts: Box::new(counts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::WorkerIndex;
    use crate::queue::inject::{Room, injector};
    use crate::queue::sleeper;

    #[test]
    fn a_worker_that_is_given_up_counts_as_slow_by_the_limit_only() {
        let (_sleeper, waker) = sleeper(|| ());
        let (injector, _injected) = injector::<Injection>(Room { items: 1, bytes: 1 }, waker);
        let now = Time(5_000_000_000);
        assert!(!injector.is_closed());
        for (slow_ms, slow_turns) in [(4_999, 1), (5_000, 0), (600_000, 0)] {
            let board = CountsBoard::new();
            board.pulse.turn(0);
            let held = HeldWorker::new(WorkerIndex(0), board.pulse.read(), now, None);
            let slow = Duration::from_millis(slow_ms);
            let workers = std::iter::once((&injector, &board));
            let shown = count(workers.clone(), now, slow).slow_turns;
            let counts = GivenUp::close(vec![held], workers, now, slow).counts;
            assert_eq!((shown, counts.slow_turns), (slow_turns, slow_turns), "{slow_ms} ms");
            assert!(injector.is_closed() && board.is_given_up(), "nobody would take it out");
        }
    }
}
