//! What waits between the threads of a process takes no more than its configuration prints, each queue
//! by itself: what its application hands over, in the queue and behind it, and chunks on their way
//! from one worker to another.

use std::collections::BTreeMap;

use crate::config::NodeConfig;
use crate::sim::events::{LifeId, SlotId};
use crate::sim::mixed::Machine;
use crate::sim::plan::Plan;
use crate::sim::process::Core;
use crate::sim::world::World;
use crate::wire::CHUNK_BYTES;

/// Of what applications hand over.
pub const INJECTED: &str = "what applications hand over takes no more than is printed";
/// Of what siblings hand each other.
pub const SIBLINGS: &str = "what siblings hand each other takes no more than is printed";

/// What is printed for one worker of a machine.
#[derive(Clone, Copy, Debug)]
struct Printed {
    /// For what weighs something in its queue. Twice as much is for what waits behind it.
    injected_bytes: u64,
    /// For all that is on its way to its siblings.
    siblings_bytes: u64,
    /// Chunks of one sibling.
    chunks: u64,
}

impl Printed {
    fn new(plan: &Plan, machine: &Machine) -> Self {
        let (workers, rings) = (usize::from(machine.workers), machine.rings);
        let max_frame_bytes = machine.limits.max_frame_bytes as usize;
        let siblings = workers.saturating_sub(1);
        let mut config = NodeConfig::default();
        config.workers.count = workers;
        config.workers.inject_bytes = plan.injections.bytes;
        config.workers.ring_bytes = rings.bytes * siblings;
        config.links.max_frame_bytes = max_frame_bytes;
        let printed = config.memory_by_setting(1);
        let of = |path| printed.iter().find(|(known, _)| *known == path).map(|(_, bound)| *bound);
        let injected = of("workers.inject_bytes").unwrap_or_default().hand_overs_bytes;
        let on_their_way = of("workers.ring_bytes").unwrap_or_default().rings_bytes;
        // What each sibling is handling is in it.
        let handled = siblings * CHUNK_BYTES.max(max_frame_bytes);
        Self {
            injected_bytes: injected / workers as u64 / 3,
            siblings_bytes: on_their_way / workers as u64 - handled as u64,
            chunks: rings.items as u64,
        }
    }
}

/// How often a queue was so full that a little more were too much.
#[derive(Default)]
pub struct Rooms {
    /// By machine.
    printed: BTreeMap<SlotId, Printed>,
    /// Those of applications.
    pub injected: u64,
    /// Those of siblings.
    pub siblings: u64,
}

impl Rooms {
    fn check(
        &mut self,
        plan: &Plan,
        core: &Core,
        printed: Printed,
    ) -> Result<(), (&'static str, String)> {
        let (usage, queue) = (core.worker.usage(), &core.ends.injector);
        let places = plan.injections.items as u64;
        let (waits, weighs) = (queue.len() as u64, queue.weight());
        let (held, held_weighs) = (usage.held as u64, usage.held_bytes as u64);
        let chunks = core.ends.rings.chunks().max().unwrap_or(0) as u64;
        let given = core.ends.rings.weights().sum::<u64>();
        let Printed { injected_bytes, siblings_bytes, chunks: most } = printed;
        let found = [
            (INJECTED, "hand-overs in a queue", waits, places),
            (INJECTED, "bytes of hand-overs in a queue", weighs, injected_bytes),
            (INJECTED, "hand-overs behind a queue", held, 2 * places),
            (INJECTED, "bytes of hand-overs behind a queue", held_weighs, 2 * injected_bytes),
            (SIBLINGS, "chunks of one sibling", chunks, most),
            (SIBLINGS, "bytes on their way to siblings", given, siblings_bytes),
        ];
        for (name, what, count, limit) in found {
            if count > limit {
                return Err((name, format!("{count} {what}, where there may be {limit}")));
            }
        }
        self.injected += u64::from(waits == places || 2 * weighs > injected_bytes);
        self.siblings += u64::from(chunks == most);
        Ok(())
    }
}

impl World {
    /// Looks how full the queues between a process's threads are.
    pub(super) fn check_rooms(&mut self, life: LifeId) {
        let slot = self.lives[life].slot;
        let known = self.checks.rooms.printed.get(&slot).copied();
        let printed = known.unwrap_or_else(|| Printed::new(&self.plan, &self.machine(slot)));
        self.checks.rooms.printed.insert(slot, printed);
        let Self { lives, plan, checks, .. } = self;
        let Some(body) = lives[life].body.as_deref() else { return };
        let checked =
            body.workers.iter().try_for_each(|core| checks.rooms.check(plan, core, printed));
        if let Err((name, seen)) = checked {
            self.blame(name, format!("life {life}: {seen}"));
        }
    }
}
