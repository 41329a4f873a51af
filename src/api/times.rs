//! How long asks take, by path: of one in so many, so that the others cost nothing more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::base::{Path, Time};
use crate::queue::times::{Distribution, Histogram};

/// One in so many asks is timed.
const SAMPLE_EVERY: u32 = 16;

/// Paths whose asks are timed.
const MOST_PATHS: usize = 64;

/// A path that nobody has asked for so long gives its place to another, when all are taken: its
/// routers are gone, most likely. Sooner, and paths that are asked in turn would lose what was
/// counted all the time.
const IDLE: Duration = Duration::from_secs(60);

/// By path.
#[derive(Debug, Default)]
pub(crate) struct AskTimes {
    paths: ArcSwap<BTreeMap<Path, Arc<OfPath>>>,
}

#[derive(Debug, Default)]
struct OfPath {
    times: Histogram,
    /// When the last ask was recorded.
    used_ns: AtomicU64,
}

impl OfPath {
    fn record(&self, took: Duration, now: Time) {
        self.used_ns.fetch_max(now.0, Ordering::Relaxed);
        self.times.record(took);
    }
}

impl AskTimes {
    /// Whether the ask with this place for its reply, in this use of it, is timed: whether places
    /// are used in turn or one of them again and again.
    pub fn is_sampled(slot: u32, generation: u32) -> bool {
        slot.wrapping_add(generation).is_multiple_of(SAMPLE_EVERY)
    }

    /// An ask of a path got its reply now, after so long.
    pub fn record(&self, path: &Path, took: Duration, now: Time) {
        let known = self.paths.load();
        if let Some(times) = known.get(path) {
            times.record(took, now);
        } else if known.len() < MOST_PATHS || idlest(&known, now).is_some() {
            self.add(path, now);
            // Another path may have taken the last place.
            if let Some(times) = self.paths.load().get(path) {
                times.record(took, now);
            }
        }
    }

    #[cold]
    fn add(&self, path: &Path, now: Time) {
        self.paths.rcu(|known| {
            let mut paths = BTreeMap::clone(known);
            if paths.len() >= MOST_PATHS
                && let Some(idle) = idlest(&paths, now)
            {
                paths.remove(&idle);
            }
            if paths.len() < MOST_PATHS {
                let new = paths.entry(path.clone()).or_default();
                new.used_ns.fetch_max(now.0, Ordering::Relaxed);
            }
            paths
        });
    }

    /// All there are.
    pub fn read(&self) -> Vec<(Path, Distribution)> {
        let paths = self.paths.load();
        paths.iter().map(|(path, times)| (path.clone(), times.times.read())).collect()
    }
}

/// The path that was asked the longest ago, if that is long enough.
fn idlest(paths: &BTreeMap<Path, Arc<OfPath>>, now: Time) -> Option<Path> {
    let used = |of: &OfPath| Time(of.used_ns.load(Ordering::Relaxed));
    let oldest = paths.iter().min_by_key(|(_, of)| used(of))?;
    (now.since(used(oldest.1)) >= IDLE).then(|| oldest.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_paths_than_so_many_are_kept() {
        let times = AskTimes::default();
        for path in 0..2 * MOST_PATHS {
            let path = Path::new(format!("/user/{path}")).unwrap();
            times.record(&path, Duration::from_micros(1), Time::ZERO);
            times.record(&path, Duration::from_micros(3), Time::ZERO);
        }
        let read = times.read();
        assert_eq!(read.len(), MOST_PATHS);
        assert!(read.iter().all(|(_, times)| (times.count(), times.sum_ns) == (2, 4_000)));
    }
    #[test]
    fn who_was_asked_the_longest_ago_makes_room_once_nobody_asks_it() {
        let times = AskTimes::default();
        let path = |number: usize| Path::new(format!("/user/{number}")).unwrap();
        let us = Duration::from_micros(1);
        let at = |second: usize| Time(second as u64 * 1_000_000_000);
        let counts = |number: usize| {
            let read = times.read();
            let found = read.iter().find(|(known, _)| *known == path(number));
            found.map(|(_, times)| times.count())
        };
        (0..MOST_PATHS).for_each(|number| times.record(&path(number), us, at(number)));
        // The first one goes on being asked.
        times.record(&path(0), us, at(MOST_PATHS));
        times.record(&path(100), us, at(60));
        assert_eq!((counts(100), counts(1)), (None, Some(1)), "all were asked within a minute");
        times.record(&path(100), us, at(61));
        assert_eq!((counts(100), counts(1), counts(0)), (Some(1), None, Some(2)));
        times.record(&path(101), us, at(61));
        assert_eq!((counts(101), counts(2)), (None, Some(1)), "one at a time, when it is its time");
        times.record(&path(101), us, at(62));
        assert_eq!((counts(101), counts(2)), (Some(1), None));
        assert_eq!(times.read().len(), MOST_PATHS);
    }
}
