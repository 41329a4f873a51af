//! A reply that comes later: what stands for it in the handler, and who brings it.

use std::marker::PhantomData;
use std::sync::Arc;

use super::inject::{Injection, ReplyTo};
use super::outbox::{Buffers, Head, encode_single};
use crate::base::fate::{DeathReason, Refusal};
use crate::queue::inject::Injector;
use crate::wire::WireType;

/// Stands for a reply that comes later, through the [`Replier`] it was made with.
#[derive(Debug)]
#[must_use = "return it from `handle`"]
pub struct Later<R>(pub(super) PhantomData<fn(R)>);

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
