//! What the failure detector's calls lead to: effects for the caller, and what its boundary notes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foca::Notification;

use crate::base::{NodeId, Time};

use super::MemberSink;
use super::health::Health;
use super::hearers::Hearers;
use super::identity::{self, Home, KIND_SWIM, SwimId};
use super::timer::{MemberTimer, TimerKind};

/// What the detector's calls leave behind, besides what went into the sink.
pub(super) struct Effects {
    pub datagram: Vec<u8>,
    /// Nodes whose reachability may be another now.
    pub touched: BTreeSet<NodeId>,
    pub renewed: bool,
    /// It counts as dead under the last identity that it can have.
    pub cannot_renew: bool,
    pub downed: Vec<SwimId>,
    pub suspect: Duration,
    pub health: Health,
    pub hearers: Hearers,
    /// This node's own suspicions.
    pub suspicions: BTreeMap<Home, Suspicion>,
    /// Whom the probe that has just ended found silent.
    pub silent: Option<SwimId>,
}

/// A member that did not answer this node's probe, until it refutes or is given up.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub began: Time,
    /// What this node had missed then.
    pub missed: Duration,
    /// What the detector wants to be called with at the end.
    pub timer: foca::Timer<SwimId>,
}

pub(super) struct Outlet<'a> {
    pub now: Time,
    pub effects: &'a mut Effects,
    pub sink: &'a mut dyn MemberSink,
}

impl foca::Runtime<SwimId> for Outlet<'_> {
    fn notify(&mut self, notification: Notification<'_, SwimId>) {
        match notification {
            Notification::MemberUp(id) => {
                self.effects.touched.insert(id.member.node);
            }
            Notification::Rename(old, new) => {
                self.effects.touched.extend([old.member.node, new.member.node]);
            }
            Notification::MemberDown(id) => {
                self.effects.touched.insert(id.member.node);
                self.effects.downed.push(*id);
            }
            Notification::Rejoin(_) => {
                self.effects.renewed = true;
                self.effects.health.erred();
            }
            // After a leave as well, when nobody asks any more.
            Notification::Defunct => self.effects.cannot_renew = true,
            Notification::Active | Notification::Idle => {}
        }
    }

    fn send_to(&mut self, to: SwimId, data: &[u8]) {
        if let Some(number) = identity::probe_number(data) {
            self.effects.hearers.asked(self.now, &to, number);
        }
        let datagram = &mut self.effects.datagram;
        datagram.clear();
        datagram.push(KIND_SWIM);
        datagram.extend_from_slice(data);
        self.sink.send(to.address, datagram);
    }

    fn submit_after(&mut self, event: foca::Timer<SwimId>, after: Duration) {
        let effects = &mut *self.effects;
        let after = match &event {
            foca::Timer::ChangeSuspectToDown { member_id, .. } => {
                effects.silent = Some(*member_id);
                let known = effects.suspicions.get(&member_id.home());
                if known.is_some_and(|known| known.timer == event) {
                    return;
                }
                let missed = effects.health.missed();
                let suspicion = Suspicion { began: self.now, missed, timer: event.clone() };
                effects.suspicions.insert(member_id.home(), suspicion);
                Duration::ZERO
            }
            _ => after,
        };
        self.schedule(after, event);
    }
}

impl Outlet<'_> {
    pub fn schedule(&mut self, after: Duration, event: foca::Timer<SwimId>) {
        let timer = MemberTimer { due: self.now.plus(after), kind: TimerKind::Swim(event) };
        self.sink.schedule(timer.due, timer);
    }
}
