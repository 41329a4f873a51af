//! Broadcast: every routee gets the message.

use super::{Pick, PickRequest, PickState, RouteTable, Strategy, nobody};

/// Answers [`Pick::All`] as long as one routee is usable. The caller walks the active
/// routees, and counts what it could not send to those that are not usable.
#[derive(Clone, Copy, Debug)]
pub struct Broadcast;

impl Strategy for Broadcast {
    fn name(&self) -> &str {
        "broadcast"
    }

    #[inline]
    fn pick(&self, table: &RouteTable, request: &PickRequest, _: &mut PickState) -> Pick {
        if request.usable.is_empty() { nobody(table) } else { Pick::All }
    }
}
