//! Names the workers of all members, so that a routee's link is found by an index.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::base::{DestinationId, Member, MemberEvent, MemberState, NodeRef, View, WorkerIndex};
use crate::route::RouteTable;
use crate::route::snapshot::{self, Destination, Reach};

/// Every worker of every member's present life. Slots of nodes that are gone are used again, the
/// lowest first, so that there are no more than there were workers at a time. Whatever still holds
/// an old id (a worker that is behind, a thread's snapshot, a hand-over that waits, an ask's plan, a
/// connection under way) finds nothing by it, since no id comes again.
#[derive(Default)]
pub struct Destinations {
    now: snapshot::Destinations,
    /// By worker.
    ids: BTreeMap<NodeRef, Vec<DestinationId>>,
    /// What was followed last: a member that both views share is as it was.
    last: Option<Arc<View>>,
}

impl Destinations {
    /// What workers and threads are told.
    pub fn all(&self) -> &snapshot::Destinations {
        &self.now
    }

    /// Adds the workers of new members, takes out those of lives that are over, and brings the
    /// others' reach in line with the view.
    pub fn follow(&mut self, view: &Arc<View>) {
        let last = self.last.replace(Arc::clone(view));
        let last = last.as_ref().filter(|last| last.me == view.me);
        let last = last.map_or(&[][..], |last| &last.members);
        let is_same = |at: usize| last.get(at).is_some_and(|it| Arc::ptr_eq(it, &view.members[at]));
        let others = || view.members.iter().enumerate().filter(|(at, _)| !is_same(*at));
        let is_known = |(_, member): (usize, &Arc<Member>)| {
            let ids = self.ids.get(&member.node_ref());
            ids.is_some_and(|ids| ids.len() == usize::from(member.workers))
        };
        if self.ids.len() != view.members.len() || !others().all(is_known) {
            self.change(view);
        }
        for (_, member) in others() {
            let node = member.node_ref();
            let reach = match member.state {
                MemberState::Leaving => Reach::Leaving,
                MemberState::Left | MemberState::Down => Reach::Gone,
                MemberState::Joining | MemberState::Up if member.reachable => Reach::Usable,
                MemberState::Joining | MemberState::Up => Reach::Unreachable,
            };
            // A node's own leave does not part it from itself.
            let reach = if node == view.me { Reach::Usable } else { reach };
            let (address, routed) = (member.address, member.answers());
            let damped = member.damped_until.is_some();
            for id in self.ids.get(&node).into_iter().flatten() {
                self.now.change(*id, |one| {
                    *one = Destination { address, reach, routed, damped, ..*one }
                });
            }
        }
        if view.member(view.me.node).is_none_or(|member| member.node_ref() != view.me) {
            for id in self.ids.get(&view.me).into_iter().flatten() {
                self.now.change(*id, |one| (one.reach, one.routed) = (Reach::Gone, false));
            }
        }
    }

    fn change(&mut self, view: &View) {
        let mut slots = self.now.slots().to_vec();
        let members: BTreeMap<_, _> =
            view.members.iter().map(|member| (member.node_ref(), member)).collect();
        self.ids.retain(|node, ids| {
            let workers = members.get(node).map_or(0, |member| usize::from(member.workers));
            // A node's own workers stay when it is no member any more.
            if *node != view.me {
                let gone = ids.drain(workers.min(ids.len())..);
                gone.for_each(|id| slots[id.slot()] = None);
            }
            !ids.is_empty()
        });
        while slots.last().is_some_and(Option::is_none) {
            slots.pop();
        }
        let free: Vec<usize> = (0..slots.len()).filter(|slot| slots[*slot].is_none()).collect();
        let mut free = free.into_iter();
        let mut newest = self.now.newest();
        for (node, member) in members {
            let address = member.address;
            let ids = self.ids.entry(node).or_default();
            for worker in (ids.len() as u16..member.workers).map(WorkerIndex) {
                newest = newest.checked_add(1).unwrap_or(NonZeroU32::MIN);
                let slot = free.next().unwrap_or_else(|| {
                    slots.push(None);
                    slots.len() - 1
                });
                let id = DestinationId::new(slot, newest);
                let (reach, routed, damped) = (Reach::Usable, false, false);
                slots[slot] =
                    Some(Destination { id, node, worker, address, reach, routed, damped });
                ids.push(id);
            }
        }
        self.now = snapshot::Destinations::new(slots, newest);
    }

