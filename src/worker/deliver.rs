//! Walk of a message: `wire/deframe` comes before, the user's handler after.
//!
//! Each frame is looked at once: to which handler, does it take the type, is the body valid. Then
//! the handler runs, right here, on the bytes as they were received.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::calls::{Call, Calls};
use super::core::{Context, Core, Origin, Timer, Waiter};
use super::dead::About;
use super::link::{LinkId, LinkState, Role};
use super::panics::caught;
use super::routees::running;
use crate::base::fate::{AskError, DeathReason};
use crate::base::{InstanceId, WorkerIndex};
use crate::wire::codec::{ReadResult, Reader};
use crate::wire::{Chunk, Deframed, Frame, FrameKind, Header, WireError, deframe};

/// Requests that an accepted link may take before it acknowledges them without waiting for the
/// timer.
const ACK_EVERY: u64 = 4096;

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes at the front are done with.
    pub consumed: usize,
    /// How many bytes the next frame takes, as far as is known; the receive buffer must hold
    /// that many.
    pub need: usize,
    /// How many frames were handled.
    pub frames: u32,
    /// Whether it ended because it was to handle no more frames: there may be others.
    pub more: bool,
}

/// What may come in on a link.
#[derive(Clone, Copy)]
enum Side {
    /// Tells and asks of another node.
    Remote,
    /// Everything, from a worker of this node.
    Local,
    /// Replies and what else answers what was sent.
    Replies,
    /// Nothing: there is no such link.
    Gone,
}

impl Worker {
    /// Takes bytes that a link's socket gave, starting at a frame boundary and aligned to 16, and
    /// handles up to `most` frames.
    ///
    /// # Errors
    /// A [`WireError`] when the peer broke the protocol: the driver closes the socket and calls
    /// [`Worker::link_lost`]. The frames before the bad one were delivered.
    #[inline]
    pub fn receive(&mut self, id: LinkId, bytes: &[u8], most: u32) -> Result<Received, WireError> {
        let limit = self.core.limits.max_frame_bytes;
        let side = self.side(id);
        let (mut consumed, mut frames) = (0, 0);
        let outcome = loop {
            if frames == most {
                break Ok(Received { consumed, need: 0, frames, more: true });
            }
            match deframe(&bytes[consumed..], limit) {
                Ok(Deframed::Frame(frame, full)) => {
                    consumed += full;
                    frames += 1;
                    if let Err(error) = self.frame(id, side, frame) {
                        break Err(error);
                    }
                }
                Ok(Deframed::Need(need)) => {
                    break Ok(Received { consumed, need, frames, more: false });
                }
                Err(error) => break Err(error),
            }
        };
        self.after_receive(id);
        outcome
    }

    /// Handles up to `most` frames of a sibling worker's chunk. Returns how many there were, and
    /// what is left.
    pub fn sibling_chunk(
        &mut self,
        from: WorkerIndex,
        chunk: Chunk,
        most: u32,
    ) -> (u32, Option<Chunk>) {
        let id = self.core.siblings[usize::from(from.0)];
        self.deliver_chunk(id, chunk, most)
    }

    /// A sibling worker's chunk that nobody handles any more.
    pub fn bury_chunk(&mut self, chunk: Chunk) {
        self.core.mourn_all(DeathReason::Stopped, &chunk);
        self.core.count_dead_here(DeathReason::Stopped, chunk.untouched_requests());
        self.core.encoder.give(chunk);
    }

    pub(super) fn deliver_chunk(
        &mut self,
        id: LinkId,
        mut chunk: Chunk,
        most: u32,
    ) -> (u32, Option<Chunk>) {
        let taken = self.receive(id, chunk.bytes(), most);
        debug_assert!(taken.is_ok(), "a chunk made in this process holds valid frames: {taken:?}");
        let Received { consumed, frames, more, .. } =
            taken.unwrap_or(Received { consumed: 0, need: 0, frames: 0, more: false });
        if more && consumed < chunk.len() {
            debug_assert_eq!(frames, most, "a chunk holds whole frames");
            chunk.consume(consumed);
            return (frames, Some(chunk));
        }
        self.core.encoder.give(chunk);
        (frames, None)
    }

    /// What this turn has called of users' code.
    #[inline]
    pub fn calls(&self) -> Calls {
        self.core.calls
    }

    /// Who is at the other end of a link: a member by name, others by what their handshake said.
    pub fn peer_name(&self, link: LinkId) -> Option<String> {
        let (peer, _) = self.core.links.get(link)?.peer;
        let view = self.core.snapshot.as_ref().map(|snapshot| &snapshot.view);
        let member = view.and_then(|view| view.member(peer.node));
        Some(member.map_or_else(|| peer.to_string(), |member| member.name.to_string()))
    }

