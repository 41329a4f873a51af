//! A join or leave moves no key between others: a key goes to whoever joined, or comes from whoever
//! left.

use crate::route::snapshot::Snapshot;
use crate::route::{RouteTable, routee_identity};

/// The invariant's name.
pub const NAME: &str = "a join or leave moves no key between others";

/// A node goes from one snapshot to the next.
///
/// # Errors
/// Which key moved.
pub fn check(before: &Snapshot, after: &Snapshot) -> Result<(), String> {
    for (id, old) in before.routers() {
        let Some(new) = after.router(id) else { continue };
        if old.table.digest() != new.table.digest() {
            check_tables(&old.table, &new.table)?;
        }
    }
    Ok(())
}

fn check_tables(old: &RouteTable, new: &RouteTable) -> Result<(), String> {
    let (Some(old_slots), Some(new_slots)) = (old.slots(), new.slots()) else { return Ok(()) };
    if old.is_empty() || new.is_empty() {
        return Ok(());
    }
    let shares = |table: &RouteTable| -> Vec<(u64, u32)> {
        let routees = table.routees().iter();
        routees.map(|r| (routee_identity(r.node.node, r.worker), r.weight)).collect()
    };
    let (olds, news) = (shares(old), shares(new));
    for (slot, (from, to)) in old_slots.owners().iter().zip(new_slots.owners()).enumerate() {
        let (from, to) = (olds[usize::from(*from)], news[usize::from(*to)]);
        if from.0 != to.0 && news.contains(&from) && olds.contains(&to) {
            return Err(format!(
                "slot {slot} moved from routee {:016x} to {:016x}, and both were there all along",
                from.0, to.0
            ));
        }
    }
    Ok(())
}
