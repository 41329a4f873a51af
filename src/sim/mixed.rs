//! How the processes of each machine are set up: not alike in every world.

use rand::RngExt;

use super::events::SlotId;
use super::plan::{Plan, RINGS};
use super::scenario::Scenario;
use super::streams::stream;
use crate::queue::inject::Room;
use crate::wire::ClusterKey;
use crate::worker::Limits;

/// How a machine's processes are set up.
pub struct Machine {
    /// How many workers each has.
    pub workers: u16,
    /// The workers' capacities.
    pub limits: Limits,
    /// What may wait between two workers.
    pub rings: Room,
    /// What its application says that it is.
    pub app_version: &'static str,
    /// What it proves itself by.
    pub key: ClusterKey,
}

impl Machine {
    /// As the plan has it for this machine, whose processes prove themselves by this key.
    pub fn draw(plan: &Plan, scenario: &Scenario, slot: SlotId, key: ClusterKey) -> Self {
        let mut machine = Self {
            workers: scenario.workers,
            limits: plan.limits,
            rings: plan.rings,
            app_version: "1",
            key,
        };
        if !plan.strange.mixed {
            return machine;
        }
        let mut rng = stream(scenario.seed, &format!("machine {slot}"));
        machine.workers = rng.random_range(1..=scenario.workers + 1);
        let Limits { outbox_bytes, max_asks, max_frame_bytes, .. } = &mut machine.limits;
        *outbox_bytes = [1_024, 16 << 10, 256 << 10][rng.random_range(0..3)];
        *max_asks = [4, 64, 4_096][rng.random_range(0..3)];
        // The longest messages are shorter.
        *max_frame_bytes = [32 << 10, 256 << 10][rng.random_range(0..2)];
        machine.rings = RINGS[rng.random_range(0..2)];
        machine.app_version = ["1", "2"][rng.random_range(0..2)];
        machine
    }
}
