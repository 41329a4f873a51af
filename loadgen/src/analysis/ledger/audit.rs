//! The audit: all ledgers of a run put together, every message accounted for or named as missing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::received::{Interval, ReceivedRecord};
use super::sent::SentRecord;
use crate::summary::Accounting;

/// How many lost ranges an audit lists; the count of lost messages is always complete.
const MAX_LISTED: usize = 1_000;

/// A routee: one worker of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The node's number within the run.
    pub node: u32,
    /// The worker's place within its node.
    pub worker: u16,
}

/// What one routee received. One that was restarted appears once for each life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Received {
    /// Which routee.
    pub owner: Owner,
    /// Its ledger.
    pub record: ReceivedRecord,
}

/// What a node counted of messages that it had accepted and did not deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounters {
    /// Returned to the sender after the call had accepted them. Refusals at the call are in the
    /// [`SentRecord`] and must not be counted here again.
    pub refused: u64,
    /// Dead letters.
    pub dead: u64,
    /// Not acknowledged when their link was lost. Some of these may have been handled.
    pub unknown: u64,
}

/// A stretch of time in which membership did not change and no table was being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// First nanosecond.
    pub from_ns: u64,
    /// Last nanosecond.
    pub until_ns: u64,
}

/// Who owned each key from a time on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerTable {
    /// When this table came into force; it stays until the next one does.
    pub from_ns: u64,
    /// Owner by key.
    pub owners: Vec<Owner>,
}

/// What the audit knows about where keys belong.
///
/// Each interval is judged by its first and last message. If both are misplaced, all are counted;
/// if one is, one is counted. That is exact when receivers end their intervals at table changes
/// ([`super::ReceivedLedger::set_epoch`]), and otherwise never hides a misplaced stretch.
#[derive(Clone, Copy, Debug)]
pub enum Placement<'a> {
    /// Messages may go anywhere, as with round-robin.
    Anywhere,
    /// Within each of these periods every key has one owner, whichever. The owner that got the
    /// most messages of the key is taken to be the right one.
    OneOwner(&'a [Period]),
    /// The tables, sorted by time. Around a change, for `grace_ns` on both sides, the owners
    /// before and after it are both right, since nodes do not change tables at the same instant.
    Tables {
        /// Sorted by `from_ns`.
        tables: &'a [OwnerTable],
        /// How long a change may take to reach all nodes.
        grace_ns: u64,
    },
}

/// Messages that were accepted and not received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Who sent them.
    pub sender: u32,
    /// Their key.
    pub key: u32,
    /// The first missing sequence.
    pub first: u64,
    /// The last missing sequence.
    pub last: u64,
}

/// The account of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Messages that senders tried to send.
    pub sent: u64,
    /// Different messages that reached a routee.
    pub delivered: u64,
    /// Returned to the sender with an error.
    pub refused: u64,
    /// Dead letters.
    pub dead: u64,
    /// Unknown because a link was lost, and indeed not delivered.
    pub unknown: u64,
    /// Counted as unknown by the sender although they were delivered; part of `delivered`.
    pub unknown_but_delivered: u64,
    /// Accepted and not delivered, whether counted or not.
    pub missing: u64,
    /// Missing and in no count: the product's fault.
    pub unaccounted: u64,
    /// Counted as refused, dead or unknown beyond what is missing: counted twice, or received
    /// although counted as refused or dead.
    pub overcounted: u64,
    /// Receptions of a message that had been received before, at the same place or another.
    pub duplicated: u64,
    /// Messages that arrived for the first time after a later one of the same sender and key.
    /// Exact within a routee; between routees a lower bound (each stretch counts once unless it
    /// began late as a whole), because only the ends of an interval have times.
    pub reordered: u64,
    /// Receptions by a routee that did not own the key.
    pub misrouted: u64,
    /// Receptions of messages that nobody sent.
    pub foreign: u64,
    /// Ledger intervals that found no room.
    pub overflowed: u64,
    /// Where messages are missing; at most 1,000 ranges.
    pub lost: Vec<Lost>,
    /// Whether `sent == delivered + refused + dead + unknown`, with nothing foreign or overflowed.
    pub balanced: bool,
}

