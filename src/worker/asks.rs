//! A worker's asks: each is sent, sent again, ended or given up. What is to be done about one is
//! decided by [`crate::ask`], and carried out here.

use std::time::Duration;

use super::burying::death;
use super::core::{Core, HandedOver, Waiter, push};
use super::dead::About;
use super::inject::AppReply;
use super::link::LinkId;
use super::place::{Place, Target, single};
use super::router_ref::RouterKey;
use super::send::{ask_head, retry};
use crate::ask::Effect;
use crate::base::DestinationId;
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::wire::{Chunk, Message};

/// How often a full table of asks is looked over for what nobody waits for.
const REAP_EVERY: Duration = Duration::from_millis(10);

const NO_ROOM: AskError = AskError::Dead(DeathReason::RepliesFull);

impl Core {
    /// Sends an ask for a routee on this worker to one place.
    #[inline]
    pub(super) fn ask<M: Message>(
        &mut self,
        place: Result<Place, Refusal>,
        message: &M,
        within: Duration,
        waiter: Waiter,
    ) -> Result<(), Refusal> {
        // Counted afterwards, as a tell.
        let outcome = place.and_then(|place| self.ask_at(place, message, within, waiter));
        self.published.tally.sent.add(1);
        self.refused(outcome)
    }

    #[inline]
    fn ask_at<M: Message>(
        &mut self,
        place: Place,
        message: &M,
        within: Duration,
        waiter: Waiter,
    ) -> Result<(), Refusal> {
        let link = self.link_to(place.destination)?;
        self.make_room();
        if self.asks.is_full() || self.asks.is_over() {
            return Err(Refusal::TooManyAsks);
        }
        // Opened once it is encoded: its own serialisation may panic.
        let correlation = self.asks.next();
        let head = ask_head::<M>(place, correlation, within);
        let Self { links, encoder, dirty, .. } = self;
        push(&mut links[link], link, encoder, dirty, &head, message)?;
        let opened = self.asks.open(waiter, link, self.now.plus(within));
        debug_assert_eq!(opened.ok(), Some(correlation), "there is a place for it");
        self.begun.0.push(correlation);
        self.published.tally.asks.add(1);
        Ok(())
    }

    /// Sends an ask that may be sent again. What its later attempts come to is for its waiter.
    pub(super) fn ask_again<M: Message>(
        &mut self,
        (place, again): (Result<Place, Refusal>, Target),
        message: &M,
        within: Duration,
        waiter: Waiter,
    ) -> Result<(), Refusal> {
        let head = |place| ask_head::<M>(place, 0, within);
        let encoded =
            place.and_then(|place| Ok((place, self.encoder.single(&head(place), message)?)));
        self.make_room();
        let outcome = encoded.and_then(|(place, frame)| {
            let asked = (waiter, retry(place, again), frame);
            let (now, deadline) = (self.now, self.now.plus(within));
            self.asks.start(asked, deadline, now, &mut self.ask_effects).map_err(|(_, frame)| {
                self.encoder.give(frame);
                if self.asks.is_over() { Refusal::Stopped } else { Refusal::TooManyAsks }
            })
        });
        match outcome {
            Ok(ask) => {
                self.begun.0.push(ask);
                self.published.tally.asks.add(1);
                self.carry_asks();
                Ok(())
            }
            Err(refusal) => {
                self.published.tally.sent.add(1);
                self.refused(Err(refusal))
            }
        }
    }

    /// Before an ask is opened.
    #[inline]
    pub(super) fn make_room(&mut self) {
        if self.asks.is_full() {
            self.reap();
        }
    }

    /// The next ask that has failed and whose waiter is to be told. Its place is free from here on: the
    /// waiter may ask again.
    pub(super) fn next_failed(&mut self) -> Option<(Waiter, AskError)> {
        let next = self.failed_asks.pop_front();
        self.asks.hold_untold(self.failed_asks.len());
        next
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
        let reply = reply.and_then(|body| self.buffers.hold_reply(body).ok_or(NO_ROOM));
        self.complete(slot, generation, reply);
    }

    /// An ask of an application to this very worker has its reply. It does not wait behind what
    /// else this worker sent itself; [`Core::tell_applications`] tells of it.
    pub(super) fn reply_here(&mut self, correlation: u64, frame: Chunk) {
        let replied = self.asks.replied(correlation, self.own, &mut self.ask_effects);
        if let Some(Waiter::Application { slot, generation }) = replied {
            let reply = self.buffers.hold_reply_of(frame).ok_or(NO_ROOM);
            self.replied_here.push((slot, generation, reply));
        }
        self.carry_asks();
    }

    /// Hands over the replies that are there: behind the handler's call and the count of its message,
    /// so that whoever has the reply finds the message counted.
    #[inline]
    pub(super) fn tell_applications(&mut self) {
        while let Some((slot, generation, reply)) = self.replied_here.pop() {
            self.complete(slot, generation, reply);
        }
    }

