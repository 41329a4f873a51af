//! Part load in each process: what its workers seem to do, and what it asks others.

use rand::RngExt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::events::{Event, LifeId};
use super::load::Shared;
use super::streams::within_us;
use super::world::World;
use crate::base::{NodeRef, Time};
use crate::part::load::{Loads, Order, Reading};

/// The pause between two rounds of questions.
const EVERY_US: (u64, u64) = (50_000, 1_500_000);
/// For so long a process is equally busy.
const STRETCH_NS: u64 = 400_000_000;
/// A flood, which is more than a channel takes before anything is acknowledged: how many questions
/// come at once, how many times, with which pauses.
const FLOOD: usize = 300;
const FLOODS: u32 = 6;
const FLOOD_US: (u64, u64) = (100, 15_000);

/// How busy a process is in one stretch of time, in thousandths, and whether it is stuck in it.
fn business(life: LifeId, stretch: u64) -> (u64, bool) {
    let drawn = xxh3_64_with_seed(&stretch.to_le_bytes(), life as u64);
    (drawn % 1_001, drawn >> 32 & 7 == 0)
}

/// What the workers of a process have done, whenever it is read.
fn gauge(ledger: &Shared, life: LifeId, workers: u64) -> impl FnMut() -> Reading + Send + 'static {
    let ledger = ledger.clone();
    let began = ledger.lock().now;
    let (mut at, mut awake_ns) = (began, 0);
    move || {
        let mut ledger = ledger.lock();
        let now = ledger.now;
        while at < now {
            let stretch = at.0 / STRETCH_NS;
            let until = now.min(Time((stretch + 1) * STRETCH_NS));
            awake_ns += until.since(at).as_nanos() as u64 * business(life, stretch).0 / 1_000;
            at = until;
        }
        let reading = Reading {
            awake_ns: workers * awake_ns,
            asleep_ns: workers * (now.0 - began.0 - awake_ns),
            stuck: business(life, now.0 / STRETCH_NS).1,
        };
        ledger.parts.loads.read(life, now, reading);
        reading
    }
}

impl World {
    /// A process measures itself from now on, and asks others.
    pub(super) fn measure(&mut self, life: LifeId) {
        let workers = self.machine(self.lives[life].slot).workers;
        let read = Box::new(gauge(&self.ledger, life, u64::from(workers)));
        let ledger = self.ledger.clone();
        let show = Box::new(move |loads: Loads| ledger.lock().shown(life, &loads));
        let order = Order::Begin { read, show };
        self.control(life, |control, now, sink| control.part_order(now, order.into(), sink));
        self.next_questions(life, None);
    }

    fn next_questions(&mut self, life: LifeId, flood: Option<(NodeRef, u32)>) {
        let flood = flood.filter(|(_, left)| *left > 0);
        let bounds = flood.map_or(EVERY_US, |_| FLOOD_US);
        let pause = within_us(&mut self.streams.questions, bounds);
        self.net.queue.push(self.net.now.plus(pause), Event::Questions(life, flood));
    }

    /// A process asks another one for its load, mostly a member, once or several times in a row.
    pub(super) fn questions(&mut self, life: LifeId, flood: Option<(NodeRef, u32)>) {
        self.check_questions(life);
        let Some(body) = self.lives[life].body.as_deref() else { return };
        if body.left.is_some() {
            return;
        }
        let members: Vec<NodeRef> =
            body.control.view().members.iter().map(|member| member.node_ref()).collect();
        if members.is_empty() {
            return; // It was the last one, and has just left.
        }
        let rng = &mut self.streams.questions;
        let (to, count, flood) = match flood {
            Some((to, left)) => (to, FLOOD, Some((to, left - 1))),
            None => {
                let to = match rng.random_range(0..8) {
                    0 => self.lives[rng.random_range(0..self.lives.len() as u64) as usize].me,
                    _ => members[rng.random_range(0..members.len() as u64) as usize],
                };
                let flood = (rng.random_range(0..128) == 0).then_some((to, FLOODS));
                (to, rng.random_range(1..=4), flood)
            }
        };
        self.net.trace.note(self.net.now, life, "questions", count as u64);
        for _ in 0..count {
            let id =
                self.ledger.lock().parts.loads.asked(self.net.now, life, to, members.contains(&to));
            let ledger = self.ledger.clone();
            let answer = Box::new(move |outcome| ledger.lock().answered(id, outcome));
            let order = Order::Ask { node: to, answer };
            self.control(life, |control, now, sink| control.part_order(now, order.into(), sink));
        }
        self.next_questions(life, flood);
    }
}
