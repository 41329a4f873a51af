//! A connection whose packets vanish is given up in time by whoever sent something on it, and no
//! other is: a peer that does not read for long has a shut window, and keeps its links.

use super::super::network::{ConnId, NOTICED_WITHIN, Owner, Side};
use super::super::world::World;
use crate::base::Time;

/// What it is called.
pub const NAME: &str = "dead flows are given up, and no others";

impl World {
    /// By now this side has given up a connection that was swallowed, if its process ran.
    pub(in crate::sim) fn check_flow(&mut self, conn: ConnId, side: Side) {
        let now = self.net.now;
        let Owner::Worker(life, index, _) = self.net.owner(conn, side) else {
            self.checks.flows_noticed += 1;
            return;
        };
        let running = self.lives[life].body.as_deref().filter(|body| !body.paused);
        let since = running.map_or(now, |body| {
            let local = body.running_since.max(body.workers[index].running_since);
            Time(self.lives[life].born.0 + local.0)
        });
        let due = since.plus(NOTICED_WITHIN);
        if now < due {
            self.net.queue.push(due, super::super::events::Event::Noticed(conn, side));
        } else if self.net.is_stuck(conn, side) {
            let (from, to) = self.net.slots(conn);
            let seen = format!(
                "life {life} has not noticed for {NOTICED_WITHIN:?} that a connection from machine \
                 {from} to {to} is dead"
            );
            self.blame(NAME, seen);
        } else {
            self.checks.flows_noticed += 1;
        }
    }
}
