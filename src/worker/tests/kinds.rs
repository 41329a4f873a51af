//! Whoever begins something in a handler is the routee that runs, and no other type.

use super::super::panics::caught;
use super::super::{AskOptions, Routee};
use super::*;
use crate::Gone;

/// Handles and takes whatever the routee that runs does, and is not it.
struct Other;

impl Routee for Other {
    fn register(_: &mut HandlerTable<Self>) {}
}

impl Handler<Gone> for Other {
    type Reply = ();
    fn handle(&mut self, _: &<Gone as rkyv::Archive>::Archived, _: &mut Context<'_>) {}
}

impl OnReply<Ping> for Other {
    fn on_reply(&mut self, _: u64, _: Result<&rkyv::Archived<u64>, AskError>, _: &mut Context<'_>) {
    }
}

/// Neither an ask nor work nor a watch is left, of which the end would come for nobody.
#[test]
fn what_is_begun_for_a_routee_of_another_type_is_refused_by_both_names() {
    let mut net = Net::joined(2);
    let to = reference(1);
    let again = AskOptions::within(WITHIN).idempotent();
    let calls: [&dyn Fn(&mut Context<'_>) -> bool; 5] = [
        &|cx| cx.ask::<Other, _>(ROUND_ROBIN, &ping(1), WITHIN, 1).is_ok(),
        &|cx| cx.ask_to::<Other, _>(&to, &ping(1), WITHIN, 1).is_ok(),
        &|cx| cx.ask_to::<Other, _>(&to, &ping(1), again, 1).is_ok(),
        &|cx| cx.begin_work(|_: &mut Other, _: Result<u8, _>, _| {}).is_ok(),
        &|cx| cx.watch::<Other>(&to, 1).is_ok(),
    ];
    for call in calls {
        let payload = net.cx(0, |cx| caught(|| call(cx))).expect_err("it is refused");
        let said = payload.downcast_ref::<String>().expect("it has words").as_str();
        for kind in ["tests::kinds::Other", "Caller`"] {
            assert!(said.contains(kind), "{said}");
        }
    }
    let core = &net.sides[0].worker.core;
    assert!(core.asks.is_empty());
    let counts = net.counts(0);
    assert_eq!((counts.asks, counts.work_begun), (0, 0));
}
