//! What other threads hand to a worker.

use std::marker::PhantomData;
use std::sync::Arc;

use super::link::LinkId;
use super::outbox::{Buffers, Head, SMALL_CHUNK_BYTES, encode_single};
use super::place::{Place, Target};
use crate::ask::Plan;
use crate::base::fate::{DeathReason, Refusal};
use crate::base::{DestinationId, Time};
use crate::queue::inject::{Injector, Weigh};
use crate::wire::{Chunk, WireType};

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
    /// A reply that a [`Replier`] brought.
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

/// Where a reply goes: the link the ask came from, if it is still that link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    pub(super) link: LinkId,
    pub(super) correlation: u64,
}

/// The right, and the duty, to answer one ask later, from any thread.
///
/// Dropped without a reply, it tells the asker so at once.
#[must_use = "an ask waits for this reply"]
pub struct Replier<R> {
    state: Option<(ReplyTo, Injector<Injection>, Arc<Buffers>)>,
    /// Dropped last: until then the worker is not drained.
    _open: Arc<()>,
    reply: PhantomData<fn(R)>,
}

impl<R: WireType> Replier<R> {
    pub(super) fn new(
        to: Option<ReplyTo>,
        injector: Injector<Injection>,
        buffers: Arc<Buffers>,
        open: Arc<()>,
    ) -> Self {
        Self { state: to.map(|to| (to, injector, buffers)), _open: open, reply: PhantomData }
    }

    /// Sends the reply.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] and [`Refusal::Unserialisable`] as for any message (the asker is told
    /// so), [`Refusal::QueueFull`] when the worker is far behind, [`Refusal::Stopped`] when it has
    /// stopped.
    pub fn reply(mut self, reply: &R) -> Result<(), Refusal> {
        let Some((to, injector, buffers)) = self.state.take() else {
            return Ok(()); // The message was a tell: nobody waits.
        };
        let (frame, outcome) = match encode_single(&buffers, &Head::reply(to.correlation), reply) {
            Ok(frame) => (Ok(frame), Ok(())),
            Err(refusal) => (Err(DeathReason::ReplyTooLarge), Err(refusal)),
        };
        injector
            .push(Injection::Reply { to, frame })
            .map_err(|_| if injector.is_closed() { Refusal::Stopped } else { Refusal::QueueFull })
            .and(outcome)
    }
}

impl<R> Drop for Replier<R> {
    fn drop(&mut self) {
        if let Some((to, injector, _)) = self.state.take() {
            // When even this does not fit, the asker's deadline tells it.
            let _ = injector.push(Injection::Reply { to, frame: Err(DeathReason::NoReply) });
        }
    }
}

impl<R> std::fmt::Debug for Replier<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replier").field("open", &self.state.is_some()).finish()
    }
}