    /// By routee of a table. One whose node is gone meanwhile is found nowhere.
    pub fn of(&self, table: &RouteTable) -> Arc<[DestinationId]> {
        let id = |node: &NodeRef, worker: WorkerIndex| {
            self.ids.get(node)?.get(usize::from(worker.0)).copied()
        };
        let routees = table.routees().iter();
        let ids = routees.map(|routee| id(&routee.node, routee.worker));
        ids.map(|id| id.unwrap_or(DestinationId::NONE)).collect()
    }
}

/// Lives that are remembered after their end: more than can end before a worker that is not held up
/// takes its next snapshot.
const REMEMBERED: usize = 1_024;

/// The lives of members that have ended last.
#[derive(Default)]
pub struct Ended {
    lives: VecDeque<NodeRef>,
    /// The same, as it was last handed out.
    shared: Arc<[NodeRef]>,
}

impl Ended {
    /// Adds those that have ended now: a member that is removed, and one that is replaced by a later
    /// life of its node.
    pub fn follow(&mut self, events: &[MemberEvent]) {
        let removed = events.iter().filter_map(|event| match event {
            MemberEvent::Removed(member) => Some(member.node_ref()),
            _ => None,
        });
        let before = self.lives.len();
        self.lives.extend(removed);
        if self.lives.len() > before {
            let most = self.lives.len().saturating_sub(REMEMBERED);
            self.lives.drain(..most);
            self.shared = self.lives.iter().copied().collect();
        }
    }

