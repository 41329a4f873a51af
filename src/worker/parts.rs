//! Where parts meet a worker: what happens here is passed to their halves, and what they want done
//! is carried out once a turn.

use super::Worker;
use super::core::{Context, Core, Timer};
use super::link::{LinkId, Role};
use super::request::Request;
use crate::base::fate::{DeathReason, Refusal};
use crate::base::{HandlerId, InstanceId, MessageTypeId};
use crate::part::{
    COUNTERS, Facts, LinkChange, LinkRef, PartId, RouteeChange, To, WorkerEffect, WorkerHalves,
    WorkerOrder, counter_place,
};
use crate::queue::board::PART_COUNTERS;
use crate::wire::{Chunk, Fields, Frame, FrameKind, WireError};

const _: () = assert!(COUNTERS.len() <= PART_COUNTERS, "each counter of a part has a place");

impl Worker {
    /// Control's halves of the parts published anew.
    pub fn told(&mut self, facts: &Facts) {
        self.core.parts.told(facts);
    }

    /// An order of control to a part's half here.
    pub fn part_order(&mut self, order: WorkerOrder) {
        self.core.parts.order(order);
    }

    /// A frame of a part. Its header's message word is the part's number and the part's own
    /// operation.
    #[cold]
    pub(super) fn part_frame(&mut self, id: LinkId, frame: Frame<'_>) -> Result<(), WireError> {
        let Some(from) = self.link_ref(id) else { return Ok(()) };
        let word = frame.header.message.0;
        let (part, op) = (PartId((word >> 8) as u8), word as u8);
        if !self.core.parts.frame(part, from, op, frame.body())? {
            self.core.published.tally.skipped_frames.add(1);
        }
        Ok(())
    }

    /// A link opened or closed; to be called while it is still in its place.
    pub(super) fn link_changed(&mut self, id: LinkId, change: LinkChange) {
        if let Some(link) = self.link_ref(id) {
            self.core.parts.link(link, change);
        }
    }

    pub(super) fn routee_changed(&mut self, instance: InstanceId, change: RouteeChange) {
        self.core.parts.routee(instance, change);
    }

    fn link_ref(&self, id: LinkId) -> Option<LinkRef> {
        let link = self.core.links.get(id)?;
        let dialed = matches!(link.role, Role::Dialed { .. });
        Some(LinkRef { link: name(id, link.connection), peer: link.peer, dialed })
    }
}

impl Core {
    /// Carries out what parts want done. What that leads to waits for the next turn.
    #[inline]
    pub(super) fn carry_out_parts(&mut self) {
        if !self.parts.effects.is_empty() {
            self.carry_out_some();
        }
    }

    #[cold]
    fn carry_out_some(&mut self) {
        let mut effects = std::mem::take(&mut self.parts.effects);
        let mut dropped = Vec::new();
        for effect in effects.list.drain(..) {
            match effect {
                WorkerEffect::Send { part, to, op, body } => {
                    let sent = self.send_part_frame(part, to, op, &effects.bytes[body.clone()]);
                    if let (Err(refusal), To::Peer(node, worker)) = (sent, to) {
                        dropped.push((refusal, part, (node, worker), op, body));
                    }
                }
                WorkerEffect::Deliver(to, chunk) => {
                    self.published.tally.sent.add(u64::from(chunk.frames()));
                    self.notices.push_back((to, chunk));
                }
                WorkerEffect::After { part, after, token } => {
                    let at = self.now.plus(after);
                    self.timers.insert(at, Timer::Part { part, token });
                }
                WorkerEffect::ToControl(report) => {
                    self.requests.push(Request::Part(report));
                }
                WorkerEffect::Count { part, counter, by } => {
                    if let Some(place) = counter_place(part, counter) {
                        self.published.parts[place].add(by);
                    }
                }
            }
        }
        for (refusal, part, peer, op, body) in dropped {
            let body = &effects.bytes[body];
            match refusal {
                Refusal::QueueFull => self.parts.crowded_out(part, peer, op, body),
                _ => self.parts.cut_off(part, peer, op, body),
            }
        }
        effects.bytes.clear();
        // No other part is called in here. What these want waits for the next turn, in a new list.
        if self.parts.effects.is_empty() {
            self.parts.effects = effects;
        }
    }

    pub(super) fn bury_notice(&mut self, chunk: Chunk, reason: DeathReason) {
        self.published.tally.dead[reason as usize].add(chunk.untouched_requests());
        let me = self.me;
        self.note_dead_in(reason, &chunk, Some(me));
        self.encoder.give(chunk);
    }

    /// This worker stops: messages of parts that still wait are dead.
    pub(super) fn bury_notices(&mut self) {
        while let Some((_, chunk)) = self.notices.pop_front() {
            self.bury_notice(chunk, DeathReason::Stopped);
        }
    }

    fn send_part_frame(
        &mut self,
        part: PartId,
        to: To,
        op: u8,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let id = match to {
            To::Link(to) => {
                let link = self.links.find((to.link >> 32) as u32, to.link as u32);
                link.ok_or(Refusal::Unreachable)?
            }
            To::Peer(node, worker) => {
                let snapshot = self.snapshot.as_ref();
                let found = snapshot.and_then(|known| known.destinations.find(node, worker));
                let destination = found.map(|destination| destination.id);
                self.link_to(destination.ok_or(Refusal::Unreachable)?)?
            }
        };
        let word = u32::from(part.0) << 8 | u32::from(op);
        self.links[id].outbox.push_raw(
            &mut self.encoder,
            FrameKind::Part,
            &Fields::default(),
            MessageTypeId(word),
            HandlerId(0),
            body,
        );
        self.mark_dirty(id);
        Ok(())
    }
}

impl Context<'_> {
    /// The parts' halves on this worker, and how many of their messages its routees have not got
    /// yet.
    pub(crate) fn parts(&self) -> (&WorkerHalves, usize) {
        (&self.core.parts, self.core.notices.len())
    }

    /// Wants something of a part's half on this worker.
    pub(crate) fn part_order(&mut self, order: WorkerOrder) {
        self.core.parts.order(order);
        // At once: what the handler sends next must not overtake it.
        self.core.carry_out_parts();
    }
}

/// One use of a link's place.
fn name(id: LinkId, connection: u32) -> u64 {
    (id.slot() as u64) << 32 | u64::from(connection)
}
