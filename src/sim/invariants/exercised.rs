//! How often each invariant was held against something that could have broken it. One that never
//! was says nothing by holding.

use std::collections::BTreeMap;

use super::order::Order;
use super::{
    EVENTS, MET, agreement, alarms, asks, bounds, clashes, counts, deadlines, deaf, detection,
    door, ends, farewells, fates, flapping, flows, forgetting, ghosts, healing, keys, letters, log,
    masks, newer, outsiders, owners, panics, placement, progress, protocol, removal, replaced,
    rest, rooms, routers, steadiness, strangers, tables, withdrawal,
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
        let Ledger { panics, placements, routers, services, .. } = &*ledger;
        let forged = self.net.forger.as_ref().map(|forger| forger.forged).unwrap_or_default();
        let seen = &ledger.fates.seen;
        let mut exercised = Exercised::from([
            (tables::NAME, checks.tables.compared),
            (masks::NAME, checks.masked + checks.jobs.wanted),
            (keys::NAME, checks.tables_followed),
            (Order::NAME, ledger.followed()),
            (fates::NAME, seen.refused + seen.delivered + seen.dead + seen.unknown),
            (counts::NAME, checks.counted),
            (panics::NAME, panics.counted),
            (asks::NAME, seen.told),
            (ends::NAME, seen.told),
            (owners::NAME, ledger.owners.compared),
            (deadlines::LOST, ledger.deadlines.lost),
            (deadlines::EARLY, ledger.deadlines.timeouts),
            (deadlines::LATE, ledger.deadlines.overdue),
            (progress::NAME, checks.progress.busy),
            (protocol::NAME, ledger.understood),
            (flows::NAME, checks.flows_noticed + self.net.flows.shut),
            (flows::STALLED, checks.stalled),
            (placement::NAME, placements.tables + placements.handled),
            (rest::NAME, checks.idle_turns),
            (routers::NAME, routers.ended + routers.shared + routers.told),
            (withdrawal::NAME, services.withdrawals() as u64 + services.late),
            (letters::NAME, checks.letters.said),
            (newer::NAME, checks.newer.all.total()),
            (strangers::NAME, forged.dialed.iter().chain(&forged.answered).sum()),
            (strangers::DATAGRAMS, forged.datagrams.iter().sum()),
            (outsiders::NAME, checks.outsiders),
            (clashes::NAME, self.clashes.told),
            (clashes::BACK, self.clashes.raised),
            (removal::NAME, checks.removals),
            (replaced::NAME, checks.replaced.followed),
            (farewells::NAME, checks.farewells.told),
            (ghosts::NAME, checks.ghosts.missed),
            (detection::NAME, checks.detection.began),
            (detection::SOON, checks.detection.soon),
            (alarms::NAME, checks.alarms),
            (forgetting::NAME, checks.forgotten),
            (log::NAME, checks.lines.later),
            (door::NAME, checks.doors),
            (bounds::NAME, checks.bounded.members),
            (bounds::ASKS, checks.bounded.asks),
            (bounds::KEPT, checks.bounded.kept),
            (bounds::TIMERS, checks.bounded.timers),
            (bounds::OUTBOXES, checks.bounded.outboxes),
            (bounds::INBOXES, checks.bounded.inboxes),
            (rooms::INJECTED, checks.rooms.injected),
            (rooms::SIBLINGS, checks.rooms.siblings),
            (agreement::NAME, checks.agreement.agreed),
            (healing::NAME, checks.healing.answered),
            (steadiness::NAME, checks.steadiness.moves),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::sim::plan::Plan;
    use crate::sim::scenario::Scenario;

    /// The names of all invariants: each constant text in a file here is one.
    fn names() -> BTreeSet<String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sim/invariants");
        let files = fs::read_dir(here).unwrap().map(|file| file.unwrap().path());
        let texts = files.map(|file| fs::read_to_string(file).unwrap());
        texts.flat_map(|text| text.split("const ").filter_map(name).collect::<Vec<_>>()).collect()
    }

    fn name(constant: &str) -> Option<String> {
        let (declared, value) = constant.split_once('=')?;
        let is_text = declared.ends_with("str ") && !declared.contains('\n');
        let (text, _) = value.trim_start().strip_prefix('"')?.split_once('"')?;
        is_text.then(|| text.to_owned())
    }

    #[test]
    fn each_invariant_is_said_to_be_exercised_or_not() {
        let plans = [Plan::draw, Plan::draw_flapping, Plan::draw_deaf];
        let worlds = plans.map(|draw| World::new(Scenario::default(), draw));
        let listed = worlds.iter().flat_map(|world| world.exercised().into_keys());
        let listed = listed.map(str::to_owned).collect::<BTreeSet<_>>();
        let one_sided: Vec<_> = listed.symmetric_difference(&names()).cloned().collect();
        assert_eq!(one_sided, Vec::<String>::new(), "not both a constant and in `exercised`");
    }

    #[test]
    fn each_invariant_is_in_the_document_by_its_name() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TESTING.md");
        let text = fs::read_to_string(file).unwrap();
        let rows = text.lines().skip_while(|line| !line.starts_with("| invariant"));
        let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
        let is_missing = |name: &String| !rows.iter().any(|row| row.contains(name));
        let missing: Vec<_> = names().into_iter().filter(is_missing).collect();
        assert_eq!(missing, Vec::<String>::new(), "docs/TESTING.md has no row with these");
    }
}