    /// All of them, oldest first.
    pub fn latest(&self) -> Arc<[NodeRef]> {
        Arc::clone(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{HandlerId, Incarnation, NodeId, Placed, Service, Time};
    use crate::hash::HashSeed;
    use crate::route::snapshot::RouterState;
    use crate::route::{RouteTable, RouterSpec, StrategyKind};

    fn node(name: &str, life: u64) -> NodeRef {
        NodeRef { node: NodeId::from_name(name), incarnation: Incarnation(life) }
    }

    fn member(name: &str, life: u64, workers: u16) -> Member {
        Member {
            name: name.into(),
            workers,
            ..Member::plain(node(name, life), ([127, 0, 0, 1], 7_400).into())
        }
    }

    fn view(members: Vec<Member>) -> Arc<View> {
        Arc::new(View::new(node("me", 1), 1, members))
    }

    /// The places that are in use hold what is said of them.
    fn check(destinations: &Destinations, view: &View) {
        let all = destinations.all();
        for (slot, one) in all.slots().iter().enumerate() {
            assert!(one.is_none_or(|one| one.id.slot() == slot && all.get(one.id).is_some()));
        }
        for member in &view.members {
            for worker in (0..member.workers).map(WorkerIndex) {
                let found = all.find(member.node_ref(), worker).expect("it is a member");
                assert_eq!((found.node, found.worker), (member.node_ref(), worker));
            }
        }
    }

    #[test]
    fn a_peer_that_restarts_often_takes_no_more_numbers() {
        let mut destinations = Destinations::default();
        let mut lives = Vec::new();
        for life in 1..=2_000 {
            let mut members = vec![member("me", 1, 2), member("stays", 1, 3)];
            if life % 3 == 0 {
                // The end of the old life is seen before the new one.
                destinations.follow(&view(members.clone()));
            }
            members.push(member("restarts", life, 4));
            let view = view(members);
            destinations.follow(&view);
            check(&destinations, &view);
            let all = destinations.all();
            assert_eq!((all.slots().len(), all.iter().count()), (9, 9), "life {life}");
            lives.push(all.find(node("restarts", life), WorkerIndex(3)).unwrap().id);
        }
        let all = destinations.all();
        let found: Vec<_> = lives.iter().filter(|id| all.get(**id).is_some()).collect();
        assert_eq!(found, [lives.last().unwrap()], "an old name stands for nobody");
        lives.sort();
        lives.dedup();
        assert_eq!(lives.len(), 2_000);
        assert!(lives.iter().all(|id| !id.is_after(all.newest())));
    }

    #[test]
    fn the_last_lives_that_ended_are_remembered() {
        let mut ended = Ended::default();
        let removed = |life| MemberEvent::Removed(member("restarts", life, 1).into());
        let joined = MemberEvent::Joined(member("stays", 1, 1).into());
        ended.follow(std::slice::from_ref(&joined));
        assert!(ended.latest().is_empty());
        for life in 1..=2_000 {
            ended.follow(&[removed(life), joined.clone()]);
        }
        let latest = ended.latest();
        assert_eq!((latest.len(), latest[0]), (REMEMBERED, node("restarts", 2_001 - 1_024)));
        assert_eq!(latest.last(), Some(&node("restarts", 2_000)));
    }

    #[test]
    fn slots_of_those_who_go_are_given_back() {
        let mut destinations = Destinations::default();
        let big = |count: u64| {
            let others = (0..count).map(|number| member(&format!("node-{number}"), 1, 8));
            view(others.chain([member("me", 1, 1)]).collect())
        };
        for _ in 0..10 {
            for count in [100, 3] {
                destinations.follow(&big(count));
                check(&destinations, &big(count));
                assert_eq!(destinations.all().iter().count() as u64, 8 * count + 1);
                assert!(destinations.all().slots().len() <= 801);
            }
        }
        // Nothing but this node is left, and then not even that as a member.
        destinations.follow(&big(0));
        assert_eq!(destinations.all().iter().count(), 1);
        destinations.follow(&view(Vec::new()));
        let own = destinations.all().find(node("me", 1), WorkerIndex(0)).unwrap();
        assert_eq!((own.reach, own.routed), (Reach::Gone, false));
    }

    #[test]
    fn a_node_that_leaves_is_not_parted_from_itself() {
        let leaving = |name| Member { state: MemberState::Leaving, ..member(name, 1, 1) };
        let mut destinations = Destinations::default();
        destinations.follow(&view(vec![leaving("me"), leaving("other")]));
        let reach = |name| destinations.all().find(node(name, 1), WorkerIndex(0)).unwrap().reach;
        assert_eq!((reach("me"), reach("other")), (Reach::Usable, Reach::Leaving));
    }

    #[test]
    fn damped_routees_are_chosen_only_where_nobody_else_answers() {
        let serving = |name: &str, damped: bool, reachable: bool| Member {
            damped_until: damped.then_some(Time(1)),
            reachable,
            services: vec![Service {
                path: "/a".parse().unwrap(),
                handler: HandlerId(1),
                placed: Placed::EVERY,
                messages: Vec::new(),
            }],
            ..member(name, 1, 1)
        };
        let spec =
            Arc::new(RouterSpec::new("/a".parse().unwrap(), StrategyKind::RoundRobin, HashSeed(1)));
        // By name; whether each answers and is damped, and whether it is chosen.
        for (one, other, chosen) in [
            ((true, false), (true, false), [true, true]),
            ((true, true), (true, false), [false, true]),
            ((true, true), (false, false), [true, false]),
            ((true, true), (true, true), [true, true]),
            ((false, true), (false, false), [false, false]),
        ] {
            let members = [("a", one), ("b", other)]
                .map(|(name, (answers, damped))| serving(name, damped, answers));
            let view = view(members.into_iter().chain([member("me", 1, 1)]).collect());
            let mut destinations = Destinations::default();
            destinations.follow(&view);
            let table = Arc::new(RouteTable::build(&view, &spec, None));
            let places = destinations.of(&table);
            let state =
                RouterState::new(Arc::clone(&spec), Arc::clone(&table), places, destinations.all());
            let active = ["a", "b"].map(|name| {
                let place = table.routees().iter().position(|it| it.node == node(name, 1)).unwrap();
                state.active.contains(place as u16)
            });
            assert_eq!(active, chosen, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_life_that_claims_other_workers_keeps_those_that_it_has() {
        let mut destinations = Destinations::default();
        for workers in [2, 5, 1, 4] {
            let view = view(vec![member("me", 1, 1), member("odd", 1, workers)]);
            destinations.follow(&view);
            check(&destinations, &view);
            assert_eq!(destinations.all().iter().count(), 1 + usize::from(workers));
        }
    }
}
