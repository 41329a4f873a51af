//! Why an ask has no reply.

use super::{DeathReason, Refusal};
use crate::base::debug_as_display;

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

debug_as_display!(AskError);
