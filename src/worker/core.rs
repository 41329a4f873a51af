//! Walk of a message: a handler's `worker/context`, or `worker/admit` for another thread, comes before
//! (and `worker/place` says where to), `wire/encode` and `worker/outbox` after.
//!
//! Everything of a worker that handlers may touch while they run: links, routers, asks, timers and
//! counts. The routees themselves live beside it, so that one can run while this is borrowed.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::buffers::Buffers;
use super::calls::Calls;
use super::dead::Mourner;
use super::inject::{AppReply, Injection, NoReply};
use super::kinds::Kinds;
use super::limits::Limits;
use super::link::{LATE_DIAL, Link, LinkId, LinkState, Links, Role};
use super::outbox::{Encoder, Head};
use super::place::{Place, Route, RouteeRef, Target, explain, place_of, places, route};
use super::request::Request;
use super::router_ref::RouterKey;
use super::router_slot::{RouterSlot, slot_of};
use super::send::tell_head;
use super::work::{Outcome, Works};
use crate::ask::{Asks, Effects};
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::base::timers::{TimerKey, TimerWheel};
use crate::base::{
    DestinationId, HandlerId, InstanceId, MessageTypeId, NodeRef, Time, TypeRef, WorkerIndex,
};
use crate::part::{PartId, WorkerHalves};
use crate::queue::board::CountsBoard;
use crate::queue::inject::Injector;
use crate::queue::reply::ReplySlots;
use crate::queue::spill::Spill;
use crate::route::snapshot::{RouterState, Snapshot};
use crate::route::{Picker, RouteeSet};
use crate::wire::codec::two_words;
use crate::wire::{Chunk, Fields, FrameKind, Message, WireType};

/// What a worker's own timers are for.
pub(super) enum Timer {
    Ack(LinkId),
    Redial(LinkId),
    Dial(LinkId),
    Parting(LinkId),
    Part { part: PartId, token: u64 },
}

/// Who waits for a reply.
pub(super) enum Waiter {
    Routee { instance: InstanceId, token: u64, deliver: DeliverReply },
    Application { slot: u32, generation: u32 },
}

impl Waiter {
    /// Whether both are the same application's wait.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Application { slot, generation },
                Self::Application { slot: other_slot, generation: other_generation },
            ) => (slot, generation) == (other_slot, other_generation),
            _ => false,
        }
    }
}

/// Casts the routee and the reply back to their types and calls `on_reply`.
pub(super) type DeliverReply = fn(&mut dyn Any, u64, Result<&[u8], AskError>, &mut Context<'_>);

/// The same with the result of work.
pub(super) type Then = Box<dyn FnOnce(&mut dyn Any, Outcome, &mut Context<'_>)>;

/// Where the message that is being handled came from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub link: LinkId,
    pub correlation: Option<u64>,
    pub deadline: Option<Time>,
}

/// A handler's hands: send, ask, reply later, set times.
///
/// Nothing here locks, allocates or makes a system call; what is sent leaves at the end of the
/// worker's duty cycle.
// Beside the core, which keeps functions that take one.
pub struct Context<'a> {
    pub(super) core: &'a mut Core,
    pub(super) instance: InstanceId,
    pub(super) origin: Option<Origin>,
}

#[inline]
pub(super) fn link_of(
    destinations: &[Option<(DestinationId, LinkId)>],
    wanted: DestinationId,
) -> Option<LinkId> {
    match destinations.get(wanted.slot()) {
        Some(Some((known, link))) if *known == wanted => Some(*link),
        _ => None,
    }
}

/// What has a link dialed, and looks how long that takes.
type Dials<'a> = (&'a mut Vec<Request>, &'a mut TimerWheel<Timer>, Time);

fn dial(
    link: &mut Link,
    id: LinkId,
    destination: DestinationId,
    (requests, timers, now): Dials<'_>,
) {
    link.state = LinkState::Dialing;
    requests.push(Request::Dial { destination, link: id });
    watch_dial(link, id, timers, now);
}

/// A link is being dialed from now on.
fn watch_dial(link: &mut Link, id: LinkId, timers: &mut TimerWheel<Timer>, now: Time) {
    link.dialed_at = now;
    if !std::mem::replace(&mut link.dial_watched, true) {
        timers.insert(now.plus(LATE_DIAL), Timer::Dial(id));
    }
}