    /// The path of a handler, and the name of a type of message that it takes.
    pub fn names_of(&self, (handler, message): Call) -> (Arc<str>, Option<Arc<str>>) {
        let path = self.core.path_of(handler);
        let message = message.map(|id| {
            let slot = self.routees.iter().flatten().find(|slot| slot.id.handler == handler);
            let known = slot.iter().flat_map(|slot| slot.factory.messages());
            let name = known.filter(|known| known.id() == id).map(|known| known.name.clone());
            name.into_iter().next().unwrap_or_else(|| id.to_string().into())
        });
        (path, message)
    }

    fn side(&self, id: LinkId) -> Side {
        match self.core.links.get(id).map(|link| link.role) {
            Some(Role::Accepted { .. }) => Side::Remote,
            Some(Role::Own | Role::Sibling(_)) => Side::Local,
            Some(Role::Dialed { .. }) => Side::Replies,
            None => Side::Gone,
        }
    }

    #[inline(always)]
    fn frame(&mut self, id: LinkId, side: Side, frame: Frame<'_>) -> Result<(), WireError> {
        // First, and in line: nearly all frames are tells.
        if frame.header.kind == FrameKind::Tell {
            return self.request(
                Origin { link: id, correlation: None, deadline: None },
                side,
                frame,
            );
        }
        self.other_frame(id, side, frame)
    }

    /// Out of line, or a tell would carry what only an ask has.
    #[inline(never)]
    fn other_frame(&mut self, id: LinkId, side: Side, frame: Frame<'_>) -> Result<(), WireError> {
        match frame.header.kind {
            FrameKind::Tell | FrameKind::Ask => {
                let (correlation, within_us) =
                    frame.correlation().ok_or(WireError::Incomplete("ask"))?;
                let within = within_us.map(Duration::from_micros);
                let deadline = within.map(|within| self.core.now.plus(within));
                let origin = Origin { link: id, correlation: Some(correlation), deadline };
                let outcome = self.request(origin, side, frame);
                self.core.tell_applications();
                outcome
            }
            FrameKind::Reply => {
                let (correlation, _) = frame.correlation().ok_or(WireError::Incomplete("reply"))?;
                self.answer(id, correlation, Ok(frame.body()))
            }
            FrameKind::Failure => {
                let (correlation, _) =
                    frame.correlation().ok_or(WireError::Incomplete("failure"))?;
                let reason = DeathReason::from_code(frame.header.message.0);
                self.answer(id, correlation, Err(reason))
            }
            FrameKind::Ack => self.acknowledged(id, frame),
            FrameKind::Fin => self.fin(id),
            FrameKind::Part => self.part_frame(id, frame),
            FrameKind::Unknown => {
                self.core.published.tally.skipped_frames.add(1);
                Ok(())
            }
        }
    }

