//! Dead letters with their names, as far as the view has them. Reasons are `DeathReason` in
//! `base/fate/dead_letter_reason.rs`.

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
    /// The path they were for; `None` when another node's that does not serve it (any more), when this
    /// one has never served it or has served others since, or when messages of too many kinds died at
    /// a time.
    pub path: Option<Path>,
    /// The registration they were for, which a path has while it is served; `None` when messages of
    /// too many kinds died at a time.
    pub handler: Option<HandlerId>,
    /// The name of their type, if a path takes it that either of the two nodes serves, or that path did
    /// on this node: a message brings no name along. `None` as well when messages of too many kinds died
    /// at a time.
    pub message: Option<Arc<str>>,
    /// The worker that counted them.
    pub worker: WorkerIndex,
}

impl DeadLetter {
    /// With the names that the view has; `own` is what they were for when that is this node's, also when
    /// it is not served any more.
    pub(crate) fn new(dead: Dead, own: Option<&Service>, me: NodeRef, view: &View) -> Self {
        let Dead { reason, count, peer, about, worker } = dead;
        let member = |node: NodeRef| -> Option<&Member> {
            view.member(node.node).filter(|member| member.node_ref() == node)
        };
        let services = |node: NodeRef| member(node).map_or(&[][..], |member| &member.services);
        let service = own.or_else(|| {
            let about = about?;
            services(about.node).iter().find(|service| service.handler == about.handler)
        });
        // What a service does not take, or not any more, another one of the two nodes may.
        let message = about.and_then(|about| {
            let two = [Some(me), peer.filter(|peer| *peer != me)];
            let others = two.into_iter().flatten().flat_map(services);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        Incarnation, LayoutHash, MessageType, MessageTypeId, NodeId, Placed, WorkerIndex,
    };

    fn node(id: u64) -> NodeRef {
        NodeRef { node: NodeId(id), incarnation: Incarnation(1) }
    }

    fn service(path: &str, handler: u32, message: &str) -> Service {
        let messages = vec![MessageType::new(message, LayoutHash(7))];
        let (path, handler) = (path.parse().unwrap(), HandlerId(handler));
        Service { path, handler, placed: Placed::EVERY, messages }
    }

    #[test]
    fn a_type_that_a_path_does_not_take_has_its_name_from_whichever_of_the_two_nodes_takes_it() {
        let members = [service("/here", 1, "t.here"), service("/there", 1, "t.there")];
        let members = members.into_iter().zip(1..).map(|(service, id)| Member {
            services: vec![service],
            ..Member::plain(node(id), ([127, 0, 0, 1], 7_000).into())
        });
        let view = View::new(node(1), 1, members.collect());
        let letter = |message: &str, own: Option<&Service>| {
            let message = MessageTypeId::of(message, LayoutHash(7));
            let about = About { node: node(1), handler: HandlerId(1), message };
            let (reason, peer) = (DeathReason::UnknownMessage, Some(node(2)));
            let (about, worker) = (Some(about), WorkerIndex(0));
            let letter = DeadLetter::new(
                Dead { reason, count: 1, peer, about, worker },
                own,
                node(1),
                &view,
            );
            let path = letter.path.map(|path| path.to_string());
            (path, letter.message.map(|name| name.to_string()))
        };
        let named = |path: &str, message: &str| (Some(path.to_owned()), Some(message.to_owned()));
        assert_eq!(letter("t.here", None), named("/here", "t.here"));
        assert_eq!(
            letter("t.there", None),
            named("/here", "t.there"),
            "as its sender's path takes it"
        );
        assert_eq!(letter("t.nowhere", None), (Some("/here".to_owned()), None));
        let gone = service("/gone", 1, "t.gone");
        assert_eq!(letter("t.gone", Some(&gone)), named("/gone", "t.gone"));
    }

    #[test]
    fn of_another_life_of_a_member_nothing_is_named() {
        let member = Member {
            services: vec![service("/there", 1, "t.there")],
            ..Member::plain(node(2), ([127, 0, 0, 1], 7_000).into())
        };
        let view = View::new(node(1), 1, vec![member]);
        for (life, named) in [(1, true), (2, false)] {
            let peer = NodeRef { incarnation: Incarnation(life), ..node(2) };
            let message = MessageTypeId::of("t.there", LayoutHash(7));
            let about = Some(About { node: peer, handler: HandlerId(1), message });
            let (reason, peer, worker) = (DeathReason::Unreachable, Some(peer), WorkerIndex(0));
            let dead = Dead { reason, count: 1, peer, about, worker };
            let DeadLetter { peer_name, path, message, .. } =
                DeadLetter::new(dead, None, node(1), &view);
            let is_named = [peer_name.is_some(), path.is_some(), message.is_some()];
            assert_eq!(is_named, [named; 3], "life {life}");
        }
    }
}