impl Audit {
    /// Puts the ledgers of a run together. Sender numbers must be unique.
    pub fn merge(
        sent: &[SentRecord],
        received: &[Received],
        counters: &[NodeCounters],
        placement: Placement<'_>,
    ) -> Self {
        let mut audit = Self::default();
        let mut senders = BTreeMap::new();
        let mut accepted = 0;
        for record in sent {
            let twice = senders.insert(record.sender, record);
            assert!(twice.is_none(), "two ledgers of sender {}", record.sender);
            accepted += record.accepted_in_all();
            audit.refused += record.refused;
        }

        let mut arrivals = Vec::new();
        for (receiver, part) in received.iter().enumerate() {
            audit.foreign += part.record.foreign;
            audit.overflowed += part.record.overflowed;
            arrivals.extend(
                part.record.intervals.iter().map(|&interval| Arrival { receiver, interval }),
            );
        }
        // Stable, so that intervals of one receiver stay in arrival order at equal times.
        arrivals.sort_by_key(|arrival| {
            (arrival.interval.sender, arrival.interval.key, arrival.interval.first_ns)
        });

        let mut expected: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for record in sent {
            for (key, &count) in record.accepted.iter().enumerate() {
                if count > 0 {
                    expected.insert((record.sender, key as u32), count);
                }
            }
        }
        let place = |arrival: &Arrival| (arrival.interval.sender, arrival.interval.key);
        for group in arrivals.chunk_by(|a, b| place(a) == place(b)) {
            let (sender, key) = place(&group[0]);
            let mut count = expected.remove(&(sender, key)).unwrap_or(0);
            let in_doubt = senders.get(&sender).is_some_and(|record| record.in_doubt == Some(key));
            if in_doubt && group.iter().any(|arrival| arrival.interval.last > count) {
                // The sender was killed between the send and its entry; the message arrived.
                count += 1;
                accepted += 1;
            }
            audit.count_stream(sender, key, count, group);
        }
        for ((sender, key), count) in expected {
            audit.note_lost(Lost { sender, key, first: 1, last: count });
        }
        audit.misrouted = misrouted(&arrivals, received, placement);

        let counted = counters.iter().fold(NodeCounters::default(), |sum, node| NodeCounters {
            refused: sum.refused + node.refused,
            dead: sum.dead + node.dead,
            unknown: sum.unknown + node.unknown,
        });
        audit.settle(accepted, counted);
        audit
    }

    /// One sender and key: its arrivals at all routees, by the time at which they began.
    fn count_stream(&mut self, sender: u32, key: u32, sent: u64, arrivals: &[Arrival]) {
        // The highest first sequence of all intervals up to each one, for the question "had a
        // later message arrived anywhere before this time?". Looking at first messages is enough,
        // and only they have an exact time: an interval that holds a later message, but not ours,
        // also begins with a later one.
        let highest_first: Vec<u64> = arrivals
            .iter()
            .scan(0, |highest, arrival| {
                let first = arrival.interval.first;
                if first <= sent {
                    *highest = first.max(*highest);
                }
                Some(*highest)
            })
            .collect();
        let arrived_before = |time_ns: u64| {
            let begun = arrivals.partition_point(|arrival| arrival.interval.first_ns < time_ns);
            begun.checked_sub(1).map_or(0, |index| highest_first[index])
        };

        let mut seen = Ranges::default();
        let mut repeated = Ranges::default();
        for Arrival { interval, .. } in arrivals {
            let mut next = interval.first;
            seen.insert(interval.first, interval.last, |from, until| {
                if from > next {
                    repeated.insert(next, from - 1, |_, _| {});
                }
                next = until + 1;
            });
            if next <= interval.last {
                repeated.insert(next, interval.last, |_, _| {});
            }
        }

        let mut seen = Ranges::default();
        let mut highest_at: BTreeMap<usize, u64> = BTreeMap::new();
        for Arrival { receiver, interval } in arrivals {
            let last = interval.last.min(sent);
            let Some(messages) = (last + 1).checked_sub(interval.first).filter(|&count| count > 0)
            else {
                self.foreign += interval.messages();
                continue;
            };
            self.foreign += interval.last - last;

            let highest_here = highest_at.entry(*receiver).or_default();
            let overtaken_below = arrived_before(interval.first_ns).max(*highest_here);
            *highest_here = last.max(*highest_here);
            let mut fresh = 0;
            let mut last_is_fresh = false;
            seen.insert(interval.first, last, |from, until| {
                fresh += until - from + 1;
                last_is_fresh = until == last;
                if overtaken_below > from {
                    self.reordered += until.min(overtaken_below - 1) - from + 1;
                }
            });
            // Of a message that arrived elsewhere too, it is not known which came first.
            let late_at_the_end = last_is_fresh
                && last >= overtaken_below
                && last < arrived_before(interval.last_ns)
                && !repeated.contains(last);
            self.reordered += u64::from(late_at_the_end);
            self.delivered += fresh;
            self.duplicated += messages - fresh;
        }
        seen.gaps(sent, |first, last| self.note_lost(Lost { sender, key, first, last }));
    }

    fn note_lost(&mut self, lost: Lost) {
        if self.lost.len() < MAX_LISTED {
            self.lost.push(lost);
        }
    }

    /// Solves the equation. Missing messages are explained by refusals and dead letters first,
    /// which are certain; the rest must be among the unknown ones.
    fn settle(&mut self, accepted: u64, counted: NodeCounters) {
        let missing = accepted - self.delivered;
        let certain = counted.refused + counted.dead;
        self.missing = missing;
        self.sent = accepted + self.refused;
        self.refused += counted.refused;
        self.dead = counted.dead;
        self.overcounted = certain.saturating_sub(missing);
        let left = missing.saturating_sub(certain);
        self.unknown = left.min(counted.unknown);
        self.unknown_but_delivered = counted.unknown - self.unknown;
        self.unaccounted = left - self.unknown;
        self.balanced = self.sent == self.delivered + self.refused + self.dead + self.unknown
            && self.foreign == 0
            && self.overflowed == 0;
    }

