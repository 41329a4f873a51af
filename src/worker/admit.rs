//! Walk of a message from another thread: `worker/inject` comes before (and `worker/held`, when its
//! link has no room yet), `worker/outbox` after.
//!
//! Takes hand-overs in: tells that are encoded already, asks that still need a correlation, replies
//! that come later. And carries out what [`crate::ask`] decides about asks.

use super::core::{Core, Waiter};
use super::dead::About;
use super::link::LinkId;
use super::place::{Place, Target, single};
use super::{InjectedAsk, Injection, Worker};
use crate::ask::Effect;
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::base::{DestinationId, Time};
use crate::wire::Chunk;

/// How often a full table of asks is looked over for what nobody waits for.
const REAP_EVERY: std::time::Duration = std::time::Duration::from_millis(10);

impl Worker {
    /// Whether a snapshot with this destination has been applied. Another thread can know of one
    /// a moment earlier than its worker.
    #[inline]
    pub fn knows(&self, injection: &Injection) -> bool {
        injection.destination().is_none_or(|to| self.core.knows(to))
    }

    /// Takes one hand-over in.
    pub(super) fn admit(&mut self, injection: Injection) {
        match injection {
            Injection::Frames { destination, frames } => {
                match self.core.link_for_accepted(destination) {
                    Ok(id) => self.core.push_request(id, frames),
                    Err(refusal) => self.core.bury_hand_over(death(refusal), destination, frames),
                }
            }
            Injection::Ask(ask) => self.inject_ask(ask),
            Injection::Cancel { slot, generation } => self.core.cancel(slot, generation),
            Injection::Reply { to, frame } => {
                let Core { links, encoder, .. } = &mut self.core;
                let link = links.get_mut(to.link);
                match (frame, link) {
                    (Ok(frame), Some(link)) if !link.outbox.is_overfull(encoder) => {
                        link.outbox.push_chunk(encoder, frame);
                        self.core.mark_dirty(to.link);
                    }
                    (Ok(frame), _) => {
                        encoder.give(frame);
                        self.core.lose_reply(to.link, to.correlation);
                    }
                    (Err(reason), _) => self.core.fail(to.link, to.correlation, reason),
                }
            }
        }
    }

    /// Ends a hand-over that was accepted and finds no way on.
    pub(super) fn give_up(&mut self, injection: Injection, refusal: Refusal) {
        match injection {
            Injection::Frames { destination, frames } => {
                self.core.bury_hand_over(death(refusal), destination, frames);
            }
            Injection::Ask(InjectedAsk { first, frame, slot, generation, .. }) => {
                self.core.published.tally.asks.add(1);
                let waiter = Waiter::Application { slot, generation };
                self.refuse_ask(waiter, first.destination, frame, refusal);
            }
            other @ (Injection::Reply { .. } | Injection::Cancel { .. }) => self.admit(other),
        }
    }

    fn inject_ask(&mut self, ask: InjectedAsk) {
        let InjectedAsk { first, frame, slot, generation, deadline, plan } = ask;
        let waiter = Waiter::Application { slot, generation };
        self.core.published.tally.asks.add(1);
        if deadline <= self.core.now {
            self.core.bury_hand_over(DeathReason::Expired, first.destination, frame);
            self.end_ask(waiter, Err(AskError::Timeout));
            return;
        }
        if self.core.asks.is_full() {
            self.core.reap();
        }
        self.core.note_slot(slot);
        match plan {
            None => self.ask_once(waiter, first, frame, deadline),
            Some(plan) => {
                let Core { asks, ask_effects, now, .. } = &mut self.core;
                match asks.start((waiter, *plan, frame), deadline, *now, ask_effects) {
                    Ok(_) => {
                        self.core.carry_asks();
                        // Each attempt counts as a message: what was handed over is none besides.
                        self.core.published.tally.sent.take_back(1);
                    }
                    Err((waiter, frame)) => {
                        self.refuse_ask(waiter, first.destination, frame, Refusal::TooManyAsks);
                    }
                }
            }
        }
    }

    /// Puts an encoded ask without a plan on its way.
    fn ask_once(&mut self, waiter: Waiter, place: Place, mut frame: Chunk, deadline: Time) {
        let core = &mut self.core;
        let link = match core.link_for_accepted(place.destination) {
            Ok(link) => link,
            Err(refusal) => return self.refuse_ask(waiter, place.destination, frame, refusal),
        };
        match core.asks.open(waiter, link, deadline) {
            Ok(correlation) => {
                frame.patch_first_correlation(correlation);
                core.push_request(link, frame);
            }
            Err(waiter) => {
                self.refuse_ask(waiter, place.destination, frame, Refusal::TooManyAsks);
            }
        }
    }

    #[cold]
    fn refuse_ask(
        &mut self,
        waiter: Waiter,
        destination: DestinationId,
        frame: Chunk,
        refusal: Refusal,
    ) {
        self.core.bury_hand_over(death(refusal), destination, frame);
        self.end_ask(waiter, Err(AskError::Refused(refusal)));
    }

    /// Tells each routee that waited for an ask that failed, also for those that fail because of that.
    pub(super) fn end_failed_asks(&mut self) {
        self.core.carry_asks();
        while let Some((waiter, error)) = self.core.failed_asks.pop_front() {
            self.end_ask(waiter, Err(error));
            self.core.carry_asks();
        }
    }
}

