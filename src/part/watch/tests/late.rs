//! What is remembered too shortly, and what comes too late.

use super::*;

#[test]
fn the_end_of_a_node_is_told_also_when_more_have_ended_than_are_remembered() {
    let (mut half, b) = watching();
    half.watch(Watcher::Application(1), Target::Node(b));
    let seen = half.told(&members(&[], &[]));
    let told = |seen: &&Seen| matches!(seen, Seen::Deliver(..) | Seen::Report(..));
    assert_eq!(seen.iter().filter(told).count(), 2, "{seen:?}");
    assert_eq!(half.told(&members(&[], &[])), [], "once");
}

/// It was stopped before the other side kept it, which was asked twice.
#[test]
fn a_watch_that_is_confirmed_after_it_has_ended_is_given_back() {
    let (mut half, b) = watching();
    half.unwatch(ME);
    let forget = Seen::Send(To::Peer(b, W0), Op::Unwatch { id: 1 });
    assert_eq!(half.frame(dialed(5, b), watching_op(1, 4)), [forget]);
    assert_eq!(half.frame(accepted(6, b), watching_op(1, 4)), [], "of its own, it knows");
}

#[test]
fn who_came_and_went_between_two_views_is_told_of_and_so_many_are_remembered() {
    let mut control = WatchControl::new(2);
    let mut effects = ControlEffects::<WorkerOrder>::default();
    let mut facts = Arc::default();
    let view = Arc::new(View::new(node("me", 1), 1, vec![member("a", MemberState::Up)]));
    for round in 1..=600 {
        let names = [format!("d{round}"), format!("e{round}")];
        let gone = names
            .each_ref()
            .map(|name| MemberEvent::Removed(member(name, MemberState::Left).into()));
        effects.published = false;
        control.view(&view, &gone, &mut ControlOutlet::new(PartId(1), &mut facts, &mut effects));
        assert!(effects.published);
        assert_eq!(facts.ends.last().map(|end| end.node), Some(node(&names[1], 1)));
        assert_eq!(facts.ends.len(), 1_024.min(2 * round));
    }
}
