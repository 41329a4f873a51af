//! When what is said on the connections of a process's control goes on, and what it hears of that.

use super::events::{ConnId, LifeId, Side};
use super::network::{Owner, address};
use super::world::World;
use crate::control::ControlSink;
use crate::control::links::{Failure, JobEvent, JobId};

impl World {
    /// A connection's first segment came to a machine: its kernel accepts if a process listens.
    pub(super) fn syn(&mut self, conn: ConnId) {
        let (from, to) = self.net.slots(conn);
        let listener = self.slots.get(to).copied().flatten();
        let owner = listener.map(Owner::Job).or_else(|| {
            let forger = self.net.forger.as_mut().filter(|_| self.healed_at.is_none());
            forger.is_some_and(|forger| forger.takes_over()).then_some(Owner::Forger)
        });
        if !self.net.syn(conn, owner) {
            return;
        }
        let Some(life) = listener else {
            if owner.is_some() {
                self.forger_listens(conn);
            }
            return;
        };
        if self.turns_away_anew(conn) {
            return;
        }
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        body.jobs.arrives(conn);
        self.control(life, |control, now, sink| control.incoming(now, address(from), sink));
    }

    /// The dialing side hears whether a process listens.
    pub(super) fn connected(&mut self, life: LifeId, conn: ConnId, listens: bool) {
        if listens {
            return self.step_job(life, conn, 0);
        }
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if let Some(job) = body.jobs.of(conn, 0) {
            self.told(life, job, JobEvent::Failed(Failure::Refused, String::new()));
        }
    }

    /// Something may go on on a connection that control is not done with.
    pub(super) fn step_job(&mut self, life: LifeId, conn: ConnId, side: Side) {
        loop {
            let Some(body) = self.lives[life].body.as_deref_mut() else { return };
            let Some((job, event)) = body.jobs.step((conn, side), &mut self.net) else { return };
            let unknown = match &event {
                JobEvent::Bytes(bytes) => self.letters_taken((life, job), bytes),
                _ => 0,
            };
            self.check_stranger(life, (conn, side), &event);
            self.told(life, job, event);
            if unknown > 0 {
                self.check_skipped_letters(life, unknown);
            }
        }
    }

    fn told(&mut self, life: LifeId, job: JobId, event: JobEvent) {
        self.net.trace.note(self.net.now, life, "shaken", job);
        self.heard_refusal(&event);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        body.jobs.note(job, &event);
        self.control(life, |control, now, sink| {
            control.job(now, job, event, sink);
            if sink.jobs.is_unwanted(job) {
                sink.abort(job);
            }
        });
    }
}
