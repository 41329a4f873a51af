//! How often each invariant was held against something that could have broken it. One that never
//! was says nothing by holding.

use std::collections::BTreeMap;

use super::order::Order;
use super::{
    EVENTS, MET, asks, bounds, counts, deaf, detection, door, farewells, fates, flapping, flows,
    forgetting, ghosts, healing, keys, letters, log, masks, newer, placement, protocol, removal,
    rest, routers, tables, withdrawal,
};
use crate::sim::ledger::Ledger;
use crate::sim::world::World;

/// By invariant: how often it was exercised.
pub type Exercised = BTreeMap<&'static str, u64>;

impl World {
    /// What this simulation says something about.
    pub(in crate::sim) fn exercised(&self) -> Exercised {
        let checks = &self.checks;
        let ledger = self.ledger.lock();
        let Ledger { placements, routers, services, .. } = &*ledger;
        let ends = &ledger.fates.seen;
        let mut exercised = Exercised::from([
            (tables::NAME, checks.tables.compared),
            (masks::NAME, checks.masked + checks.jobs.wanted),
            (keys::NAME, checks.tables_followed),
            (Order::NAME, ledger.followed()),
            (fates::NAME, ends.refused + ends.delivered + ends.dead + ends.unknown),
            (counts::NAME, checks.counted),
            (asks::NAME, ends.told),
            (protocol::NAME, ledger.understood),
            (flows::NAME, checks.flows_noticed + self.net.flows.shut),
            (flows::STALLED, checks.stalled),
            (placement::NAME, placements.tables + placements.handled),
            (rest::NAME, checks.idle_turns),
            (routers::NAME, routers.ended + routers.shared + routers.told),
            (withdrawal::NAME, services.withdrawals() as u64 + services.late),
            (letters::NAME, checks.letters.said),
            (newer::NAME, checks.newer.all.total()),
            (removal::NAME, checks.removals),
            (farewells::NAME, checks.farewells.told),
            (ghosts::NAME, checks.ghosts.missed),
            (detection::NAME, checks.detection.began),
            (forgetting::NAME, checks.forgotten),
            (log::NAME, checks.lines.later),
            (door::NAME, checks.doors),
            (bounds::NAME, checks.bounded),
            (healing::NAME, checks.healing.answered),
            (EVENTS, checks.changes),
            (MET, checks.met),
        ]);
        exercised.extend(ledger.parts.exercised());
        if self.plan.flapping().is_some() {
            exercised.insert(flapping::NAME, checks.flapping.damped);
        }
        if self.plan.deaf.is_some() {
            exercised.insert(deaf::NAME, checks.deaf.accusals);
        }
        exercised
    }
}