    /// A tell or an ask.
    #[inline(always)]
    fn request(&mut self, origin: Origin, side: Side, frame: Frame<'_>) -> Result<(), WireError> {
        let remote = match side {
            Side::Remote => true,
            Side::Local => false,
            Side::Replies => return Err(WireError::WrongDirection),
            Side::Gone => return Ok(()),
        };
        match self.call(frame, origin) {
            Ok(()) if remote => {
                self.core.published.tally.received.add(1);
                if let Some(link) = self.core.links.get_mut(origin.link) {
                    link.taken.delivered += 1;
                }
            }
            Ok(()) => self.core.published.tally.delivered.add(1),
            Err(reason) => {
                let Header { target: handler, message, .. } = frame.header;
                let about = About { node: self.core.me, handler, message };
                if !remote {
                    self.core.mourn(reason, &frame);
                }
                self.core.died(origin, remote, reason, about);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn call(&mut self, frame: Frame<'_>, origin: Origin) -> Result<(), DeathReason> {
        let handler = frame.header.target;
        self.core.calls.message(handler, frame.header.message);
        let slot = running(&mut self.routees, InstanceId::running(handler))
            .ok_or(DeathReason::UnknownHandler)?;
        if self.core.published.is_given_up() {
            return Err(DeathReason::Stopped);
        }
        self.core.published.pulse.calls(handler.0, frame.header.message.0);
        let instance = slot.id;
        let mut cx = Context { core: &mut self.core, instance, origin: Some(origin) };
        match caught(|| slot.hosted.deliver(frame.header.message, frame.body(), &mut cx)) {
            Ok(outcome) => outcome,
            Err(payload) => {
                let message = self.names_of((handler, Some(frame.header.message))).1;
                self.core.note_panic(handler, message.unwrap_or_default(), payload);
                self.restart(instance);
                Err(DeathReason::HandlerPanicked)
            }
        }
    }

    /// The end of an ask, good or bad.
    fn answer(
        &mut self,
        id: LinkId,
        correlation: u64,
        reply: Result<&[u8], DeathReason>,
    ) -> Result<(), WireError> {
        if matches!(self.core.links.get(id).map(|link| link.role), Some(Role::Accepted { .. })) {
            return Err(WireError::WrongDirection);
        }
        let Core { asks, ask_effects, now, .. } = &mut self.core;
        match reply {
            Ok(body) => match asks.replied(correlation, id, ask_effects) {
                Some(waiter) => self.end_ask(waiter, Ok(body)),
                None => self.core.published.tally.late_replies.add(1),
            },
            // No reply: none is late when the ask has ended.
            Err(reason) => asks.failed(correlation, id, reason, *now, ask_effects),
        }
        self.core.carry_asks();
        Ok(())
    }

    pub(super) fn end_ask(&mut self, waiter: Waiter, reply: Result<&[u8], AskError>) {
        let replied = reply.is_ok();
        let heard = match waiter {
            Waiter::Application { slot, generation } => {
                return self.core.end_for_application(slot, generation, reply);
            }
            Waiter::Routee { instance, token, deliver } => {
                let panicked = self.with_routee(instance, "on_reply", |hosted, cx| {
                    deliver(hosted.routee(), token, reply, cx);
                });
                if panicked == Some(true) {
                    self.restart(instance);
                }
                panicked.is_some()
            }
        };
        let tally = &self.core.published.tally;
        match replied && heard {
            true => tally.replies.add(1),
            false => tally.failed_asks.add(1),
        }
        // Whoever asked is gone.
        tally.late_replies.add(u64::from(replied && !heard));
    }

    fn acknowledged(&mut self, id: LinkId, frame: Frame<'_>) -> Result<(), WireError> {
        let Some(link) = self.core.links.get_mut(id) else { return Ok(()) };
        if !matches!(link.role, Role::Dialed { .. }) {
            return Err(WireError::WrongDirection);
        }
        let (delivered, dead) =
            acknowledgement(frame.body()).map_err(|_| WireError::Incomplete("acknowledgement"))?;
        let sent = &mut link.sent;
        let plausible = delivered >= sent.delivered
            && dead >= sent.dead
            && delivered.checked_add(dead).is_some_and(|ended| ended <= sent.requests);
        if !plausible {
            return Err(WireError::BadAck);
        }
        self.core.published.tally.delivered.add(delivered - sent.delivered);
        self.core.published.tally.dead_at_peer.add(dead - sent.dead);
        sent.delivered = delivered;
        sent.dead = dead;
        Ok(())
    }

    fn fin(&mut self, id: LinkId) -> Result<(), WireError> {
        let Some(link) = self.core.links.get_mut(id) else { return Ok(()) };
        match link.role {
            Role::Accepted { .. } => {
                link.fin_received = true;
                self.core.acknowledge(id);
                Ok(())
            }
            _ => Err(WireError::WrongDirection),
        }
    }

    /// Sees to it that what was taken is acknowledged: at once when it is much, else soon.
    #[inline]
    fn after_receive(&mut self, id: LinkId) {
        let Some(link) = self.core.links.get_mut(id) else { return };
        link.heard_at = Some(self.core.now);
        if !matches!(link.role, Role::Accepted { .. }) {
            link.redial_pause_ms = 0;
            return;
        }
        if link.taken.unreported() == 0 {
            return;
        }
        if link.taken.unreported() >= ACK_EVERY || link.fin_received {
            self.core.acknowledge(id);
        } else if link.taken.ack_due.is_none() {
            let due = self.core.now.plus(Duration::from_millis(self.core.limits.ack_interval_ms));
            link.taken.ack_due = Some(due);
            self.core.timers.insert(due, Timer::Ack(id));
        }
    }

    /// Whether a link that the driver holds a socket for is one that it may read requests from.
    pub fn is_open(&self, id: LinkId) -> bool {
        self.core
            .links
            .get(id)
            .is_some_and(|link| matches!(link.state, LinkState::Open | LinkState::Finished))
    }
}

impl Core {
    /// Counts a tell or an ask that was not handled, and tells the asker.
    #[cold]
    fn died(&mut self, origin: Origin, remote: bool, reason: DeathReason, about: About) {
        let Origin { link: id, correlation, .. } = origin;
        let mut peer = self.me;
        if remote {
            self.published.tally.received_dead[reason as usize].add(1);
            if let Some(link) = self.links.get_mut(id) {
                link.taken.dead += 1;
                peer = link.peer.0;
            }
        } else {
            self.published.tally.dead[reason as usize].add(1);
        }
        self.note_dead(reason, 1, Some(peer), Some(about));
        // Whoever is told finds it counted.
        if let Some(correlation) = correlation {
            self.fail(id, correlation, reason);
        }
    }
}

/// How many requests were delivered on the link so far, and how many died.
fn acknowledgement(body: &[u8]) -> ReadResult<(u64, u64)> {
    let mut reader = Reader::new(body);
    let counts = (reader.u64()?, reader.u64()?);
    reader.end().map(|()| counts)
}
