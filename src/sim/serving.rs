//! The path of each process: served from the start on some workers or all, withdrawn now and then, and served again when
//! nobody runs it any more.

use super::events::{Event, LifeId};
use super::faults::Fault;
use super::invariants::placement::{self, Placements};
use super::ledger::Ledger;
use super::load;
use super::streams::within_us;
use super::world::World;
use crate::base::HandlerId;
use crate::control::ServeError;
use crate::hash::HashSeed;

/// For how long a path is not served between two servings.
const AWAY_US: (u64, u64) = (0, 400_000);

impl World {
    /// A process serves its path.
    pub(super) fn serve(&mut self, life: LifeId) {
        let seed = HashSeed(self.key.hash_seed());
        let (serving, placement) = {
            let mut ledger = self.ledger.lock();
            let Ledger { services, placements, rng, .. } = &mut *ledger;
            let serving = (life, services.count(life));
            let placement = Placements::draw(rng, services.workers(life));
            placements.asked(serving, placement.clone(), services.workers(life));
            (serving, placement)
        };
        let factory = load::factory(&self.ledger, serving, seed);
        let served = self.control(life, |control, _, sink| {
            control.serve(load::path(), &placement, factory, sink)
        });
        match served {
            None | Some(Err(ServeError::Leaving)) => {}
            Some(Ok(handler)) => {
                let mut ledger = self.ledger.lock();
                ledger.services.serving(life, handler);
                ledger.placements.serving(serving, self.lives[life].me, handler);
            }
            Some(Err(why)) => self.blame(placement::NAME, format!("life {life}: {why:?}")),
        }
    }

    /// The cluster is told that a process serves its path.
    pub(super) fn announced(&mut self, life: LifeId, handler: HandlerId) {
        let mut ledger = self.ledger.lock();
        ledger.services.announced(life, handler);
        let announced = ledger.placements.announced(self.lives[life].me, handler);
        drop(ledger);
        if let Err(seen) = announced {
            self.blame(placement::NAME, format!("life {life}: {seen}"));
        }
    }

    /// A process withdraws its path, if it serves it.
    pub(super) fn unserve(&mut self, life: LifeId) {
        let paused = self.lives[life].body.as_deref().is_none_or(|body| body.paused);
        if !paused {
            let now = self.net.now;
            let asked =
                self.control(life, |control, now, sink| control.unserve(now, &load::path(), sink));
            // It may be withdrawn already.
            if let Some(Ok(handler)) = asked {
                self.ledger.lock().services.asked(life, handler, now);
            }
        }
    }

    /// No worker runs it any more.
    pub(super) fn unserved(&mut self, life: LifeId) {
        if !self.lives[life].leaving {
            let pause = within_us(self.streams.of(Fault::Withdraw), AWAY_US);
            self.net.queue.push(self.net.now.plus(pause), Event::Serve(life));
        }
    }
}
