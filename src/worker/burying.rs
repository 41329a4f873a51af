//! Messages that die on their way out: they are counted and noted, and their room is given back.

use super::core::Core;
use super::dead::{About, Dead, sum_up};
use super::link::LinkId;
use super::request::Request;
use crate::base::fate::{DeathReason, Refusal};
use crate::base::{DestinationId, NodeRef};
use crate::wire::{Chunk, Frame};

/// The count for a message that was accepted on another thread but refused by its worker.
pub(super) fn death(refusal: Refusal) -> DeathReason {
    match refusal {
        Refusal::QueueFull | Refusal::TooManyAsks => DeathReason::Overflow,
        Refusal::TooLarge => DeathReason::TooLarge,
        Refusal::Stopped => DeathReason::Stopped,
        _ => DeathReason::Unreachable,
    }
}

impl Core {
    /// A message has died here.
    #[cold]
    pub(super) fn mourn(&mut self, reason: DeathReason, frame: &Frame<'_>) {
        if let Some(mourner) = &mut self.mourner {
            mourner(reason, frame);
        }
    }

    #[cold]
    pub(super) fn mourn_all(&mut self, reason: DeathReason, chunk: &Chunk) {
        if let Some(mourner) = &mut self.mourner {
            chunk.untouched().for_each(|frame| mourner(reason, &frame));
        }
    }

    /// Tells the driver that messages died.
    #[cold]
    pub(super) fn note_dead(
        &mut self,
        reason: DeathReason,
        count: u64,
        peer: Option<NodeRef>,
        about: Option<About>,
    ) {
        let mut new = Dead { reason, count, peer, about, worker: self.index };
        let notes = self.requests.iter_mut().rev().filter_map(|request| match request {
            Request::DeadLetters(dead) => Some(dead),
            _ => None,
        });
        if count > 0 && !sum_up(notes, &mut new) {
            self.requests.push(Request::DeadLetters(new));
        }
    }

    /// As [`Core::note_dead`], for the requests in a chunk that was going to a node.
    #[cold]
    pub(super) fn note_dead_in(
        &mut self,
        reason: DeathReason,
        frames: &Chunk,
        node: Option<NodeRef>,
    ) {
        let mut requests = frames.requests().peekable();
        while let Some(request) = requests.next() {
            let mut count = 1;
            while requests.next_if_eq(&request).is_some() {
                count += 1;
            }
            let (handler, message) = request;
            let about = node.map(|node| About { node, handler, message });
            self.note_dead(reason, count, node, about);
        }
    }

    /// Drops all that waits for this worker or a sibling as dead.
    pub(super) fn bury_local(&mut self, id: LinkId, reason: DeathReason) {
        let mut requests = 0;
        while let Some(chunk) = self.links[id].outbox.pop_chunk(&mut self.encoder) {
            requests += chunk.untouched_requests();
            self.mourn_all(reason, &chunk);
            self.encoder.give(chunk);
        }
        self.count_dead_here(reason, requests);
    }

    /// Requests to a routee of this node died before they came to it.
    pub(super) fn count_dead_here(&mut self, reason: DeathReason, requests: u64) {
        self.published.tally.dead[reason as usize].add(requests);
        self.note_dead(reason, requests, Some(self.me), None);
    }

    /// Drops all that waits in a link's outbox as dead.
    pub(super) fn bury(&mut self, id: LinkId, reason: DeathReason) {
        let link = &mut self.links[id];
        let requests = link.outbox.rewind(&mut self.encoder);
        link.sent.requests -= requests;
        self.published.tally.dead[reason as usize].add(requests);
        let peer = link.peer.0;
        while let Some(chunk) = self.links[id].outbox.pop_chunk(&mut self.encoder) {
            self.mourn_all(reason, &chunk);
            self.note_dead_in(reason, &chunk, Some(peer));
            self.encoder.give(chunk);
        }
    }

    /// What another thread was told is accepted is dead before it came to a link.
    #[cold]
    pub(super) fn bury_hand_over(
        &mut self,
        reason: DeathReason,
        destination: DestinationId,
        frames: Chunk,
    ) {
        self.published.tally.dead[reason as usize].add(u64::from(frames.frames()));
        self.mourn_all(reason, &frames);
        self.note_dead_in(reason, &frames, self.node_at(destination));
        self.encoder.give(frames);
    }

    /// The node at a destination, unless it is gone.
    pub(super) fn node_at(&self, destination: DestinationId) -> Option<NodeRef> {
        let snapshot = self.snapshot.as_ref()?;
        Some(snapshot.destinations.get(destination)?.node)
    }
}
