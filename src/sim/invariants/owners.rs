//! A key has one owner in one view: where a node's threads send it is what its table says, and what
//! every other node with the same view does.

use std::collections::BTreeMap;

use crate::base::fate::Refusal;
use crate::base::{HandlerId, NodeRef, WorkerIndex};
use crate::route::StrategyKind;
use crate::route::snapshot::{RouterState, Snapshot};
use crate::worker::place::Route;

/// The invariant's name.
pub const NAME: &str = "a key has one owner in one view";

/// One routee.
type Owner = (NodeRef, WorkerIndex, HandlerId);

/// The view, the table, the router and the key.
type Asked = (u64, u64, u32, u64);

/// Where keys went.
#[derive(Default)]
pub struct Owners {
    known: BTreeMap<Asked, Option<Owner>>,
    /// How often a key went where it had gone before, in the same view.
    pub compared: u64,
}

impl Owners {
    /// A thread sends a message with this key by a router of its node, so.
    ///
    /// # Errors
    /// Who else owns the key.
    pub fn chosen(
        &mut self,
        snapshot: &Snapshot,
        state: &RouterState,
        (router, key_hash): (u32, u64),
        route: &Result<Route, Refusal>,
    ) -> Result<(), String> {
        if !matches!(state.spec.strategy, StrategyKind::ConsistentHash) {
            return Ok(());
        }
        let chosen = match route {
            Ok(Route::One(place)) => {
                let destination = snapshot.destinations.get(place.destination);
                destination.map(|to| (to.node, to.worker, place.handler))
            }
            _ => None,
        };
        let owner = state.table.owner(key_hash, &state.active).map(|owner| {
            let routee = &state.table.routees()[usize::from(owner)];
            (routee.node, routee.worker, routee.handler)
        });
        let gone = matches!(route, Ok(Route::One(_))) && chosen.is_none();
        if chosen != owner && !gone {
            return Err(format!("key {key_hash:016x} is {owner:?}'s, and goes to {chosen:?}"));
        }
        // Those that applications make have other numbers on each node.
        if router as usize >= StrategyKind::BUILT_IN.len() {
            return Ok(());
        }
        let view = snapshot.view.digest;
        let asked = (view, state.table.roster_digest(), router, key_hash);
        match self.known.insert(asked, chosen) {
            _ if gone => Ok(()),
            Some(known) if known != chosen => Err(format!(
                "key {key_hash:016x} goes to {chosen:?} in view {view:016x}, and went to {known:?}"
            )),
            before => {
                self.compared += u64::from(before.is_some());
                Ok(())
            }
        }
    }
}
