//! Exact accounting: what every sender sent, what every routee received, and whether the two add
//! up.
//!
//! Every message carries its sender, a key, and a sequence that starts at 1 for each (sender,
//! key). A [`SentLedger`] belongs to one sender, a [`ReceivedLedger`] to one routee; both live in
//! shared memory that is backed by a file if wanted, so that they outlive `kill -9`. At the end
//! their records go into [`Audit::merge`], which counts loss, duplicates, order and placement.

mod audit;
mod received;
mod region;
mod sent;

pub use audit::{Audit, Lost, NodeCounters, Owner, OwnerTable, Period, Placement, Received};
pub use received::{Interval, ReceivedLedger, ReceivedRecord, Shape};
pub use sent::{SentLedger, SentRecord};

/// The highest sequence a ledger takes; higher ones are counted as foreign.
pub const HIGHEST_SEQUENCE: u64 = (1 << 48) - 2;

#[cfg(test)]
mod tests;
