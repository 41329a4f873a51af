//! By which routers a handler sends.

use super::*;
use crate::base::{Incarnation, NodeId};

/// Ids of routers are small, and say nothing to another node, whose own they would be.
#[test]
fn a_router_of_another_node_is_refused_by_name() {
    let mut net = Net::joined(2);
    let before = net.counts(0);
    let others = [("elsewhere", 10), ("node 0", 11)].map(|(name, life)| NodeRef {
        node: NodeId::from_name(name),
        incarnation: Incarnation(life),
    });
    let same_name = NodeRef { incarnation: Incarnation(11), ..node(0) };
    for other in others.into_iter().chain([same_name]) {
        for id in 0..3 {
            let router = RouterRef::new(other, id, SEED);
            net.cx(0, |cx| {
                let refused = Err(Refusal::OtherNode);
                let again = AskOptions::within(WITHIN).idempotent();
                assert_eq!(cx.tell(&router, &ping(1)), refused);
                assert_eq!(cx.tell_keyed(&router, &7u64, &ping(1)), refused);
                assert_eq!(cx.broadcast(&router, &ping(1)), refused);
                assert_eq!(cx.ask::<Caller, _>(&router, &ping(1), WITHIN, 1), refused);
                assert_eq!(cx.ask_keyed::<Caller, _>(&router, &7u64, &ping(1), again, 1), refused);
            });
        }
    }
    let counts = net.counts(0);
    assert_eq!(counts.refused_total() - before.refused_total(), 3 * 3 * 5);
    assert_eq!(counts.in_flight(), 0);
}
