//! What a cluster is to be, before it starts.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::router::Router;
use crate::base::{Path, Placement, WorkerIndex};
use crate::control::ServeError;
use crate::sim::stage::{Process, Stage};
use crate::worker::{Routee, RouteeFactory, RouterRef};

/// By when nodes that start at once have found each other.
const FORMED_WITHIN: Duration = Duration::from_secs(60);

/// What a node does when it starts.
type Setup = Box<dyn Fn(&mut NodeSetup<'_, '_>)>;

/// Describes a cluster; made by [`Cluster::of`].
#[must_use = "a cluster runs after `start`"]
pub struct ClusterBuilder {
    nodes: u16,
    workers: u16,
    seed: u64,
    setups: Vec<Setup>,
}

impl Cluster {
    /// A cluster of so many nodes with one worker each, numbered from 0. The first three are the
    /// seeds of all.
    pub fn of(nodes: u16) -> ClusterBuilder {
        ClusterBuilder { nodes, workers: 1, seed: 0, setups: Vec::new() }
    }
}

impl ClusterBuilder {
    /// How many workers each node has: 1 to 64.
    pub fn workers(self, workers: u16) -> Self {
        Self { workers, ..self }
    }

    /// Of what all chance follows: how long messages and threads take, and so what comes first. With
    /// the same seed, a test does the same. 0 if not called.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Each node serves a path on every worker, as [`Node::serve`](crate::Node::serve).
    ///
    /// # Panics
    /// At the start, when the path is not one, or is served twice.
    pub fn serve<H: Routee>(
        self,
        path: &str,
        make: impl Fn(WorkerIndex) -> H + Send + Sync + 'static,
    ) -> Self {
        let (path, make) = (path.to_owned(), Arc::new(make));
        self.each(move |node| {
            let make = Arc::clone(&make);
            node.serve(&path, move |worker| make(worker));
        })
    }

    /// Each node does this when it starts, also when it starts again: what a program's `main` does
    /// with its [`Node`](crate::Node).
    pub fn each(mut self, setup: impl Fn(&mut NodeSetup<'_, '_>) + 'static) -> Self {
        self.setups.push(Box::new(setup));
        self
    }

    /// Starts all nodes, and runs until each knows all others and what they serve, and has the tables
    /// of the routers that it was set up with.
    ///
    /// # Panics
    /// With no nodes or more than 4,096, no workers or more than 64, and when a path cannot be
    /// served.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let Self { nodes, workers, seed, setups } = self;
        assert!((1..=4_096).contains(&nodes), "a cluster has 1 to 4096 nodes, not {nodes}");
        assert!((1..=64).contains(&workers), "a node has 1 to 64 workers, not {workers}");
        let stage = Stage::new(seed, nodes, workers, move |process| {
            for setup in &setups {
                setup(&mut NodeSetup { process });
            }
        });
        let mut cluster = Cluster::on(stage, seed, nodes);
        for node in 0..usize::from(nodes) {
            cluster.start(node);
        }
        let formed = cluster.run_until(FORMED_WITHIN, Cluster::is_set_up);
        assert!(formed, "{nodes} nodes have not found each other within {FORMED_WITHIN:?}");
        cluster
    }
}

/// A node of a test that is starting.
pub struct NodeSetup<'a, 'w> {
    process: &'a mut Process<'w>,
}

impl NodeSetup<'_, '_> {
    /// Which node it is, from 0.
    pub fn index(&self) -> usize {
        self.process.slot()
    }

    /// Serves a path on every worker, as [`Node::serve`](crate::Node::serve).
    ///
    /// # Panics
    /// When the path is not one, or is served already.
    pub fn serve<H: Routee>(
        &mut self,
        path: &str,
        make: impl Fn(WorkerIndex) -> H + Send + Sync + 'static,
    ) {
        self.serve_on(path, &Placement::EveryWorker, make);
    }

    /// Serves a path on the workers of a placement, as [`Node::serve_on`](crate::Node::serve_on).
    ///
    /// # Panics
    /// As [`NodeSetup::serve`], and when the node does not have these workers.
    #[track_caller]
    pub fn serve_on<H: Routee>(
        &mut self,
        path: &str,
        placement: &Placement,
        make: impl Fn(WorkerIndex) -> H + Send + Sync + 'static,
    ) {
        let index = self.index();
        let parsed =
            Path::new(path).unwrap_or_else(|error| panic!("node {index} cannot serve: {error}"));
        let served = self.process.serve(parsed, placement, RouteeFactory::new(make));
        let why = match served {
            Ok(()) => return,
            Err(ServeError::Leaving) => "it is leaving its cluster".to_owned(),
            Err(ServeError::PathTaken) => "it serves that path already".to_owned(),
            Err(ServeError::SameMessage { name, other }) => {
                format!("its message types {name:?} and {other:?} stand for the same on the wire")
            }
            Err(ServeError::TooMany) => "it serves as many paths as a node can".to_owned(),
            Err(ServeError::Placement(error)) => error.to_string(),
        };
        panic!("node {index} cannot serve {path}: {why}");
    }

    /// A router for this node's routees: what they hold in place of a [`Router`](crate::Router),
    /// whose `as_ref()` gives the same outside of tests.
    ///
    /// # Panics
    /// When its options do not fit.
    #[track_caller]
    pub fn router(&mut self, router: &Router) -> RouterRef {
        let spec = router.spec(self.process.seed());
        self.process.route(spec).unwrap_or_else(|error| panic!("cannot make a router: {error}"))
    }
}
