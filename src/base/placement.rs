//! On which workers of its node a path is served: what is asked for, and what comes of it.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use super::Path;
use super::debug_as_display;
use super::ids::WorkerIndex;

/// On which workers of its node a path is served. Each node that serves a path has a placement of
/// its own; others learn which workers it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On each: as many routees as there are workers.
    #[default]
    EveryWorker,
    /// On one, so that this node has one routee. Which one follows from the path and the number of
    /// workers: paths that are served so are spread over the workers.
    OnePerNode,
    /// On these: at least one, each named once, in any order.
    Workers(Vec<WorkerIndex>),
}

impl Placement {
    /// The workers that it comes to on a node that has so many.
    ///
    /// # Errors
    /// When it names none, or one that is not there, or one twice.
    pub fn place(&self, path: &Path, workers: u16) -> Result<Placed, PlacementError> {
        let mut some = match self {
            Self::EveryWorker => return Ok(Placed::EVERY),
            Self::OnePerNode => vec![WorkerIndex(first_worker(path, workers))],
            Self::Workers(some) => some.clone(),
        };
        some.sort_unstable();
        let last = workers.saturating_sub(1);
        match some.last() {
            None => return Err(PlacementError::NoWorker { last }),
            Some(worker) if worker.0 > last => {
                return Err(PlacementError::NotThere { worker: *worker, last });
            }
            Some(_) => {}
        }
        if let Some(pair) = some.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PlacementError::Twice { worker: pair[0], last });
        }
        Ok(Placed::new(some, workers).expect("they are in order, and the last is there"))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EveryWorker => f.write_str("every worker"),
            Self::OnePerNode => f.write_str("one per node"),
            Self::Workers(some) => {
                f.write_str(if some.len() == 1 { "worker" } else { "workers" })?;
                for (at, worker) in some.iter().enumerate() {
                    write!(f, "{} {worker}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// A [`Placement`] that a node cannot follow. Nothing was changed.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// It names no worker at all.
    #[error(
        "`placement` is the empty list of workers, but must name at least one, of 0 to {last}; \
         `unserve` ends what is served"
    )]
    NoWorker {
        /// The last worker that the node has.
        last: u16,
    },
    /// It names a worker that the node does not have.
    #[error(
        "`placement` names worker {worker}, but must name workers of 0 to {last}: `workers.count` \
         says how many this node has"
    )]
    NotThere {
        /// The worker that it names.
        worker: WorkerIndex,
        /// The last one that the node has.
        last: u16,
    },
    /// It names a worker more than once.
    #[error(
        "`placement` names worker {worker} more than once, but must name each once, of 0 to {last}: \
         a path has one routee on a worker"
    )]
    Twice {
        /// The worker that it names.
        worker: WorkerIndex,
        /// The last one that the node has.
        last: u16,
    },
}

debug_as_display!(PlacementError);

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

    /// The first of [`Placement`]'s variants that comes to these workers for this path on a node
    /// that has so many: what was asked for, as far as it makes a difference.
    pub fn placement(&self, path: &Path, workers: u16) -> Placement {
        match &self.some[..] {
            [] => Placement::EveryWorker,
            [one] if one.0 == first_worker(path, workers) => Placement::OnePerNode,
            some => Placement::Workers(some.to_vec()),
        }
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

    fn place(placement: &Placement, workers: u16) -> Result<Vec<u16>, String> {
        let placed = placement.place(&"/user/a".parse().unwrap(), workers);
        placed.map(|placed| listed(&placed, workers)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_placement_comes_to_workers_of_its_node() {
        assert_eq!(place(&Placement::default(), 3), Ok(vec![0, 1, 2]));
        assert_eq!(place(&Placement::OnePerNode, 3).unwrap().len(), 1);
        assert_eq!(place(&Placement::OnePerNode, 1), Ok(vec![0]));
        for (some, there) in [(&[2][..], &[2][..]), (&[2, 0], &[0, 2]), (&[2, 0, 1], &[0, 1, 2])] {
            assert_eq!(place(&Placement::Workers(all(some)), 3), Ok(there.to_vec()));
        }
    }

    #[test]
    fn a_placement_is_told_from_where_it_came_to() {
        let path: Path = "/user/a".parse().unwrap();
        let one = first_worker(&path, 4);
        let other = (one + 1) % 4;
        let told = |placement: Placement| {
            let placed = placement.place(&path, 4).unwrap();
            let told = placed.placement(&path, 4);
            assert_eq!(told.place(&path, 4).unwrap(), placed, "{told} leads elsewhere");
            told.to_string()
        };
        assert_eq!(told(Placement::EveryWorker), "every worker");
        assert_eq!(told(Placement::OnePerNode), "one per node");
        assert_eq!(told(Placement::Workers(all(&[other]))), format!("worker {other}"));
        assert_eq!(told(Placement::Workers(all(&[3, 1]))), "workers 1, 3");
        assert_eq!(told(Placement::Workers(all(&[0, 1, 2, 3]))), "every worker");
        // There is no other.
        assert_eq!(Placed::EVERY.placement(&path, 1).to_string(), "every worker");
    }

    #[test]
    fn a_placement_that_cannot_be_is_refused_by_name() {
        let refused = |some: &[u16]| place(&Placement::Workers(all(some)), 3).unwrap_err();
        assert_eq!(
            refused(&[]),
            "`placement` is the empty list of workers, but must name at least one, of 0 to 2; \
             `unserve` ends what is served"
        );
        assert_eq!(
            refused(&[3, 1]),
            "`placement` names worker 3, but must name workers of 0 to 2: `workers.count` says \
             how many this node has"
        );
        assert_eq!(
            refused(&[1, 0, 1]),
            "`placement` names worker 1 more than once, but must name each once, of 0 to 2: a path \
             has one routee on a worker"
        );
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
