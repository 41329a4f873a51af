//! Making tables, apart from whoever asks for them: a [`TableJob`] holds all that is needed, and
//! [`TableJob::run`] may take its time on a thread of its own.
//!
//! Slots depend on candidates alone, so that routers whose routees are the same share them,
//! whatever their paths: with a hundred routers over all nodes, a join is one pass over one table.

use std::sync::Arc;

use super::build::SharedSlots;
use super::collisions::NameCollisions;
use super::spec::RouterSpec;
use super::table::RouteTable;
use crate::base::View;
use crate::hash::SlotTable;

/// Tables that are wanted for a view.
#[derive(Debug)]
pub struct TableJob {
    /// Of which members.
    pub view: Arc<View>,
    /// For which routers.
    pub routers: Vec<WantedTable>,
    /// The slots of the other routers' tables: shared where they fit.
    pub known: Vec<SlotTable>,
}

/// One table that is wanted.
#[derive(Debug)]
pub struct WantedTable {
    /// The router's id.
    pub id: u32,
    /// What the router asks for.
    pub spec: Arc<RouterSpec>,
    /// Its table up to now.
    pub previous: Option<Arc<RouteTable>>,
}

/// The outcome of a [`TableJob`].
#[derive(Debug)]
pub struct TablesMade {
    /// The `roster_digest` of the job's view.
    pub roster_digest: u64,
    /// By router id.
    pub tables: Vec<(u32, Arc<RouteTable>)>,
}

impl TableJob {
    /// Makes the tables. A pure function of the job.
    pub fn run(self) -> TablesMade {
        let collisions = NameCollisions::of(&self.view);
        let mut slots = SharedSlots::knowing(self.known);
        for wanted in &self.routers {
            if let Some(previous) = wanted.previous.as_ref().and_then(|table| table.slots()) {
                slots.add(previous.clone());
            }
        }
        let tables = self.routers.into_iter().map(|wanted| {
            let previous = wanted.previous.as_deref();
            let table =
                RouteTable::build_with(&self.view, &collisions, &wanted.spec, previous, &mut slots);
            (wanted.id, Arc::new(table))
        });
        TablesMade { tables: tables.collect(), roster_digest: self.view.roster_digest }
    }
}
