//! The decider's timers. None is ever cancelled: one that is no longer wanted carries an outdated
//! token and does nothing when it fires.

use crate::base::Time;

use super::identity::SwimId;

/// A timer that the decider asked for; hand it back when it is due, or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberTimer {
    pub(super) due: Time,
    pub(super) kind: TimerKind,
}

impl MemberTimer {
    /// When it should fire.
    pub fn due(&self) -> Time {
        self.due
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TimerKind {
    /// One of the failure detector's; it has tokens of its own.
    Swim(foca::Timer<SwimId>),
    /// Call the seeds that are not in view.
    Seeds { token: u32 },
    /// Compare records with somebody.
    Sync,
    /// Call unreachable members, and ask the partition policy.
    Recontact,
    /// Send the changes of the own record that came shortly after others.
    Push { token: u32 },
    /// Show the changes of the view that came shortly after others.
    Show,
    /// Pass on the news that came shortly after other news.
    Pass,
    /// Tell whom this node gave up shortly after others.
    Verdicts,
    /// Look whether this node has been steady for long enough to be used again.
    Fitness { token: u32 },
    /// Say once more that this node has left.
    Farewell,
}
