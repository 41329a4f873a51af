//! A stand-in for another service.

use std::sync::{Arc, Mutex, PoisonError};

use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize};

use crate::base::WorkerIndex;
use crate::wire::Message;
use crate::worker::{Context, Handler, HandlerTable, Routee};

type Reply<M> = dyn Fn(&M) -> <M as Message>::Reply + Send + Sync;

/// Stands for a service that takes messages of one type: remembers them in the order in which they
/// came, on whatever node and worker, and answers as it was told. Clones remember together.
pub struct Probe<M: Message> {
    taken: Arc<Mutex<Vec<M>>>,
    reply: Arc<Reply<M>>,
}

impl<M: Message> Clone for Probe<M> {
    fn clone(&self) -> Self {
        Self { taken: Arc::clone(&self.taken), reply: Arc::clone(&self.reply) }
    }
}

impl<M: Message<Reply = ()> + Send> Default for Probe<M>
where
    M::Archived: Deserialize<M, HighDeserializer<Failure>>,
{
    fn default() -> Self {
        Self::answering(|_| ())
    }
}

impl<M: Message + Send> Probe<M>
where
    M::Archived: Deserialize<M, HighDeserializer<Failure>>,
{
    /// One that answers so.
    pub fn answering(reply: impl Fn(&M) -> M::Reply + Send + Sync + 'static) -> Self {
        Self { taken: Arc::default(), reply: Arc::new(reply) }
    }

    /// What makes its routees, for [`ClusterBuilder::serve`](super::ClusterBuilder::serve) and
    /// [`NodeSetup::serve`](super::NodeSetup::serve).
    pub fn routee(&self) -> impl Fn(WorkerIndex) -> ProbeRoutee<M> + Send + Sync + 'static {
        let probe = self.clone();
        move |_| ProbeRoutee(probe.clone())
    }

    /// What it was sent since it was last asked.
    pub fn taken(&self) -> Vec<M> {
        std::mem::take(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A routee of a [`Probe`].
pub struct ProbeRoutee<M: Message>(Probe<M>);

impl<M: Message + Send> Routee for ProbeRoutee<M>
where
    M::Archived: Deserialize<M, HighDeserializer<Failure>>,
{
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<M>();
    }
}

impl<M: Message + Send> Handler<M> for ProbeRoutee<M>
where
    M::Archived: Deserialize<M, HighDeserializer<Failure>>,
{
    type Reply = M::Reply;

    fn handle(&mut self, message: &<M as Archive>::Archived, _: &mut Context<'_>) -> M::Reply {
        let message: M = rkyv::deserialize::<M, Failure>(message).unwrap_or_else(|_| {
            panic!("a message of {} cannot be taken out of its bytes", M::NAME)
        });
        let reply = (self.0.reply)(&message);
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        reply
    }
}
