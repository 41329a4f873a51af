//! The error that ends an ask is the true one: what each says of the ask has to be in its history.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::Time;
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::sim::messages::MessageId;

/// The invariant's name.
pub const NAME: &str = "the error that ends an ask is the true one";

/// What has become of an ask by the time at which its end is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    /// At least one byte of it was written.
    pub written: bool,
    /// On a connection that was closed before its reply came.
    pub lost: bool,
    /// It may be sent again, so that what is true of one attempt need not be true of another.
    pub again: bool,
    /// A handler got it.
    pub handled: bool,
    /// And panicked.
    pub panicked: bool,
    /// And let it go without a reply.
    pub let_go: bool,
    /// Its worker was told to stop, and has not buried it: a sibling may have it.
    pub left: bool,
}

/// What must have been for an end of an ask to be true.
enum Needs {
    /// No handler got it.
    Unhandled,
    /// Nor was any of it written.
    Unwritten,
    /// A handler got it, and was done with it.
    Handled,
    /// The handler has panicked.
    Panicked,
    /// The handler has let it go.
    LetGo,
    /// It may be lost.
    Lost,
    /// It is not to be in a world like this one, where all messages are valid and short, all routees
    /// take them, and none is asked where it must not be.
    Never,
    /// Whatever became of the message. Only a newer member says so; or it is the deadline, which is
    /// looked at elsewhere.
    Anything,
}

/// Knows by itself what each end says: what nodes make of them is held against it.
fn needs(end: Result<(), AskError>) -> Needs {
    let Err(error) = end else { return Needs::Handled };
    match error {
        AskError::Refused(refusal) if is_possible(refusal) => Needs::Unwritten,
        AskError::Refused(_) | AskError::InvalidReply => Needs::Never,
        AskError::LinkLost => Needs::Lost,
        AskError::Timeout => Needs::Anything,
        AskError::Dead(reason) => match reason {
            DeathReason::Unreachable | DeathReason::Overflow => Needs::Unwritten,
            DeathReason::UnknownHandler | DeathReason::Stopped => Needs::Unhandled,
            DeathReason::RepliesFull => Needs::Handled,
            DeathReason::NoReply => Needs::LetGo,
            DeathReason::HandlerPanicked => Needs::Panicked,
            DeathReason::Other => Needs::Anything,
            // Whoever asks hears of the deadline by itself.
            DeathReason::Expired
            | DeathReason::UnknownMessage
            | DeathReason::InvalidBody
            | DeathReason::ReplyTooLarge
            | DeathReason::TooLarge => Needs::Never,
        },
    }
}

/// Whether a message can be refused so.
fn is_possible(refusal: Refusal) -> bool {
    match refusal {
        Refusal::NoRoutee
        | Refusal::Unreachable
        | Refusal::QueueFull
        | Refusal::TooManyAsks
        | Refusal::Stopped
        | Refusal::Joining
        | Refusal::Leaving => true,
        Refusal::MissingKey
        | Refusal::TooLarge
        | Refusal::Unserialisable
        | Refusal::NoSingleReply
        | Refusal::LayoutMismatch
        | Refusal::WouldBlock
        | Refusal::StrategyFailed
        | Refusal::OtherNode => false,
    }
}

/// Whether a message may have been refused so.
///
/// # Errors
/// When it cannot be.
pub fn refused(refusal: Refusal) -> Result<(), String> {
    match is_possible(refusal) {
        true => Ok(()),
        false => Err(format!("a message was refused for what is not so: {refusal}")),
    }
}

impl History {
    /// Whether an end of such an ask says that no handler had it, nor ever will.
    pub fn denies(end: Result<(), AskError>) -> bool {
        matches!(needs(end), Needs::Unhandled | Needs::Unwritten)
    }

