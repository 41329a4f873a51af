//! Only who left, who was removed by an operator, and earlier lives ever disappear from a view.

use crate::base::MemberEvent;
use crate::sim::events::LifeId;
use crate::sim::process::{Fate, Life};

/// The invariant's name.
pub const NAME: &str = "a live node is never removed";

/// A node saw a change of membership; `by` is its life.
///
/// # Errors
/// Who was removed without reason.
pub fn check(lives: &[Life], by: LifeId, event: &MemberEvent) -> Result<(), String> {
    let MemberEvent::Removed(member) = event else { return Ok(()) };
    let Some(life) = lives.iter().position(|life| life.me == member.node_ref()) else {
        return Err(format!("{} was removed and has never been", member.node_ref()));
    };
    let removed = &lives[life];
    let replaced = lives.iter().any(|other| other.succeeds(removed));
    // Whoever hears who has its name or address ends itself, seen by nobody else.
    let ends_itself = life == by;
    if removed.downed || removed.leaving || replaced || ends_itself {
        return Ok(());
    }
    let state = if removed.fate == Fate::Alive { "alive" } else { "dead, but may come back" };
    Err(format!("life {life} was removed as {:?}, and is {state}", member.state))
}

/// A change in few words.
pub fn describe(event: &MemberEvent) -> String {
    let (what, member) = match event {
        MemberEvent::Joined(member) => ("joined", member),
        MemberEvent::Changed(member) => ("changed", member),
        MemberEvent::Unreachable(member) => ("unreachable", member),
        MemberEvent::Reachable(member) => ("reachable", member),
        MemberEvent::Damped(member) => ("damped", member),
        MemberEvent::Settled(member) => ("settled", member),
        MemberEvent::Removed(member) => ("removed", member),
    };
    let services = member.services.len();
    format!("{what}: {} {:?}, {services} services", member.node_ref(), member.state)
}
