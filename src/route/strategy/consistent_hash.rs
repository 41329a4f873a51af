//! Consistent hashing: a key's owner, by the agreed table alone.

use super::{NoRoutee, Pick, PickRequest, PickState, RouteTable, Strategy};
use crate::hash::NO_OWNER;

/// One read from the slot table. Does not look at what is usable from here: another sender may see
/// it otherwise, and a key must have one owner.
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
        owner(table, request.key_hash)
    }
}

/// The pick without what it does not need.
#[inline]
pub(in super::super) fn owner(table: &RouteTable, key_hash: Option<u64>) -> Pick {
    let Some(key_hash) = key_hash else {
        return Pick::None(NoRoutee::MissingKey);
    };
    match table.slots().map_or(NO_OWNER, |slots| slots.lookup(key_hash)) {
        NO_OWNER => Pick::None(NoRoutee::NoRoutees),
        owner => Pick::One(owner),
    }
}
