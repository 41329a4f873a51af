//! How long asks take, by path: of one in so many, so that the others cost nothing more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::base::Path;
use crate::queue::times::{Distribution, Histogram};

/// One in so many asks is timed.
const SAMPLE_EVERY: u32 = 16;

/// Paths whose asks are timed.
const MOST_PATHS: usize = 64;

/// By path.
#[derive(Debug, Default)]
pub(crate) struct AskTimes {
    paths: ArcSwap<BTreeMap<Path, Arc<Histogram>>>,
}

impl AskTimes {
    /// Whether the ask with this place for its reply, in this use of it, is timed: whether places
    /// are used in turn or one of them again and again.
    pub fn is_sampled(slot: u32, generation: u32) -> bool {
        slot.wrapping_add(generation).is_multiple_of(SAMPLE_EVERY)
    }

    /// An ask of a path got its reply after so long.
    pub fn record(&self, path: &Path, took: Duration) {
        let known = self.paths.load();
        if let Some(times) = known.get(path) {
            times.record(took);
        } else if known.len() < MOST_PATHS {
            self.add(path);
            // Another path may have taken the last place.
            if let Some(times) = self.paths.load().get(path) {
                times.record(took);
            }
        }
    }

    #[cold]
    fn add(&self, path: &Path) {
        self.paths.rcu(|known| {
            let mut paths = BTreeMap::clone(known);
            if paths.len() < MOST_PATHS {
                paths.entry(path.clone()).or_default();
            }
            paths
        });
    }

    /// All there are.
    pub fn read(&self) -> Vec<(Path, Distribution)> {
        let paths = self.paths.load();
        paths.iter().map(|(path, times)| (path.clone(), times.read())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_paths_than_so_many_are_kept() {
        let times = AskTimes::default();
        for path in 0..2 * MOST_PATHS {
            let path = Path::new(format!("/user/{path}")).unwrap();
            times.record(&path, Duration::from_micros(1));
            times.record(&path, Duration::from_micros(3));
        }
        let read = times.read();
        assert_eq!(read.len(), MOST_PATHS);
        assert!(read.iter().all(|(_, times)| (times.count(), times.sum_ns) == (2, 4_000)));
    }
}
