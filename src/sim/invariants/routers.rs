//! A router is there while somebody holds it: those that ask for the same are one, one that routes
//! goes on until it is dropped, and one that was dropped is gone, and its id with it. Whoever asked
//! for one is told once it routes.

use std::collections::{BTreeMap, BTreeSet};

use crate::route::snapshot::Snapshot;
use crate::route::{RouterSpec, Strategy as _};
use crate::sim::events::LifeId;
use crate::sim::load;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a router is there while it is held";

/// Whether two routers ask for the same; said here once more, apart from how nodes tell.
pub fn ask_the_same(one: &RouterSpec, other: &RouterSpec) -> bool {
    let options = |spec: &RouterSpec| {
        let limits = (spec.max_routees_per_node, spec.max_routees);
        (spec.path.clone(), spec.local, spec.roles.clone(), limits, spec.slot_bits, spec.seed)
    };
    one.strategy.name() == other.strategy.name() && options(one) == options(other)
}

struct Router {
    spec: RouterSpec,
    /// Who made it, each once.
    holders: usize,
    /// Whether it has had a table.
    routes: bool,
    /// Whether somebody waits to be told that it routes.
    awaited: bool,
    /// Whether it is one of those that a process has from its start.
    own: bool,
}

/// The routers of one process.
#[derive(Default)]
struct Process {
    routers: BTreeMap<u32, Router>,
    given: BTreeSet<u32>,
    /// Told while it was asked for.
    told: Option<u32>,
}

/// Who holds which routers.
#[derive(Default)]
pub struct Routers {
    processes: BTreeMap<LifeId, Process>,
    /// How often one was made or dropped.
    pub changes: u64,
    /// Routers that ended with their last holder.
    pub ended: u64,
    /// How often one was made that was there already.
    pub shared: u64,
    /// How often whoever waited for one was told that it routes.
    pub told: u64,
}

impl Routers {
    /// A process is about to ask for a router.
    pub fn asked(&mut self, life: LifeId) {
        self.processes.entry(life).or_default().told = None;
    }

    /// Whoever waits for a router of a process is told that it routes.
    pub fn told(&mut self, life: LifeId, id: u32) {
        let process = self.processes.entry(life).or_default();
        process.told = Some(id);
        let waits = process.routers.get_mut(&id).map(|router| &mut router.awaited);
        self.told += u64::from(waits.is_some_and(std::mem::take));
    }

    /// A router of a process that somebody still waits for.
    pub fn awaited(&self, life: LifeId) -> Option<u32> {
        let mut routers = self.processes.get(&life)?.routers.iter();
        routers.find(|(_, router)| router.awaited).map(|(id, _)| *id)
    }

    /// A process holds a router once more.
    ///
    /// # Errors
    /// When its id cannot be right.
    pub fn made(&mut self, life: LifeId, id: u32, spec: RouterSpec) -> Result<(), String> {
        self.changes += 1;
        let process = self.processes.entry(life).or_default();
        let mut known = process.routers.iter_mut();
        if let Some((same, router)) = known.find(|(_, router)| ask_the_same(&router.spec, &spec)) {
            router.holders += 1;
            router.awaited |= process.told != Some(id);
            self.shared += 1;
            self.told += u64::from(process.told == Some(id));
            return match *same == id {
                true => Ok(()),
                false => Err(format!("routers {same} and {id} ask for the same: {spec:?}")),
            };
        }
        if !process.given.insert(id) {
            return Err(format!("router {id} has an id that was given before: {spec:?}"));
        }
        let own = load::routers(spec.seed).iter().any(|own| ask_the_same(own, &spec));
        let awaited = process.told != Some(id);
        process.routers.insert(id, Router { spec, holders: 1, routes: false, awaited, own });
        Ok(())
    }

    /// A process holds a router once less.
    pub fn dropped(&mut self, life: LifeId, id: u32) {
        self.changes += 1;
        let process = self.processes.entry(life).or_default();
        if let Some(router) = process.routers.get_mut(&id) {
            router.holders -= 1;
            if router.holders == 0 {
                process.routers.remove(&id);
                self.ended += 1;
            }
        }
    }

    /// A process's handles of the routers that its application made: one for each time.
    pub fn handles(&self, life: LifeId) -> Vec<(u32, RouterSpec)> {
        let routers = self.processes.get(&life).into_iter().flat_map(|process| &process.routers);
        let others = routers.filter(|(_, router)| !router.own);
        let each = |(id, router): (&u32, &Router)| {
            std::iter::repeat_n((*id, router.spec.clone()), router.holders)
        };
        others.flat_map(each).collect()
    }

    /// The routers that a process holds.
    pub fn held(&self, life: LifeId) -> impl Iterator<Item = u32> {
        let routers = self.processes.get(&life).into_iter().flat_map(|process| &process.routers);
        routers.map(|(id, _)| *id)
    }

    /// A process publishes the routers that it has.
    ///
    /// # Errors
    /// Which of them nobody holds, or which is missing.
    pub fn check(&mut self, life: LifeId, snapshot: &Snapshot) -> Result<(), String> {
        let process = self.processes.entry(life).or_default();
        for (id, state) in snapshot.routers() {
            match process.routers.get_mut(&id) {
                Some(router) if ask_the_same(&router.spec, &state.spec) => router.routes = true,
                Some(router) => {
                    return Err(format!("router {id} is {:?}, not {:?}", state.spec, router.spec));
                }
                None => return Err(format!("nobody holds router {id}, {:?}", state.spec)),
            }
        }
        let mut held = process.routers.iter();
        match held.find(|(id, router)| router.routes && snapshot.router(**id).is_none()) {
            Some((id, router)) => Err(format!("router {id} is gone and held: {:?}", router.spec)),
            None => Ok(()),
        }
    }
}

impl World {
    /// Whoever asked a process for a router is told that it routes.
    pub(super) fn routed(&mut self, life: LifeId, router: u32, shown: bool) {
        if !shown {
            let seen = format!("life {life}: router {router} is said to route, and has no table");
            self.blame(NAME, seen);
        }
        self.ledger.lock().routers.told(life, router);
    }

    /// Tables have been made for long: nobody waits for a router any more.
    pub(super) fn check_awaited(&mut self, life: LifeId) {
        let awaited = self.ledger.lock().routers.awaited(life);
        if let Some(router) = awaited {
            let seen = format!("life {life}: whoever asked for router {router} waits for ever");
            self.blame(NAME, seen);
        }
    }
}
