//! Walk of a message from another thread: `worker/inject` comes before, `worker/outbox` after.
//!
//! Takes hand-overs in: tells that are encoded already, asks that still need a correlation, replies
//! that come later. Asks that may be sent again rest here between two attempts.

use super::core::{ParkedAsk, Retry, Timer, Waiter};
use super::send::{Place, Route};
use super::{InjectedAsk, Injection, RETRY_PAUSE, Standing, Worker};
use crate::base::Time;
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::wire::Chunk;

/// A link that took bytes within this time is moving.
const MOVING: std::time::Duration = std::time::Duration::from_millis(20);

impl Worker {
    /// Whether a snapshot with this destination has been applied. Another thread can know of one
    /// a moment earlier than its worker.
    #[inline]
    pub fn knows(&self, injection: &Injection) -> bool {
        let destination = match injection {
            Injection::Frames { destination, .. } => *destination,
            Injection::Ask(ask) => ask.destination,
            Injection::Reply { .. } => return true,
        };
        (destination as usize) < self.core.destinations.len()
    }

    /// Whether a hand-over should wait for room: its link is full, but has taken bytes a moment
    /// ago. One that takes none must not hold up what goes elsewhere.
    #[inline]
    pub fn should_wait(&self, injection: &Injection) -> bool {
        let destination = match injection {
            Injection::Frames { destination, .. } => *destination,
            Injection::Ask(ask) => ask.destination,
            Injection::Reply { .. } => return false,
        };
        let link = self.core.destinations.get(destination as usize).copied().flatten();
        link.and_then(|id| self.core.links.get(id)).is_some_and(|link| {
            link.outbox.is_full()
                && link.standing == Standing::Open
                && self.core.now.since(link.progressed_at) < MOVING
        })
    }

    /// Takes one hand-over from another thread.
    pub fn inject(&mut self, injection: Injection) {
        match injection {
            Injection::Frames { destination, frames } => {
                let count = u64::from(frames.frames());
                self.core.counts.sent += count;
                match self.core.link_for_accepted(destination) {
                    Ok(id) => {
                        let link = &mut self.core.links[id];
                        link.sent.requests += count;
                        link.outbox.push_chunk(&mut self.core.encoder, frames);
                        self.core.mark_dirty(id);
                    }
                    Err(refusal) => {
                        let reason = death(refusal);
                        self.core.counts.dead[reason as usize] += count;
                        self.core.note_dead(reason, count, None);
                        self.core.encoder.give(frames);
                    }
                }
            }
            Injection::Ask(ask) => self.inject_ask(ask),
            Injection::Reply { to, frame } => {
                let known =
                    self.core.links.get(to.link).is_some_and(|link| link.serial == to.serial);
                match frame {
                    Ok(frame) if known && !self.core.is_overfull(to.link) => {
                        let link = &mut self.core.links[to.link];
                        link.outbox.push_chunk(&mut self.core.encoder, frame);
                        self.core.mark_dirty(to.link);
                    }
                    Ok(frame) => {
                        self.core.counts.lost_replies += 1;
                        self.core.encoder.give(frame);
                    }
                    Err(reason) if known => self.core.fail(to.link, to.correlation, reason),
                    Err(_) => {}
                }
            }
        }
    }

    fn inject_ask(&mut self, ask: InjectedAsk) {
        let InjectedAsk { router, key_hash, destination, frame, slot, generation, .. } = ask;
        let waiter = Waiter::Application { slot, generation };
        self.core.counts.asks += 1;
        if ask.deadline <= self.core.now {
            self.core.counts.sent += 1;
            self.core.counts.dead[DeathReason::Expired as usize] += 1;
            self.core.note_dead(DeathReason::Expired, 1, None);
            self.core.encoder.give(frame);
            self.end_ask(waiter, Err(AskError::Timeout));
            return;
        }
        let retry = ask.idempotent.then(|| {
            let mut copy = self.core.buffers.take_fitting(frame.len());
            copy.append(frame.bytes(), frame.frames());
            Box::new(Retry { router, key_hash, frame: copy, deadline: ask.deadline })
        });
        self.attempt(waiter, destination, frame, ask.deadline, retry);
    }

    /// Puts an encoded ask on its way.
    fn attempt(
        &mut self,
        waiter: Waiter,
        destination: u32,
        mut frame: Chunk,
        deadline: Time,
        retry: Option<Box<Retry>>,
    ) {
        self.core.counts.sent += 1;
        let opened = match self.core.link_for_accepted(destination) {
            Err(refusal) => Err((refusal, waiter, retry)),
            Ok(link) => {
                // Checked before the waiter is handed over, because a full table would drop it.
                if self.core.asks.is_full() {
                    Err((Refusal::TooManyAsks, waiter, None))
                } else {
                    Ok((link, self.core.open_ask(waiter, link, deadline, retry)))
                }
            }
        };
        match opened {
            Ok((link, Ok(correlation))) => {
                frame.patch_first_correlation(correlation);
                let to = &mut self.core.links[link];
                to.sent.requests += 1;
                to.outbox.push_chunk(&mut self.core.encoder, frame);
                self.core.mark_dirty(link);
            }
            Ok((_, Err(_))) => unreachable!("the table was checked to have room"),
            Err((refusal, waiter, retry)) => {
                self.core.counts.dead[death(refusal) as usize] += 1;
                self.core.note_dead(death(refusal), 1, None);
                self.core.encoder.give(frame);
                match retry {
                    Some(retry) => self.park(waiter, retry),
                    None => self.end_ask(waiter, Err(AskError::Refused(refusal))),
                }
            }
        }
    }

    pub(super) fn park(&mut self, waiter: Waiter, retry: Box<Retry>) {
        let at = self.core.now.plus(RETRY_PAUSE);
        if at >= retry.deadline {
            self.end_ask(waiter, Err(AskError::Timeout));
        } else {
            self.core.parked += 1;
            self.core.timers.insert(at, Timer::Retry(Box::new(ParkedAsk { waiter, retry })));
        }
    }

    /// Sends an idempotent ask again, to wherever its router points now.
    pub(super) fn retry(&mut self, parked: ParkedAsk) {
        let ParkedAsk { waiter, retry } = parked;
        match self.core.route(retry.router, retry.key_hash) {
            Ok(Route::One(Place { destination, handler })) => {
                let mut frame = self.core.buffers.take_fitting(retry.frame.len());
                frame.append(retry.frame.bytes(), retry.frame.frames());
                frame.patch_first_target(handler);
                let deadline = retry.deadline;
                self.attempt(waiter, destination, frame, deadline, Some(retry));
            }
            _ => self.park(waiter, retry),
        }
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
