//! Asks from application threads: a future that needs no particular runtime.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rkyv::Deserialize;
use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Failure;

use super::router::Router;
use super::shared::Shared;
use crate::base::fate::{AskError, Refusal};
use crate::queue::block_on;
use crate::queue::reply::Ticket;
use crate::wire::{Message, WireType};
use crate::worker::{AppReply, AskOptions};

/// An ask that has not been sent yet: `.await` or [`Ask::wait`] sends it.
#[must_use = "an ask is sent when it is awaited"]
pub struct Ask<'a, M: Message> {
    router: &'a Router,
    key_hash: Option<u64>,
    message: &'a M,
    options: AskOptions,
}

impl<'a, M: Message> Ask<'a, M> {
    pub(super) fn new(router: &'a Router, key_hash: Option<u64>, message: &'a M) -> Self {
        Self { router, key_hash, message, options: AskOptions::default() }
    }

    /// Waits at most so long for the reply; 5 s if not called.
    pub fn within(mut self, limit: Duration) -> Self {
        self.options.within = limit;
        self
    }

    /// Handling the message twice does no harm: when its routee is lost or moves, it is sent again
    /// to wherever its key lives then, until the deadline.
    pub fn idempotent(mut self) -> Self {
        self.options.idempotent = true;
        self
    }

    /// Sends it and blocks the thread until it has ended. Not for handlers or async code.
    ///
    /// # Errors
    /// As the future's output.
    pub fn wait(self) -> Result<M::Reply, AskError>
    where
        <M::Reply as rkyv::Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
    {
        block_on(self.into_future())
    }
}

impl<M: Message> IntoFuture for Ask<'_, M>
where
    <M::Reply as rkyv::Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
{
    type Output = Result<M::Reply, AskError>;
    type IntoFuture = AskFuture<M::Reply>;

    fn into_future(self) -> AskFuture<M::Reply> {
        let state = match self.router.send_ask(self.key_hash, self.message, self.options) {
            Ok(ticket) => State::Waiting(ticket, Arc::clone(self.router.shared())),
            Err(refusal) => State::Refused(refusal),
        };
        AskFuture { state, reply: std::marker::PhantomData }
    }
}

/// The reply to come. Dropped, it is no longer waited for; the message may still be handled.
#[must_use = "a future does nothing unless polled"]
pub struct AskFuture<R> {
    state: State,
    reply: std::marker::PhantomData<fn() -> R>,
}

enum State {
    Waiting(Ticket<AppReply>, Arc<Shared>),
    Refused(Refusal),
}

impl<R: WireType> Future for AskFuture<R>
where
    R::Archived: Deserialize<R, HighDeserializer<Failure>>,
{
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Refused(refusal) => Poll::Ready(Err((*refusal).into())),
            State::Waiting(ticket, shared) => {
                let reply = std::task::ready!(Pin::new(ticket).poll(cx));
                Poll::Ready(reply.and_then(|chunk| {
                    let reply = R::access(chunk.bytes())
                        .and_then(|archived| rkyv::deserialize::<R, Failure>(archived).ok())
                        .ok_or(AskError::InvalidReply);
                    shared.buffers.give(chunk);
                    reply
                }))
            }
        }
    }
}