    /// Whether [`Core::reply_here`] is the way of a reply.
    #[inline]
    pub(super) fn is_for_own_application(&self, link: LinkId, correlation: u64) -> bool {
        link == self.own
            && matches!(self.asks.waits_for(correlation, link), Some(Waiter::Application { .. }))
    }

    fn complete(&mut self, slot: u32, generation: u32, reply: AppReply) {
        let held = reply.is_ok();
        // By its own clock it may have ended a moment before.
        let heard = self.replies.complete(slot, generation, reply);
        let tally = &self.published.tally;
        match held && heard {
            true => tally.replies.add(1),
            false => tally.failed_asks.add(1),
        }
        tally.late_replies.add(u64::from(held && !heard));
    }

    /// Carries out what the asks decided, but for telling the routees that waited: each has its turn.
    #[inline]
    pub(super) fn carry_asks(&mut self) {
        while let Some(effect) = self.ask_effects.pop_front() {
            match effect {
                Effect::Send { ask, attempt, target } => {
                    if self.goes_nowhere(ask, target) {
                        self.asks.nowhere_left(attempt, &mut self.ask_effects);
                    } else if let Err(refusal) = self.attempt(ask, attempt, target) {
                        if let Some(handed_over) = self.handed_over.get_mut(&ask) {
                            handed_over.reason = death(refusal);
                        }
                        let (now, out) = (self.now, &mut self.ask_effects);
                        self.asks.not_sent(attempt, refusal, now, out);
                    }
                }
                Effect::Fail(Waiter::Application { slot, generation }, error) => {
                    self.end_for_application(slot, generation, Err(error));
                }
                Effect::Fail(waiter, error) => self.failed_asks.push_back((waiter, error)),
                Effect::Free { ask, frame } => {
                    self.encoder.give(frame);
                    self.end_handed_over(ask);
                }
            }
        }
        self.asks.hold_untold(self.failed_asks.len());
    }

    /// Whether no attempt of an ask can go anywhere any more, since the router that its plan goes by
    /// has ended.
    fn goes_nowhere(&self, ask: u64, target: usize) -> bool {
        let target = self.asks.plan(ask).and_then(|(plan, _)| plan.targets.get(target));
        let Some(Target::Router { router, .. }) = target else { return false };
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.has_ended(*router))
    }

    /// Sends a copy of an ask's frame to a target of its plan. A message counts from the moment at
    /// which it has a link to go out on.
    fn attempt(&mut self, ask: u64, attempt: u64, target: usize) -> Result<(), Refusal> {
        let target = self.asks.plan(ask).and_then(|(plan, _)| plan.targets.get(target).copied());
        let place = match target.ok_or(Refusal::Stopped)? {
            Target::Place(place) => place,
            Target::Router { router, message, key_hash } => {
                let router = RouterKey::new(self.me, router);
                self.route(router, message, key_hash).and_then(single)?
            }
        };
        let link = self.link_for_attempt(place.destination)?;
        let left = self.asks.left(ask, self.now).ok_or(Refusal::Stopped)?;
        let (_, frame) = self.asks.plan(ask).ok_or(Refusal::Stopped)?;
        let outbox = &self.links[link].outbox;
        if !outbox.fits(frame) {
            return Err(outbox.refuse(&self.buffers, frame));
        }
        let mut copy = self.buffers.take_fitting(frame.len());
        copy.append(frame.bytes(), frame.frames());
        copy.patch_first_target(place.handler);
        copy.patch_first_ask(attempt, left);
        self.asks.sent(attempt, link);
        if self.handed_over.remove(&ask).is_none() {
            self.published.tally.sent.add(1);
        }
        self.push_request(link, copy);
        Ok(())
    }

    /// An ask with a plan has ended. If none of its attempts had a link, what was counted when it was
    /// handed over is dead.
    #[cold]
    fn end_handed_over(&mut self, ask: u64) {
        let Some(handed_over) = self.handed_over.remove(&ask) else { return };
        let HandedOver { destination, about, reason } = handed_over;
        self.published.tally.dead[reason as usize].add(1);
        let node = self.node_at(destination);
        let about = node.zip(about);
        let about = about.map(|(node, (handler, message))| About { node, handler, message });
        self.note_dead(reason, 1, node, about);
    }

    /// As [`Core::link_for_accepted`], but not to a peer that is known not to answer, or to which no
    /// connection comes about: whoever chose it did not know that yet.
    fn link_for_attempt(&mut self, destination: DestinationId) -> Result<LinkId, Refusal> {
        match self.link_of(destination) {
            Some(id) if self.links[id].silent || self.links[id].is_late(self.now) => {
                Err(Refusal::Unreachable)
            }
            // The snapshot that names it is still on its way.
            None if !self.knows(destination) => Err(Refusal::Unreachable),
            _ => self.link_for_accepted(destination),
        }
    }
}
