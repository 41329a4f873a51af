//! The routers' tables: which are wanted, which stand, and who takes messages by them.
//!
//! Membership is never late because of routing. When members change, the routers go on with the
//! tables they have, less those who are gone, and new ones are asked for; they are made elsewhere,
//! one job at a time, and what changes meanwhile waits for the next. A member that stops answering,
//! or answers again, changes who of a table takes messages, and makes no table.

use std::sync::Arc;

use super::ControlSink;
use super::destinations::Destinations;
use crate::base::View;
use crate::route::job::{TableJob, TablesMade, WantedTable};
use crate::route::snapshot::RouterState;
use crate::route::{RouteTable, RouterSpec};

#[derive(Default)]
pub(super) struct Tables {
    routers: Vec<Router>,
    /// Whether a job is under way.
    making: bool,
}

struct Router {
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
    pub fn add(&mut self, spec: RouterSpec) -> u32 {
        self.routers.push(Router { spec: Arc::new(spec), state: None });
        self.routers.len() as u32 - 1
    }

    /// The routers that have a table. Jobs are done in the order of ids, so that one without comes
    /// after all that have one.
    pub fn states(&self) -> Vec<Arc<RouterState>> {
        self.routers.iter().map_while(|router| router.state.clone()).collect()
    }

    /// Asks for the tables that are not of these members, unless a job is under way.
    pub fn want(&mut self, view: &Arc<View>, sink: &mut dyn ControlSink) {
        if self.making {
            return;
        }
        let current = |router: &&Router| {
            router.table().is_some_and(|table| table.roster_digest() == view.roster_digest)
        };
        let routers: Vec<_> = (0..)
            .zip(&self.routers)
            .filter(|(_, router)| !current(router))
            .map(|(id, router)| WantedTable {
                id,
                spec: Arc::clone(&router.spec),
                previous: router.table().cloned(),
            })
            .collect();
        if routers.is_empty() {
            return;
        }
        let known = self
            .routers
            .iter()
            .filter(current)
            .filter_map(|router| router.table().and_then(|table| table.slots()).cloned());
        self.making = true;
        sink.make_tables(TableJob { view: Arc::clone(view), routers, known: known.collect() });
    }

    /// A job is done. Gives the routers that have their first table now.
    pub fn made(&mut self, made: TablesMade, destinations: &Destinations) -> Vec<u32> {
        self.making = false;
        let mut first = Vec::new();
        // Routers of all nodes have the same routees in the same order: their places are shared.
        let mut places: Option<(Arc<RouteTable>, Arc<[u32]>)> = None;
        for (id, table) in made.tables {
            let Some(router) = self.routers.get_mut(id as usize) else { continue };
            if router.state.is_none() {
                first.push(id);
            }
            let shared = places.as_ref().filter(|(other, _)| same_places(other, &table));
            let shared = shared.map(|(_, places)| Arc::clone(places));
            let places_of = shared.unwrap_or_else(|| destinations.of(&table));
            places = Some((Arc::clone(&table), Arc::clone(&places_of)));
            let spec = Arc::clone(&router.spec);
            let state = RouterState::new(spec, table, places_of, destinations.all());
            router.state = Some(Arc::new(state));
        }
        first
    }

    /// Members answer, or do not, or are gone: who of each table takes messages now.
    pub fn mask(&mut self, destinations: &Destinations) {
        for state in self.routers.iter_mut().filter_map(|router| router.state.as_mut()) {
            let masked = RouterState::new(
                Arc::clone(&state.spec),
                Arc::clone(&state.table),
                Arc::clone(&state.destinations),
                destinations.all(),
            );
            if masked.active != state.active {
                *state = Arc::new(masked);
            }
        }
    }
}

fn same_places(one: &RouteTable, other: &RouteTable) -> bool {
    let mut pairs = one.routees().iter().zip(other.routees());
    one.len() == other.len()
        && pairs.all(|(one, other)| (one.node, one.worker) == (other.node, other.worker))
}
