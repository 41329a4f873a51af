//! What asks want done.

use std::collections::VecDeque;

use crate::base::fate::AskError;
use crate::wire::Chunk;

/// What is to be done about asks, in order. `W` is who waits.
#[derive(Debug)]
pub enum Effect<W> {
    /// Send the ask's frame to a target of its plan ([`Asks::plan`]), with the attempt as its
    /// correlation; then call [`Asks::sent`] or [`Asks::not_sent`].
    ///
    /// [`Asks::plan`]: super::Asks::plan
    /// [`Asks::sent`]: super::Asks::sent
    /// [`Asks::not_sent`]: super::Asks::not_sent
    Send {
        /// Which ask.
        ask: u64,
        /// The attempt's own number.
        attempt: u64,
        /// Place in the plan's targets.
        target: usize,
    },
    /// The ask has ended without a reply: tell who waits.
    Fail(W, AskError),
    /// An ask with a plan has ended, in whatever way: its frame is not needed any more.
    Free {
        /// Which ask.
        ask: u64,
        /// What it kept.
        frame: Chunk,
    },
}

/// What is to be done, oldest first.
pub type Effects<W> = VecDeque<Effect<W>>;
