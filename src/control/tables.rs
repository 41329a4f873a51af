//! The routers' tables: which are wanted, which stand, and who takes messages by them.
//!
//! Membership is never late because of routing. When members change, the routers go on with the
//! tables they have, less those who are gone, and new ones are asked for; they are made elsewhere,
//! one job at a time, and what changes meanwhile waits for the next. A member that stops answering,
//! or answers again, changes who of a table takes messages, and makes no table.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::ControlSink;
use super::destinations::Destinations;
use crate::base::{DestinationId, View};
use crate::route::job::{TableJob, TablesMade, WantedTable};
use crate::route::snapshot::{MAX_ROUTERS, RouterState, router_id, router_serial, router_slot};
use crate::route::{RouteTable, RouteeSet, RouterSpec, SpecError};

#[derive(Default)]
pub(super) struct Tables {
    /// By slot.
    routers: Vec<Option<Router>>,
    /// Slots whose router has ended, with the serial of the next one there. The oldest is used
    /// first, so that an id comes again only after 65,536 others in its slot.
    free: VecDeque<(u16, u16)>,
    /// By slot: the id of the last router there that has ended.
    ended: Arc<[Option<u32>]>,
    /// Whether a job is under way.
    making: bool,
    /// The newest of the destinations when they were last looked at.
    newest: Option<NonZeroU32>,
}

/// A router, or several that ask for the same.
struct Router {
    id: u32,
    holders: usize,
    spec: Arc<RouterSpec>,
    /// None until its first table is made.
    state: Option<Arc<RouterState>>,
}

impl Router {
    fn table(&self) -> Option<&Arc<RouteTable>> {
        self.state.as_ref().map(|state| &state.table)
    }
}

impl Tables {
    /// One more holder of a router that asks for this. Gives its id.
    pub fn add(&mut self, spec: RouterSpec) -> Result<u32, SpecError> {
        if let Some(same) = self.routers.iter_mut().flatten().find(|one| one.spec.is_same(&spec)) {
            same.holders += 1;
            return Ok(same.id);
        }
        let (slot, serial) = match self.free.pop_front() {
            Some(free) => free,
            None if self.routers.len() < MAX_ROUTERS => {
                self.routers.push(None);
                ((self.routers.len() - 1) as u16, 0)
            }
            None => {
                let range = format!("at most {MAX_ROUTERS} different routers at a time");
                return Err(SpecError::new("path", format!("{:?}", spec.path), range));
            }
        };
        let id = router_id(slot, serial);
        let (spec, state) = (Arc::new(spec), None);
        self.routers[usize::from(slot)] = Some(Router { id, holders: 1, spec, state });
        Ok(id)
    }

