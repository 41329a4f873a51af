//! A connection whose packets vanish is given up in time by whoever sent something on it, and no
//! other is: a peer that does not read for long has a shut window, and keeps its links.

use std::time::Duration;

use super::super::events::{ConnId, CoreId, LifeId, Side};
use super::super::network::{NOTICED_WITHIN, Owner};
use super::super::world::World;
use crate::base::Time;
use crate::worker::turn::inboxes::PATIENCE;

/// What it is called.
pub const NAME: &str = "dead flows are given up, and no others";

/// What the other one is called.
pub const STALLED: &str = "only a long message that does not end costs its link";

/// How long a worker that runs again may take until it writes.
const WOKEN: Duration = Duration::from_millis(50);

impl World {
    /// A link was closed for a long message that did not come to its end while others waited. That
    /// is right only where the peer could not send: it stood still, or nothing passed, or so little
    /// at a time that from its first write on something was on its way all the time. `flying` says
    /// for how long something was, when the link was closed.
    /// What could not be read meanwhile, since the one who closed it stood still itself, is not held
    /// against the peer.
    pub(in crate::sim) fn check_stalled(
        &mut self,
        by: CoreId,
        (conn, side): (ConnId, Side),
        flying: Duration,
    ) {
        let now = self.net.now;
        let sent_since = match self.net.owner(conn, 1 - side) {
            Owner::Worker(life, index, _) => self.runs_since(life, index),
            _ => None,
        };
        let since = sent_since.map(|since| since.max(self.net.impeded(conn, side)));
        match since {
            Some(since)
                if now.since(since).saturating_sub(self.stood_still(by, since)) >= PATIENCE
                    && flying + WOKEN < PATIENCE =>
            {
                let (from, to) = self.net.slots(conn);
                let seen = format!(
                    "connection {conn} between machines {from} and {to} was closed for a long \
                     message that side {} could have ended",
                    1 - side
                );
                self.blame(STALLED, seen);
            }
            _ => self.checks.stalled += 1,
        }
    }

    /// Since when a worker runs without having stood still, on the world's clock.
    fn runs_since(&self, life: LifeId, index: usize) -> Option<Time> {
        let body = self.lives[life].body.as_deref().filter(|body| !body.paused)?;
        let local = body.running_since.max(body.workers[index].running_since);
        Some(self.lives[life].clock.world(local))
    }

    /// For how long a worker that runs has stood still since then, as far as that was the last time.
    fn stood_still(&self, (life, index): CoreId, since: Time) -> Duration {
        let Some(body) = self.lives[life].body.as_deref() else { return Duration::ZERO };
        let core = &body.workers[index];
        let since = self.lives[life].local(since.max(self.lives[life].clock.born));
        let paused = body.running_since.since(body.paused_at.max(since));
        let blocked = core.running_since.since(core.blocked_at.max(since));
        paused.max(blocked)
    }

    /// By now this side has given up a connection that was swallowed, if its process ran.
    pub(in crate::sim) fn check_flow(&mut self, conn: ConnId, side: Side) {
        let now = self.net.now;
        let Owner::Worker(life, index, _) = self.net.owner(conn, side) else {
            // A worker's when the bytes were lost: it has given the connection up.
            self.checks.flows_noticed += 1;
            return;
        };
        // A worker that stops gives all of its connections up in a moment: then it is asked again.
        let body = self.lives[life].body.as_deref();
        if body.is_some_and(|body| body.workers[index].ends.let_go) {
            let again = now.plus(NOTICED_WITHIN);
            return self.net.queue.push(again, super::super::events::Event::Noticed(conn, side));
        }
        let due = self.runs_since(life, index).unwrap_or(now).plus(NOTICED_WITHIN);
        if now < due {
            self.net.queue.push(due, super::super::events::Event::Noticed(conn, side));
        } else if self.net.is_stuck(conn, side) {
            let (from, to) = self.net.slots(conn);
            let seen = format!(
                "life {life} has not noticed for {NOTICED_WITHIN:?} that connection {conn} from \
                 machine {from} to {to} is dead"
            );
            self.blame(NAME, seen);
        } else {
            self.checks.flows_noticed += 1;
        }
    }
}
