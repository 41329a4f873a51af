//! How handlers ask, and hear the replies.

use std::any::Any;

use rkyv::Archive;

use super::core::{Context, Waiter};
use super::handler::OnReply;
use super::place::{Place, RouteeRef, Target, single};
use super::router_ref::{RouterKey, RouterRef};
use super::select::Pattern;
use super::send::AskOptions;
use crate::base::fate::{AskError, Refusal};
use crate::hash::HashKey;
use crate::wire::{Message, WireType};

impl Context<'_> {
    /// Asks through a router. The reply, or its failure, comes to [`OnReply::on_reply`] of this
    /// routee with the same token, exactly once; to this life of it only, so that a fresh one after
    /// a panic gets no reply that it did not ask for.
    ///
    /// `H` is the handler's own type: `cx.ask::<Self, _>(&self.carts, &message, within, token)`.
    /// `within` is a [`Duration`](std::time::Duration), or [`AskOptions`] for one that may be sent
    /// again. It begins now, or, should handlers take a millisecond or more in this duty cycle, at
    /// its end, when the ask is written.
    ///
    /// # Errors
    /// A [`Refusal`] names why it was not accepted; `on_reply` is not called then.
    ///
    /// # Panics
    /// When `H` is another type than the routee's that runs.
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
        self.ask_routed::<H, M>(router.key(), key_hash, message, within.into(), token)
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
        self.ask_routed::<H, M>(router.key(), key_hash, message, within.into(), token)
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
        let place = self.core.place_of(to, M::TYPE);
        self.ask_place::<H, M>(place, message, within.into(), token)
    }

    /// Asks each handler that fits a pattern, and says how many were asked: so many replies come, all
    /// with this token.
    ///
    /// # Errors
    /// The first refusal when none was asked. When nothing fits, [`Refusal::NoRoutee`], or what a node
    /// says that is no member yet or any more, or is leaving.
    pub fn ask_selected<H: OnReply<M>, M: Message>(
        &mut self,
        pattern: impl AsRef<Pattern>,
        message: &M,
        within: impl Into<AskOptions>,
        token: u64,
    ) -> Result<usize, Refusal> {
        let (found, options) = (self.identify(pattern), within.into());
        if found.is_empty() {
            let place = Err(self.core.explain(Refusal::NoRoutee));
            return self.ask_place::<H, M>(place, message, options, token).map(|()| 0);
        }
        let (mut asked, mut first) = (0, None);
        for to in &found {
            match self.ask_to::<H, M>(to, message, options, token) {
                Ok(()) => asked += 1,
                Err(refusal) => first = first.or(Some(refusal)),
            }
        }
        first.filter(|_| asked == 0).map_or(Ok(asked), Err)
    }

    fn ask_place<H: OnReply<M>, M: Message>(
        &mut self,
        place: Result<Place, Refusal>,
        message: &M,
        options: AskOptions,
        token: u64,
    ) -> Result<(), Refusal> {
        let waiter = self.waiter::<H, M>(token);
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
        router: RouterKey,
        key_hash: Option<u64>,
        message: &M,
        options: AskOptions,
        token: u64,
    ) -> Result<(), Refusal> {
        let waiter = self.waiter::<H, M>(token);
        let place = self.core.route(router, M::TYPE, key_hash).and_then(single);
        if options.idempotent {
            let targets =
                (place, Target::Router { router: router.id(), message: M::TYPE, key_hash });
            return self.core.ask_again(targets, message, options.within, waiter);
        }
        self.core.ask(place, message, options.within, waiter)
    }

    #[inline]
    fn waiter<H: OnReply<M>, M: Message>(&self, token: u64) -> Waiter {
        self.is_run_by::<H>("Context::ask");
        Waiter::Routee { instance: self.instance, token, deliver: deliver_reply::<H, M> }
    }
}

pub(super) fn deliver_reply<H: OnReply<M>, M: Message>(
    routee: &mut dyn Any,
    token: u64,
    reply: Result<&[u8], AskError>,
    cx: &mut Context<'_>,
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
    routee.on_reply(token, reply, cx);
}
