//! Walk of a message from another thread: `worker/inject` comes before (and `worker/held`, when its
//! link has no room yet), `worker/outbox` after.
//!
//! Takes hand-overs in: tells that are encoded already, asks that still need a correlation, replies
//! that come later.

use super::Worker;
use super::burying::death;
use super::core::{Core, HandedOver, Waiter};
use super::inject::{InjectedAsk, Injection};
use super::place::Place;
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::base::{DestinationId, Time};
use crate::wire::Chunk;

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
                    Ok(id) if !self.core.links[id].outbox.fits(&frames) => {
                        let outbox = &self.core.links[id].outbox;
                        let (kept, longer) = outbox.split(&frames);
                        let refusal = outbox.refuse(&self.core.buffers, &longer);
                        self.core.encoder.give(frames);
                        self.core.bury_hand_over(death(refusal), destination, longer);
                        if !kept.is_empty() {
                            self.core.push_request(id, kept);
                        }
                    }
                    Ok(id) => self.core.push_request(id, frames),
                    Err(refusal) => self.core.bury_hand_over(death(refusal), destination, frames),
                }
            }
            Injection::Ask(ask) => self.inject_ask(ask),
            Injection::Cancel { slot, generation } => self.core.cancel(slot, generation),
            Injection::Reply { to, frame: Ok(frame) }
                if self.core.is_for_own_application(to.link, to.correlation) =>
            {
                self.core.reply_here(to.correlation, frame);
                self.core.tell_applications();
            }
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
                    (Err(reason), _) => self.core.no_reply((to, reason)),
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
        // Whoever asked may have given up while it waited for room on its link.
        let is_awaited = self.core.replies.is_waiting(slot, generation);
        if !is_awaited || deadline <= self.core.now {
            // Nobody waits any more when control has ended without a word.
            let closed = self.core.replies.is_closed();
            let reason = if closed { DeathReason::Stopped } else { DeathReason::Expired };
            self.core.bury_hand_over(reason, first.destination, frame);
            self.end_ask(waiter, Err(AskError::Timeout));
            return;
        }
        self.core.make_room();
        self.core.note_slot(slot);
        match plan {
            None => self.ask_once(waiter, first, frame, deadline),
            Some(plan) => {
                let about = frame.requests().next();
                let Core { asks, ask_effects, now, .. } = &mut self.core;
                match asks.start((waiter, *plan, frame), deadline, *now, ask_effects) {
                    Ok(ask) => {
                        let (destination, reason) = (first.destination, DeathReason::Overflow);
                        let handed_over = HandedOver { destination, about, reason };
                        self.core.handed_over.insert(ask, handed_over);
                        self.core.carry_asks();
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
        let outbox = &core.links[link].outbox;
        if !outbox.fits(&frame) {
            let refusal = outbox.refuse(&core.buffers, &frame);
            return self.refuse_ask(waiter, place.destination, frame, refusal);
        }
        match core.asks.open(waiter, link, deadline) {
            Ok(correlation) => {
                frame.patch_first_ask(correlation, deadline.since(core.now));
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
        while let Some((waiter, error)) = self.core.next_failed() {
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
}
