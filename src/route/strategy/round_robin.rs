//! Round robin: each routee in turn.
//!
//! With different weights, a routee of weight `w` takes part in `w` of every `max_weight` laps,
//! spread as evenly as integers allow. No state per routee is needed, so that a new table or a link
//! that went down disturbs nothing.

use super::{Pick, PickRequest, PickState, RouteTable, RouteeSet, Strategy, nobody};

/// Walks the usable routees; the usable local ones only, if the router prefers them.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin;

impl Strategy for RoundRobin {
    fn name(&self) -> &str {
        "round-robin"
    }

    #[inline]
    fn pick(&self, table: &RouteTable, request: &PickRequest, state: &mut PickState) -> Pick {
        if table.prefers_local()
            && let Some(routee) = local(table, request.usable, state)
        {
            return Pick::One(routee);
        }
        // One past the end is the way back to the start. Further beyond is a cursor from its random
        // start or from a larger table.
        if usize::from(state.cursor) > table.len() {
            state.cursor = (usize::from(state.cursor) % table.len().max(1)) as u16;
        }
        let routee = match table.cumulative_weights() {
            None => request.usable.next_from(state.cursor),
            Some(_) => weighted(table, request.usable, state),
        };
        let Some(routee) = routee else {
            return nobody(table);
        };
        state.cursor = routee + 1;
        Pick::One(routee)
    }
}

fn local(table: &RouteTable, usable: &RouteeSet, state: &mut PickState) -> Option<u16> {
    let local = table.local_routees();
    let start = usize::from(state.local_cursor).checked_rem(local.len())?;
    let (before, after) = local.split_at(start);
    let place = after.iter().chain(before).position(|&routee| usable.contains(routee))?;
    let place = (start + place) % local.len();
    state.local_cursor = place as u16 + 1;
    Some(local[place])
}

fn weighted(table: &RouteTable, usable: &RouteeSet, state: &mut PickState) -> Option<u16> {
    let max = table.max_weight();
    let mut cursor = state.cursor;
    // The heaviest routee takes part in every lap, so this ends within one and a bit, unless all
    // usable ones are light. Then laps in which nobody takes part would be walked for nothing: the
    // next routee gets the turn.
    for _ in 0..=usable.count() {
        let routee = match usable.at_or_after(cursor) {
            Some(routee) => routee,
            None => {
                state.lap = if state.lap + 1 < max { state.lap + 1 } else { 0 };
                usable.at_or_after(0)?
            }
        };
        let weight = table.routees()[usize::from(routee)].weight;
        // Lap numbers are shifted by the index, or the light ones would all come in the same laps.
        let lap = (u64::from(state.lap) + u64::from(routee)) * u64::from(weight);
        if lap % u64::from(max) + u64::from(weight) >= u64::from(max) {
            return Some(routee);
        }
        cursor = routee + 1;
    }
    usable.next_from(state.cursor)
}
