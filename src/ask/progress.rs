//! How far an ask with a plan has got, and what that says of its message.

use super::plan::Plan;
use crate::base::Time;
use crate::base::fate::{AskError, DeathReason};
use crate::base::timers::TimerKey;
use crate::wire::Chunk;

/// How far a plan has got.
pub(super) struct Progress<T> {
    pub plan: Plan<T>,
    pub frame: Chunk,
    pub deadline: Time,
    /// How many attempts have been begun.
    pub begun: usize,
    /// Those that have not failed.
    pub attempts: Vec<u64>,
    pub next: Option<TimerKey>,
    /// What those that have failed say of the message.
    pub said: Option<AskError>,
}

/// How much an end of an attempt says of the message. That it may have been handled outweighs that a
/// handler had it, and that outweighs that none did: whoever asked must not be told that nobody
/// handled the message because the last attempt was not handled.
fn weight(end: AskError) -> u8 {
    match end {
        AskError::Refused(_) => 0,
        AskError::Dead(
            DeathReason::UnknownHandler
            | DeathReason::UnknownMessage
            | DeathReason::InvalidBody
            | DeathReason::Unreachable
            | DeathReason::Expired
            | DeathReason::Stopped
            | DeathReason::Overflow
            | DeathReason::TooLarge,
        ) => 0,
        // The last one may mean that.
        AskError::Dead(
            DeathReason::HandlerPanicked
            | DeathReason::NoReply
            | DeathReason::ReplyTooLarge
            | DeathReason::RepliesFull
            | DeathReason::Other,
        ) => 1,
        AskError::LinkLost | AskError::Timeout | AskError::InvalidReply => 2,
    }
}

impl<T> Progress<T> {
    /// An attempt has failed, or all of it. Gives what all that have failed say of the message: of
    /// those that weigh the same the last.
    pub fn note(&mut self, end: AskError) -> AskError {
        let said = match self.said {
            Some(said) if weight(said) > weight(end) => said,
            _ => end,
        };
        self.said = Some(said);
        said
    }

    /// What its deadline says, if it rests: whoever knows that the message was not handled says so.
    pub fn timeout(&self) -> AskError {
        match self.said {
            Some(said) if self.attempts.is_empty() && said != AskError::LinkLost => said,
            _ => AskError::Timeout,
        }
    }
}

/// What whoever still waits is told when its node has ended. Workers that stop end what they have, so
/// that it can only be an ask that none of them has seen. One that was given up tells nobody anything
/// any more, and what it had may have been handled.
pub fn left_open(some_given_up: bool) -> AskError {
    if some_given_up { AskError::LinkLost } else { AskError::Dead(DeathReason::Stopped) }
}
