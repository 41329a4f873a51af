//! Calls of a process's control: with what hands, what it says meanwhile, and what is looked at
//! afterwards.

use std::sync::Arc;

use super::control::Hands;
use super::events::LifeId;
use super::invariants::Seen;
use super::process::{Body, Life};
use super::world::World;
use crate::base::{HandlerId, LogKind, MemberEvent, Time, View};
use crate::control::joining::JoinState;
use crate::control::letters::DeadLetter;
use crate::control::{Control, ControlTells, LogLine, ServeFailure};
use crate::member::MemberFault;
use crate::worker::Report;

impl World {
    /// Calls a process's control.
    pub(super) fn control<T>(
        &mut self,
        life: LifeId,
        call: impl FnOnce(&mut Control, Time, &mut Hands<'_>) -> T,
    ) -> Option<T> {
        let now = self.lives[life].local(self.net.now);
        let Life { slot, clock, .. } = self.lives[life];
        let body = self.lives[life].body.as_deref_mut()?;
        let Body { control, workers, jobs, snapshot, met, .. } = body;
        let (net, seen) = (&mut self.net, Vec::new());
        let mut hands = Hands { life, slot, clock, net, workers, jobs, snapshot, met, seen };
        let outcome = call(control, now, &mut hands);
        control.tell_join_state(&mut hands);
        for seen in hands.seen {
            self.see(life, seen);
        }
        Some(outcome)
    }
}

/// Nobody listens but the invariants.
impl ControlTells for Hands<'_> {
    fn routed(&mut self, router: u32) {
        self.seen.push(Seen::Routed(router, self.snapshot.router(router).is_some()));
    }

    fn served(&mut self, handler: HandlerId, outcome: Result<(), ServeFailure>) {
        self.seen.push(Seen::Served(handler, outcome));
    }

    fn unserved(&mut self, _: HandlerId) {
        self.seen.push(Seen::Unserved);
    }

    fn join_state(&mut self, state: JoinState) {
        let unlisted = matches!(state, JoinState::Unreached { .. } | JoinState::Unlisted);
        *self.met = unlisted || state == JoinState::Joined;
    }

    fn events(&mut self, view: &Arc<View>, events: &[MemberEvent]) {
        let (view, shown) = (view.digest, self.snapshot.view.digest);
        self.seen.push(Seen::Changed { view, shown, events: events.to_vec() });
    }

    fn fault(&mut self, fault: MemberFault) {
        self.seen.push(Seen::Fault(fault));
    }

    fn left(&mut self, well: bool) {
        self.seen.push(Seen::Left(well));
    }

    fn stopped(&mut self, running: u16) {
        self.seen.push(Seen::Stopped(running));
    }

    fn log(&mut self, line: LogLine) {
        self.seen.push(Seen::Logged(line.kind));
        self.seen.push(Seen::Log(line));
    }

    fn hears_dead_letters(&self) -> bool {
        true
    }

    fn dead_letter(&mut self, letter: DeadLetter, left_out: Option<u64>) {
        if left_out.is_some() {
            self.seen.push(Seen::Logged(LogKind::DeadLetters));
        }
        self.net.trace.say(|| format!("dead letters: {letter}"));
    }

    fn overheard(&mut self, report: Report, _: Option<u64>) {
        self.net.trace.say(|| format!("{report:?}"));
    }
}
