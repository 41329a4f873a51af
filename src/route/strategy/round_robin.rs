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
    let weight_of = |routee: u16| table.routees()[usize::from(routee)].weight.max(1);
    let mut cursor = state.cursor;
    // The heaviest routee takes part in every lap, so this ends within one and a bit, as long as it
    // is usable.
    for _ in 0..=usable.count() {
        let routee = match usable.at_or_after(cursor) {
            Some(routee) => routee,
            None => {
                state.lap = if state.lap + 1 < max { state.lap + 1 } else { 0 };
                usable.at_or_after(0)?
            }
        };
        if next_lap(routee, weight_of(routee), state.lap.into(), max) == u64::from(state.lap) {
            return Some(routee);
        }
        cursor = routee + 1;
    }
    // Laps in which nobody takes part are not walked.
    let next = usable.iter().map(|routee| {
        let lap = u64::from(state.lap) + u64::from(routee < cursor);
        (next_lap(routee, weight_of(routee), lap, max), routee)
    });
    let (lap, routee) = next.min()?;
    state.lap = (lap % u64::from(max)) as u32;
    Some(routee)
}

/// The first lap, from `lap` on, in which a routee takes part.
fn next_lap(routee: u16, weight: u32, lap: u64, max: u32) -> u64 {
    let (weight, max) = (u64::from(weight), u64::from(max));
    // Lap numbers are shifted by the index, or the light ones would all come in the same laps. A
    // routee takes part in a lap at whose end its share has grown by a whole turn.
    let shifted = lap + u64::from(routee);
    let turns = shifted * weight / max;
    ((turns + 1) * max).div_ceil(weight) - 1 - u64::from(routee)
}