/// The link to a destination, if it takes messages now; opened if need be.
#[inline]
fn taking<'a>(
    link: &'a mut Link,
    id: LinkId,
    destination: DestinationId,
    encoder: &Encoder,
    dials: Dials<'_>,
) -> Result<&'a mut Link, Refusal> {
    if link.parting || !matches!(link.state, LinkState::Open | LinkState::Dialing) {
        open_link(link, id, destination, dials)?;
    } else if link.outbox.is_full(encoder) {
        return Err(Refusal::QueueFull);
    }
    Ok(link)
}

/// Has a link dialed on its first message.
#[cold]
fn open_link(
    link: &mut Link,
    id: LinkId,
    destination: DestinationId,
    dials: Dials<'_>,
) -> Result<(), Refusal> {
    match link.state {
        LinkState::Open | LinkState::Dialing | LinkState::Idle if link.parting => {
            Err(Refusal::Stopped)
        }
        LinkState::Open | LinkState::Dialing => Ok(()),
        LinkState::Idle if link.wanted => {
            dial(link, id, destination, dials);
            Ok(())
        }
        LinkState::Idle | LinkState::Broken => Err(Refusal::Unreachable),
        LinkState::Finished => Err(Refusal::Stopped),
    }
}

/// Encodes one tell or ask into the outbox of a link that takes it.
#[inline(always)]
pub(super) fn push<M: Message>(
    link: &mut Link,
    id: LinkId,
    encoder: &mut Encoder,
    dirty: &mut Vec<LinkId>,
    head: &Head,
    message: &M,
) -> Result<(), Refusal> {
    link.outbox.push(encoder, head, message)?;
    link.sent.requests += 1;
    if !link.dirty {
        link.dirty = true;
        dirty.push(id);
    }
    Ok(())
}

/// A planned ask of another thread, which was counted as a message when it was handed over: its first
/// attempt that has a link is that message.
pub(super) struct HandedOver {
    pub destination: DestinationId,
    pub about: Option<(HandlerId, MessageTypeId)>,
    /// What it is dead of should there be no such attempt.
    pub reason: DeathReason,
}

pub struct Core {
    pub(super) me: NodeRef,
    pub(super) index: WorkerIndex,
    pub(super) now: Time,
    pub(super) limits: Limits,
    pub(super) links: Links,
    pub(super) own: LinkId,
    pub(super) siblings: Vec<LinkId>,
    /// By slot: who is there, and the link.
    pub(super) destinations: Vec<Option<(DestinationId, LinkId)>>,
    /// Destinations that application threads have not been told are gone.
    pub(super) gone: Vec<DestinationId>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) routers: Vec<Option<RouterSlot>>,
    pub(super) encoder: Encoder,
    pub(super) buffers: Arc<Buffers>,
    pub(super) asks: Asks<Waiter, LinkId, Target>,
    /// What the asks decided and nobody has carried out yet.
    pub(super) ask_effects: Effects<Waiter>,
    /// Asks of routees that have failed: each is told when it has its turn.
    pub(super) failed_asks: VecDeque<(Waiter, AskError)>,
    /// By slot of an application's reply: the ask that was last sent for it.
    pub(super) app_asks: Vec<u64>,
    /// Planned asks of other threads of which no attempt has had a link yet.
    pub(super) handed_over: BTreeMap<u64, HandedOver>,
    /// When a full table of asks was last looked over.
    pub(super) reaped_at: Time,
    pub(super) replies: ReplySlots<AppReply>,
    /// Replies of this worker's own routees to applications that asked by it, by slot and generation.
    pub(super) replied_here: Vec<(u32, u32, AppReply)>,
    pub(super) timers: TimerWheel<Timer>,
    /// Times that routees set. Apart from the worker's own: whoever is woken may take long.
    pub(super) wakes: TimerWheel<(InstanceId, u64)>,
    /// Asks and times that routees have begun in this duty cycle.
    pub(super) begun: (Vec<u64>, Vec<TimerKey>),
    /// Routees that asked to be woken in the next duty cycle.
    pub(super) soon: VecDeque<(InstanceId, u64)>,
    /// Messages of parts to routees, oldest first. No more than parts keep places for.
    pub(super) notices: VecDeque<(InstanceId, Chunk)>,
    /// What routees have begun elsewhere.
    pub(super) works: Works<Then>,
    pub(super) requests: Vec<Request>,
    pub(super) dirty: Vec<LinkId>,
    pub(super) parts: WorkerHalves,
    pub(super) injector: Injector<Injection>,
    pub(super) rng_seed: u64,
    /// Held by every replier that is still to reply, and where those say so that found the worker's
    /// queue full.
    pub(super) repliers: Spill<NoReply>,
    /// What the turn has called of users' code.
    pub(super) calls: Calls,
    /// By slots of handlers: the path that was served there last.
    pub(super) paths: Vec<Option<(HandlerId, Arc<str>)>>,
    pub(super) kinds: Kinds,
    /// Whether a link's state changed since the driver last looked.
    pub(super) ways_changed: bool,
    /// Where it counts, and others see that and what is called right now.
    pub(super) published: Arc<CountsBoard>,
    pub(super) mourner: Option<Mourner>,
}

