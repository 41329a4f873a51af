//! The memory bound, row by row, at the end of what is made from it. One row: its field, its name in
//! what is printed, and for what settings add to it their word for it.

use std::fmt;

/// Makes, from the rows, the sum's fields, what settings may add to, and the ways to reach them.
macro_rules! bound {
    ($($(#[$doc:meta])* $field:ident: $name:literal $(, $kind:ident)?;)*) => {
        /// What a node's bounded parts take at most; see
        /// [`NodeConfig::memory_bound`](crate::NodeConfig::memory_bound).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct MemoryBound {
            $($(#[$doc])* pub $field: u64,)*
        }

        /// The part of the bound that a setting adds to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind {
            $($($kind,)?)*
        }

        impl MemoryBound {
            fn parts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field),)*].into_iter()
            }

            pub(super) fn add(&mut self, kind: Kind, bytes: u64) {
                let part = match kind {
                    $($(Kind::$kind => &mut self.$field,)?)*
                };
                *part = part.saturating_add(bytes);
            }

            pub(super) fn plus(&self, other: &Self) -> Self {
                Self { $($field: self.$field.saturating_add(other.$field),)* }
            }
        }
    };
}

bound! {
    /// Outboxes and inboxes of all links, of both directions.
    links_bytes: "links", Links;
    /// What application threads handed over, in queues and behind them.
    hand_overs_bytes: "hand-overs", HandOvers;
    /// What is on its way between the node's own threads, control included.
    rings_bytes: "between threads", Rings;
    /// Asks in flight, their frames that may be sent again, and replies that nobody has taken yet.
    asks_bytes: "asks and replies", Asks;
    /// Watches, and what is told when they end.
    watches_bytes: "watches", Watches;
    /// Connections that have not proved themselves yet.
    handshakes_bytes: "handshakes", Handshakes;
    /// Work of routees under way on other threads, without what it captured and its results.
    work_bytes: "work", Work;
    /// What parts of this node and of others say to each other.
    channels_bytes: "channels";
    /// Words that parts of all members gossip.
    gossip_bytes: "gossip";
    /// Changes of membership and dead letters that applications have not read.
    events_bytes: "events";
    /// Free buffers that are kept.
    free_bytes: "free buffers", Free;
}

impl MemoryBound {
    /// What a node takes beside this, in words that complete «not in it are ...».
    pub const OUTSIDE: &str = "what handlers hold, the times that they have set, and what work on \
                               other threads captured and brings back; batches of applications, \
                               64 KiB for each worker that one sends to; route tables (of keyed \
                               routers over the same routees together 1 MiB, at the default \
                               `slot_bits`, and as much again while it changes); member records (up \
                               to some 400 KiB a member that describes itself in many short texts); \
                               connections to the admin port; buffers of the system's sockets; and \
                               what a process takes without doing anything";

    /// The sum.
    pub fn total_bytes(&self) -> u64 {
        self.parts().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(f, "at most {} MiB", mib(self.total_bytes()))?;
        let parts = self.parts().filter(|(_, bytes)| *bytes > 0);
        for (place, (name, bytes)) in parts.enumerate() {
            write!(f, "{} {name} {}", if place == 0 { ":" } else { "," }, mib(bytes))?;
        }
        Ok(())
    }
}