    /// One holder less. Gives true when the router has ended with it.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(router) = self.router(id) else { return false };
        router.holders -= 1;
        if router.holders > 0 {
            return false;
        }
        let slot = router_slot(id);
        self.routers[slot] = None;
        let serial = router_serial(id);
        self.free.push_back((slot as u16, serial.wrapping_add(1)));
        let mut ended = self.ended.to_vec();
        ended.resize(self.routers.len(), None);
        ended[slot] = Some(id);
        self.ended = ended.into();
        true
    }

    fn router(&mut self, id: u32) -> Option<&mut Router> {
        self.routers.get_mut(router_slot(id))?.as_mut().filter(|router| router.id == id)
    }

    /// Whether a router has its first table.
    pub fn has_table(&mut self, id: u32) -> bool {
        self.router(id).is_some_and(|router| router.state.is_some())
    }

    /// By slot: the id of the last router there that has ended.
    pub fn ended(&self) -> Arc<[Option<u32>]> {
        Arc::clone(&self.ended)
    }

    /// By slot: the routers that have a table.
    pub fn states(&self) -> Vec<Option<(u32, Arc<RouterState>)>> {
        let state = |router: &Router| Some((router.id, router.state.clone()?));
        self.routers.iter().map(|router| router.as_ref().and_then(state)).collect()
    }

    /// Asks for the tables that are not of these members, unless a job is under way.
    pub fn want(&mut self, view: &Arc<View>, sink: &mut dyn ControlSink) {
        if self.making {
            return;
        }
        let current = |router: &&Router| {
            router.table().is_some_and(|table| table.roster_digest() == view.roster_digest)
        };
        let all = || self.routers.iter().flatten();
        let routers: Vec<_> = all()
            .filter(|router| !current(router))
            .map(|router| WantedTable {
                id: router.id,
                spec: Arc::clone(&router.spec),
                previous: router.table().cloned(),
            })
            .collect();
        if routers.is_empty() {
            return;
        }
        let slots = |router: &Router| router.table()?.slots().cloned();
        let known = all().filter(current).filter_map(slots).collect();
        self.making = true;
        sink.make_tables(TableJob { view: Arc::clone(view), routers, known });
    }

    /// A job is done. Gives the routers that have their first table now.
    pub fn made(&mut self, made: TablesMade, view: &View, destinations: &Destinations) -> Vec<u32> {
        self.making = false;
        let mut first = Vec::new();
        let mut places = Places::default();
        for (id, table) in made.tables {
            // It may have ended meanwhile.
            let Some(router) = self.router(id) else { continue };
            if router.table().is_some_and(|own| own.roster_digest() == view.roster_digest) {
                // The members changed and changed back: what it has is right, and this is not.
                continue;
            }
            if router.state.is_none() {
                first.push(id);
            }
            let spec = Arc::clone(&router.spec);
            let places = places.of(&table, destinations);
            let state = RouterState::new(spec, table, places, destinations.all());
            router.state = Some(Arc::new(state));
        }
        first
    }

    /// Members answer, or do not, or are gone: who of each table takes messages now.
    pub fn mask(&mut self, view: &View, destinations: &Destinations) {
        let (mut places, mut masks) = (Places::default(), Masks::default());
        let newest = destinations.all().newest();
        let named_anew = self.newest.replace(newest) != Some(newest);
        let routers = self.routers.iter_mut().flatten();
        for state in routers.filter_map(|router| router.state.as_mut()) {
            // The members changed and changed back: a table that is right again may name a life that
            // has got new destinations meanwhile. One that is not right is made anew.
            let is_right = state.table.roster_digest() == view.roster_digest;
            let its_places = if named_anew && is_right {
                places.of(&state.table, destinations)
            } else {
                Arc::clone(&state.destinations)
            };
            let masked = masks.of(state, its_places, destinations);
            if masked.active != state.active || masked.destinations != state.destinations {
                *state = Arc::new(masked);
            }
        }
    }
}

/// The destinations of the last table: routers of all nodes have the same routees in the same order,
/// and share them.
#[derive(Default)]
struct Places(Option<(Arc<RouteTable>, Arc<[DestinationId]>)>);

impl Places {
    fn of(&mut self, table: &Arc<RouteTable>, destinations: &Destinations) -> Arc<[DestinationId]> {
        let shared = self.0.as_ref().filter(|(other, _)| same_places(other, table));
        let places = shared.map(|(_, places)| Arc::clone(places));
        let places = places.unwrap_or_else(|| destinations.of(table));
        self.0 = Some((Arc::clone(table), Arc::clone(&places)));
        places
    }
}

/// Routers as they were masked last. Those whose routees have the same places, most often all of
/// them, have the same routees that take messages, which is found out once.
#[derive(Default)]
struct Masks(VecDeque<Masked>);

struct Masked {
    table: Arc<RouteTable>,
    destinations: Arc<[DestinationId]>,
    active: RouteeSet,
}

/// How many are looked through for each router.
const MASKS: usize = 8;

impl Masks {
    fn of(
        &mut self,
        state: &RouterState,
        destinations: Arc<[DestinationId]>,
        all: &Destinations,
    ) -> RouterState {
        let (spec, table) = (Arc::clone(&state.spec), Arc::clone(&state.table));
        let is_same = |other: &&Masked| {
            other.destinations == destinations && other.table.has_reserves_of(&table)
        };
        if let Some(same) = self.0.iter().find(is_same) {
            let (destinations, active) = (Arc::clone(&same.destinations), same.active.clone());
            return RouterState { spec, table, destinations, active };
        }
        let masked = RouterState::new(spec, table, destinations, all.all());
        self.0.truncate(MASKS - 1);
        self.0.push_front(Masked {
            table: Arc::clone(&masked.table),
            destinations: Arc::clone(&masked.destinations),
            active: masked.active.clone(),
        });
        masked
    }
}