impl Core {
    // ---- routing ----

    /// Where a router sends a message of this type with this key.
    #[inline]
    pub(super) fn route(
        &mut self,
        router: RouterKey,
        message: &TypeRef,
        key_hash: Option<u64>,
    ) -> Result<Route, Refusal> {
        let Some(slot) = slot_of(&mut self.routers, router) else {
            return Err(self.not_here(router));
        };
        let pick = slot.pick(message, key_hash);
        match route(&slot.state, pick) {
            Err(refusal) => Err(self.explain(refusal)),
            route => route,
        }
    }

    /// Why this worker has no such router.
    #[cold]
    fn not_here(&self, router: RouterKey) -> Refusal {
        match router.is_beside(RouterKey::new(self.me, 0)) {
            true => Refusal::NoRoutee,
            false => Refusal::OtherNode,
        }
    }

    #[cold]
    pub(super) fn explain(&self, refusal: Refusal) -> Refusal {
        let nobody = matches!(refusal, Refusal::NoRoutee | Refusal::Unreachable);
        if nobody && self.asks.is_over() {
            // A node that has left is no member either, but does not join.
            return Refusal::Stopped;
        }
        let snapshot = self.snapshot.as_ref();
        snapshot.map_or(Refusal::Joining, |snapshot| explain(refusal, snapshot))
    }

    /// Sends a tell through a router.
    #[inline]
    pub(super) fn tell<M: Message>(
        &mut self,
        router: RouterKey,
        key_hash: Option<u64>,
        message: &M,
    ) -> Result<(), Refusal> {
        match self.route(router, M::TYPE, key_hash) {
            Ok(Route::One(place)) => self.tell_at(Ok(place), message),
            Ok(Route::All) => self.tell_all(router, message),
            Err(refusal) => self.tell_at(Err(refusal), message),
        }
    }

    /// Sends a tell to one place.
    #[inline]
    pub(super) fn tell_at<M: Message>(
        &mut self,
        place: Result<Place, Refusal>,
        message: &M,
    ) -> Result<(), Refusal> {
        // Counted afterwards: when its own serialisation panics, nothing was sent.
        let sent = place.and_then(|place| self.push_tell(place, message));
        self.published.tally.sent.add(1);
        self.refused(sent)
    }

    /// Of its own, so that all that a tell leaves out is known when it is compiled.
    fn push_tell<M: Message>(&mut self, place: Place, message: &M) -> Result<(), Refusal> {
        let id = self.link_of(place.destination).ok_or(Refusal::Stopped)?;
        let Self { links, encoder, requests, dirty, timers, now, .. } = self;
        let dials = (requests, timers, *now);
        let link = taking(&mut links[id], id, place.destination, encoder, dials)?;
        push(link, id, encoder, dirty, &tell_head::<M>(place), message)
    }

    /// Sends one copy to each routee of a router; each copy is a message of its own in the counts.
    /// The first refusal is reported after all were tried.
    pub(super) fn tell_all<M: Message>(
        &mut self,
        router: RouterKey,
        message: &M,
    ) -> Result<(), Refusal> {
        let state = match slot_of(&mut self.routers, router) {
            Some(slot) if !slot.state.active.is_empty() => Arc::clone(&slot.state),
            Some(_) => return self.tell_at(Err(self.explain(Refusal::NoRoutee)), message),
            None => return self.tell_at(Err(self.not_here(router)), message),
        };
        let mut outcome = Ok(());
        for place in places(&state, M::TYPE) {
            outcome = outcome.and(self.tell_at(place, message));
        }
        outcome
    }

    #[inline]
    pub(super) fn refused<T>(&mut self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &outcome {
            self.published.tally.refused[*refusal as usize].add(1);
        }
        outcome
    }

    // ---- into a link ----

