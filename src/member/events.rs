//! From one view to the next: what users are told has changed.

use std::sync::Arc;

use crate::base::{Member, MemberEvent, MemberState, NodeRef, View};

/// The events that lead from one view to another, in the order of the nodes; a member that ends
/// comes before the one that takes its place. `fate` knows how a member that is no longer in view
/// ended.
pub(super) fn between(
    old: &View,
    new: &View,
    fate: impl Fn(NodeRef) -> MemberState,
) -> Vec<MemberEvent> {
    let mut events = Vec::new();
    let (mut before, mut after) = (old.members.iter().peekable(), new.members.iter().peekable());
    loop {
        match (before.peek(), after.peek()) {
            (None, None) => return events,
            (Some(was), Some(is)) if was.id == is.id => {
                if !Arc::ptr_eq(was, is) {
                    compare(was, is, &fate, &mut events);
                }
                before.next();
                after.next();
            }
            (Some(was), is) if is.is_none_or(|is| was.id < is.id) => {
                events.push(removed(was, &fate));
                before.next();
            }
            (_, Some(is)) => {
                events.push(MemberEvent::Joined(Arc::clone(is)));
                after.next();
            }
            (Some(_), None) => unreachable!("a member without a counterpart was removed above"),
        }
    }
}

fn compare(
    was: &Arc<Member>,
    is: &Arc<Member>,
    fate: &impl Fn(NodeRef) -> MemberState,
    events: &mut Vec<MemberEvent>,
) {
    if was.incarnation != is.incarnation {
        events.push(removed(was, fate));
        events.push(MemberEvent::Joined(Arc::clone(is)));
        return;
    }
    if !is.is_as_was(was) {
        events.push(MemberEvent::Changed(Arc::clone(is)));
    }
    match (was.reachable, is.reachable) {
        (true, false) => events.push(MemberEvent::Unreachable(Arc::clone(is))),
        (false, true) => events.push(MemberEvent::Reachable(Arc::clone(is))),
        _ => {}
    }
    match (was.damped_until, is.damped_until) {
        (before, Some(until)) if before != Some(until) => {
            events.push(MemberEvent::Damped(Arc::clone(is)));
        }
        (Some(_), None) if is.reachable => events.push(MemberEvent::Settled(Arc::clone(is))),
        _ => {}
    }
}

fn removed(was: &Arc<Member>, fate: impl Fn(NodeRef) -> MemberState) -> MemberEvent {
    let state = fate(was.node_ref());
    MemberEvent::Removed(Arc::new(Member { state, ..Member::clone(was) }))
}
