//! The account of a run: what the driver counted, held against what the sinks wrote down.

use crate::analysis::ledger::{Audit, NodeCounters, Period, Placement, Received, SentRecord};
use crate::summary::Accounting;

use super::protocol::CountsRecord;

/// A closed account.
#[derive(Debug, Clone)]
pub struct Books {
    /// All ledgers put together.
    pub audit: Audit,
    /// What the driver's node counted.
    pub counts: CountsRecord,
    /// For the summary. `reordered` is what one routee got out of order, which must not happen.
    pub accounting: Accounting,
    /// Messages that overtook another when their key changed its owner. The old owner's link and
    /// the new one's are two connections, between which nothing promises an order.
    pub overtaken_at_handover: u64,
    /// Each thing that does not add up.
    pub problems: Vec<String>,
}

/// Puts everything together.
pub fn settle(
    sent: &[SentRecord],
    received: &[Received],
    counts: &CountsRecord,
    settled: bool,
    periods: &[Period],
) -> Books {
    // Refusals at the call are in the sender's ledger already, and all of ours are.
    let counters =
        [NodeCounters { refused: 0, dead: counts.dead_in_all(), unknown: counts.unknown }];
    let audit = Audit::merge(sent, received, &counters, Placement::OneOwner(periods));
    // The order is promised between a sender and one routee.
    let reordered: u64 = received
        .iter()
        .map(|one| {
            let one = std::slice::from_ref(one);
            Audit::merge(sent, one, &[], Placement::Anywhere).reordered
        })
        .sum();

    let mut problems: Vec<String> = audit.void_reason().into_iter().collect();
    if !settled {
        problems.push(format!(
            "{} messages and {} asks had no end in time",
            counts.in_flight, counts.open_asks
        ));
    }
    if counts.sent != audit.sent {
        problems.push(format!(
            "the driver's node counted {} sent messages, its ledger {}",
            counts.sent, audit.sent
        ));
    }
    let refused = counts.refused_in_all();
    if refused != audit.refused {
        problems.push(format!(
            "the driver's node counted {refused} refusals, its ledger {}",
            audit.refused
        ));
    }
    let handled = counts.delivered..=counts.delivered + counts.unknown;
    if !handled.contains(&audit.delivered) {
        problems.push(format!(
            "{} messages were handled, but {} acknowledged and {} unknown",
            audit.delivered, counts.delivered, counts.unknown
        ));
    }
    for (count, what) in [
        (audit.duplicated, "handled twice"),
        (reordered, "handled out of order by one routee"),
        (audit.misrouted, "handled by a routee that did not own the key"),
    ] {
        if count > 0 {
            problems.push(format!("{count} messages were {what}"));
        }
    }
    let accounting = Accounting {
        sent: audit.sent,
        delivered: audit.delivered,
        refused: audit.refused,
        dead: audit.dead,
        unknown: audit.unknown,
        duplicated: audit.duplicated,
        reordered,
        misrouted: audit.misrouted,
        balanced: problems.is_empty(),
    };
    let overtaken_at_handover = audit.reordered.saturating_sub(reordered);
    Books { audit, counts: counts.clone(), accounting, overtaken_at_handover, problems }
}

/// Adds up the accounts of several clusters.
pub fn add(sum: &mut Accounting, one: &Accounting) {
    sum.sent += one.sent;
    sum.delivered += one.delivered;
    sum.refused += one.refused;
    sum.dead += one.dead;
    sum.unknown += one.unknown;
    sum.duplicated += one.duplicated;
    sum.reordered += one.reordered;
    sum.misrouted += one.misrouted;
    sum.balanced &= one.balanced;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::ledger::{Interval, Owner, ReceivedRecord};

    fn received(node: u32, parts: &[(u64, u64, u64)]) -> Received {
        let intervals = parts
            .iter()
            .map(|&(first, last, at_ns)| Interval {
                sender: 0,
                key: 0,
                epoch: 0,
                first,
                last,
                first_ns: at_ns,
                last_ns: at_ns,
            })
            .collect();
        let record = ReceivedRecord { intervals, ..ReceivedRecord::default() };
        Received { owner: Owner { node, worker: 0 }, record }
    }

    fn sent(accepted: u64) -> [SentRecord; 1] {
        [SentRecord { sender: 0, accepted: vec![accepted], refused: 0, in_doubt: None }]
    }

    fn counts(sent: u64, delivered: u64, unknown: u64) -> CountsRecord {
        CountsRecord { sent, delivered, unknown, ..CountsRecord::default() }
    }

    const CALM: [Period; 1] = [Period { from_ns: 0, until_ns: 1_000 }];

    #[test]
    fn a_run_that_adds_up_has_no_problems() {
        let books =
            settle(&sent(10), &[received(0, &[(1, 10, 5)])], &counts(10, 10, 0), true, &CALM);
        assert!(books.accounting.balanced, "{:?}", books.problems);
    }

    #[test]
    fn a_message_that_nobody_counts_is_a_problem() {
        let books = settle(&sent(10), &[received(0, &[(1, 9, 5)])], &counts(10, 9, 0), true, &CALM);
        assert!(!books.accounting.balanced);
        assert_eq!(books.audit.unaccounted, 1);
    }

    #[test]
    fn an_acknowledged_message_that_was_not_handled_is_a_problem() {
        let books =
            settle(&sent(10), &[received(0, &[(1, 9, 5)])], &counts(10, 10, 1), true, &CALM);
        assert!(books.problems.iter().any(|problem| problem.contains("acknowledged")));
    }

    #[test]
    fn order_is_judged_within_a_routee_and_told_apart_across_two() {
        let moved = [received(0, &[(1, 5, 900)]), received(1, &[(6, 10, 100)])];
        let books = settle(&sent(10), &moved, &counts(10, 10, 0), true, &[]);
        assert_eq!((books.accounting.reordered, books.overtaken_at_handover), (0, 5));
        assert!(books.accounting.balanced, "{:?}", books.problems);

        let wrong = [received(0, &[(6, 10, 100), (1, 5, 900)])];
        let books = settle(&sent(10), &wrong, &counts(10, 10, 0), true, &[]);
        assert_eq!(books.accounting.reordered, 5);
        assert!(!books.accounting.balanced);
    }

    #[test]
    fn two_owners_in_a_calm_period_are_a_problem() {
        let both = [received(0, &[(1, 8, 5)]), received(1, &[(9, 10, 6)])];
        let books = settle(&sent(10), &both, &counts(10, 10, 0), true, &CALM);
        assert_eq!(books.accounting.misrouted, 2);
        assert!(!books.accounting.balanced);
    }
}
