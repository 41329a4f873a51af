//! Asks from application threads: a future that needs no particular runtime.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rkyv::Deserialize;
use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Failure;

use super::node::Node;
use super::router::Router;
use super::shared::Shared;
use super::times::AskTimes;
use crate::ask::ASKERS_GRACE;
use crate::base::fate::{AskError, Refusal};
use crate::base::{DestinationId, Path, Time, WorkerIndex};
use crate::hash::HashKey;
use crate::queue::block_on::{block_on_within, is_worker_thread};
use crate::queue::reply::Ticket;
use crate::wire::{Message, WireType};
use crate::worker::place::place_of;
use crate::worker::{AppReply, AskOptions, Injection, Place, RouteeRef, Target};

/// An ask that has not been sent yet: `.await` or [`Ask::wait`] sends it.
#[must_use = "an ask is sent when it is awaited"]
pub struct Ask<'a, M: Message> {
    to: To<'a>,
    message: &'a M,
    options: AskOptions,
}

impl Router {
    /// Asks: `router.ask(&message).within(limit).await`.
    ///
    /// It is sent when it is awaited, or by [`Ask::wait`].
    pub fn ask<'a, M: Message>(&'a self, message: &'a M) -> Ask<'a, M> {
        Ask::new(To::Router(self, self.as_ref().key_hash(message)), message)
    }

    /// As [`Router::ask`], by this key instead of the message's own.
    pub fn ask_keyed<'a, M: Message, K: HashKey + ?Sized>(
        &'a self,
        key: &K,
        message: &'a M,
    ) -> Ask<'a, M> {
        Ask::new(To::Router(self, Some(key.hash_key(self.as_ref().seed))), message)
    }
}

impl Node {
    /// Asks one routee, as [`Router::ask`](Router::ask) does.
    pub fn ask_to<'a, M: Message>(&'a self, to: &'a RouteeRef, message: &'a M) -> Ask<'a, M> {
        Ask::of(&self.shared, to, message, AskOptions::default())
    }
}

impl<'a, M: Message> Ask<'a, M> {
    fn new(to: To<'a>, message: &'a M) -> Self {
        Self { to, message, options: AskOptions::default() }
    }

    /// To one routee.
    pub(super) fn of(
        shared: &'a Arc<Shared>,
        to: &'a RouteeRef,
        message: &'a M,
        options: AskOptions,
    ) -> Self {
        Self { to: To::Reference(shared, to), message, options }
    }

    /// Waits at most so long for the reply; 5 s if not called.
    pub fn within(mut self, limit: Duration) -> Self {
        self.options.within = limit;
        self
    }

    /// Handling the message twice does no harm: when its routee is lost, moves, or counts as
    /// unreachable, it is sent again to wherever its key lives then, until the deadline. So it may
    /// come later than what is sent after it.
    ///
    /// That begins once it is accepted, for which there must be somebody to go to: it is refused at
    /// once as any other where the router's table is empty ([`Refusal::NoRoutee`]), or nobody in it
    /// can be reached as far as is known ([`Refusal::Unreachable`]). Await
    /// [`Router::ready`] and ask anew then.
    pub fn idempotent(mut self) -> Self {
        self.options.idempotent = true;
        self
    }

    /// Sends it and blocks the thread until it has ended, a moment after its deadline at the latest.
    /// Not for async code.
    ///
    /// # Errors
    /// As the future's output; [`Refusal::WouldBlock`] on a worker's thread.
    pub fn wait(self) -> Result<M::Reply, AskError>
    where
        <M::Reply as rkyv::Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
    {
        if is_worker_thread() {
            self.to.shared().count_refusal(Refusal::WouldBlock);
            return Err(Refusal::WouldBlock.into());
        }
        let within = self.options.within.saturating_add(ASKERS_GRACE);
        let mut future = self.into_future();
        future.is_kept = true;
        block_on_within(future, within).unwrap_or(Err(AskError::Timeout))
    }
}

/// Whom an ask goes to.
enum To<'a> {
    /// To wherever a router sends this key.
    Router(&'a Router, Option<u64>),
    /// To one routee.
    Reference(&'a Arc<Shared>, &'a RouteeRef),
}

