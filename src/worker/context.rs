//! What a handler sees of its worker while it runs.

use std::any::Any;
use std::marker::PhantomData;
use std::time::Duration;

use rkyv::Archive;

use super::core::{Core, Waiter};
use super::handler::{Later, OnReply};
use super::inject::{Replier, ReplyTo};
use super::link::LinkId;
use super::place::{RouteeRef, Target, single};
use super::router_ref::RouterRef;
use super::select::Pattern;
use super::send::AskOptions;
use crate::base::fate::{AskError, Counts, Refusal};
use crate::base::{InstanceId, NodeRef, RouteeId, Time, TimerKey, WorkerIndex};
use crate::hash::HashKey;
use crate::wire::{Message, WireType};

/// Where the message that is being handled came from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub link: LinkId,
    pub correlation: Option<u64>,
    pub deadline: Option<Time>,
}

/// A time that a handler has set, by which it can be called off: see [`Context::cancel_wake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeKey(TimerKey);

/// A handler's hands: send, ask, reply later, set times.
///
/// Nothing here locks, allocates or makes a system call; what is sent leaves at the end of the
/// worker's duty cycle.
pub struct Context<'a> {
    pub(super) core: &'a mut Core,
    pub(super) instance: InstanceId,
    pub(super) origin: Option<Origin>,
}

impl<'a> Context<'a> {
    /// For a routee that is called for something else than a message.
    #[inline]
    pub(super) fn of(core: &'a mut Core, instance: InstanceId) -> Self {
        Self { core, instance, origin: None }
    }
}

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
        self.core.tell(router.id, router.key_hash(message), message)
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
        self.core.tell(router.id, Some(key.hash_key(router.seed)), message)
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
        self.core.tell_all(router.as_ref().id, message)
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
    /// The first refusal after all were tried; [`Refusal::NoRoutee`] when nothing fits.
    pub fn tell_selected<M: Message>(
        &mut self,
        pattern: impl AsRef<Pattern>,
        message: &M,
    ) -> Result<usize, Refusal> {
        let found = self.identify(pattern);
        if found.is_empty() {
            return self.core.tell_at(Err(Refusal::NoRoutee), message).map(|()| 0);
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

    /// Asks through a router. The reply, or its failure, comes to [`OnReply::on_reply`] of this
    /// routee with the same token, exactly once; to this life of it only, so that a fresh one after
    /// a panic gets no reply that it did not ask for.
    ///
    /// `H` is the handler's own type: `cx.ask::<Self, _>(&self.carts, &message, within, token)`.
    /// `within` is a [`Duration`], or [`AskOptions`] for one that may be sent again.
    ///
    /// # Errors
    /// A [`Refusal`] names why it was not accepted; `on_reply` is not called then.
    #[inline]
    pub fn ask<H: OnReply<M>, M: Message>(
        &mut self,
        router: impl AsRef<RouterRef>,
        message: &M,
        within: impl Into<AskOptions>,
        token: u64,
    ) -> Result<(), Refusal> {
        let router = router.as_ref();
        let key_hash = router.key_hash(message);
        self.ask_routed::<H, M>(router.id, key_hash, message, within.into(), token)
    }

    /// As [`Context::ask`], by the given key instead of the message's own.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub fn ask_keyed<H: OnReply<M>, M: Message>(
        &mut self,
        router: impl AsRef<RouterRef>,
        key: &(impl HashKey + ?Sized),
        message: &M,
        within: impl Into<AskOptions>,
        token: u64,
    ) -> Result<(), Refusal> {
        let router = router.as_ref();
        let key_hash = Some(key.hash_key(router.seed));
        self.ask_routed::<H, M>(router.id, key_hash, message, within.into(), token)
    }

    /// Asks one routee.
    ///
    /// # Errors
    /// As [`Context::ask`]; [`Refusal::Stopped`] when that life of its node is over.
    pub fn ask_to<H: OnReply<M>, M: Message>(
        &mut self,
        to: &RouteeRef,
        message: &M,
        within: impl Into<AskOptions>,
        token: u64,
    ) -> Result<(), Refusal> {
        let (place, waiter) = (self.core.place_of(to, M::TYPE), self.waiter::<H, M>(token));
        let options = within.into();
        match place {
            Ok(again) if options.idempotent => {
                let targets = (place, Target::Place(again));
                self.core.ask_again(targets, message, options.within, waiter)
            }
            place => self.core.ask(place, message, options.within, waiter),
        }
    }

    #[inline]
    fn ask_routed<H: OnReply<M>, M: Message>(
        &mut self,
        router: u32,
        key_hash: Option<u64>,
        message: &M,
        options: AskOptions,
        token: u64,
    ) -> Result<(), Refusal> {
        let waiter = self.waiter::<H, M>(token);
        let place = self.core.route(router, M::TYPE, key_hash).and_then(single);
        if options.idempotent {
            let targets = (place, Target::Router { router, message: M::TYPE, key_hash });
            return self.core.ask_again(targets, message, options.within, waiter);
        }
        self.core.ask(place, message, options.within, waiter)
    }

    #[inline]
    fn waiter<H: OnReply<M>, M: Message>(&self, token: u64) -> Waiter {
        Waiter::Routee { instance: self.instance, token, deliver: deliver_reply::<H, M> }
    }

    /// Puts the reply off: return the [`Later`] and keep the [`Replier`], which can go to any
    /// thread.
    pub fn reply_later<R: WireType>(&mut self) -> (Later<R>, Replier<R>) {
        let to = self.origin.and_then(|origin| {
            let correlation = origin.correlation?;
            Some(ReplyTo { link: origin.link, correlation })
        });
        let replier = Replier::new(
            to,
            self.core.injector.clone(),
            self.core.buffers.clone(),
            self.core.repliers.clone(),
        );
        (Later(PhantomData), replier)
    }

    /// Calls the handler's `wake` with this token after a while, to the millisecond above, unless
    /// it is called off by the key, or this life of the routee is over by then.
    pub fn wake_after(&mut self, after: Duration, token: u64) -> WakeKey {
        self.wake_at(self.core.now.plus(after), token)
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

pub(super) fn deliver_reply<H: OnReply<M>, M: Message>(
    routee: &mut dyn Any,
    token: u64,
    reply: Result<&[u8], AskError>,
    core: &mut Core,
    instance: InstanceId,
) {
    // The waiter holds the handler's id, and an id belongs to one type for good.
    let Some(routee) = routee.downcast_mut::<H>() else {
        debug_assert!(false, "a reply came to a routee of another type");
        return;
    };
    let reply: Result<&<M::Reply as Archive>::Archived, AskError> = match reply {
        Ok(body) => <M::Reply as WireType>::access(body).ok_or(AskError::InvalidReply),
        Err(error) => Err(error),
    };
    routee.on_reply(token, reply, &mut Context::of(core, instance));
}
