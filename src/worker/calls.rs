//! What a worker's turn has called of users' code, for whoever says what held it.

use crate::base::{HandlerId, MessageTypeId};

/// No handler's id: none has the last serial.
const NO_HANDLER: HandlerId = HandlerId(u32::MAX);

/// Whose code of the user's: which handler, and for which type of message.
pub type Call = (HandlerId, Option<MessageTypeId>);

pub(super) const NO_CALL: Call = (NO_HANDLER, None);

/// What a turn has called so far.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// What ran last, also in an earlier turn.
    pub last: Call,
    /// Of what it was called for when that was no message.
    hook: &'static str,
    /// Calls for messages.
    pub messages: u32,
    /// Calls for anything else, as to be started.
    pub hooks: u32,
    /// Calls that panicked, those to make a routee included.
    pub panics: u32,
}

impl Calls {
    pub(super) const NONE: Self =
        Self { last: (HandlerId(0), None), hook: "", messages: 0, hooks: 0, panics: 0 };

    /// A turn begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        (self.messages, self.hooks, self.panics) = (0, 0, 0);
    }

    #[inline]
    pub(super) fn message(&mut self, handler: HandlerId, message: MessageTypeId) {
        self.last = (handler, Some(message));
        self.messages += 1;
    }

    pub(super) fn hook(&mut self, handler: HandlerId, hook: &'static str) {
        (self.last, self.hook) = ((handler, None), hook);
        self.hooks += 1;
    }

    /// What was called after an earlier moment of the turn.
    pub fn since(&self, earlier: &Self) -> Self {
        let messages = self.messages - earlier.messages;
        let (hooks, panics) = (self.hooks - earlier.hooks, self.panics - earlier.panics);
        Self { messages, hooks, panics, ..*self }
    }

    /// Which hook of a routee's ran last, if that was after the last message.
    pub fn last_hook(&self) -> Option<&'static str> {
        let (handler, message) = self.last;
        (message.is_none() && handler != NO_HANDLER).then_some(self.hook)
    }
}
