//! What a test sends by.

use std::sync::Arc;

use crate::base::Path;
use crate::hash::HashSeed;
use crate::route::{RouterSpec, Strategy, StrategyKind};

/// A description of a router, for [`Cluster::tell`](super::Cluster::tell) and
/// [`Cluster::ask`](super::Cluster::ask), or for a routee: see
/// [`NodeSetup::router`](super::NodeSetup::router). Each node makes its own of it, and those that are
/// described alike are one; of your own strategies, clones of one `Router` are. Keys are those of the messages.
#[derive(Clone, Debug)]
pub struct Router {
    spec: RouterSpec,
}

impl Router {
    fn new(path: &str, strategy: StrategyKind) -> Self {
        let path = Path::new(path).unwrap_or_else(|error| panic!("cannot make a router: {error}"));
        // The cluster that it is used in has its own seed.
        Self { spec: RouterSpec::new(path, strategy, HashSeed(0)) }
    }

    /// Each message to the next routee in turn.
    ///
    /// # Panics
    /// When the path is not one; as all of these.
    pub fn round_robin(path: &str) -> Self {
        Self::new(path, StrategyKind::RoundRobin)
    }

    /// Each message to a random routee, by weight.
    pub fn random(path: &str) -> Self {
        Self::new(path, StrategyKind::Random)
    }

    /// Each message to every routee.
    pub fn broadcast(path: &str) -> Self {
        Self::new(path, StrategyKind::Broadcast)
    }

    /// Messages of one key to one routee, the same from every node.
    pub fn consistent_hash(path: &str) -> Self {
        Self::new(path, StrategyKind::ConsistentHash)
    }

    /// By a strategy of your own.
    pub fn strategy(path: &str, strategy: impl Strategy + 'static) -> Self {
        Self::new(path, StrategyKind::Custom(Arc::new(strategy)))
    }

    /// The same with other options, which the real
    /// [`RouterBuilder`](crate::RouterBuilder) sets one by one.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut RouterSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// What a node is asked for in a cluster with this seed.
    pub(super) fn spec(&self, seed: HashSeed) -> RouterSpec {
        RouterSpec { seed, ..self.spec.clone() }
    }
}
