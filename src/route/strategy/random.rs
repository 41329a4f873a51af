//! Random: independent draws, in proportion to weights.

use super::{Pick, PickRequest, PickState, RouteTable, Strategy, nobody};

/// Draws among the usable routees; among the usable local ones first, if the router prefers them.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl Strategy for Random {
    fn name(&self) -> &str {
        "random"
    }

    #[inline]
    fn pick(&self, table: &RouteTable, request: &PickRequest, state: &mut PickState) -> Pick {
        let usable = request.usable;
        if usable.is_empty() {
            return nobody(table);
        }
        if table.prefers_local()
            && let Some(routee) = local(table, request, state)
        {
            return Pick::One(routee);
        }
        let routee = match table.cumulative_weights() {
            None => usable.nth(state.below(usable.count() as u64) as usize),
            Some(sums) => weighted(sums, table, request, state),
        };
        routee.map_or_else(|| nobody(table), Pick::One)
    }
}

/// All local routees have their member's weight, so a uniform draw is right.
fn local(table: &RouteTable, request: &PickRequest, state: &mut PickState) -> Option<u16> {
    let usable =
        || table.local_routees().iter().copied().filter(|&routee| request.usable.contains(routee));
    let count = usable().count();
    if count == 0 {
        return None;
    }
    usable().nth(state.below(count as u64) as usize)
}

fn weighted(
    sums: &[u64],
    table: &RouteTable,
    request: &PickRequest,
    state: &mut PickState,
) -> Option<u16> {
    // Nearly always nearly all are usable: the first draw hits.
    let total = *sums.last()?;
    for _ in 0..4 {
        let ticket = state.below(total);
        let routee = sums.partition_point(|&sum| sum <= ticket) as u16;
        if request.usable.contains(routee) {
            return Some(routee);
        }
    }
    let weight = |routee: u16| u64::from(table.routees()[usize::from(routee)].weight);
    let mut ticket = state.below(request.usable.iter().map(weight).sum());
    request.usable.iter().find(|&routee| match ticket.checked_sub(weight(routee)) {
        Some(rest) => {
            ticket = rest;
            false
        }
        None => true,
    })
}