    /// The link to a destination, opened if need be; a refusal says why nothing can go there now.
    #[inline]
    pub(super) fn link_to(&mut self, destination: DestinationId) -> Result<LinkId, Refusal> {
        let id = self.link_of(destination).ok_or(Refusal::Stopped)?;
        let Self { links, encoder, requests, timers, now, .. } = self;
        taking(&mut links[id], id, destination, encoder, (requests, timers, *now))?;
        Ok(id)
    }

    /// The link to a destination, if there is one.
    #[inline]
    pub(super) fn link_of(&self, destination: DestinationId) -> Option<LinkId> {
        link_of(&self.destinations, destination)
    }

    /// Whether a snapshot with this destination has been applied, or one from after its end.
    #[inline]
    pub(super) fn knows(&self, destination: DestinationId) -> bool {
        let newest = self.snapshot.as_ref().map(|snapshot| snapshot.destinations.newest());
        newest.is_some_and(|newest| !destination.is_after(newest))
    }

    /// Whether what another thread was told is accepted must wait before it can go to a
    /// destination: there is no room, or the snapshot that names it is still on its way.
    #[inline]
    pub(super) fn is_crowded(&self, destination: DestinationId) -> bool {
        match self.link_of(destination).and_then(|id| self.links.get(id)) {
            Some(link) => {
                link.outbox.is_full(&self.encoder)
                    && !link.fin_queued
                    && matches!(link.state, LinkState::Open | LinkState::Dialing)
            }
            None => !self.knows(destination),
        }
    }

    /// As [`Core::link_to`], for what another thread was told is accepted: that may go to a peer
    /// that was found to be leaving a moment ago.
    pub(super) fn link_for_accepted(
        &mut self,
        destination: DestinationId,
    ) -> Result<LinkId, Refusal> {
        if let Some(id) = self.link_of(destination)
            && let link = &mut self.links[id]
            && link.parting
            && !link.fin_queued
        {
            match link.state {
                LinkState::Open | LinkState::Dialing => {
                    let full = link.outbox.is_full(&self.encoder);
                    return if full { Err(Refusal::QueueFull) } else { Ok(id) };
                }
                LinkState::Idle => {
                    self.dial(id, destination);
                    return Ok(id);
                }
                LinkState::Broken | LinkState::Finished => {}
            }
        }
        self.link_to(destination)
    }

    pub(super) fn dial(&mut self, id: LinkId, destination: DestinationId) {
        let Self { links, requests, timers, now, .. } = self;
        dial(&mut links[id], id, destination, (requests, timers, *now));
    }

    /// Control begins the dial of a link anew.
    pub(super) fn dialed_anew(&mut self, id: LinkId) {
        watch_dial(&mut self.links[id], id, &mut self.timers, self.now);
    }

    /// Puts one encoded tell or ask into a link.
    pub(super) fn push_request(&mut self, id: LinkId, frame: Chunk) {
        let link = &mut self.links[id];
        link.sent.requests += u64::from(frame.frames());
        link.outbox.push_chunk(&mut self.encoder, frame);
        self.mark_dirty(id);
    }