    /// Whether it may end so.
    ///
    /// # Errors
    /// What is not true of it.
    pub fn allows(&self, end: Result<(), AskError>) -> Result<(), &'static str> {
        match needs(end) {
            Needs::Unhandled | Needs::Unwritten if self.handled => Err("a handler had it"),
            // What an attempt came to before was that no handler had it.
            Needs::Unwritten if self.written && !self.again => Err("it was written"),
            Needs::Handled | Needs::LetGo if !self.handled => Err("no handler had it"),
            Needs::Handled | Needs::LetGo if self.panicked && !self.again => {
                Err("its handler panicked")
            }
            Needs::LetGo if !self.let_go => Err("its handler has not let it go"),
            Needs::Panicked if !self.panicked => Err("no handler panicked over it"),
            // An attempt may have been given up on a link that is silent.
            Needs::Lost if !(self.lost || (self.again && self.written) || self.left) => {
                Err("no link was lost on which any of it was written")
            }
            Needs::Never => Err("nothing of that kind is here"),
            _ => Ok(()),
        }
    }
}

/// The fingerprint of all ends of asks.
#[derive(Default)]
pub struct Outcomes(u64);

impl Outcomes {
    /// One has ended so.
    pub fn note(&mut self, id: MessageId, now: Time, end: Result<(), AskError>) {
        let name = end.map_or_else(AskError::name, |()| "");
        for word in [id.sender as u64, id.number, now.0] {
            self.0 = xxh3_64_with_seed(&word.to_le_bytes(), self.0);
        }
        self.0 = xxh3_64_with_seed(name.as_bytes(), self.0);
    }

    /// Of those so far.
    pub fn hash(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::plan::Plan;
    use crate::sim::scenario::Scenario;
    use crate::sim::world::World;

    const DEAD: fn(DeathReason) -> Result<(), AskError> = |reason| Err(AskError::Dead(reason));

    #[test]
    fn an_end_needs_the_history_that_it_tells() {
        let none = History::default();
        let handled = History { handled: true, written: true, ..none };
        assert!(handled.allows(Ok(())).is_ok() && none.allows(Ok(())).is_err());
        let unreachable = DEAD(DeathReason::Unreachable);
        assert!(none.allows(unreachable).is_ok());
        assert!(History { written: true, ..none }.allows(unreachable).is_err());
        let panicked = History { panicked: true, ..handled };
        assert!(panicked.allows(DEAD(DeathReason::HandlerPanicked)).is_ok());
        assert!(panicked.allows(DEAD(DeathReason::UnknownHandler)).is_err());
        assert!(handled.allows(DEAD(DeathReason::HandlerPanicked)).is_err());
        assert!(panicked.allows(Ok(())).is_err());
        assert!(handled.allows(DEAD(DeathReason::NoReply)).is_err());
        assert!(History { let_go: true, ..handled }.allows(DEAD(DeathReason::NoReply)).is_ok());
        assert!(handled.allows(Err(AskError::LinkLost)).is_err());
        assert!(History { lost: true, ..handled }.allows(Err(AskError::LinkLost)).is_ok());
        let again = History { again: true, ..none };
        assert!(again.allows(Err(AskError::LinkLost)).is_err());
        assert!(History { written: true, ..again }.allows(Err(AskError::LinkLost)).is_ok());
        assert!(handled.allows(Err(AskError::Timeout)).is_ok());
        assert!(handled.allows(Err(AskError::InvalidReply)).is_err());
    }

    #[test]
    fn how_asks_end_is_in_the_fingerprint_of_a_run() {
        let run = |end| {
            let mut world = World::empty(Scenario::default(), Plan::draw);
            let mut ledger = world.ledger.lock();
            ledger.fates.add_life(1);
            let sender = ledger.fates.add_sender((0, 0));
            let id = ledger.fates.sends(sender, false);
            ledger.told(id, end);
            drop(ledger);
            world.fingerprint()
        };
        let timeout = run(Err(AskError::Timeout));
        assert_eq!(timeout, run(Err(AskError::Timeout)));
        assert_ne!(timeout, run(Err(AskError::LinkLost)));
    }
}
