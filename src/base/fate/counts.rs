//! How many messages ended how: the list of all counts, and what follows from it.

use std::fmt;
use std::ops::AddAssign;

use serde::Serialize;

use super::{DeathReason, Refusal, WorkEnd};

/// The counts that are not zero, by the names of what they count.
struct Named<'a>(&'a [&'static str], &'a [u64]);

impl fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.iter().zip(self.1).filter(|(_, count)| **count > 0);
        let mut map = f.debug_map();
        for (name, count) in counts {
            map.entry(&format_args!("{name}"), count);
        }
        map.finish()
    }
}

/// The list of all counts, handed to the macro `$make`. A new count is a line here and whatever counts
/// it: reports, metrics and what commands print follow.
///
/// Each has its metric, its row in a table, and what it says; one that is counted by reasons has the
/// label of its metric and the reasons. What begins stands before its ends: see [`CountCells::read`].
macro_rules! counts {
    ($make:ident) => {
        $make! {
            sent: "keyway_messages_sent", "sent",
                "Messages to be sent, refused ones included.";
            delivered: "keyway_messages_delivered", "  delivered",
                "Messages a handler took, as acknowledged by its node.";
            refused by reason of Refusal: "keyway_messages_refused", "  refused",
                "Messages that were not accepted.";
            dead by reason of DeathReason: "keyway_messages_dead", "  dead",
                "Accepted messages known to be dead.";
            dead_at_peer: "keyway_messages_dead_at_peer", "  dead at peer",
                "Accepted messages that the receiving node reported dead; its own counts tell why.";
            unknown: "keyway_messages_unknown", "  unknown, link lost",
                "Messages written to a link that was lost before they were acknowledged, or with a \
                 worker that the node gave up on when it stopped.";
            received: "keyway_messages_received", "received",
                "Messages from other nodes that handlers here took.";
            received_dead by reason of DeathReason: "keyway_messages_received_dead", "received, dead",
                "Messages from other nodes that died here.";
            asks: "keyway_asks", "asks",
                "Asks among those sent that were accepted.";
            replies: "keyway_asks_replied", "  replied",
                "Asks that got their reply.";
            failed_asks: "keyway_asks_failed", "  failed",
                "Asks that ended in an error.";
            late_replies: "keyway_replies_late", "late replies",
                "Replies that came after their ask had ended; thrown away.";
            lost_replies: "keyway_replies_lost", "lost replies",
                "Replies that could not be sent: the asker is gone, or its link is full.";
            void_wakes: "keyway_wakes_void", "void wakes",
                "Times that a routee had set, and that came after its end or were called off by it.";
            slow_turns: "keyway_slow_turns", "slow turns",
                "Turns of workers that took longer than `workers.slow_turn_ms`.";
            skipped_frames: "keyway_frames_skipped", "skipped frames",
                "Frames from newer nodes, of kinds or for parts that this one does not know.";
            work_begun: "keyway_work_begun", "work begun",
                "Work that routees began elsewhere; each ends in one of `work_ended`.";
            work_ended by end of WorkEnd: "keyway_work_ended", "work ended",
                "Work of routees elsewhere that has ended, and how.";
        }
    };
}

#[cfg(feature = "admin")]
pub(crate) use counts;

/// What a count is called where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountNames {
    /// In code and in reports.
    pub name: &'static str,
    /// Of its family of metrics.
    pub metric: &'static str,
    /// Of its row in a table; indented when it is a part of one before.
    pub row: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
}

