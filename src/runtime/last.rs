//! The counts of a node as anybody reads them, also while control gives up on workers.

use std::sync::OnceLock;
use std::time::Duration;

use crate::base::Time;
use crate::base::fate::Counts;
use crate::control::given_up::{GivenUp, count};
use crate::queue::board::CountsBoard;
use crate::queue::inject::Injector;
use crate::worker::Injection;

/// What workers have counted so far, or had when some of them were given up. `has_ended` says whether
/// control has come to its end: whatever has been summed up by then is there.
pub fn counted<'a>(
    workers: impl Iterator<Item = (&'a Injector<Injection>, &'a CountsBoard)> + Clone,
    (now, slow): (Time, Duration),
    given_up: &OnceLock<GivenUp>,
    has_ended: impl Fn() -> bool,
) -> Counts {
    let counts = count(workers.clone(), now, slow);
    // What a worker counts after that is no part of the last counts.
    while workers.clone().any(|(_, board)| board.is_given_up()) {
        let over = has_ended();
        match given_up.get() {
            Some(given_up) => return *given_up.counts,
            // Control has panicked over it.
            None if over => break,
            // They are being summed up.
            None => std::thread::yield_now(),
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::inject::{Room, injector};
    use crate::queue::sleeper;

    /// Whoever reads counts waits for control to sum up, and control may panic over that.
    #[test]
    fn whoever_reads_counts_waits_for_their_sum_no_longer_than_control_lives() {
        let (_sleeper, waker) = sleeper(|| ());
        let (injector, _injected) = injector::<Injection>(Room { items: 1, bytes: 1 }, waker);
        let board = std::sync::Arc::new(CountsBoard::new());
        board.tally.sent.add(3);
        board.give_up();
        let (given_up, asked) = (OnceLock::new(), std::cell::Cell::new(0));
        let read = |given_up: &OnceLock<GivenUp>, asks_left: u32| {
            asked.set(0);
            let workers = std::iter::once((&injector, &*board));
            counted(workers, (Time(0), Duration::ZERO), given_up, || {
                asked.set(asked.get() + 1);
                asked.get() > asks_left
            })
        };
        assert_eq!((read(&given_up, 2).sent, asked.get()), (3, 3), "it was still alive twice");
        let counts = Box::new(Counts { sent: 2, ..Counts::default() });
        given_up.get_or_init(|| GivenUp { workers: vec![], messages: 0, waiting: 0, counts });
        assert_eq!(read(&given_up, 0).sent, 2, "what was summed up counts");
    }
}
