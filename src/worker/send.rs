//! Walk of a message: `api/router` or a handler's `worker/context` comes before, `route/pick` and
//! `worker/outbox` after.
//!
//! One way to send, for handlers and application threads. [`route`] turns a router's pick into the
//! places a message goes to; a [`Sender`] holds what an application thread decides by: it chooses,
//! refuses, encodes, and hands over to its worker. The faces and the simulator's threads share it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::core::Target;
use super::inject::{InjectedAsk, Injection};
use super::outbox::{Buffers, Head, encode_single};
use super::{AppReply, RouteeRef};
use crate::ask::Plan;
use crate::base::fate::Refusal;
use crate::base::{DestinationId, HandlerId, InstanceId, MemberState, RouteeId, Time, TypeRef};
use crate::queue::board::{Board, WayState};
use crate::queue::inject::Injector;
use crate::queue::reply::{ReplySlots, Ticket};
use crate::route::accepted::misreads;
use crate::route::snapshot::{Reach, RouterState, Snapshot};
use crate::route::{NoRoutee, Pick, Picker, RouteeSet, RouterSpec};
use crate::wire::{Chunk, Fields, FrameKind, Message};

/// Where one message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which destination of the snapshot.
    pub destination: DestinationId,
    /// Which handler there.
    pub handler: HandlerId,
}

/// Where a router sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To one routee.
    One(Place),
    /// To each of [`places`].
    All,
}

/// What a pick of a router's strategy means.
///
/// # Errors
/// Why nobody was picked, in a sender's words.
#[inline]
pub fn route(state: &RouterState, pick: Pick) -> Result<Route, Refusal> {
    match pick {
        Pick::One(routee) => Ok(Route::One(place(state, routee))),
        Pick::All if state.active.is_empty() => Err(Refusal::NoRoutee),
        Pick::All => Ok(Route::All),
        Pick::None(NoRoutee::NoneUsable) => Err(Refusal::Unreachable),
        Pick::None(NoRoutee::MissingKey) => Err(Refusal::MissingKey),
        Pick::None(NoRoutee::LayoutMismatch) => Err(Refusal::LayoutMismatch),
        Pick::None(_) => Err(Refusal::NoRoutee),
    }
}

/// The only place of an ask: a broadcast has no single reply.
///
/// # Errors
/// [`Refusal::NoSingleReply`].
#[inline]
pub fn single(route: Route) -> Result<Place, Refusal> {
    match route {
        Route::One(place) => Ok(place),
        Route::All => Err(Refusal::NoSingleReply),
    }
}

#[inline]
fn place(state: &RouterState, routee: u16) -> Place {
    let routee = usize::from(routee);
    Place {
        destination: state.destinations[routee],
        handler: state.table.routees()[routee].handler,
    }
}

/// The places of all active routees of a router for a message of this type; a refusal for each that
/// would misread it.
pub fn places(
    state: &RouterState,
    message: &TypeRef,
) -> impl Iterator<Item = Result<Place, Refusal>> {
    let accepted = state.table.accepted();
    let reads = accepted.is_everywhere(message.id);
    state.active.iter().map(move |routee| {
        if !reads && accepted.misreads(routee, message) {
            return Err(Refusal::LayoutMismatch);
        }
        Ok(place(state, routee))
    })
}

/// The place of one routee.
///
/// # Errors
/// [`Refusal::Stopped`] when that life of its node is over, [`Refusal::NoRoutee`] when its path is
/// not served on that worker, [`Refusal::LayoutMismatch`] when it would misread a message of this
/// type.
pub fn place_of(snapshot: &Snapshot, to: &RouteeRef, message: &TypeRef) -> Result<Place, Refusal> {
    let RouteeId { node, worker, instance: InstanceId { handler, .. } } = to.id;
    let found = snapshot.destinations.find(node, worker);
    let there = found.filter(|destination| destination.reach != Reach::Gone);
    let destination = there.ok_or(Refusal::Stopped)?.id;
    let member = snapshot.view.member(node.node);
    let service = member.and_then(|member| {
        let at = member.services.binary_search_by(|known| known.path.cmp(&to.path)).ok()?;
        Some(&member.services[at])
    });
    // What its node serves there now says nothing about another registration.
    if let Some(service) = service.filter(|service| service.handler == handler) {
        if !service.placed.contains(worker) {
            return Err(Refusal::NoRoutee);
        }
        if misreads(&service.messages, message) {
            return Err(Refusal::LayoutMismatch);
        }
    }
    Ok(Place { destination, handler })
}

/// Tells a table that is empty because this node is not open yet from one that nobody serves.
#[cold]
pub fn explain(refusal: Refusal, snapshot: &Snapshot) -> Refusal {
    let me = snapshot.view.member(snapshot.view.me.node);
    let joining = me.is_none_or(|me| me.state == MemberState::Joining);
    if refusal == Refusal::NoRoutee && joining { Refusal::Joining } else { refusal }
}

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

/// What an ask's frame says besides its body. A thread leaves the correlation to its worker.
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
    /// unreachable, it is sent again to wherever its router points then, until the deadline.
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

/// How long an idempotent ask rests before its next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// The plan of an idempotent ask.
pub fn retry(first: Place, again: Target) -> Plan<Target> {
    Plan::retry(Target::Place(first), again, RETRY_PAUSE)
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
    /// Whether the node takes nothing more.
    pub closing: &'a AtomicBool,
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
        match refusal {
            // No link of a node that has stopped takes anything.
            _ if self.is_closing() => Refusal::Stopped,
            refusal => explain(refusal, self.snapshot),
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
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
        if self.is_closing() {
            return Err(Refusal::Stopped);
        }
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
            0 => self.refuse(Err(self.explain(Refusal::NoRoutee))),
            _ => outcome.map(|()| count),
        }
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
        if !idempotent {
            // An idempotent ask goes to the worker in any case, which sends it when it can.
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::*;
    use crate::base::{View, WorkerIndex};
    use crate::hash::HashSeed;
    use crate::route::snapshot::{Destination, Destinations};
    use crate::route::{RouteTable, StrategyKind};
    use crate::worker::testnet::{Ping, destination, member, node};

    #[test]
    fn a_broadcast_leaves_out_who_does_not_answer() {
        let view = View::new(node(0), 1, (0..3).map(member).collect());
        let spec = RouterSpec::new("/echo".parse().unwrap(), StrategyKind::Broadcast, HashSeed(1));
        let table = Arc::new(RouteTable::build(&view, &spec, None));
        let places_of = table.routees().iter().map(|it| destination(it.node.node.0 as usize - 1));
        let places_of: Arc<[DestinationId]> = places_of.collect();
        for silent in 0..3 {
            let all = (0..3).map(|index| {
                Some(Destination {
                    id: destination(index),
                    node: node(index),
                    worker: WorkerIndex(0),
                    address: member(index).address,
                    reach: if index == silent { Reach::Unreachable } else { Reach::Usable },
                    routed: index != silent,
                    damped: false,
                })
            });
            let all = Destinations::new(all.collect(), NonZeroU32::MAX);
            let (spec, table) = (Arc::new(spec.clone()), Arc::clone(&table));
            let state = RouterState::new(spec, table, Arc::clone(&places_of), &all);
            let mut told: Vec<_> =
                places(&state, Ping::TYPE).map(|place| place.unwrap().destination).collect();
            told.sort();
            let others = (0..3).filter(|index| *index != silent).map(destination);
            assert_eq!(told, others.collect::<Vec<_>>());
        }
    }
}
