//! Walk of a message: a handler's starts here; `worker/core` comes next.
//!
//! What a handler can do while it runs: the verbs of its [`Context`]. Those for asks and for work stand
//! in `asking` and `working`.

use std::marker::PhantomData;
use std::time::Duration;

use super::core::{Context, Origin};
use super::inject::ReplyTo;
use super::place::RouteeRef;
use super::replier::{Later, Replier};
use super::router_ref::RouterRef;
use super::select::Pattern;
use crate::base::fate::{Counts, Refusal};
use crate::base::{NodeRef, RouteeId, Time, TimerKey, WorkerIndex};
use crate::hash::HashKey;
use crate::wire::{Message, WireType};

/// A time that a handler has set, by which it can be called off: see [`Context::cancel_wake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeKey(TimerKey);

impl Context<'_> {
    /// The time of this duty cycle, on the node's clock.
    #[inline]
    pub fn now(&self) -> Time {
        self.core.now
    }

    /// The worker this runs on.
    #[inline]
    pub fn worker(&self) -> WorkerIndex {
        self.core.index
    }

    /// This life of this node.
    #[inline]
    pub fn node(&self) -> NodeRef {
        self.core.me
    }

    /// Who this routee is, down to this life of it: see [`RouteeId`].
    #[inline]
    pub fn id(&self) -> RouteeId {
        RouteeId { node: self.core.me, worker: self.core.index, instance: self.instance }
    }

    /// This worker's counts so far.
    pub fn counts(&self) -> Counts {
        self.core.published.tally.counts()
    }

    /// Until when the asker waits; `None` when the message is a tell.
    pub fn deadline(&self) -> Option<Time> {
        self.origin?.deadline
    }

    /// Sends a message through a router, by the key that the router's own function takes or else the
    /// message's, at most once, in order with what this handler sent there
    /// before.
    ///
    /// # Errors
    /// A [`Refusal`] names why the message was not accepted.
    #[inline]
    pub fn tell<M: Message>(
        &mut self,
        router: impl AsRef<RouterRef>,
        message: &M,
    ) -> Result<(), Refusal> {
        let router = router.as_ref();
        self.core.tell(router.key(), router.key_hash(message), message)
    }

    /// As [`Context::tell`], by the given key instead of the message's own.
    ///
    /// # Errors
    /// As [`Context::tell`].
    pub fn tell_keyed<M: Message, K: HashKey + ?Sized>(
        &mut self,
        router: impl AsRef<RouterRef>,
        key: &K,
        message: &M,
    ) -> Result<(), Refusal> {
        let router = router.as_ref();
        self.core.tell(router.key(), Some(key.hash_key(router.seed)), message)
    }

    /// Sends a copy to every routee of a router, whatever its strategy.
    ///
    /// # Errors
    /// The first refusal, after all routees were tried.
    pub fn broadcast<M: Message>(
        &mut self,
        router: impl AsRef<RouterRef>,
        message: &M,
    ) -> Result<(), Refusal> {
        self.core.tell_all(router.as_ref().key(), message)
    }

    /// Sends a message to one routee.
    ///
    /// # Errors
    /// As [`Context::tell`]; [`Refusal::Stopped`] when that life of its node is over.
    pub fn tell_to<M: Message>(&mut self, to: &RouteeRef, message: &M) -> Result<(), Refusal> {
        let place = self.core.place_of(to, M::TYPE);
        self.core.tell_at(place, message)
    }

    /// The routees that fit a pattern now, to tell or ask them.
    pub fn identify(&self, pattern: impl AsRef<Pattern>) -> Vec<RouteeRef> {
        let snapshot = self.core.snapshot.as_ref();
        snapshot.map_or_else(Vec::new, |snapshot| pattern.as_ref().identify(snapshot))
    }

    /// Sends a message to each handler that fits a pattern, and says to how many.
    ///
    /// # Errors
    /// The first refusal after all were tried. When nothing fits, [`Refusal::NoRoutee`], or what a node
    /// says that is no member yet or any more, or is leaving.
    pub fn tell_selected<M: Message>(
        &mut self,
        pattern: impl AsRef<Pattern>,
        message: &M,
    ) -> Result<usize, Refusal> {
        let found = self.identify(pattern);
        if found.is_empty() {
            return self
                .core
                .tell_at(Err(self.core.explain(Refusal::NoRoutee)), message)
                .map(|()| 0);
        }
        let mut outcome = Ok(found.len());
        for to in &found {
            outcome = match self.tell_to(to, message) {
                Ok(()) => outcome,
                Err(refusal) => outcome.and(Err(refusal)),
            };
        }
        outcome
    }

    /// Puts the reply off: return the [`Later`] and keep the [`Replier`], which can go to any
    /// thread. A node that leaves waits for it; what another thread sends through routers meanwhile
    /// is the application's, and refused from then on as [`Refusal::Leaving`].
    pub fn reply_later<R: WireType>(&mut self) -> (Later<R>, Replier<R>) {
        let to = self.origin.and_then(|origin| {
            let correlation = origin.correlation?;
            Some(ReplyTo { link: origin.link, correlation })
        });
        let replier = Replier::new(
            to,
            self.core.injector.clone(),
            self.core.buffers.clone(),
            self.core.repliers.holder(),
        );
        (Later(PhantomData), replier)
    }

    /// Calls the handler's `wake` with this token after a while, to the millisecond above, unless
    /// it is called off by the key, or this life of the routee is over by then. The while begins
    /// now, or, should handlers take a millisecond or more in this duty cycle, at its end.
    pub fn wake_after(&mut self, after: Duration, token: u64) -> WakeKey {
        let key = self.wake_at(self.core.now.plus(after), token);
        self.core.begun.1.push(key.0);
        key
    }

    /// Calls the handler's `wake` with this token at a time, to the millisecond above, unless it is
    /// called off by the key, or this life of the routee is over by then.
    pub fn wake_at(&mut self, at: Time, token: u64) -> WakeKey {
        WakeKey(self.core.wakes.insert(at, (self.instance, token)))
    }

    /// Calls off a time that this handler has set on this worker. False when it has come already,
    /// was called off before, or is not this handler's.
    pub fn cancel_wake(&mut self, key: WakeKey) -> bool {
        let wakes = &mut self.core.wakes;
        let own = wakes.get(key.0).is_some_and(|(instance, _)| *instance == self.instance);
        own && wakes.cancel(key.0).is_some()
    }

    /// Calls the handler's `wake` with this token in the next duty cycle. A handler that does so
    /// every time keeps its worker from sleeping.
    #[inline]
    pub fn wake_soon(&mut self, token: u64) {
        self.core.soon.push_back((self.instance, token));
    }

    /// # Panics
    /// When the routee that runs is no `H`.
    #[inline]
    pub(crate) fn is_run_by<H: 'static>(&self, call: &str) {
        self.core.kinds.check::<H>(self.instance.handler, call);
    }

    /// Which attempt this is of an ask, by the number that its asker's worker gave it.
    pub(crate) fn attempt(&self) -> Option<u64> {
        self.origin?.correlation
    }

    /// Whether somebody waits for a reply.
    #[inline]
    pub(super) fn wants_reply(&self) -> bool {
        matches!(self.origin, Some(Origin { correlation: Some(_), .. }))
    }

    #[inline]
    pub(super) fn send_reply<R: WireType>(&mut self, reply: &R) {
        if let Some(Origin { link, correlation: Some(correlation), .. }) = self.origin {
            self.core.reply(link, correlation, reply);
        }
    }
}
