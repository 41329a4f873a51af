//! Routers that applications make, send by, and drop, beside those that every process has from its
//! start.

use std::sync::Arc;

use rand::RngExt;

use super::events::{Event, LifeId};
use super::invariants::routers;
use super::load;
use super::streams::within_us;
use super::world::World;
use crate::base::Rng;
use crate::hash::{HashSeed, MIN_SLOT_BITS};
use crate::route::{LocalPreference, RouterSpec, StrategyKind};

/// How long it is between two things that a process's application does with its routers, where there
/// are no more than [`NODES`]. Of more nodes each does less.
const EVERY_US: (u64, u64) = (20_000, 400_000);
const NODES: u64 = 5;

/// Handles of such routers that an application has at a time.
const MOST: usize = 6;

/// One that an application asks for. There are so few that several ask for the same.
fn draw(rng: &mut Rng, seed: HashSeed) -> RouterSpec {
    let strategy = match rng.random_range(0..4) {
        0 => StrategyKind::RoundRobin,
        1 => StrategyKind::Broadcast,
        _ => StrategyKind::ConsistentHash,
    };
    let mut spec = RouterSpec::new(load::path(), strategy, seed);
    spec.slot_bits = MIN_SLOT_BITS;
    match rng.random_range(0..4) {
        0 => spec.local = LocalPreference::Exclude,
        1 => spec.max_routees_per_node = Some(1),
        _ => spec.max_routees = Some(rng.random_range(1..=4)),
    }
    spec
}

impl World {
    /// Plans when a process's application next does something with its routers.
    pub(super) fn next_routers(&mut self, life: LifeId) {
        let nodes = u64::from(self.scenario.nodes).max(NODES);
        let (least, most) = EVERY_US;
        let bounds = (least * nodes / NODES, most * nodes / NODES);
        let pause = within_us(&mut self.streams.routers, bounds);
        self.net.queue.push(self.net.now.plus(pause), Event::Routers(life));
    }

    /// An application makes a router, or drops one, until the faults end; and sends by one.
    pub(super) fn routers(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        if body.left.is_some() || self.ledger.lock().quiet {
            return;
        }
        let held = self.ledger.lock().routers.handles(life);
        if self.healed_at.is_none() {
            if held.len() < MOST && self.streams.routers.random_range(0..2) == 0 {
                let spec = draw(&mut self.streams.routers, HashSeed(self.key.hash_seed()));
                self.route(life, spec);
            } else if !held.is_empty() {
                let at = self.streams.routers.random_range(0..held.len() as u64) as usize;
                self.unroute(life, held[at].0);
            }
        }
        // Of those that it had: one that is dropped by now is one that it must not reach.
        if !held.is_empty() {
            let (router, spec) =
                &held[self.streams.routers.random_range(0..held.len() as u64) as usize];
            let worker = self.with_thread(life, 0, |thread, hands| {
                thread.send_by(hands, *router, spec);
                thread.worker
            });
            if let Some(worker) = worker {
                self.nudge(life, worker);
            }
        }
        self.next_routers(life);
    }

    /// A process has one more holder of a router that asks for this.
    pub(super) fn route(&mut self, life: LifeId, spec: RouterSpec) {
        let asked = spec.clone();
        self.ledger.lock().routers.asked(life);
        let made = self.control(life, |control, _, sink| control.route(asked, sink));
        let seen = match made {
            None => return,
            Some(Ok(id)) => self.ledger.lock().routers.made(life, id, spec),
            Some(Err(error)) => Err(error.to_string()),
        };
        if let Err(seen) = seen {
            self.blame(routers::NAME, format!("life {life}: {seen}"));
        }
    }

    fn unroute(&mut self, life: LifeId, router: u32) {
        self.ledger.lock().routers.dropped(life, router);
        self.control(life, |control, _, sink| control.unroute(router, sink));
        // No message goes by it from here on.
        let shown = self.lives[life].body.as_deref().map(|body| Arc::clone(&body.snapshot));
        let held = shown.map(|snapshot| self.ledger.lock().routers.check(life, &snapshot));
        if let Some(Err(seen)) = held {
            self.blame(routers::NAME, format!("life {life}: {seen}"));
        }
    }
}
