//! What is true of the parts, a field each.

use super::load::{self, Truth};
use super::watches::Watches;
use super::withdrawal::Site;
use crate::base::NodeRef;
use crate::sim::clocks::LocalClock;

/// The truth that parts are held against.
#[derive(Default)]
pub struct Parts {
    /// Who watches what.
    pub watches: Watches,
    /// What nodes say of their load.
    pub loads: Truth,
}

impl Parts {
    /// A process has begun.
    pub fn add_life(&mut self, me: NodeRef, clock: LocalClock) {
        self.loads.add_life(me, clock);
    }

    /// A routee has ended, whose path is not served any more.
    pub fn withdrawn(&mut self, site: Site) {
        self.watches.withdrawn(site);
    }

    /// How often the parts' invariants were held against something that could have broken them.
    pub fn exercised(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Truth { words, fresh, answers, losses, .. } = &self.loads;
        let loads = (load::NAME, words + fresh + answers + losses);
        self.watches.exercised().into_iter().chain([loads])
    }
}
