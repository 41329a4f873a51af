//! Asks to all routees that a selection finds, under way at the same time.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rkyv::Deserialize;
use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Failure;

use super::ask::{Ask, AskFuture};
use super::select::Selection;
use crate::base::WorkerIndex;
use crate::base::fate::{AskError, Refusal};
use crate::queue::block_on::{block_on, is_worker_thread};
use crate::wire::{Message, WireType};
use crate::worker::{AskOptions, RouteeRef};

/// An ask of several that has not been sent yet: `.await` or [`AskEach::wait`] sends it.
#[must_use = "an ask is sent when it is awaited"]
pub struct AskEach<'a, M: Message> {
    selection: &'a Selection,
    message: &'a M,
    options: AskOptions,
}

/// Who was asked, and what came of it.
pub type Answers<R> = Vec<(RouteeRef, Result<R, AskError>)>;

impl Selection {
    /// Asks each handler that fits, all at the same time:
    /// `selection.ask(&message).within(limit).await` gives who was asked, each with its reply or why
    /// there is none.
    pub fn ask<'a, M: Message>(&'a self, message: &'a M) -> AskEach<'a, M> {
        AskEach { selection: self, message, options: AskOptions::default() }
    }
}

impl<M: Message> AskEach<'_, M>
where
    <M::Reply as rkyv::Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
{
    /// Waits at most so long for the replies; 5 s if not called.
    pub fn within(mut self, limit: Duration) -> Self {
        self.options.within = limit;
        self
    }

    /// Handling the message twice does no harm: where a link is lost it is sent again to the same
    /// routee, until the deadline. So it may come later than what is sent after it.
    pub fn idempotent(mut self) -> Self {
        self.options.idempotent = true;
        self
    }

    /// Sends them and blocks the thread until all have ended, a moment after their deadline at the
    /// latest. Not for async code.
    ///
    /// # Errors
    /// As the future's output; [`Refusal::WouldBlock`] on a worker's thread.
    pub fn wait(self) -> Result<Answers<M::Reply>, Refusal> {
        if is_worker_thread() {
            self.selection.shared.count_refusal(Refusal::WouldBlock);
            return Err(Refusal::WouldBlock);
        }
        block_on(self.into_future())
    }
}

impl<M: Message> IntoFuture for AskEach<'_, M>
where
    <M::Reply as rkyv::Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
{
    type Output = Result<Answers<M::Reply>, Refusal>;
    type IntoFuture = AskEachFuture<M::Reply>;

    fn into_future(self) -> AskEachFuture<M::Reply> {
        let Self { selection, message, options } = self;
        let found = selection.identify();
        if found.is_empty() {
            let snapshot = selection.shared.snapshot.load();
            let refusal = selection.shared.sender(WorkerIndex(0), &snapshot).refuse_nobody();
            return AskEachFuture { asked: Err(refusal), open: 0 };
        }
        let asked = found.into_iter().map(|to| {
            let future = Ask::of(&selection.shared, &to, message, options).into_future();
            (to, Asked::Open(future))
        });
        let asked: Vec<_> = asked.collect();
        AskEachFuture { open: asked.len(), asked: Ok(asked) }
    }
}

/// The replies to come. Dropped, they are no longer waited for.
#[must_use = "a future does nothing unless polled"]
pub struct AskEachFuture<R> {
    asked: Result<Vec<(RouteeRef, Asked<R>)>, Refusal>,
    /// How many have not ended.
    open: usize,
}

enum Asked<R> {
    Open(AskFuture<R>),
    Ended(Result<R, AskError>),
}

/// Nothing in it is pinned.
impl<R> Unpin for AskEachFuture<R> {}

impl<R: WireType> Future for AskEachFuture<R>
where
    R::Archived: Deserialize<R, HighDeserializer<Failure>>,
{
    type Output = Result<Answers<R>, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { asked, open } = &mut *self;
        let asked = match asked {
            Ok(asked) => asked,
            Err(refusal) => return Poll::Ready(Err(*refusal)),
        };
        // Each is looked at: a reply that has come takes memory of the node until it is fetched.
        for (_, asked) in &mut *asked {
            if let Asked::Open(future) = asked
                && let Poll::Ready(reply) = Pin::new(future).poll(cx)
            {
                *asked = Asked::Ended(reply);
                *open -= 1;
            }
        }
        if *open > 0 {
            return Poll::Pending;
        }
        let ended = std::mem::take(asked).into_iter().filter_map(|(to, asked)| match asked {
            Asked::Ended(reply) => Some((to, reply)),
            Asked::Open(_) => None,
        });
        Poll::Ready(Ok(ended.collect()))
    }
}