impl Core {
    /// Notes which ask an application waits for in a slot: the one that is opened next.
    fn note_slot(&mut self, slot: u32) {
        let slot = slot as usize;
        if self.app_asks.len() <= slot {
            self.app_asks.resize(slot + 1, u64::MAX);
        }
        self.app_asks[slot] = self.asks.next();
    }

    /// Gives up an ask that nobody waits for any more, so that its place is free.
    fn cancel(&mut self, slot: u32, generation: u32) {
        let gone = Waiter::Application { slot, generation };
        if let Some(ask) = self.app_asks.get(slot as usize).copied()
            && self.asks.waiter(ask).is_some_and(|waiter| waiter.is(&gone))
            && self.asks.cancel(ask, &mut self.ask_effects).is_some()
        {
            self.published.tally.failed_asks.add(1);
            self.carry_asks();
        }
    }

    /// Gives up the asks that nobody waits for any more and of which no word came: their threads
    /// found the queue full. Not for each ask that finds no place.
    #[cold]
    pub(super) fn reap(&mut self) {
        if self.now < self.reaped_at.plus(REAP_EVERY) {
            return;
        }
        self.reaped_at = self.now;
        let gone = self.asks.find(|waiter| match waiter {
            Waiter::Application { slot, generation } => {
                !self.replies.is_waiting(*slot, *generation)
            }
            Waiter::Routee { .. } => false,
        });
        for ask in gone {
            if self.asks.cancel(ask, &mut self.ask_effects).is_some() {
                self.published.tally.failed_asks.add(1);
            }
        }
        self.carry_asks();
    }

    /// An ask of an application has ended. Nobody's code runs for that.
    pub(super) fn end_for_application(
        &mut self,
        slot: u32,
        generation: u32,
        reply: Result<&[u8], AskError>,
    ) {
        match reply {
            Ok(_) => self.published.tally.replies.add(1),
            Err(_) => self.published.tally.failed_asks.add(1),
        }
        let full = AskError::Dead(DeathReason::RepliesFull);
        let reply = reply.and_then(|body| self.buffers.hold_reply(body).ok_or(full));
        let held = reply.is_ok();
        if !self.replies.complete(slot, generation, reply) && held {
            self.published.tally.late_replies.add(1);
        }
    }

    /// Carries out what the asks decided, but for telling the routees that waited: each has its turn.
    #[inline]
    pub(super) fn carry_asks(&mut self) {
        while let Some(effect) = self.ask_effects.pop_front() {
            match effect {
                Effect::Send { ask, attempt, target } => {
                    if let Err(refusal) = self.attempt(ask, attempt, target) {
                        let (now, out) = (self.now, &mut self.ask_effects);
                        self.asks.not_sent(attempt, refusal, now, out);
                    }
                }
                Effect::Fail(Waiter::Application { slot, generation }, error) => {
                    self.end_for_application(slot, generation, Err(error));
                }
                Effect::Fail(waiter, error) => self.failed_asks.push_back((waiter, error)),
                Effect::Free(frame) => self.encoder.give(frame),
            }
        }
        self.asks.hold_untold(self.failed_asks.len());
    }

    /// Sends a copy of an ask's frame to a target of its plan. A message counts from the moment at
    /// which it has a place to go to.
    fn attempt(&mut self, ask: u64, attempt: u64, target: usize) -> Result<(), Refusal> {
        let target = self.asks.plan(ask).and_then(|(plan, _)| plan.targets.get(target).copied());
        let place = match target.ok_or(Refusal::Stopped)? {
            Target::Place(place) => place,
            Target::Router { router, message, key_hash } => {
                self.route(router, message, key_hash).and_then(single)?
            }
        };
        self.published.tally.sent.add(1);
        let link = match self.link_for_attempt(place.destination) {
            Ok(link) => link,
            Err(refusal) => {
                self.published.tally.dead[death(refusal) as usize].add(1);
                let node = self.node_at(place.destination);
                let about = |node| {
                    let (_, frame) = self.asks.plan(ask)?;
                    let (_, message) = frame.requests().next()?;
                    Some(About { node, handler: place.handler, message })
                };
                let about = node.and_then(about);
                self.note_dead(death(refusal), 1, node, about);
                return Err(refusal);
            }
        };
        let (_, frame) = self.asks.plan(ask).ok_or(Refusal::Stopped)?;
        let mut copy = self.buffers.take_fitting(frame.len());
        copy.append(frame.bytes(), frame.frames());
        copy.patch_first_target(place.handler);
        copy.patch_first_correlation(attempt);
        self.asks.sent(attempt, link);
        self.push_request(link, copy);
        Ok(())
    }

    /// As [`Core::link_for_accepted`], but not to a peer that is known not to answer: whoever chose
    /// it did not know that yet.
    fn link_for_attempt(&mut self, destination: DestinationId) -> Result<LinkId, Refusal> {
        match self.link_of(destination) {
            Some(id) if self.links[id].silent => Err(Refusal::Unreachable),
            _ => self.link_for_accepted(destination),
        }
    }

    /// Puts one encoded tell or ask into a link.
    fn push_request(&mut self, id: LinkId, frame: Chunk) {
        let link = &mut self.links[id];
        link.sent.requests += u64::from(frame.frames());
        link.outbox.push_chunk(&mut self.encoder, frame);
        self.mark_dirty(id);
    }
}

/// The count for a message that was accepted on another thread but refused by its worker.
fn death(refusal: Refusal) -> DeathReason {
    match refusal {
        Refusal::QueueFull | Refusal::TooManyAsks => DeathReason::Overflow,
        Refusal::Stopped => DeathReason::Stopped,
        _ => DeathReason::Unreachable,
    }
}
