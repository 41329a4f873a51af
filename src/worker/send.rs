//! Walk of a message: `api/router` or a handler's `worker/context` comes before, `route/pick` and
//! `worker/outbox` after.
//!
//! One way to send, for handlers and application threads: what frames say of a message, and how an ask
//! is made. A [`Sender`] holds what an application thread decides by: it chooses, refuses, encodes,
//! and hands over to its worker. The faces and the simulator's threads share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::buffers::Buffers;
use super::inject::{AppReply, InjectedAsk, Injection};
use super::outbox::{Head, encode_single};
use super::place::{Place, Route, Target, explain, places, route};
use crate::ask::Plan;
use crate::base::fate::Refusal;
use crate::base::{DestinationId, Time, TypeRef};
use crate::queue::board::{Board, WayState};
use crate::queue::gate::{Gate, Shut};
use crate::queue::inject::Injector;
use crate::queue::reply::{ReplySlots, Ticket};
use crate::route::snapshot::{RouterState, Snapshot};
use crate::route::{Picker, RouteeSet, RouterSpec};
use crate::wire::{Chunk, Fields, FrameKind, Message};

/// What a tell's frame says besides its body.
#[inline]
pub fn tell_head<M: Message>(place: Place) -> Head {
    Head {
        kind: FrameKind::Tell,
        fields: Fields::default(),
        message: M::TYPE_ID,
        target: place.handler,
    }
}

/// What an ask's frame says besides its body. A thread leaves the correlation to its worker, and what
/// is left of the deadline by then.
#[inline]
pub fn ask_head<M: Message>(place: Place, correlation: u64, within: Duration) -> Head {
    let deadline_us = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
    let fields = Fields {
        correlation: Some(correlation),
        deadline_us: Some(deadline_us),
        ..Fields::default()
    };
    Head { kind: FrameKind::Ask, fields, message: M::TYPE_ID, target: place.handler }
}

/// How long an ask waits if not told otherwise.
pub const DEFAULT_WITHIN: Duration = Duration::from_secs(5);

/// How an ask is made. A [`Duration`] stands for one that waits so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct AskOptions {
    /// How long the asker waits at most.
    pub within: Duration,
    /// Whether handling the message twice does no harm: when its routee is lost, moves, or counts as
    /// unreachable, it is sent again to wherever its router points then, until the deadline. So it
    /// may come later than what is sent after it. To be accepted it needs a routee that can be
    /// reached as far as is known, as any other ask.
    pub idempotent: bool,
}

impl AskOptions {
    /// Waits at most so long; sent once.
    pub const fn within(limit: Duration) -> Self {
        Self { within: limit, idempotent: false }
    }

    /// May be sent again.
    pub const fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }
}

impl Default for AskOptions {
    fn default() -> Self {
        Self::within(DEFAULT_WITHIN)
    }
}

impl From<Duration> for AskOptions {
    fn from(limit: Duration) -> Self {
        Self::within(limit)
    }
}

/// How long an idempotent ask rests before its next attempt, at first.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// The plan of an idempotent ask.
pub fn retry(first: Place, again: Target) -> Plan<Target> {
    match again {
        Target::Place(same) if same == first => Plan::persist(again, RETRY_PAUSE),
        again => Plan::retry(Target::Place(first), again, RETRY_PAUSE),
    }
}

/// What one sender on an application thread picks with: the strategy's state, and which routees'
/// links are not known to be down.
pub struct Choice {
    picker: Picker,
    /// Kept for its memory, filled anew by each look.
    usable: RouteeSet,
}

impl Choice {
    /// Give each sender another seed, so that they do not walk the routees in step.
    pub fn new(spec: &RouterSpec, seed: u64) -> Self {
        Self { picker: Picker::new(spec, seed), usable: RouteeSet::none(0) }
    }

    /// Looks which links are known to be down: they are passed over, as a worker would.
    pub fn look(&mut self, sender: &Sender<'_>, state: &RouterState) {
        self.usable.refill(state.table.len(), |routee| {
            let outcome = sender.check(state.destinations[routee]);
            state.active.contains(routee as u16)
                && !matches!(outcome, Err(Refusal::Unreachable | Refusal::Stopped))
        });
    }

    /// Where a message with this key goes, by the last look. A refusal is for
    /// [`Sender::explain`] to make exact.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn route(
        &mut self,
        state: &RouterState,
        message: &TypeRef,
        key_hash: Option<u64>,
    ) -> Result<Route, Refusal> {
        let (table, active) = (&state.table, &state.active);
        route(state, self.picker.pick_for(table, message, key_hash, active, &self.usable))
    }
}

/// An application thread's way into one worker of its node.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    /// The cluster as last published.
    pub snapshot: &'a Snapshot,
    /// Into the worker.
    pub injector: &'a Injector<Injection>,
    /// How the worker's links stand.
    pub board: &'a Board,
    /// Free buffers.
    pub buffers: &'a Buffers,
    /// Where replies come.
    pub replies: &'a ReplySlots<AppReply>,
    /// Whether the node takes messages.
    pub gate: &'a Gate,
    /// Refusals on application threads, by number.
    pub refused: &'a [AtomicU64; Refusal::ALL.len()],
}

