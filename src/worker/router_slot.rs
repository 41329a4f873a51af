//! A router as one worker holds it: the table of the moment, and what its strategy remembers.

use std::sync::Arc;

use super::router_ref::RouterKey;
use crate::base::{MessageTypeId, TypeRef};
use crate::route::snapshot::{RouterState, router_slot};
use crate::route::{Pick, Picker, RouteeSet};

/// A router as one worker holds it.
pub(super) struct RouterSlot {
    pub key: RouterKey,
    pub state: Arc<RouterState>,
    picker: Picker,
    /// By routee: whether its link looks as if it would take a message.
    pub usable: RouteeSet,
    /// The type of the last message for which it was looked up that all routees of the table take.
    everywhere: Option<MessageTypeId>,
}

impl RouterSlot {
    pub fn new(key: RouterKey, state: Arc<RouterState>, picker: Picker) -> Self {
        Self { key, state, picker, usable: RouteeSet::none(0), everywhere: None }
    }

    /// Takes over what a newer snapshot says of the same router.
    pub fn change(&mut self, state: Arc<RouterState>) {
        self.state = state;
        self.everywhere = None;
    }

    /// Picks for a message of this type. Senders seldom change the type from message to message.
    #[inline]
    pub fn pick(&mut self, message: &TypeRef, key_hash: Option<u64>) -> Pick {
        if self.everywhere != Some(message.id) && !self.look_up(message.id) {
            return self.pick_fitting(message, key_hash);
        }
        let RouterState { table, active, .. } = &*self.state;
        self.picker.pick(table, key_hash, active, &self.usable)
    }

    #[inline(never)]
    fn look_up(&mut self, message: MessageTypeId) -> bool {
        let everywhere = self.state.table.accepted().is_everywhere(message);
        if everywhere {
            self.everywhere = Some(message);
        }
        everywhere
    }

    #[cold]
    fn pick_fitting(&mut self, message: &TypeRef, key_hash: Option<u64>) -> Pick {
        let RouterState { table, active, .. } = &*self.state;
        self.picker.pick_for(table, message, key_hash, active, &self.usable)
    }
}

/// The router with this key, unless it has ended, or is another node's.
#[inline]
pub(super) fn slot_of(
    routers: &mut [Option<RouterSlot>],
    key: RouterKey,
) -> Option<&mut RouterSlot> {
    routers.get_mut(router_slot(key.id()))?.as_mut().filter(|slot| slot.key == key)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::base::{DestinationId, LayoutHash, MessageType, View, WorkerIndex};
    use crate::hash::HashSeed;
    use crate::route::snapshot::{Destination, Destinations, Reach};
    use crate::route::{NoRoutee, RouteTable, RouterSpec, StrategyKind};
    use crate::worker::testnet::member;

    const MESSAGE: &str = "a.message";

    /// A router to one node that takes the message with this layout.
    fn router(layout: u64) -> Arc<RouterState> {
        let mut member = member(0);
        let kind = MessageType::new(MESSAGE, LayoutHash(layout));
        member.services[0].messages = vec![kind];
        let id = DestinationId::new(0, NonZeroU32::MIN);
        let destination = Destination {
            id,
            node: member.node_ref(),
            worker: WorkerIndex(0),
            address: member.address,
            reach: Reach::Usable,
            routed: true,
            damped: false,
        };
        let path = member.services[0].path.clone();
        let spec = Arc::new(RouterSpec::new(path, StrategyKind::RoundRobin, HashSeed(1)));
        let view = View::new(member.node_ref(), 1, vec![member]);
        let table = Arc::new(RouteTable::build(&view, &spec, None));
        let places = table.routees().iter().map(|_| id).collect();
        let all = Destinations::new(vec![Some(destination)], NonZeroU32::MIN);
        Arc::new(RouterState::new(spec, table, places, &all))
    }

    #[test]
    fn what_was_looked_up_in_a_table_is_not_held_true_of_the_next() {
        let layout = LayoutHash(1);
        let id = MessageTypeId::of(MESSAGE, layout);
        let message = TypeRef { name: MESSAGE, layout, id };
        let state = router(1);
        let picker = Picker::new(&state.spec, 1);
        let mut slot = RouterSlot::new(RouterKey::new(member(0).node_ref(), 0), state, picker);
        slot.usable = RouteeSet::all(slot.state.table.len());
        for _ in 0..2 {
            assert!(matches!(slot.pick(&message, None), Pick::One(_)));
        }
        slot.change(router(2));
        for _ in 0..2 {
            assert_eq!(slot.pick(&message, None), Pick::None(NoRoutee::LayoutMismatch));
        }
        slot.change(router(1));
        assert!(matches!(slot.pick(&message, None), Pick::One(_)));
    }
}
