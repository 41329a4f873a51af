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
    /// What the others say of the message.
    pub cause: Option<AskError>,
}

impl<T> Progress<T> {
    /// An attempt has failed. That the message may have been handled outweighs that it was not.
    pub fn note(&mut self, error: AskError) {
        if self.cause != Some(AskError::LinkLost) {
            self.cause = Some(error);
        }
    }

    /// What the end of its last attempt says of the whole.
    pub fn last_word(&self, error: AskError) -> AskError {
        match error {
            AskError::Refused(_) | AskError::Dead(DeathReason::UnknownHandler)
                if self.cause == Some(AskError::LinkLost) =>
            {
                AskError::LinkLost
            }
            error => error,
        }
    }

    /// What its deadline says, if it rests: whoever knows that the message was not handled says so.
    pub fn timeout(&self) -> AskError {
        match self.cause {
            Some(cause) if self.attempts.is_empty() && cause != AskError::LinkLost => cause,
            _ => AskError::Timeout,
        }
    }
}
