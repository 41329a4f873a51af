//! The path of each process: served from the start, withdrawn now and then, and served again when
//! nobody runs it any more.

use super::events::{Event, LifeId};
use super::load;
use super::world::World;
use crate::base::Placement;
use crate::hash::HashSeed;

/// For how long a path is not served between two servings.
const AWAY_US: (u64, u64) = (0, 400_000);

impl World {
    /// A process serves its path.
    pub(super) fn serve(&mut self, life: LifeId) {
        let seed = HashSeed(self.key.hash_seed());
        let serving = self.ledger.lock().services.count(life);
        let factory = load::factory(&self.ledger, (life, serving), seed);
        let placement = Placement::EveryWorker;
        let served = self.control(life, |control, _, sink| {
            control.serve(load::path(), &placement, factory, sink)
        });
        match served {
            None => {}
            Some(Ok(handler)) => self.ledger.lock().services.serving(life, handler),
            Some(Err(why)) => self.blame("serving", format!("life {life}: {why:?}")),
        }
    }

    /// A process withdraws its path, if it serves it.
    pub(super) fn unserve(&mut self, life: LifeId) {
        let paused = self.lives[life].body.as_deref().is_none_or(|body| body.paused);
        if !paused {
            // It may be withdrawn already.
            let _ =
                self.control(life, |control, now, sink| control.unserve(now, &load::path(), sink));
        }
    }

    /// No worker runs it any more.
    pub(super) fn unserved(&mut self, life: LifeId) {
        if !self.lives[life].leaving {
            let at = self.net.after_us(AWAY_US);
            self.net.queue.push(at, Event::Serve(life));
        }
    }
}