impl Sender<'_> {
    /// Counts a refusal that never reaches a worker.
    #[inline]
    pub fn refuse<T>(&self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &outcome {
            self.refused[*refusal as usize].fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Why a router's choice fell on nobody, by what is known of this node itself.
    #[cold]
    pub fn explain(&self, refusal: Refusal) -> Refusal {
        // No link of a node that has stopped takes anything.
        match self.admits() {
            Ok(()) => explain(refusal, self.snapshot),
            Err(shut) => shut,
        }
    }

    /// Whether the node takes messages from this thread.
    #[inline]
    fn admits(&self) -> Result<(), Refusal> {
        self.gate.admits().map_err(|shut| match shut {
            Shut::Leaving => Refusal::Leaving,
            Shut::Closed => Refusal::Stopped,
        })
    }

    /// Where a message goes through a router whose strategy follows keys: needs no state.
    ///
    /// # Errors
    /// Why it goes nowhere.
    #[inline]
    pub fn route_keyed(
        &self,
        state: &RouterState,
        message: &TypeRef,
        key_hash: Option<u64>,
    ) -> Result<Route, Refusal> {
        let pick = Picker::owner_for(&state.table, message, key_hash, &state.active);
        route(state, pick).map_err(|refusal| self.explain(refusal))
    }

    /// Whether the worker's link to a destination takes messages, as far as is known here.
    ///
    /// # Errors
    /// Why it does not.
    #[inline]
    pub fn check(&self, destination: DestinationId) -> Result<(), Refusal> {
        self.admits()?;
        match self.board.get(destination) {
            WayState::Open => Ok(()),
            WayState::Full => Err(Refusal::QueueFull),
            WayState::Down => Err(Refusal::Unreachable),
            WayState::Finished => Err(Refusal::Stopped),
        }
    }

    /// Why the worker's queue gave something back.
    #[cold]
    fn not_taken(&self) -> Refusal {
        if self.injector.is_closed() { Refusal::Stopped } else { Refusal::QueueFull }
    }

    /// Hands encoded frames to the worker.
    ///
    /// # Errors
    /// [`Refusal::QueueFull`] or [`Refusal::Stopped`], with the frames.
    pub fn hand_over(
        &self,
        destination: DestinationId,
        frames: Chunk,
    ) -> Result<(), (Refusal, Chunk)> {
        let injection = Injection::Frames { destination, frames };
        self.injector.push(injection).map_err(|full| match full.into_inner() {
            Injection::Frames { frames, .. } => (self.not_taken(), frames),
            _ => unreachable!("a queue hands back what was pushed"),
        })
    }

    /// Sends one tell to one place, or counts why there is none.
    ///
    /// # Errors
    /// Why it was not accepted; counted.
    pub fn tell<M: Message>(
        &self,
        place: Result<Place, Refusal>,
        message: &M,
    ) -> Result<(), Refusal> {
        let outcome = place.and_then(|place| {
            self.check(place.destination)?;
            let frame = encode_single(self.buffers, &tell_head::<M>(place), message)?;
            self.hand_over(place.destination, frame).map_err(|(refusal, frame)| {
                self.buffers.give(frame);
                refusal
            })
        });
        self.refuse(outcome)
    }

    /// Sends one copy to each of several places; each is a message of its own in the counts.
    ///
    /// # Errors
    /// The first refusal, after all were tried; counted.
    pub fn tell_each<M: Message>(
        &self,
        places: impl Iterator<Item = Result<Place, Refusal>>,
        message: &M,
    ) -> Result<usize, Refusal> {
        let (mut count, mut outcome) = (0, Ok(()));
        for place in places {
            count += 1;
            outcome = outcome.and(self.tell(place, message));
        }
        match count {
            0 => Err(self.refuse_nobody()),
            _ => outcome.map(|()| count),
        }
    }

    /// Why what goes to nobody is not accepted; counted.
    pub fn refuse_nobody(&self) -> Refusal {
        let refusal = self.explain(Refusal::NoRoutee);
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
        refusal
    }

    /// Sends a tell where a router's choice says.
    ///
    /// # Errors
    /// Why it was not accepted; counted.
    #[inline]
    pub fn tell_route<M: Message>(
        &self,
        state: &RouterState,
        route: Result<Route, Refusal>,
        message: &M,
    ) -> Result<(), Refusal> {
        match self.refuse(route)? {
            Route::One(place) => self.tell(Ok(place), message),
            Route::All => self.tell_each(places(state, M::TYPE), message).map(drop),
        }
    }

    /// Sends one ask. `again` is by what an idempotent one is sent again.
    ///
    /// # Errors
    /// Why it was not accepted; counted.
    pub fn ask<M: Message>(
        &self,
        place: Result<Place, Refusal>,
        again: Target,
        message: &M,
        options: AskOptions,
        now: Time,
    ) -> Result<Ticket<AppReply>, Refusal> {
        self.refuse(place.and_then(|place| self.try_ask(place, again, message, options, now)))
    }

    fn try_ask<M: Message>(
        &self,
        place: Place,
        again: Target,
        message: &M,
        options: AskOptions,
        now: Time,
    ) -> Result<Ticket<AppReply>, Refusal> {
        let AskOptions { within, idempotent } = options;
        if idempotent {
            // It goes to the worker in any case, which sends it when it can.
            self.admits()?;
        } else {
            self.check(place.destination)?;
        }
        let frame = encode_single(self.buffers, &ask_head::<M>(place, 0, within), message)?;
        let deadline = now.plus(within);
        let Some(ticket) = self.replies.acquire_until(deadline.0) else {
            self.buffers.give(frame);
            let closed = self.replies.is_closed();
            return Err(if closed { Refusal::Stopped } else { Refusal::TooManyAsks });
        };
        let injection = Injection::Ask(InjectedAsk {
            first: place,
            frame,
            slot: ticket.slot(),
            generation: ticket.generation(),
            deadline,
            plan: idempotent.then(|| Box::new(retry(place, again))),
        });
        self.injector.push(injection).map_err(|full| {
            if let Injection::Ask(ask) = full.into_inner() {
                self.buffers.give(ask.frame);
            }
            self.not_taken()
        })?;
        Ok(ticket)
    }
}
