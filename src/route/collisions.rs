//! Message types that share an id: on the wire a type is 32 bits of the hash of its name and its
//! layout, so two types may look the same there, and a routee must never get one for the other.
//!
//! All nodes must refuse the same routees, so the choice depends on the view alone: of the types
//! that share an id, the one that most services list wins (a newcomer does not disturb what runs),
//! of equally common ones the alphabetically first.

use std::collections::BTreeMap;

use crate::base::{Member, MessageType, MessageTypeId, NodeRef, Path, Service, View};

/// One message type that loses its id to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCollision {
    /// The id that both types hash to.
    pub id: MessageTypeId,
    /// The type that keeps the id.
    pub kept: MessageType,
    /// The type that lost it. Rename it.
    pub refused: MessageType,
    /// Who serves the lost type, and where: these get no messages.
    pub services: Vec<(NodeRef, Path)>,
}

/// All collisions of a view, sorted by id and refused name. Usually none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameCollisions(Vec<NameCollision>);

impl NameCollisions {
    /// Finds them. One pass over the types of all services: with many routers, do it once per view
    /// and hand it to [`RouteTable::build_with`](super::RouteTable::build_with).
    pub fn of(view: &View) -> Self {
        Self(find(view, MessageType::id))
    }

    /// The collision that keeps a service of the view from getting messages, if there is one.
    pub fn refusing(&self, service: &Service) -> Option<&NameCollision> {
        self.0.iter().find(|collision| service.messages.contains(&collision.refused))
    }

    /// Each of them.
    pub fn as_slice(&self) -> &[NameCollision] {
        &self.0
    }
}

/// With the id function as a parameter, so that tests need no real collision.
fn find(view: &View, id_of: impl Fn(&MessageType) -> MessageTypeId) -> Vec<NameCollision> {
    let mut listed: BTreeMap<&MessageType, usize> = BTreeMap::new();
    for message in services(view).flat_map(|(_, service)| &service.messages) {
        *listed.entry(message).or_default() += 1;
    }
    let mut by_id: BTreeMap<MessageTypeId, Vec<&MessageType>> = BTreeMap::new();
    for message in listed.keys() {
        by_id.entry(id_of(message)).or_default().push(message);
    }

    let mut collisions = Vec::new();
    for (id, types) in by_id {
        // Types come in alphabetical order, and `max_by_key` would prefer the last of equals.
        let Some(kept) = types.iter().copied().rev().max_by_key(|known| listed[known]) else {
            continue;
        };
        for refused in types.into_iter().filter(|&known| known != kept) {
            let served = services(view)
                .filter(|(_, service)| service.messages.contains(refused))
                .map(|(member, service)| (member.node_ref(), service.path.clone()));
            collisions.push(NameCollision {
                id,
                kept: kept.clone(),
                refused: refused.clone(),
                services: served.collect(),
            });
        }
    }
    collisions
}

fn services(view: &View) -> impl Iterator<Item = (&Member, &Service)> {
    view.members
        .iter()
        .flat_map(|member| member.services.iter().map(move |service| (&**member, service)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::table::tests::{LAYOUT, member, view};
    use super::*;

    /// Two names with one id, found by search; the search is repeated here so that the pair is
    /// real whatever the hash.
    pub(in super::super) fn colliding_names() -> (String, String) {
        let mut seen = BTreeMap::new();
        for count in 0u32.. {
            let name = format!("shop.message_{count}");
            let id = MessageTypeId::of(&name, LAYOUT);
            if let Some(other) = seen.insert(id, name.clone()) {
                return (other, name);
            }
        }
        unreachable!("32 bits run out")
    }

    #[test]
    fn the_more_common_name_keeps_the_id() {
        let (first, second) = colliding_names();
        let (common, rare) = (second.as_str(), first.as_str());
        let mut members: Vec<_> = (1..=3).map(|n| member(n, &[("/user/a", &[common])])).collect();
        members.push(member(4, &[("/user/b", &[rare]), ("/user/c", &["fine"])]));
        let found = NameCollisions::of(&view(1, members)).0;
        let expected = NameCollision {
            id: MessageTypeId::of(rare, LAYOUT),
            kept: MessageType::new(common, LAYOUT),
            refused: MessageType::new(rare, LAYOUT),
            services: vec![(member(4, &[]).node_ref(), "/user/b".parse().unwrap())],
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn of_equally_common_names_the_first_keeps_it() {
        let same = |_: &MessageType| MessageTypeId(7);
        let members = vec![
            member(1, &[("/user/a", &["b", "c"])]),
            member(2, &[("/user/a", &["a", "b"])]),
            member(3, &[("/user/a", &["a"])]),
        ];
        let found = find(&view(1, members), same);
        let names: Vec<_> = found.iter().map(|c| (&*c.kept.name, &*c.refused.name)).collect();
        assert_eq!(names, [("a", "b"), ("a", "c")]);
        assert_eq!(found[0].services.len(), 2);
    }

    #[test]
    fn one_name_on_many_nodes_is_no_collision() {
        let members = (1..=5).map(|n| member(n, &[("/user/a", &["x", "y"])])).collect();
        assert_eq!(NameCollisions::of(&view(1, members)).as_slice(), []);
    }
}