    /// The account as the summary holds it.
    pub fn accounting(&self) -> Accounting {
        Accounting {
            sent: self.sent,
            delivered: self.delivered,
            refused: self.refused,
            dead: self.dead,
            unknown: self.unknown,
            duplicated: self.duplicated,
            reordered: self.reordered,
            misrouted: self.misrouted,
            balanced: self.balanced,
        }
    }

    /// Why the run is void, if the account does not add up.
    pub fn void_reason(&self) -> Option<String> {
        if self.balanced {
            return None;
        }
        let mut reasons = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                reasons.push(format!("{count} {what}"));
            }
        };
        note(self.unaccounted, "accepted messages neither arrived nor were counted");
        note(self.overcounted, "more messages were counted as refused or dead than are missing");
        note(self.foreign, "messages arrived that nobody sent");
        note(self.overflowed, "stretches found no room in a ledger");
        Some(format!("the account does not balance: {}", reasons.join("; ")))
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, delivered, refused, dead, unknown, .. } = self;
        write!(
            f,
            "sent {sent} {} delivered {delivered} + refused {refused} + dead {dead} + unknown \
             {unknown}; duplicated {}, reordered {}, misrouted {}",
            if self.balanced { "=" } else { "!=" },
            self.duplicated,
            self.reordered,
            self.misrouted,
        )
    }
}

#[derive(Clone, Copy)]
struct Arrival {
    receiver: usize,
    interval: Interval,
}

fn misrouted(arrivals: &[Arrival], received: &[Received], placement: Placement<'_>) -> u64 {
    // How many messages of an interval are wrong when its first or last one is.
    let wrong_of = |interval: &Interval, first: bool, last: bool| match (first, last) {
        (true, true) => interval.messages(),
        (false, false) => 0,
        _ => 1,
    };
    match placement {
        Placement::Anywhere => 0,
        Placement::OneOwner(periods) => {
            let mut got: BTreeMap<(u32, usize), BTreeMap<Owner, u64>> = BTreeMap::new();
            for Arrival { receiver, interval } in arrivals {
                for (index, period) in periods.iter().enumerate() {
                    let inside = |time_ns| (period.from_ns..=period.until_ns).contains(&time_ns);
                    let count =
                        wrong_of(interval, inside(interval.first_ns), inside(interval.last_ns));
                    if count > 0 {
                        let owners = got.entry((interval.key, index)).or_default();
                        *owners.entry(received[*receiver].owner).or_default() += count;
                    }
                }
            }
            let besides_the_largest = |owners: &BTreeMap<Owner, u64>| {
                owners.values().sum::<u64>() - owners.values().max().copied().unwrap_or(0)
            };
            got.values().map(besides_the_largest).sum()
        }
        Placement::Tables { tables, grace_ns } => {
            let wrong = |owner: Owner, key: u32, time_ns: u64| {
                let begun_by = |time_ns| tables.partition_point(|table| table.from_ns <= time_ns);
                // The table in force at the start of the grace, and those that came in during it.
                let from = begun_by(time_ns.saturating_sub(grace_ns)).saturating_sub(1);
                let until = begun_by(time_ns.saturating_add(grace_ns));
                !tables[from.min(until)..until]
                    .iter()
                    .any(|table| table.owners.get(key as usize) == Some(&owner))
            };
            arrivals
                .iter()
                .map(|Arrival { receiver, interval }| {
                    let owner = received[*receiver].owner;
                    let wrong = |time_ns| wrong(owner, interval.key, time_ns);
                    wrong_of(interval, wrong(interval.first_ns), wrong(interval.last_ns))
                })
                .sum()
        }
    }
}

/// A set of sequences as disjoint, non-touching ranges: start to end, both inclusive.
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range and reports each part of it that was not there before, in order.
    fn insert(&mut self, first: u64, last: u64, mut fresh: impl FnMut(u64, u64)) {
        let (mut start, mut end) = (first, last);
        let mut uncovered = first;
        // Each touched range is taken out once, so the work is amortised over the insertions.
        let begin = self
            .0
            .range(..first)
            .next_back()
            .filter(|&(_, &end)| end + 1 >= first)
            .map_or(first, |(&start, _)| start);
        while let Some((&old_start, &old_end)) = self.0.range(begin..=last + 1).next() {
            self.0.remove(&old_start);
            if old_start > uncovered {
                fresh(uncovered, old_start - 1);
            }
            uncovered = uncovered.max(old_end + 1);
            start = start.min(old_start);
            end = end.max(old_end);
        }
        if uncovered <= last {
            fresh(uncovered, last);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, sequence: u64) -> bool {
        self.0.range(..=sequence).next_back().is_some_and(|(_, &end)| end >= sequence)
    }

    /// Reports the ranges of `1..=highest` that are not in the set.
    fn gaps(&self, highest: u64, mut gap: impl FnMut(u64, u64)) {
        let mut next = 1;
        for (&start, &end) in &self.0 {
            if start > next {
                gap(next, start - 1);
            }
            next = end + 1;
        }
        if next <= highest {
            gap(next, highest);
        }
    }
}
