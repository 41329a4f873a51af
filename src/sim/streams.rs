//! Chance, apart for each thing that it decides: each has a stream of its own, which follows from the
//! seed and a name. So a thing more that is drawn changes nothing of what else a seed draws.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::events::LifeId;
use super::faults::Fault;
use crate::base::Rng;

/// The chance of one thing in one seed.
pub fn stream(seed: u64, name: &str) -> Rng {
    Rng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), seed))
}

/// The chance of what is in one life of a node.
pub fn of_life(seed: u64, life: LifeId) -> Rng {
    stream(seed, &format!("life {life}"))
}

/// A random time between two bounds in microseconds.
pub fn within_us(rng: &mut Rng, (least, most): (u64, u64)) -> Duration {
    Duration::from_nanos(rng.random_range(least * 1_000..=most * 1_000))
}

/// What decides while a seed runs, beside the network's chance and that of the routees.
pub struct Streams {
    /// By kind of fault: when one comes, whom it strikes, and for how long.
    faults: Vec<Rng>,
    /// When machines start first, and what is done about those that are down when faults end.
    pub machines: Rng,
    /// When slow machines stop, and for how long.
    pub stumbles: Rng,
    /// When applications send.
    pub applications: Rng,
    /// What they do with their routers.
    pub routers: Rng,
    /// What they ask about loads.
    pub questions: Rng,
    /// What a newer member says more.
    pub news: Rng,
}

impl Streams {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        let strikes = |fault: &Fault| stream(seed, &format!("{fault:?} strikes"));
        Self {
            faults: Fault::ALL.iter().map(strikes).collect(),
            machines: stream(seed, "machines"),
            stumbles: stream(seed, "stumbles"),
            applications: stream(seed, "bursts"),
            routers: stream(seed, "routers"),
            questions: stream(seed, "questions"),
            news: stream(seed, "news"),
        }
    }

    /// That of one kind of fault.
    pub fn of(&mut self, fault: Fault) -> &mut Rng {
        &mut self.faults[fault as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_and_each_seed_has_its_own() {
        let first = |seed, name| stream(seed, name).random::<u64>();
        assert_eq!(first(7, "weather"), first(7, "weather"));
        assert_ne!(first(7, "weather"), first(8, "weather"));
        assert_ne!(first(7, "weather"), first(7, "traffic"));
        let mut streams = Streams::new(7);
        let mut firsts: Vec<u64> = Fault::ALL.iter().map(|it| streams.of(*it).random()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), Fault::ALL.len());
    }
}