impl To<'_> {
    fn shared(&self) -> &Arc<Shared> {
        match self {
            Self::Router(router, _) => router.shared(),
            Self::Reference(shared, _) => shared,
        }
    }

    fn home(&self) -> WorkerIndex {
        match self {
            Self::Router(router, _) => router.home(),
            Self::Reference(shared, to) => shared.home_of(to),
        }
    }

    fn send<M: Message>(
        &self,
        message: &M,
        options: AskOptions,
        now: Time,
    ) -> Result<Ticket<AppReply>, Refusal> {
        match self {
            Self::Router(router, key_hash) => router.send_ask(*key_hash, message, options, now),
            Self::Reference(shared, to) => {
                let snapshot = shared.snapshot.load();
                let sender = shared.sender(shared.home_of(to), &snapshot);
                let place = place_of(&snapshot, to, M::TYPE);
                // Sent again, it goes to the same incarnation.
                let handler = to.id.instance.handler;
                let unknown = Place { destination: DestinationId::NONE, handler };
                let again = Target::Place(place.unwrap_or(unknown));
                sender.ask(place, again, message, options, now)
            }
        }
    }

    fn path(&self) -> Path {
        match self {
            Self::Router(router, _) => router.path(),
            Self::Reference(_, to) => to.path.clone(),
        }
    }
}

impl<M: Message> IntoFuture for Ask<'_, M>
where
    <M::Reply as rkyv::Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
{
    type Output = Result<M::Reply, AskError>;
    type IntoFuture = AskFuture<M::Reply>;

    fn into_future(self) -> AskFuture<M::Reply> {
        let begun = self.to.shared().clock.now();
        let state = match self.to.send(self.message, self.options, begun) {
            Ok(ticket) => State::Waiting(ticket, Arc::clone(self.to.shared()), self.to.home()),
            Err(refusal) => State::Refused(refusal),
        };
        let timed = match &state {
            State::Waiting(ticket, ..)
                if AskTimes::is_sampled(ticket.slot(), ticket.generation()) =>
            {
                Some((begun, self.to.path()))
            }
            _ => None,
        };
        AskFuture { state, is_kept: false, timed, reply: std::marker::PhantomData }
    }
}

/// The reply to come. Dropped, it is no longer waited for and its place is free at once; the message
/// may still be handled.
#[must_use = "a future does nothing unless polled"]
pub struct AskFuture<R> {
    state: State,
    /// Whether somebody else keeps its deadline: a thread that blocks, or the keeper.
    is_kept: bool,
    /// Since when, and where it went, if it is one that is timed.
    timed: Option<(Time, Path)>,
    reply: std::marker::PhantomData<fn() -> R>,
}

enum State {
    Waiting(Ticket<AppReply>, Arc<Shared>, WorkerIndex),
    Refused(Refusal),
}

impl<R> Drop for AskFuture<R> {
    fn drop(&mut self) {
        if let State::Waiting(ticket, shared, home) = &self.state
            && !ticket.is_taken()
        {
            let (slot, generation) = (ticket.slot(), ticket.generation());
            // If there is no room, the worker finds out when it needs the place.
            let _ = shared.doors[usize::from(home.0)]
                .injector
                .push(Injection::Cancel { slot, generation });
        }
    }
}

impl<R: WireType> Future for AskFuture<R>
where
    R::Archived: Deserialize<R, HighDeserializer<Failure>>,
{
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { state, is_kept, timed, .. } = &mut *self;
        match state {
            State::Refused(refusal) => Poll::Ready(Err((*refusal).into())),
            State::Waiting(ticket, shared, _) => {
                let Poll::Ready(reply) = Pin::new(ticket).poll(cx) else {
                    if !std::mem::replace(is_kept, true) {
                        shared.keeper.watch(&shared.replies, shared.clock);
                    }
                    return Poll::Pending;
                };
                if let Some((begun, path)) = timed.take()
                    && reply.is_ok()
                {
                    let now = shared.clock.now();
                    shared.ask_times.record(&path, now.since(begun), now);
                }
                Poll::Ready(reply.and_then(|reply| {
                    let chunk = reply.into_chunk();
                    let reply = R::owned(chunk.bytes()).ok_or(AskError::InvalidReply);
                    shared.buffers.give(chunk);
                    reply
                }))
            }
        }
    }
}
