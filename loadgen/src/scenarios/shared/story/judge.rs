//! What an event did to the keys, from what is known afterwards.

use super::Happened;
use crate::analysis::ledger::Period;
use crate::cluster::protocol::ViewChangeKind;
use crate::driver::AskEnd;
use crate::summary::Event;

/// Whether it lasts until something else ends it.
pub(super) fn is_open(kind: &str) -> bool {
    matches!(kind, "pause" | "cut")
}

/// When nothing changed, so that each key has one owner.
pub(super) fn calm_periods(start_ns: u64, end_ns: u64, happened: &[Happened]) -> Vec<Period> {
    let mut periods = Vec::new();
    let mut from_ns = start_ns;
    for event in happened {
        if from_ns < event.at_ns {
            periods.push(Period { from_ns, until_ns: event.at_ns });
        }
        // What waits before a node that is stopped or cut off is handled much later.
        from_ns = if is_open(event.kind) { u64::MAX } else { event.calm_from_ns };
    }
    if from_ns < end_ns {
        periods.push(Period { from_ns, until_ns: end_ns });
    }
    periods
}

/// What an event did to the keys.
pub(super) fn judge(event: &Happened, start_ns: u64, asks: &[AskEnd]) -> Event {
    let comes = matches!(event.kind, "join" | "continue" | "heal");
    let keys = asks.iter().map(|ask| ask.key).max().map_or(0, |key| key as usize + 1);
    let (mut before, mut after) = (vec![None; keys], vec![None; keys]);
    for ask in asks {
        if ask.done_ns < event.at_ns {
            before[ask.key as usize] = ask.node.or(before[ask.key as usize]);
        } else if ask.due_ns >= event.at_ns && ask.done_ns < event.until_ns {
            after[ask.key as usize] = ask.node.or(after[ask.key as usize]);
        }
    }
    let known: Vec<(u32, u32)> = before
        .iter()
        .zip(&after)
        .filter_map(|(before, after)| Some(((*before)?, (*after)?)))
        .collect();
    let moved = known.iter().filter(|(before, after)| before != after).count();

    let victim = Some(event.node);
    let during =
        |ask: &&AskEnd| ask.node.is_some() && (event.at_ns..event.until_ns).contains(&ask.done_ns);
    let gap_ns = if comes {
        // The longest silence of the keys that moved to it.
        let is_moved = |ask: &&AskEnd| {
            let key = ask.key as usize;
            before[key] != after[key] && after[key] == victim
        };
        let mut last_ns = event.at_ns;
        let mut longest_ns = None;
        for ask in asks.iter().filter(is_moved).filter(during) {
            let silence = ask.done_ns.saturating_sub(last_ns);
            longest_ns = Some(longest_ns.map_or(silence, |longest: u64| longest.max(silence)));
            last_ns = last_ns.max(ask.done_ns);
        }
        longest_ns
    } else {
        // The first success of one of its keys at another node.
        let is_rerouted = |ask: &&AskEnd| before[ask.key as usize] == victim && ask.node != victim;
        let rerouted = asks.iter().filter(is_rerouted).filter(during);
        rerouted.map(|ask| ask.done_ns).min().map(|done_ns| done_ns - event.at_ns)
    };

    let name = format!("node-{}", event.node);
    let fits = |kind: ViewChangeKind| (kind == ViewChangeKind::Usable) == comes;
    let noticed =
        event.noticed.iter().filter(|(observer, _)| *observer != name).map(|(_, changes)| {
            changes
                .iter()
                .find(|change| {
                    change.at_ns >= event.at_ns && change.name == name && fits(change.kind)
                })
                .map(|change| change.at_ns - event.at_ns)
        });
    // Known only if everybody noticed.
    let noticed_ns = noticed.collect::<Option<Vec<u64>>>().and_then(|all| all.into_iter().max());
    let noticed_ms = noticed_ns.map(|ns| ns as f64 / 1e6);
    // A heal is noticed when every node, also the one that was cut off, has all the others.
    let detected_ms = if event.kind == "heal" { event.equal_tables_ms } else { noticed_ms };

    let nodes = if comes { event.nodes_before + 1 } else { event.nodes_before };
    Event {
        kind: event.kind.to_owned(),
        at_ms: event.at_ns.saturating_sub(start_ns) as f64 / 1e6,
        gap_ms: gap_ns.map(|ns| ns as f64 / 1e6),
        detected_ms,
        moved_keys_share: (!known.is_empty()).then(|| moved as f64 / known.len() as f64),
        fair_share: Some(1.0 / nodes.max(1) as f64),
        lost: None,
        unknown: Some(event.unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::protocol::ViewChange;

    const MS: u64 = 1_000_000;

    fn event(kind: &'static str, at_ms: u64, until_ms: u64) -> Happened {
        Happened {
            kind,
            node: 1,
            at_ns: at_ms * MS,
            nodes_before: 2,
            equal_tables_ms: Some(7.0),
            flowing_ms: None,
            until_ns: until_ms * MS,
            calm_from_ns: (at_ms + 200) * MS,
            unknown_before: 0,
            unknown: 3,
            noticed: vec![
                ("driver".into(), vec![change(at_ms + 4, ViewChangeKind::Unreachable)]),
                ("node-0".into(), vec![change(at_ms + 6, ViewChangeKind::Unreachable)]),
                // What the victim thinks of others does not count.
                ("node-1".into(), Vec::new()),
            ],
        }
    }

    fn change(at_ms: u64, kind: ViewChangeKind) -> ViewChange {
        ViewChange { at_ns: at_ms * MS, name: "node-1".into(), kind }
    }

    fn ask(key: u32, node: Option<u32>, due_ms: u64, done_ms: u64) -> AskEnd {
        AskEnd { key, node, due_ns: due_ms * MS, done_ns: done_ms * MS }
    }

    #[test]
    fn a_kill_is_judged_by_the_first_answer_from_elsewhere() {
        let asks = [
            ask(0, Some(0), 1, 2),
            ask(1, Some(1), 3, 4),
            ask(1, None, 101, 102),
            ask(0, Some(0), 103, 104),
            ask(1, Some(0), 111, 112),
        ];
        let judged = judge(&event("kill", 100, 500), 50 * MS, &asks);
        assert_eq!(judged.at_ms, 50.0);
        assert_eq!(judged.gap_ms, Some(12.0));
        assert_eq!(judged.detected_ms, Some(6.0));
        assert_eq!(judged.moved_keys_share, Some(0.5));
        assert_eq!(judged.fair_share, Some(0.5));
        assert_eq!(judged.unknown, Some(3));
    }

    #[test]
    fn what_somebody_did_not_notice_has_no_time() {
        let mut kill = event("kill", 100, 500);
        kill.noticed[0].1.clear();
        assert_eq!(judge(&kill, 0, &[]).detected_ms, None);
    }

    #[test]
    fn a_join_is_judged_by_the_longest_silence_of_what_moved() {
        let mut join = event("join", 100, 500);
        join.noticed = vec![("driver".into(), vec![change(105, ViewChangeKind::Usable)])];
        let asks = [
            ask(0, Some(0), 1, 2),
            ask(1, Some(0), 3, 4),
            ask(1, Some(0), 110, 110),
            ask(1, Some(1), 140, 140),
            ask(1, Some(1), 150, 150),
            ask(0, Some(0), 160, 160),
        ];
        let judged = judge(&join, 0, &asks);
        assert_eq!(judged.gap_ms, Some(30.0));
        assert_eq!(judged.fair_share, Some(1.0 / 3.0));
    }

    #[test]
    fn a_cut_is_not_calm_before_it_has_healed() {
        let periods =
            calm_periods(0, 2_000 * MS, &[event("cut", 500, 900), event("heal", 900, 2_000)]);
        let expected = [(0, 500 * MS), (1_100 * MS, 2_000 * MS)];
        let found: Vec<_> =
            periods.iter().map(|period| (period.from_ns, period.until_ns)).collect();
        assert_eq!(found, expected);
    }
}
