//! A member that falls silent, or answers again, makes no table: whoever has one for these members
//! keeps it, and only who takes messages by it changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::route::job::TableJob;
use crate::route::snapshot::Snapshot;
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a flip of reachability makes no table";

/// A node goes from one snapshot to the next. Gives how many routers had another mask afterwards
/// over the table that they had before.
///
/// # Errors
/// Which table was made again.
pub fn check(before: &Snapshot, after: &Snapshot) -> Result<u64, String> {
    let mut masked = 0;
    if before.view.roster_digest != after.view.roster_digest {
        return Ok(masked);
    }
    for (id, old) in before.routers() {
        let Some(new) = after.router(id) else { continue };
        if old.table.roster_digest() != before.view.roster_digest {
            continue;
        }
        if !Arc::ptr_eq(&old.table, &new.table) {
            return Err(format!(
                "router {id} has a new table, and its members are those of the old one"
            ));
        }
        masked += u64::from(old.active != new.active);
    }
    Ok(masked)
}

/// A router of a job that has the table for the job's members already.
pub fn right_already(job: &TableJob) -> Option<u32> {
    let roster = job.view.roster_digest;
    let mut wanted = job.routers.iter();
    let right = wanted.find(|wanted| {
        wanted.previous.as_ref().is_some_and(|table| table.roster_digest() == roster)
    });
    right.map(|wanted| wanted.id)
}

/// Jobs that make tables.
#[derive(Default)]
pub struct Jobs {
    /// Processes for which one is under way.
    making: BTreeSet<LifeId>,
    /// How many were asked for.
    pub wanted: u64,
}

impl World {
    /// A process asks for tables, and has this one already.
    pub(super) fn check_wanted(&mut self, life: LifeId, right_already: Option<u32>) {
        self.checks.jobs.wanted += 1;
        if let Some(router) = right_already {
            let seen = format!("life {life} has router {router} made anew for equal members");
            self.blame(NAME, seen);
        }
        if !self.checks.jobs.making.insert(life) {
            self.blame(NAME, format!("life {life} asks for tables while some are made"));
        }
    }

    /// A process's tables are made.
    pub(in crate::sim) fn tables_are_made(&mut self, life: LifeId) {
        self.checks.jobs.making.remove(&life);
    }
}
