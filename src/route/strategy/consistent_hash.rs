//! Consistent hashing: a key's owner, by what all nodes agree about.

use super::{NoRoutee, Pick, PickRequest, PickState, RouteTable, RouteeSet, Strategy, nobody};

/// One read from the slot table; a key whose owner is an unreachable member goes to the next in the
/// same order. Does not look at what is usable from here: another sender may see it otherwise, and
/// a key must have one owner.
#[derive(Clone, Copy, Debug)]
pub struct ConsistentHash;

impl Strategy for ConsistentHash {
    fn name(&self) -> &str {
        "consistent-hash"
    }

    fn is_keyed(&self) -> bool {
        true
    }

    fn pick(&self, table: &RouteTable, request: &PickRequest, _: &mut PickState) -> Pick {
        owner(table, request.key_hash, request.active)
    }
}

/// The pick without what it does not need.
#[inline]
pub(in super::super) fn owner(
    table: &RouteTable,
    key_hash: Option<u64>,
    active: &RouteeSet,
) -> Pick {
    let Some(key_hash) = key_hash else {
        return Pick::None(NoRoutee::MissingKey);
    };
    table.owner(key_hash, active).map_or_else(|| nobody(table), Pick::One)
}
