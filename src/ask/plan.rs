//! Whom an ask is sent to, in which order, and when the next is tried.

use std::time::Duration;

use crate::base::fate::{AskError, DeathReason, Refusal};

/// So many attempts follow each other after the plan's pause.
const SOON: usize = 3;

/// What the rest between two attempts grows to.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// How an ask with more than one attempt goes on. Its first reply ends it; the other attempts are
/// given up then, and their replies come too late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<T> {
    /// Whom to try, in order; at least one.
    pub targets: Vec<T>,
    /// The rest between two attempts; after some that have failed it grows, see `Plan::rest`.
    pub pause: Duration,
    /// When the next target is tried.
    pub advance: Advance,
}

/// When a plan goes on to its next target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// A pause after the attempt before has failed in a way that another may not; the last target
    /// is tried again and again, until the deadline. One attempt is under way at a time.
    AfterFailure,
    /// A pause after the attempt before has begun, which stays open, and at once when one has
    /// failed. Without a pause all begin together. Each target is tried once.
    Overlapping,
}

impl<T> Plan<T> {
    /// For handling that may happen twice: `first`, and as long as it fails, `again`.
    pub fn retry(first: T, again: T, pause: Duration) -> Self {
        Self { targets: vec![first, again], pause, advance: Advance::AfterFailure }
    }

    /// For handling that may happen twice, by one and no other: as long as it may come to that.
    pub fn persist(target: T, pause: Duration) -> Self {
        Self { targets: vec![target], pause, advance: Advance::AfterFailure }
    }

    /// Asks all together; the first reply counts.
    pub fn first_of(targets: Vec<T>) -> Self {
        Self { targets, pause: Duration::ZERO, advance: Advance::Overlapping }
    }

    /// Asks one after the other, without waiting longer than a pause for each; the first reply
    /// counts.
    pub fn tail_chopping(targets: Vec<T>, pause: Duration) -> Self {
        Self { targets, pause, advance: Advance::Overlapping }
    }

    /// How long it rests after so many attempts that have failed: a few follow soon, since a key has
    /// often moved by then; after that each rest is twice as long, up to [`LONGEST_REST`].
    pub(super) fn rest(&self, failed: usize) -> Duration {
        let doublings = failed.saturating_sub(SOON).min(16) as u32;
        let rest = self.pause.saturating_mul(1 << doublings);
        rest.min(LONGEST_REST.max(self.pause))
    }

    /// Whether an attempt that ended so may go better elsewhere or later.
    pub(super) fn may_go_better(&self, error: AskError) -> bool {
        match error {
            AskError::LinkLost => true,
            // This life of its node, or this routee, does not come back; another may be asked.
            AskError::Refused(Refusal::Stopped) | AskError::Dead(DeathReason::UnknownHandler) => {
                self.targets.len() > 1
            }
            AskError::Refused(refusal) => !matches!(
                refusal,
                Refusal::TooManyAsks
                    | Refusal::TooLarge
                    | Refusal::StrategyFailed
                    | Refusal::MissingKey
                    | Refusal::NoSingleReply
            ),
            AskError::Dead(reason) => reason.passes(),
            AskError::Timeout | AskError::InvalidReply => false,
        }
    }

    /// The place in `targets` of the attempt with this number, counted from 0.
    pub(super) fn target(&self, attempt: usize) -> Option<usize> {
        match self.advance {
            _ if attempt < self.targets.len() => Some(attempt),
            Advance::AfterFailure => self.targets.len().checked_sub(1),
            Advance::Overlapping => None,
        }
    }
}
