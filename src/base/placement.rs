//! On which workers of its node a path is served: what is asked for, and what comes of it.

use xxhash_rust::xxh3::xxh3_64;

use super::Path;
use super::ids::WorkerIndex;

/// The workers of one node that run a service, as its member record tells the cluster: every one,
/// or some.
///
/// It does not know how many its node has. What takes `workers` takes that number, and leaves out
/// what lies beyond it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placed {
    /// Sorted, each once; empty stands for every worker.
    some: Vec<WorkerIndex>,
}

impl Placed {
    /// Every worker.
    pub const EVERY: Self = Self { some: Vec::new() };

    /// Some out of `workers`, which must be sorted and each be named once; those that are all of
    /// them, or none, are [`Placed::EVERY`]. `None` when they are not so, or not there.
    pub fn new(some: Vec<WorkerIndex>, workers: u16) -> Option<Self> {
        let ascend = some.is_sorted_by(|one, next| one < next);
        if !ascend || some.last().is_some_and(|last| last.0 >= workers) {
            return None;
        }
        Some(if some.len() == usize::from(workers) { Self::EVERY } else { Self { some } })
    }

    /// Those that it names; none when it is every worker.
    pub fn named(&self) -> &[WorkerIndex] {
        &self.some
    }

    /// Whether a worker is among them.
    pub fn contains(&self, worker: WorkerIndex) -> bool {
        self.some.is_empty() || self.some.binary_search(&worker).is_ok()
    }

    /// How many there are.
    pub fn count(&self, workers: u16) -> u16 {
        match &self.some[..] {
            [] => workers,
            // Each is named once, so that there are no more than numbers of workers.
            some => some.partition_point(|worker| worker.0 < workers) as u16,
        }
    }

    /// The one that has `rank` of them before it; `rank` is below [`Placed::count`].
    pub fn nth(&self, rank: u16) -> WorkerIndex {
        self.some.get(usize::from(rank)).copied().unwrap_or(WorkerIndex(rank))
    }

    /// Each of them, in order.
    pub fn iter(&self, workers: u16) -> impl Iterator<Item = WorkerIndex> {
        (0..self.count(workers)).map(|rank| self.nth(rank))
    }
}

/// Which of so many workers a path begins with where it does not need all: each path with another
/// one, so that what many paths ask for is spread.
pub fn first_worker(path: &Path, workers: u16) -> u16 {
    (xxh3_64(path.as_bytes()) % u64::from(workers.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(workers: &[u16]) -> Vec<WorkerIndex> {
        workers.iter().copied().map(WorkerIndex).collect()
    }

    fn listed(placed: &Placed, workers: u16) -> Vec<u16> {
        placed.iter(workers).map(|worker| worker.0).collect()
    }

    #[test]
    fn some_workers_have_one_form() {
        for (some, workers, named) in [
            (&[][..], 3, Some(&[][..])),
            (&[1], 3, Some(&[1])),
            (&[0, 2], 3, Some(&[0, 2])),
            (&[0, 1, 2], 3, Some(&[])),
            (&[0], 1, Some(&[])),
            (&[3], 3, None),
            (&[2, 0], 3, None),
            (&[1, 1], 3, None),
        ] {
            let placed = Placed::new(all(some), workers);
            let expected = named.map(all);
            assert_eq!(placed.map(|placed| placed.named().to_vec()), expected, "{some:?}");
        }
    }

    #[test]
    fn what_it_holds_agrees_with_itself() {
        let some = Placed::new(all(&[1, 2, 6]), 8).unwrap();
        for (workers, there) in [(8, &[1, 2, 6][..]), (6, &[1, 2]), (1, &[]), (0, &[])] {
            assert_eq!(listed(&some, workers), there);
            assert_eq!(usize::from(some.count(workers)), there.len());
        }
        assert_eq!(listed(&Placed::EVERY, 3), [0, 1, 2]);
        for worker in 0..8 {
            assert_eq!(some.contains(WorkerIndex(worker)), [1, 2, 6].contains(&worker));
            assert!(Placed::EVERY.contains(WorkerIndex(worker)));
        }
    }

    #[test]
    fn paths_begin_with_different_workers() {
        let mut counts = [0; 4];
        for number in 0..400 {
            let path: Path = format!("/user/service-{number}").parse().unwrap();
            counts[usize::from(first_worker(&path, 4))] += 1;
            assert_eq!(first_worker(&path, 1), 0);
        }
        assert!(counts.iter().all(|count| (70..130).contains(count)), "{counts:?}");
    }
}
