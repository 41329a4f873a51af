//! A reply that comes later: what stands for it in the handler, and who brings it.

use std::marker::PhantomData;
use std::sync::Arc;

use super::buffers::Buffers;
use super::inject::{Injection, NoReply, ReplyTo};
use super::outbox::{Head, encode_single};
use crate::base::fate::{DeathReason, Refusal};
use crate::queue::inject::Injector;
use crate::queue::spill::Holder;
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
    /// What a reply is told for which nobody waits: the refusal that has ended the ask, if one has.
    ended: Result<(), Refusal>,
    /// Dropped last: until then the worker is not drained.
    open: Holder<NoReply>,
    reply: PhantomData<fn(R)>,
}

impl<R> Replier<R> {
    /// There will be no reply: the asker is told, also where the worker's queue is full.
    fn give_up(&mut self, reason: DeathReason) {
        let Some((to, injector, _)) = self.state.take() else { return };
        let told = injector.push(Injection::Reply { to, frame: Err(reason) });
        if told.is_err() && !injector.is_closed() {
            self.open.leave((to, reason));
        }
    }
}

impl<R: WireType> Replier<R> {
    pub(super) fn new(
        to: Option<ReplyTo>,
        injector: Injector<Injection>,
        buffers: Arc<Buffers>,
        open: Holder<NoReply>,
    ) -> Self {
        let state = to.map(|to| (to, injector, buffers));
        Self { state, ended: Ok(()), open, reply: PhantomData }
    }

    /// Sends the reply.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] and [`Refusal::Unserialisable`] as for any message,
    /// [`Refusal::QueueFull`] when the worker is far behind (the asker is told so in all three),
    /// [`Refusal::Stopped`] when it has stopped.
    pub fn reply(mut self, reply: &R) -> Result<(), Refusal> {
        let outcome = self.try_reply(reply);
        if outcome == Err(Refusal::QueueFull) {
            self.give_up(DeathReason::RepliesFull);
        }
        outcome
    }

    /// As [`Replier::reply`], but the ask stays open when the worker is far behind: it can be tried
    /// again. Otherwise the ask has ended, and a second reply goes nowhere: what was returned first
    /// is returned again.
    ///
    /// # Errors
    /// As [`Replier::reply`].
    pub fn try_reply(&mut self, reply: &R) -> Result<(), Refusal> {
        let Some((to, injector, buffers)) = &self.state else {
            return self.ended; // As it has; or the message was a tell.
        };
        let frame = match encode_single(buffers, &Head::reply(to.correlation), reply) {
            Ok(frame) => frame,
            Err(refusal) => {
                self.give_up(DeathReason::ReplyTooLarge);
                self.ended = Err(refusal);
                return self.ended;
            }
        };
        let Err(full) = injector.push(Injection::Reply { to: *to, frame: Ok(frame) }) else {
            self.state = None;
            return Ok(());
        };
        if let Injection::Reply { frame: Ok(frame), .. } = full.into_inner() {
            buffers.give(frame);
        }
        if injector.is_closed() {
            self.state = None;
            self.ended = Err(Refusal::Stopped);
            return self.ended;
        }
        Err(Refusal::QueueFull)
    }
}

impl<R> Drop for Replier<R> {
    fn drop(&mut self) {
        self.give_up(DeathReason::NoReply);
    }
}

impl<R> std::fmt::Debug for Replier<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replier").field("open", &self.state.is_some()).finish()
    }
}
