//! Why a message that had been accepted was not handled: the reasons of dead letters.

use crate::base::debug_as_display;

reasons! {
    /// Why a message that had been accepted was not handled.
    #[derive(thiserror::Error)]
    pub enum DeathReason in Dead {
        // New ones at the end: their numbers travel. The compiler then asks what each of them means
        // for attempts, counts and what askers are told.
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

    /// Whether another attempt may go better at the same routee: nothing of this one was handled, and
    /// what stood in its way passes.
    pub(crate) const fn passes(self) -> bool {
        match self {
            Self::Unreachable | Self::Overflow => true,
            Self::UnknownHandler
            | Self::UnknownMessage
            | Self::InvalidBody
            | Self::HandlerPanicked
            | Self::Expired
            | Self::Stopped
            | Self::NoReply
            | Self::ReplyTooLarge
            | Self::Other
            | Self::RepliesFull
            | Self::TooLarge => false,
        }
    }

    /// Whether there was a reply, which is lost.
    pub(crate) const fn loses_reply(self) -> bool {
        match self {
            Self::ReplyTooLarge | Self::RepliesFull => true,
            Self::UnknownHandler
            | Self::UnknownMessage
            | Self::InvalidBody
            | Self::HandlerPanicked
            | Self::Unreachable
            | Self::Expired
            | Self::Stopped
            | Self::NoReply
            | Self::Overflow
            | Self::Other
            | Self::TooLarge => false,
        }
    }
}

debug_as_display!(DeathReason);
