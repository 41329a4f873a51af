//! A path is served on the workers of its placement and on no others: no routee is made elsewhere,
//! no table sends elsewhere, no message is handled elsewhere; and each of those workers is told to
//! the cluster and gets messages.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;

use super::withdrawal::Site;
use crate::base::{HandlerId, NodeRef, Placement, Rng, WorkerIndex};
use crate::route::RouteTable;
use crate::route::snapshot::Snapshot;
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a path is served where it is placed";

/// One of the times that a process serves its path.
type Serving = (LifeId, usize);

/// What a process asked for, and what is seen of it.
struct Asked {
    placement: Placement,
    workers: usize,
    /// Workers on which a routee was made.
    made: BTreeSet<usize>,
    /// Workers on which a message was handled.
    reached: BTreeSet<usize>,
}

impl Asked {
    /// Whether the routee of this worker is one that was asked for, among those that there are.
    fn allows(&self, worker: usize) -> bool {
        match &self.placement {
            Placement::EveryWorker => worker < self.workers,
            // Which one is the node's choice, and its first one must be its last.
            Placement::OnePerNode => self.made.iter().all(|made| *made == worker),
            Placement::Workers(named) => named.iter().any(|one| usize::from(one.0) == worker),
        }
    }

    /// How many routees were asked for.
    fn count(&self) -> usize {
        match &self.placement {
            Placement::EveryWorker => self.workers,
            Placement::OnePerNode => 1,
            Placement::Workers(named) => named.len(),
        }
    }

    fn is_some(&self) -> bool {
        self.count() < self.workers
    }
}

/// Who asked for what. It follows from what was asked, and from no code of the nodes.
#[derive(Default)]
pub struct Placements {
    servings: BTreeMap<Serving, Asked>,
    handlers: BTreeMap<(NodeRef, HandlerId), Serving>,
    /// Servings that the cluster was told of, on fewer workers than there are.
    pub on_some: u64,
    /// Messages that these handled.
    pub handled: u64,
    /// Tables that were found to have the routees of such servings and no others.
    pub tables: u64,
}

impl Placements {
    /// How a process serves its path next.
    pub fn draw(rng: &mut Rng, workers: usize) -> Placement {
        match rng.random_range(0..4) {
            0 | 1 => Placement::EveryWorker,
            2 => Placement::OnePerNode,
            _ => {
                let mut named: Vec<_> = (0..workers as u16).map(WorkerIndex).collect();
                while named.len() > 1 && rng.random_range(0..3) > 0 {
                    named.remove(rng.random_range(0..named.len() as u64) as usize);
                }
                // In whatever order an application names them.
                named.reverse();
                Placement::Workers(named)
            }
        }
    }

    /// A process is about to serve its path.
    pub fn asked(&mut self, serving: Serving, placement: Placement, workers: usize) {
        let (made, reached) = (BTreeSet::new(), BTreeSet::new());
        self.servings.insert(serving, Asked { placement, workers, made, reached });
    }

    /// It has a handler.
    pub fn serving(&mut self, serving: Serving, node: NodeRef, handler: HandlerId) {
        self.handlers.insert((node, handler), serving);
    }

    /// A routee is made.
    ///
    /// # Errors
    /// When it must not be.
    pub fn made(&mut self, site: Site) -> Result<(), String> {
        let Some(asked) = self.servings.get_mut(&(site.life, site.serving)) else {
            return Err(format!("a routee was made at {site:?}, which nobody asked for"));
        };
        if !asked.allows(site.worker) {
            let placement = &asked.placement;
            return Err(format!("a routee was made at {site:?}, and was asked for {placement:?}"));
        }
        asked.made.insert(site.worker);
        Ok(())
    }

    /// The cluster is told of a serving.
    ///
    /// # Errors
    /// When a routee of it is missing.
    pub fn announced(&mut self, node: NodeRef, handler: HandlerId) -> Result<(), String> {
        let Some(asked) = self.of(node, handler) else {
            return Err(format!("handler {} was told of and never served", handler.0));
        };
        let (made, count) = (&asked.made, asked.count());
        if made.len() != count {
            return Err(format!("the cluster was told of {count} routees, and has {made:?}"));
        }
        self.on_some += u64::from(asked.is_some());
        Ok(())
    }

    /// A routee handles a message.
    ///
    /// # Errors
    /// When no routee was asked for there.
    pub fn handles(&mut self, site: Site) -> Result<(), String> {
        match self.servings.get_mut(&(site.life, site.serving)) {
            Some(asked) if asked.made.contains(&site.worker) => {
                asked.reached.insert(site.worker);
                self.handled += u64::from(asked.is_some());
                Ok(())
            }
            _ => Err(format!("a message was handled at {site:?}, where the path is not placed")),
        }
    }

    /// Whether a routee was asked for there.
    pub fn is_placed(&self, site: Site) -> bool {
        let asked = self.servings.get(&(site.life, site.serving));
        asked.is_some_and(|asked| asked.made.contains(&site.worker))
    }

    fn of(&self, node: NodeRef, handler: HandlerId) -> Option<&Asked> {
        self.servings.get(self.handlers.get(&(node, handler))?)
    }

    /// A node publishes its tables: their routees are those that were asked for, and all of them.
    ///
    /// # Errors
    /// Which table has others.
    pub fn check(&mut self, before: &Snapshot, now: &Snapshot) -> Result<(), String> {
        for (id, router) in now.routers() {
            let old = before.router(id).map(|old| old.table.digest());
            if old != Some(router.table.digest()) {
                self.tables += u64::from(self.check_table(id, &router.table)?);
            }
        }
        Ok(())
    }

    /// Gives whether a serving on some workers is among those of the table.
    fn check_table(&self, id: u32, table: &RouteTable) -> Result<bool, String> {
        let mut found: BTreeMap<(NodeRef, HandlerId), BTreeSet<usize>> = BTreeMap::new();
        for routee in table.routees() {
            let workers = found.entry((routee.node, routee.handler)).or_default();
            workers.insert(usize::from(routee.worker.0));
        }
        let mut on_some = false;
        for ((node, handler), workers) in found {
            let asked = self.of(node, handler);
            let missing = table.over_limit() == 0;
            let fits = |asked: &&Asked| {
                let all = !missing || workers == asked.made;
                all && workers.is_subset(&asked.made)
            };
            let Some(asked) = asked.filter(fits) else {
                let made = asked.map(|asked| &asked.made);
                return Err(format!(
                    "router {id} has routees of {node} on workers {workers:?}, and there are \
                     {made:?}"
                ));
            };
            on_some |= asked.is_some();
        }
        Ok(on_some)
    }
}

impl World {
    /// In the end each routee of each live process has got a message: it was asked by everybody.
    pub(in crate::sim) fn check_reached(&mut self) {
        if self.checks.healing.traffic_flows().is_none() {
            return; // That is for the healing to say.
        }
        let staying = self.staying();
        let ledger = self.ledger.lock();
        let missed = staying.into_iter().find_map(|life| {
            let (_, serving, _) = ledger.services.latest(life)?;
            let asked = ledger.placements.servings.get(&(life, serving))?;
            let missed = asked.made.difference(&asked.reached).next()?;
            Some(format!("worker {missed} of life {life} serves the path and got no message"))
        });
        drop(ledger);
        if let Some(seen) = missed {
            self.blame(NAME, seen);
        }
    }
}