fn same_places(one: &RouteTable, other: &RouteTable) -> bool {
    let mut pairs = one.routees().iter().zip(other.routees());
    one.len() == other.len()
        && pairs.all(|(one, other)| (one.node, one.worker) == (other.node, other.worker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{HandlerId, Incarnation, Member, NodeId, NodeRef, Placed, Service};
    use crate::hash::HashSeed;
    use crate::route::StrategyKind;

    fn member(name: &str, life: u64) -> Member {
        let node = NodeRef { node: NodeId::from_name(name), incarnation: Incarnation(life) };
        let path = "/a".parse().unwrap();
        let (handler, placed, messages) = (HandlerId(1), Placed::EVERY, Vec::new());
        Member {
            name: name.into(),
            services: vec![Service { path, handler, placed, messages }],
            ..Member::plain(node, ([127, 0, 0, 1], 7_400).into())
        }
    }

    fn view(life: u64) -> Arc<View> {
        let me = member("me", 1);
        Arc::new(View::new(me.node_ref(), 1, vec![me, member("moves", life)]))
    }

    #[test]
    fn a_table_that_is_right_again_leads_to_the_destinations_of_now() {
        let (mut tables, mut destinations) = (Tables::default(), Destinations::default());
        let spec = RouterSpec::new("/a".parse().unwrap(), StrategyKind::RoundRobin, HashSeed(1));
        let id = tables.add(spec).unwrap();
        let job = |tables: &Tables, view: &Arc<View>| {
            let router = tables.routers[0].as_ref().unwrap();
            let (spec, previous) = (Arc::clone(&router.spec), router.table().cloned());
            let routers = vec![WantedTable { id: router.id, spec, previous }];
            TableJob { view: Arc::clone(view), routers, known: Vec::new() }.run()
        };
        let all_answer = |tables: &Tables| {
            let (_, state) = tables.states()[0].clone().unwrap();
            assert_eq!((state.active.count(), id), (2, 0));
        };
        destinations.follow(&view(1));
        tables.made(job(&tables, &view(1)), &view(1), &destinations);
        all_answer(&tables);
        // A name is in dispute: its later life is shown, then the earlier one again, before a table
        // of the later is there; or after.
        for in_time in [false, true] {
            let late = job(&tables, &view(2));
            destinations.follow(&view(2));
            tables.mask(&view(2), &destinations);
            let late = if in_time {
                tables.made(late, &view(2), &destinations);
                job(&tables, &view(1))
            } else {
                late
            };
            destinations.follow(&view(1));
            tables.mask(&view(1), &destinations);
            tables.made(late, &view(1), &destinations);
            all_answer(&tables);
        }
    }

    #[test]
    fn routers_whose_routees_have_the_same_places_are_masked_together() {
        let (mut tables, mut destinations) = (Tables::default(), Destinations::default());
        let there = view(1);
        destinations.follow(&there);
        // The last has one routee less at a time, and so another mask.
        for (kind, most) in [
            (StrategyKind::RoundRobin, None),
            (StrategyKind::ConsistentHash, None),
            (StrategyKind::RoundRobin, Some(1)),
        ] {
            let mut spec = RouterSpec::new("/a".parse().unwrap(), kind, HashSeed(1));
            spec.max_routees = most;
            let id = tables.add(spec.clone()).unwrap();
            let wanted = WantedTable { id, spec: Arc::new(spec), previous: None };
            let job = TableJob { view: Arc::clone(&there), routers: vec![wanted], known: vec![] };
            tables.made(job.run(), &there, &destinations);
        }
        for silent in [Some(0), Some(1), None] {
            let mut members = there.members.clone();
            if let Some(silent) = silent {
                Arc::make_mut(&mut members[silent]).reachable = false;
            }
            let view = Arc::new(there.next(there.me, members));
            destinations.follow(&view);
            tables.mask(&view, &destinations);
            let states = tables.states().into_iter().flatten().map(|(_, state)| state);
            let states: Vec<_> = states.collect();
            for RouterState { spec, table, destinations: places, active } in
                states.iter().map(|state| &**state)
            {
                let (spec, table, places) = (Arc::clone(spec), Arc::clone(table), places.clone());
                let alone = RouterState::new(spec, table, places, destinations.all());
                assert_eq!(*active, alone.active);
            }
            assert!(Arc::ptr_eq(&states[0].destinations, &states[1].destinations));
        }
    }
}
