//! One routee by itself.

use std::sync::Arc;
use std::time::Duration;

use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize};

use super::cluster::Cluster;
use super::router::Router;
use super::setup::NodeSetup;
use crate::base::WorkerIndex;
use crate::base::fate::{AskError, Counts, Refusal};
use crate::wire::Message;
use crate::worker::Routee;

/// Where it serves.
const PATH: &str = "/solo";

/// One routee by itself, on one worker of one node: give it a message, look at its replies, and, with
/// a [`Probe`](super::Probe) in the place of each service that it sends to, at what it sends.
pub struct Solo {
    cluster: Cluster,
    router: Router,
}

impl Solo {
    /// A routee that needs no other.
    pub fn new<H: Routee>(make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        let make = Arc::new(make);
        Self::with(move |_| {
            let make = Arc::clone(&make);
            move |_worker| make()
        })
    }

    /// A routee that sends to others: they are served and its routers made first, and what makes it
    /// is given back.
    pub fn with<H: Routee, F>(setup: impl Fn(&mut NodeSetup<'_, '_>) -> F + 'static) -> Self
    where
        F: Fn(WorkerIndex) -> H + Send + Sync + 'static,
    {
        let cluster = Cluster::of(1).each(move |node| {
            let make = setup(node);
            node.serve(PATH, make);
        });
        Self { cluster: cluster.start(), router: Router::round_robin(PATH) }
    }

    /// Sends it a message, and lets time pass until it and all that came of it have ended, for a
    /// second at most.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub fn tell<M: Message>(&mut self, message: &M) -> Result<(), Refusal> {
        self.cluster.tell(0, &self.router, message)?;
        self.cluster.run_until_quiet(Duration::from_secs(1));
        Ok(())
    }

    /// Asks it.
    ///
    /// # Errors
    /// Why there is no reply.
    pub fn ask<M: Message>(&mut self, message: &M) -> Result<M::Reply, AskError>
    where
        <M::Reply as Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
    {
        self.cluster.ask(0, &self.router, message)
    }

    /// Lets so much time pass, such as for what it has set with
    /// [`Context::wake_after`](crate::Context::wake_after).
    pub fn run_for(&mut self, time: Duration) {
        self.cluster.run_for(time);
    }

    /// What became of the messages to it and of those that it sent.
    pub fn counts(&self) -> Counts {
        self.cluster.counts(0)
    }
}
