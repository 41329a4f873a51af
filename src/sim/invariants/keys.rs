//! A join or leave moves no key between others: a key goes to whoever joined, or comes from whoever
//! left. Where a router has a limit, so do those who come within it or fall out of it; and that are
//! no more than joined or left.

use std::collections::BTreeMap;

use crate::base::NodeId;
use crate::route::RouteTable;
use crate::route::snapshot::Snapshot;

/// The invariant's name.
pub const NAME: &str = "a join or leave moves no key between others";

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Tables with keys that were followed by another one.
    pub tables: u64,
    /// In how many of these others came within a limit, or fell out of it.
    pub limits: u64,
}

/// A node goes from one snapshot to the next.
///
/// # Errors
/// Which key moved.
pub fn check(before: &Snapshot, after: &Snapshot) -> Result<Looked, String> {
    let mut looked = Looked::default();
    for (id, old) in before.routers() {
        let Some(new) = after.router(id) else { continue };
        if old.table.digest() != new.table.digest() {
            let Some(limited) = check_tables(&old.table, &new.table)? else { continue };
            looked.tables += 1;
            looked.limits += u64::from(limited);
        }
    }
    Ok(looked)
}

/// Gives what [`check_limit`] gives; nothing where there are no keys.
fn check_tables(old: &RouteTable, new: &RouteTable) -> Result<Option<bool>, String> {
    let (Some(old_slots), Some(new_slots)) = (old.slots(), new.slots()) else { return Ok(None) };
    if old.is_empty() || new.is_empty() {
        return Ok(None);
    }
    // Who is beyond the limit has no share, though it is in the table.
    let (olds, news) = (old_slots.candidates(), new_slots.candidates());
    for (slot, (from, to)) in old_slots.owners().iter().zip(new_slots.owners()).enumerate() {
        let (from, to) = (olds[usize::from(*from)], news[usize::from(*to)]);
        if from.id != to.id && news.contains(&from) && olds.contains(&to) {
            return Err(format!(
                "slot {slot} moved from routee {:016x} to {:016x}, and both were there all along",
                from.id, to.id
            ));
        }
    }
    check_limit(old, new).map(Some)
}

/// By node and worker: whether it has a share of the keys.
type Shares = BTreeMap<(NodeId, u16), bool>;

/// Gives whether somebody came within the limit, or fell out of it, who is there before and after.
fn check_limit(old: &RouteTable, new: &RouteTable) -> Result<bool, String> {
    let shares = |table: &RouteTable| -> Shares {
        let candidates = table.slots().into_iter().flat_map(|slots| slots.candidates());
        let routees = table.routees().iter().zip(candidates);
        routees.map(|(r, candidate)| ((r.node.node, r.worker.0), candidate.weight > 0)).collect()
    };
    let (olds, news) = (shares(old), shares(new));
    let only = |these: &Shares, others: &Shares| -> Vec<(NodeId, u16)> {
        these.keys().copied().filter(|place| !others.contains_key(place)).collect()
    };
    let (left, joined) = (only(&olds, &news), only(&news, &olds));
    // A node that serves on other workers than before has them in another order.
    let is_there =
        |(node, _): &(NodeId, u16), all: &Shares| all.keys().any(|(known, _)| known == node);
    let placed_anew = left.iter().any(|place| is_there(place, &news))
        || joined.iter().any(|place| is_there(place, &olds));
    let changed =
        olds.iter().filter(|(place, share)| news.get(place).is_some_and(|now| now != *share));
    let changed = changed.count();
    if changed > left.len() + joined.len() && !placed_anew {
        return Err(format!(
            "{changed} routees came within the limit or fell out of it, while {} joined and {} left",
            joined.len(),
            left.len()
        ));
    }
    Ok(changed > 0)
}
