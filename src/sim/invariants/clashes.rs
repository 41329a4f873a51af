//! Of two processes with one name the one that takes it is told so and ends, and the other one, which
//! is a member, goes on; nothing goes wrong then, as who does not answer may lose its name. And who comes again under its name with a clock that went back is
//! told what to exceed, and is let in then.

use std::time::Duration;

use crate::base::{MemberEvent, MemberState};
use crate::member::MemberFault;
use crate::sim::events::LifeId;
use crate::sim::network::address;
use crate::sim::world::World;

/// Of names.
pub const NAME: &str = "who takes a member's name is told so and ends, and the member goes on";
/// Of clocks.
pub const BACK: &str = "a clock that went back keeps nobody out";

/// How long what a process has said is on its way, or waits at who is paused.
const SAID: Duration = Duration::from_secs(15);

impl World {
    /// A process's membership is over. Whether that is because of another one with its name: then
    /// there is, or was, that one, where it is said to be.
    pub(super) fn check_clash(&mut self, life: LifeId, fault: &MemberFault) -> bool {
        let (slot, me) = (self.lives[life].slot, self.lives[life].me);
        let (by, incarnation, name) = match fault {
            MemberFault::NameTaken { by } => (*by, None, NAME),
            MemberFault::Superseded { by, incarnation } if *by == address(slot) => {
                (*by, Some(*incarnation), BACK)
            }
            MemberFault::Superseded { by, incarnation } => (*by, Some(*incarnation), NAME),
            _ => return false,
        };
        let (now, ended_at) = (self.net.now, &self.clashes.ended_at);
        let there = self.lives.iter().enumerate().any(|(other, it)| {
            let speaks = || ended_at.get(&other).is_none_or(|at| now.since(*at) < SAID);
            let named = it.me.node == me.node && it.me != me && address(it.slot) == by;
            named
                && match incarnation {
                    None => it.slot != slot && speaks(),
                    Some(incarnation) => {
                        it.me.incarnation == incarnation && incarnation > me.incarnation
                    }
                }
        });
        let holds = self.plan.strange.namesake.is_some_and(|(rival, _)| rival != slot);
        if !there || holds {
            self.blame(name, format!("life {life} ({me}) ended: {fault}"));
        }
        self.clashes.told += u64::from(name == NAME);
        true
    }

    /// A process saw a change of membership. Nobody shows the one that takes a name, and whose name it
    /// is answers all the time.
    pub(super) fn check_namesake(&mut self, by: LifeId, event: &MemberEvent) {
        let Some((rival, _)) = self.plan.strange.namesake else { return };
        let me = self.lives[by].me;
        let of = event.member();
        let wrong = match event {
            MemberEvent::Joined(it) if it.node_ref() != me => {
                self.lives.iter().any(|life| life.slot == rival && life.me == it.node_ref())
            }
            MemberEvent::Unreachable(it) => it.state == MemberState::Up,
            _ => false,
        };
        if wrong && self.lives[by].slot != rival {
            let seen = super::removal::describe(event);
            self.blame(NAME, format!("life {by} shows of {}: {seen}", of.node_ref()));
        }
    }
}
