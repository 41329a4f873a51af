//! How long things took, in histograms that any thread reads. Those who record take a sample of what
//! happens, so that nothing here is a cost per message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of all buckets but the last, which takes the rest.
pub const BOUNDS: [Duration; 18] = [
    Duration::from_nanos(200),
    Duration::from_nanos(500),
    Duration::from_micros(1),
    Duration::from_micros(2),
    Duration::from_micros(5),
    Duration::from_micros(10),
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_micros(1_000),
    Duration::from_micros(2_000),
    Duration::from_micros(5_000),
    Duration::from_micros(10_000),
    Duration::from_micros(50_000),
    Duration::from_micros(200_000),
    Duration::from_micros(1_000_000),
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    sum_ns: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

/// What a [`Histogram`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// All samples together.
    pub sum_ns: u64,
    /// Samples up to each of [`BOUNDS`], and above; none of them counted twice.
    pub buckets: [u64; BOUNDS.len() + 1],
}

impl Distribution {
    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another's samples.
    pub fn add(&mut self, other: &Self) {
        self.sum_ns += other.sum_ns;
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
    }
}

impl Histogram {
    /// Adds one sample. Any thread may.
    pub fn record(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        self.sum_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// What it holds. Samples that come meanwhile may be seen in part.
    pub fn read(&self) -> Distribution {
        Distribution {
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
        }
    }

    fn clear(&self) {
        self.sum_ns.store(0, Ordering::Relaxed);
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

/// Handlers of one worker whose times are kept.
const PLACES: usize = 64;

/// The times of one worker's handlers: of the first 64 places that a node's handlers have.
#[derive(Debug)]
pub struct HandlerTimes {
    places: [Place; PLACES],
}

#[derive(Debug, Default)]
struct Place {
    /// Which handler, plus one; 0 for none.
    of: AtomicU64,
    times: Histogram,
}

impl Default for HandlerTimes {
    fn default() -> Self {
        Self { places: std::array::from_fn(|_| Place::default()) }
    }
}

impl HandlerTimes {
    /// A handler at a place took so long for one message. Only its worker may say so. One that has
    /// the place of another begins anew.
    pub fn record(&self, slot: usize, handler: u32, took: Duration) {
        let Some(place) = self.places.get(slot) else { return };
        let of = u64::from(handler) + 1;
        if place.of.load(Ordering::Relaxed) != of {
            place.times.clear();
            place.of.store(of, Ordering::Relaxed);
        }
        place.times.record(took);
    }

    /// All there are, by handler.
    pub fn read(&self) -> impl Iterator<Item = (u32, Distribution)> {
        self.places.iter().filter_map(|place| {
            let of = place.of.load(Ordering::Relaxed).checked_sub(1)?;
            Some((of as u32, place.times.read()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for ns in [0, 200, 201, 1_000_000_000, 1_000_000_001] {
            histogram.record(Duration::from_nanos(ns));
        }
        let read = histogram.read();
        assert_eq!((read.buckets[0], read.buckets[1]), (2, 1));
        assert_eq!((read.buckets[BOUNDS.len() - 1], read.buckets[BOUNDS.len()]), (1, 1));
        assert_eq!((read.count(), read.sum_ns), (5, 2_000_000_402));
    }

    #[test]
    fn a_handler_with_the_place_of_another_begins_anew() {
        let times = HandlerTimes::default();
        let us = Duration::from_micros(1);
        for (slot, handler) in [(0, 0), (0, 0), (1, 1), (PLACES, 64)] {
            times.record(slot, handler, us);
        }
        let counts = || times.read().map(|(of, times)| (of, times.count())).collect::<Vec<_>>();
        assert_eq!(counts(), [(0, 2), (1, 1)]);
        times.record(0, 4096, us);
        assert_eq!(counts(), [(4096, 1), (1, 1)]);
        assert!(times.read().all(|(_, times)| times.sum_ns == 1_000), "what it took as well");
    }
}
