//! What can become of a message: every one ends in exactly one of these counts.

use std::fmt;
use std::ops::AddAssign;

use serde::Serialize;

use super::debug_as_display;

/// An enum that is counted by. A new variant goes to the end: their numbers travel between nodes.
macro_rules! reasons {
    (
        $(#[$about:meta])*
        pub enum $name:ident $(in $ask:ident)? { $($(#[$variant_about:meta])* $variant:ident,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// What they are called in code, in the same order.
            pub const NAMES: [&str; Self::ALL.len()] = [$(stringify!($variant)),+];

            /// What it is called in code: short and always the same, for logs and labels. `Display`
            /// gives a sentence.
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }

        reasons!(@in [$($ask)?] $name $($variant)+);
    };
    (@in [] $name:ident $($variant:ident)+) => {};
    (@in [$ask:ident] $name:ident $($variant:ident)+) => {
        impl $name {
            /// What an ask is said to have ended by, in the order of the numbers.
            const NAMES_IN_ASK: [&str; Self::ALL.len()] =
                [$(concat!(stringify!($ask), "(", stringify!($variant), ")")),+];
        }
    };
}

reasons! {
    /// Why a message was not accepted; the sender was told so at once and may try again.
    #[derive(thiserror::Error)]
    pub enum Refusal in Refused {
        /// The router's table is empty.
        #[error("no routee serves the path; await `ready`, or check the path and the routers' roles")]
        NoRoutee,
        /// There are routees, but no link to any of them works at the moment.
        #[error("no routee can be reached at the moment; try again shortly")]
        Unreachable,
        /// A consistent-hashing router got a message without a key.
        #[error(
            "the message has no key, which the router needs; give its type `#[message(key = field)]`, \
             the router a key function, or use the `_keyed` way to send"
        )]
        MissingKey,
        /// The queue towards the routee holds as much as it may.
        #[error(
            "the queue towards the routee is full, the worker's or the link's; slow down, or raise \
             workers.inject_capacity, or links.outbox_bytes and links.outboxes_bytes"
        )]
        QueueFull,
        /// The encoded message is over the frame limit. The log says how long it was, and what the
        /// limit is.
        #[error(
            "the message is larger than links.max_frame_bytes allows, of this node or of the \
             receiving one; send less at a time, or raise it, alike on all nodes"
        )]
        TooLarge,
        /// The message's own serialisation failed.
        #[error("the message could not be serialised")]
        Unserialisable,
        /// More asks are in flight than may be.
        #[error(
            "too many asks are in flight; await some or raise workers.max_asks, for idempotent ones \
                 workers.retry_bytes"
        )]
        TooManyAsks,
        /// The node, or the referenced handler's node, stops or has stopped.
        #[error("the node is shutting down or the referenced handler is gone")]
        Stopped,
        /// An ask through a router that sends to everybody.
        #[error("an ask has one reply, but the router sends to every routee; tell, or ask another way")]
        NoSingleReply,
        /// The router's table is empty because this node is not open for messages yet.
        #[error(
            "this node is still joining its cluster; await `members_ready` or the router's `ready`"
        )]
        Joining,
        /// The routee, or every routee of the router, takes the message's name for another layout.
        #[error(
            "the routee takes messages of this name with another layout: one of the two programs has \
             changed the type; see \"Changing a message\" in docs/MESSAGES.md"
        )]
        LayoutMismatch,
        /// A handler wanted to wait for a reply on its worker's thread, which would wait for itself.
        #[error("a handler must not wait on its worker's thread; ask by its Context and reply later")]
        WouldBlock,
        /// The application's own [`Strategy`](crate::route::Strategy) panicked, or picked a routee that is
        /// not in the table.
        #[error(
            "the router's own strategy panicked, or picked a routee that is not in the table; correct \
             its `pick`: the table may also be empty"
        )]
        StrategyFailed,
        /// This node leaves: its application's threads begin nothing new here, while handlers finish
        /// what they have.
        #[error("this node is leaving its cluster and takes nothing new; send from another node")]
        Leaving,
        /// A handler sends through a router that another node of this process, or an earlier life of
        /// its own node, has made.
        #[error("the router is another node's; a handler sends by routers of the node that it runs on")]
        OtherNode,
    }
}