    #[inline]
    pub(super) fn mark_dirty(&mut self, id: LinkId) {
        let link = &mut self.links[id];
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(id);
        }
    }

    // ---- replies ----

    /// Puts a reply into the link that the ask came from; one for an application of this worker goes to
    /// it at once.
    #[inline]
    pub(super) fn reply<R: WireType>(&mut self, link: LinkId, correlation: u64, reply: &R) {
        if self.is_for_own_application(link, correlation) {
            return self.reply_to_own_application(correlation, reply);
        }
        let Some(to) = self.links.get_mut(link) else {
            self.published.tally.lost_replies.add(1);
            return;
        };
        if to.outbox.is_overfull(&self.encoder) {
            return self.lose_reply(link, correlation);
        }
        let pushed = to.outbox.push(&mut self.encoder, &Head::reply(correlation), reply);
        match pushed {
            Ok(()) => self.mark_dirty(link),
            Err(_) => self.refuse_reply(link, correlation),
        }
    }

    // Out of line, or the replies to routees would pay for it.
    #[inline(never)]
    fn reply_to_own_application<R: WireType>(&mut self, correlation: u64, reply: &R) {
        match self.encoder.single(&Head::reply(correlation), reply) {
            Ok(frame) => self.reply_here(correlation, frame),
            Err(_) => self.refuse_reply(self.own, correlation),
        }
    }

    #[cold]
    fn refuse_reply(&mut self, link: LinkId, correlation: u64) {
        self.published.tally.lost_replies.add(1);
        self.fail(link, correlation, DeathReason::ReplyTooLarge);
    }

    /// Whoever was to reply later does not.
    #[cold]
    pub(super) fn no_reply(&mut self, (to, reason): NoReply) {
        self.published.tally.lost_replies.add(u64::from(reason.loses_reply()));
        self.fail(to.link, to.correlation, reason);
    }

    /// A link holds more replies than its peer can expect to be kept for it.
    #[cold]
    pub(super) fn lose_reply(&mut self, link: LinkId, correlation: u64) {
        self.published.tally.lost_replies.add(1);
        self.fail(link, correlation, DeathReason::RepliesFull);
    }

    /// Forgets a link, and gives back what it held.
    pub(super) fn remove_link(&mut self, id: LinkId) {
        if let Some(mut link) = self.links.remove(id) {
            link.outbox.clear(&mut self.encoder);
        }
    }

    /// Tells an asker that there will be no reply.
    pub(super) fn fail(&mut self, link: LinkId, correlation: u64, reason: DeathReason) {
        if self.is_for_own_application(link, correlation) {
            let Self { asks, ask_effects, now, .. } = self;
            asks.failed(correlation, link, reason, *now, ask_effects);
            return self.carry_asks();
        }
        let Some(to) = self.links.get_mut(link) else { return };
        to.outbox.push_control(
            &mut self.encoder,
            FrameKind::Failure,
            &Fields::correlated(correlation),
            reason as u32,
            &[],
        );
        self.mark_dirty(link);
    }

    // ---- references ----

    /// The place of one routee.
    pub(super) fn place_of(&self, to: &RouteeRef, message: &TypeRef) -> Result<Place, Refusal> {
        place_of(self.snapshot.as_ref().ok_or(Refusal::Stopped)?, to, message)
    }

    // ---- acknowledgements ----

    /// Reports how many requests of an accepted link have come to their end.
    pub(super) fn acknowledge(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.taken.ack_due = None;
        if link.taken.unreported() == 0 {
            return;
        }
        let body = two_words(link.taken.delivered, link.taken.dead);
        link.taken.reported = link.taken.delivered + link.taken.dead;
        link.outbox.push_control(&mut self.encoder, FrameKind::Ack, &Fields::default(), 0, &body);
        self.mark_dirty(id);
    }

    // ---- routers ----

    /// Takes over the routers of a new snapshot, keeping the strategies' own state where the
    /// router is the same.
    pub(super) fn refresh_routers(&mut self, snapshot: &Snapshot) {
        self.routers.resize_with(snapshot.slots().len(), || None);
        for (slot, router) in self.routers.iter_mut().zip(snapshot.slots()) {
            match (slot, router) {
                (Some(slot), Some((id, state))) if slot.key.id() == *id => {
                    slot.change(Arc::clone(state));
                }
                (slot, Some((id, state))) => {
                    let seed = self.rng_seed ^ u64::from(*id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let picker = Picker::new(&state.spec, seed);
                    let key = RouterKey::new(self.me, *id);
                    *slot = Some(RouterSlot::new(key, Arc::clone(state), picker));
                }
                (slot, None) => *slot = None,
            }
        }
        self.refresh_usable();
    }

    /// Recomputes which routees unkeyed strategies should choose. Called when a link's state
    /// changes, never per message.
    pub(super) fn refresh_usable(&mut self) {
        self.ways_changed = true;
        for slot in self.routers.iter_mut().flatten() {
            let RouterState { destinations, active, .. } = &*slot.state;
            slot.usable = RouteeSet::from_fn(destinations.len(), |routee| {
                active.contains(routee as u16)
                    && link_of(&self.destinations, destinations[routee])
                        .and_then(|id| self.links.get(id))
                        .is_some_and(|link| link.is_promising(self.now))
            });
        }
    }

    /// A link's counts come to their end: what was written and not acknowledged is unknown.
    pub(super) fn settle(&mut self, id: LinkId, kept: u64) {
        let link = &mut self.links[id];
        if matches!(link.role, Role::Dialed { .. }) {
            let written = link.sent.requests - kept;
            // A peer that acknowledges what was never written to it gets no count below zero.
            self.published.tally.unknown.add(written.saturating_sub(link.sent.acknowledged()));
            link.sent.requests = kept;
            link.sent.delivered = 0;
            link.sent.dead = 0;
        }
    }
}