macro_rules! structs {
    ($($count:ident $(by $label:ident of $reason:ident)?: $metric:literal, $row:literal, $help:literal;)+) => {
        /// How many messages ended how. For any node and any time:
        /// `sent = delivered + refused + dead + unknown + in flight`.
        ///
        /// There `refused` is [`refused_total`](Self::refused_total), and `dead` is
        /// [`dead_total`](Self::dead_total): the sum of `dead`, by reason, and `dead_at_peer`, of
        /// which the receiving node has the reasons, in its `received_dead` and its
        /// [dead letters](crate::DeadLetters). `received` and `received_dead` are no part of the sum.
        #[derive(Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $(
                #[doc = $help]
                $(#[doc = concat!("By [`", stringify!($reason), "`].")])?
                pub $count: structs!(@type $($reason)?),
            )+
        }

        impl Counts {
            /// What each is called, in the order in which they stand.
            pub const NAMES: [CountNames; [$($row),+].len()] = [$(CountNames {
                name: stringify!($count),
                metric: $metric,
                row: $row,
                help: $help,
            }),+];

            /// All numbers in a fixed order, those of each count together.
            fn parts(&mut self) -> impl DoubleEndedIterator<Item = &mut [u64]> + ExactSizeIterator {
                [$(structs!(@slice self.$count $(by $reason)?)),+].into_iter()
            }
        }

        /// The same with a cell for each number, as whoever counts has it.
        pub struct CountCells<C> {
            $(#[doc = $help] pub $count: structs!(@cells C $($reason)?),)+
        }

        impl<C: Default> Default for CountCells<C> {
            fn default() -> Self {
                Self { $($count: Default::default(),)+ }
            }
        }

        impl<C> CountCells<C> {
            /// What they say to whoever counts: while it looks they do not change.
            pub fn own(&self, number: impl Fn(&C) -> u64) -> Counts {
                Counts { $($count: structs!(@own self.$count, number $($reason)?)),+ }
            }

            /// In the order of [`Counts::parts`].
            fn parts(&self) -> impl DoubleEndedIterator<Item = &[C]> + ExactSizeIterator {
                [$(structs!(@cell_slice self.$count $(by $reason)?)),+].into_iter()
            }
        }

        impl fmt::Debug for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Counts")
                    $(.field(stringify!($count), &structs!(@shown self.$count $(by $reason)?)))+
                    .field("in_flight", &self.in_flight())
                    .finish()
            }
        }
    };
    (@type) => { u64 };
    (@type $reason:ident) => { [u64; $reason::ALL.len()] };
    (@cells $cell:ident) => { $cell };
    (@cells $cell:ident $reason:ident) => { [$cell; $reason::ALL.len()] };
    (@own $self:ident.$count:ident, $number:ident) => { $number(&$self.$count) };
    (@own $self:ident.$count:ident, $number:ident $reason:ident) => {
        $self.$count.each_ref().map(&$number)
    };
    (@cell_slice $self:ident.$count:ident) => { std::slice::from_ref(&$self.$count) };
    (@cell_slice $self:ident.$count:ident by $reason:ident) => { &$self.$count[..] };
    (@slice $self:ident.$count:ident) => { std::slice::from_mut(&mut $self.$count) };
    (@slice $self:ident.$count:ident by $reason:ident) => { &mut $self.$count[..] };
    (@shown $self:ident.$count:ident) => { $self.$count };
    (@shown $self:ident.$count:ident by $reason:ident) => { Named(&$reason::NAMES, &$self.$count) };
}

counts!(structs);

impl Counts {
    /// All refusals.
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// All dead among the messages sent from here: those of `dead`, and `dead_at_peer`.
    pub fn dead_total(&self) -> u64 {
        self.dead.iter().sum::<u64>() + self.dead_at_peer
    }

    /// Messages that have not come to an end yet.
    pub fn in_flight(&self) -> u64 {
        let ended = self.delivered + self.refused_total() + self.dead_total() + self.unknown;
        self.sent.saturating_sub(ended)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, mut other: Self) {
        for (mine, theirs) in self.parts().zip(other.parts()) {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += *theirs);
        }
    }
}

impl<C> CountCells<C> {
    /// What they say. Ends are read before beginnings, so that none is seen without its beginning
    /// while the cells change.
    pub fn read(&self, number: impl Fn(&C) -> u64) -> Counts {
        let mut counts = Counts::default();
        for (counts, cells) in counts.parts().zip(self.parts()).rev() {
            counts.iter_mut().zip(cells).rev().for_each(|(count, cell)| *count = number(cell));
        }
        counts
    }
}

/// Counts of which no two numbers are equal, nor is one in the digits of another.
#[cfg(test)]
pub(crate) fn each_another() -> Counts {
    let next = std::cell::Cell::new(1_000_000);
    CountCells::<()>::default().read(|()| {
        next.set(next.get() + 1);
        next.get()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_count_is_called_by_names_of_its_own() {
        let of = |name: fn(&CountNames) -> &str| -> BTreeSet<String> {
            Counts::NAMES.iter().map(|names| name(names).trim().to_owned()).collect()
        };
        for names in [of(|it| it.name), of(|it| it.metric), of(|it| it.row), of(|it| it.help)] {
            assert_eq!(names.len(), Counts::NAMES.len(), "two are alike: {names:?}");
        }
        assert!(of(|it| it.metric).iter().all(|metric| metric.starts_with("keyway_")));
    }

    #[test]
    fn cells_carry_every_count_and_are_read_from_their_ends() {
        // Each cell says when it was read.
        let reads = std::cell::Cell::new(0);
        let cells = CountCells::<()>::default();
        let mut counts = cells.read(|()| {
            reads.set(reads.get() + 1);
            reads.get()
        });
        let all: Vec<u64> = counts.parts().flatten().map(|count| *count).collect();
        assert_eq!(all, (1..=reads.get()).rev().collect::<Vec<_>>());
        let ends = [counts.delivered, counts.unknown, counts.dead_at_peer];
        let reasons = counts.refused.iter().chain(&counts.dead);
        assert!(reasons.chain(&ends).all(|end| *end < counts.sent), "{counts:?}");
        assert!(counts.replies < counts.asks && counts.failed_asks < counts.asks);
        assert!(counts.work_ended.iter().all(|end| *end < counts.work_begun));
        let mut twice = counts;
        twice += counts;
        assert_eq!((twice.sent, twice.work_ended[0]), (2 * counts.sent, 2 * counts.work_ended[0]));
    }
}