reasons! {
    /// Why a message that had been accepted was not handled.
    #[derive(thiserror::Error)]
    pub enum DeathReason in Dead {
        /// The receiving node knows no such handler (any more).
        #[error("the receiving node has no such handler")]
        UnknownHandler,
        /// The handler does not take this message type.
        #[error("the handler does not take this message type")]
        UnknownMessage,
        /// The body is not a valid archive of the message type.
        #[error("the body failed its check")]
        InvalidBody,
        /// The handler panicked; it was started anew.
        #[error("the handler panicked")]
        HandlerPanicked,
        /// The link could not be opened, or not again, before anything of the message was written.
        #[error("the receiving node could not be reached")]
        Unreachable,
        /// The ask's deadline had passed, or whoever asked had given up, before it reached the handler.
        #[error("the deadline passed before the handler was reached")]
        Expired,
        /// The node stopped while the message waited.
        #[error("a node stopped while the message waited")]
        Stopped,
        /// The handler gave up its right to reply.
        #[error("the handler dropped its replier without replying")]
        NoReply,
        /// The message was accepted on another thread, and the link's queue was full when it came to
        /// it.
        #[error("the queue towards the routee overflowed")]
        Overflow,
        /// The handler's reply is over the frame limit, or could not be serialised.
        #[error("the handler's reply is larger than its node's links.max_frame_bytes allows")]
        ReplyTooLarge,
        /// A reason that only a newer version of the receiving node knows.
        #[error("the receiving node gave a reason that this version does not know")]
        Other,
        /// The handler replied, but nobody takes what waits for its asker.
        #[error(
            "the message was handled, but its reply found no room: replies that are not taken fill \
             links.outboxes_bytes of the handler's node or workers.replies_bytes of the asker's"
        )]
        RepliesFull,
        /// The message is longer than the receiving node takes. The log of the sending node says
        /// how long it was, and how long it could have been.
        #[error(
            "the message is larger than links.max_frame_bytes of the receiving node allows; set that \
             alike on all nodes"
        )]
        TooLarge,
    }
}

impl DeathReason {
    /// The reason a peer sent as a code; [`DeathReason::Other`] for one that a newer peer made up.
    pub fn from_code(code: u32) -> Self {
        let known = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code));
        known.copied().unwrap_or(Self::Other)
    }
}

reasons! {
    /// How work ended that a routee had begun elsewhere, see [`Context::begin_work`].
    ///
    /// [`Context::begin_work`]: crate::Context::begin_work
    pub enum WorkEnd {
        /// The routee got its result.
        Done,
        /// It panicked, and the routee was told.
        Panicked,
        /// It was given up without a result, and the routee was told.
        GivenUp,
        /// The routee called it off.
        CalledOff,
        /// The routee was withdrawn meanwhile.
        Withdrawn,
        /// The routee panicked meanwhile; the fresh one in its place never gets the result.
        Replaced,
        /// The node stopped meanwhile.
        Stopped,
    }
}

/// Why an ask has no reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It was not sent.
    #[error("the ask was refused: {0}")]
    Refused(#[from] Refusal),
    /// No reply came within the deadline. The message may have been handled.
    #[error("no reply came within the deadline; the message may or may not have been handled")]
    Timeout,
    /// The message or its reply died. It was handled if the reason speaks of the reply
    /// ([`NoReply`](DeathReason::NoReply), [`ReplyTooLarge`](DeathReason::ReplyTooLarge),
    /// [`RepliesFull`](DeathReason::RepliesFull)); otherwise it was not, or not to its end.
    #[error("there is no reply: {0}")]
    Dead(DeathReason),
    /// The link was lost after the message was written, or with it the worker that the node gave up
    /// on when it stopped. It may have been handled.
    #[error(
        "the link, or the worker that it was on, was lost before the reply came; the message may or \
         may not have been handled"
    )]
    LinkLost,
    /// The reply is not a valid archive of the reply type: both sides must declare the same one.
    #[error("the reply failed its check; do both sides declare the same reply type?")]
    InvalidReply,
}

impl AskError {
    /// What it is called in code, with its reason, such as `Timeout` or `Refused(NoRoutee)`: short
    /// and always the same, for logs and labels. `Display` gives a sentence, and so does `Debug`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused(refusal) => Refusal::NAMES_IN_ASK[refusal as usize],
            Self::Timeout => "Timeout",
            Self::Dead(reason) => DeathReason::NAMES_IN_ASK[reason as usize],
            Self::LinkLost => "LinkLost",
            Self::InvalidReply => "InvalidReply",
        }
    }
}

debug_as_display!(Refusal, DeathReason, AskError);

// It is no error.
impl fmt::Debug for WorkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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

    #[test]
    fn an_ask_s_error_is_named_with_its_reason() {
        assert_eq!(Refusal::NoRoutee.name(), "NoRoutee");
        assert_eq!(AskError::Refused(Refusal::NoRoutee).name(), "Refused(NoRoutee)");
        assert_eq!(AskError::Dead(DeathReason::TooLarge).name(), "Dead(TooLarge)");
        assert_eq!(AskError::Timeout.name(), "Timeout");
    }

    #[test]
    fn numbers_and_order_of_reasons_agree() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
        for (index, reason) in DeathReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(DeathReason::from_code(index as u32), reason);
        }
        assert_eq!(DeathReason::from_code(99), DeathReason::Other);
        for (index, end) in WorkEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index);
        }
    }
}
