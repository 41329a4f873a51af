//! A member that falls silent, or answers again, makes no table: whoever has one for these members
//! keeps it, and only who takes messages by it changes.

use std::sync::Arc;

use crate::route::snapshot::Snapshot;

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
