//! Walk of a message from another thread: `wire/encode` comes before, `worker/admit` after.
//!
//! What other threads hand to a worker, and what they get for it.

use super::buffers::{Reply, SMALL_CHUNK_BYTES};
use super::link::LinkId;
use super::place::{Place, Target};
use crate::ask::Plan;
use crate::base::fate::{AskError, DeathReason};
use crate::base::{DestinationId, Time};
use crate::queue::inject::Weigh;
use crate::wire::Chunk;

/// One hand-over from another thread.
pub enum Injection {
    /// Encoded tells for one destination.
    Frames {
        /// Which destination of the snapshot.
        destination: DestinationId,
        /// The frames, in order.
        frames: Chunk,
    },
    /// One encoded ask whose correlation is still to be filled in.
    Ask(InjectedAsk),
    /// Whoever asked does not wait any more.
    Cancel {
        /// Where the application waited.
        slot: u32,
        /// Which use of the slot.
        generation: u32,
    },
    /// A reply that a [`Replier`](super::Replier) brought.
    Reply {
        /// Where the ask came from.
        to: ReplyTo,
        /// One encoded reply frame, or why there is none.
        frame: Result<Chunk, DeathReason>,
    },
}

impl Injection {
    /// Which destination of the snapshot it has to go to, if any.
    #[inline]
    pub fn destination(&self) -> Option<DestinationId> {
        match self {
            Self::Frames { destination, .. } => Some(*destination),
            Self::Ask(ask) if ask.plan.is_none() => Some(ask.first.destination),
            // A plan knows what to do when there is no room.
            Self::Ask(_) | Self::Reply { .. } | Self::Cancel { .. } => None,
        }
    }

    /// The tells, or the ask, in it.
    pub fn requests(&self) -> Option<&Chunk> {
        match self {
            Self::Frames { frames, .. } => Some(frames),
            Self::Ask(ask) => Some(&ask.frame),
            Self::Reply { .. } | Self::Cancel { .. } => None,
        }
    }

    /// Bytes of frames in it.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Frames { frames, .. } => frames.len(),
            Self::Ask(ask) => ask.frame.len(),
            Self::Cancel { .. } => 0,
            Self::Reply { frame, .. } => frame.as_ref().map_or(0, Chunk::len),
        }
    }
}

impl Weigh for Injection {
    /// The memory of its frames, used or not. Those of one place of the queue are not weighed.
    #[inline]
    fn weight(&self) -> usize {
        let frames = match self {
            Self::Frames { frames, .. } => frames,
            Self::Ask(ask) => &ask.frame,
            Self::Reply { frame: Ok(frame), .. } => frame,
            Self::Reply { frame: Err(_), .. } | Self::Cancel { .. } => return 0,
        };
        match frames.capacity() {
            small if small <= SMALL_CHUNK_BYTES => 0,
            large => large,
        }
    }

    #[inline]
    fn may_wait_on(&self) -> bool {
        self.destination().is_some()
    }

    #[inline]
    fn messages(&self) -> u64 {
        match self {
            Self::Frames { frames, .. } => u64::from(frames.frames()),
            Self::Ask(_) => 1,
            Self::Reply { .. } | Self::Cancel { .. } => 0,
        }
    }
}

/// On its way to a sibling.
impl Weigh for Chunk {
    #[inline]
    fn weight(&self) -> usize {
        self.capacity()
    }
}

/// An ask from an application thread.
pub struct InjectedAsk {
    /// Where the thread's choice fell.
    pub first: Place,
    /// One encoded ask frame.
    pub frame: Chunk,
    /// Where the application waits.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
    /// When the application stops waiting.
    pub deadline: Time,
    /// What is tried, if it is not sent to `first` once.
    pub plan: Option<Box<Plan<Target>>>,
}

/// What an application thread gets for an ask: one encoded reply frame, or why there is none.
pub type AppReply = Result<Reply, AskError>;

/// Where a reply goes: the link the ask came from, if it is still that link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    pub(super) link: LinkId,
    pub(super) correlation: u64,
}

/// Who gets no reply, and why.
pub(super) type NoReply = (ReplyTo, DeathReason);
