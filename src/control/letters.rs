//! Dead letters with their names, as far as the view has them. Reasons are `DeathReason` in
//! `base/fate.rs`.

use std::fmt;
use std::sync::Arc;

use crate::base::fate::DeathReason;
use crate::base::{HandlerId, Member, NodeRef, Path, Service, View, WorkerIndex};
use crate::worker::Dead;
use crate::worker::dead::About;

/// Messages that could not be handled; alike ones are told together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Why.
    pub reason: DeathReason,
    /// How many.
    pub count: u64,
    /// The node they were going to, or had come from.
    pub peer: Option<NodeRef>,
    /// Its name, as long as it is a member.
    pub peer_name: Option<Arc<str>>,
    /// The path they were for; `None` when its node does not serve it (any more), or messages of
    /// too many kinds died at a time.
    pub path: Option<Path>,
    /// The registration they were for, which a path has while it is served; `None` when messages of
    /// too many kinds died at a time.
    pub handler: Option<HandlerId>,
    /// The name of their type, if that node takes it (any more), or this one.
    pub message: Option<Arc<str>>,
    /// The worker that counted them.
    pub worker: WorkerIndex,
}

impl DeadLetter {
    /// With the names that the view has.
    pub(crate) fn new(dead: Dead, me: NodeRef, view: &View) -> Self {
        let Dead { reason, count, peer, about, worker } = dead;
        let member = |node: NodeRef| -> Option<&Member> {
            view.member(node.node).filter(|member| member.node_ref() == node)
        };
        let services = |node: NodeRef| member(node).map_or(&[][..], |member| &member.services);
        let service = about.and_then(|about| {
            services(about.node).iter().find(|service| service.handler == about.handler)
        });
        // What a service does not take any more, another one of the two nodes may.
        let message = about.and_then(|about| {
            let others = services(about.node).iter().chain(services(me));
            name_of(about, service.into_iter().chain(others))
        });
        Self {
            reason,
            count,
            peer,
            peer_name: peer.and_then(member).map(|member| Arc::clone(&member.name)),
            path: service.map(|service| service.path.clone()),
            handler: about.map(|about| about.handler),
            message,
            worker,
        }
    }

    /// What it takes in memory; its names count whole, although others hold them as well.
    pub(crate) fn memory_bytes(&self) -> usize {
        let names = [self.peer_name.as_deref(), self.path.as_deref(), self.message.as_deref()];
        size_of::<Self>() + names.into_iter().flatten().map(str::len).sum::<usize>()
    }
}

/// The name of a message's type, from the first service that takes it.
fn name_of<'a>(about: About, services: impl Iterator<Item = &'a Service>) -> Option<Arc<str>> {
    let mut messages = services.flat_map(|service| &service.messages);
    let found = messages.find(|message| message.id() == about.message);
    found.map(|message| Arc::clone(&message.name))
}

impl fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, reason, .. } = self;
        write!(f, "{count} x {}", self.message.as_deref().unwrap_or("an unknown message"))?;
        match (&self.path, self.handler) {
            (Some(path), _) => write!(f, " for {path}")?,
            (None, Some(handler)) => write!(f, " for handler {}, not served now", handler.0)?,
            (None, None) => {}
        }
        match (&self.peer_name, self.peer) {
            (Some(name), _) => write!(f, ", peer {name}")?,
            (None, Some(peer)) => write!(f, ", peer {peer}, no member now")?,
            (None, None) => {}
        }
        write!(f, ": {reason}")
    }
}
