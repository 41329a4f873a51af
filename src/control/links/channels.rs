//! Channels: connections from the control of one node to that of another, for what parts there say
//! to each other. A channel is opened by the first word, has one direction (what the other side
//! has to say goes over one of its own), and is closed when it was silent for a while.
//!
//! Words arrive in the order in which they were sent, each once; or the sender's part is told, once
//! per breach, that some of them may be lost. The other side acknowledges what its parts have got,
//! so that a channel which ends with nothing open has lost nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::outgoing::{CONNECT, unopened};
use super::{DialOrder, Job, JobEvent, JobId, LinkEffect, LinkTimer, Links};
use crate::base::{HandlerId, LogKind, MessageTypeId, NodeRef, Time, WorkerIndex};
use crate::part::PartId;
use crate::wire::codec::{Reader, two_words};
use crate::wire::handshake::{Established, Purpose};
use crate::wire::{
    Chunk, Deframed, Fields, Frame, FrameKind, HEADER_BYTES, WireError, deframe, encode_empty,
    padded,
};
use crate::worker::{Lower, OVERTAKEN};

/// The longest word with its header.
const FRAME_BYTES: usize = 16 << 10;
/// The longest word.
pub const WORD_BYTES: usize = FRAME_BYTES - HEADER_BYTES;
/// What one channel holds that is not acknowledged, in bytes and in words. A peer that takes less
/// loses the channel.
const OUTBOX_BYTES: usize = 256 << 10;
const OUTBOX_WORDS: usize = 1_024;
/// How long the peer may acknowledge nothing while something is open.
const ACK_WITHIN: Duration = Duration::from_secs(4);
/// After how long without a word a channel is closed.
const IDLE: Duration = Duration::from_secs(30);
/// How many other nodes may have a channel to this one. One more takes the place of the one that
/// was silent for longest, which loses nothing by it. With the longest word and what was read in
/// one go, all of them hold no more than 20 MiB.
const MOST_HEARD: usize = 1_024;

/// A channel on which this node speaks.
pub(super) struct Outgoing {
    to: NodeRef,
    address: SocketAddr,
    /// When dialing began.
    since: Time,
    connected: bool,
    open: bool,
    /// Words that came before it was open.
    waiting: Vec<u8>,
    /// Who said what is not acknowledged, and how long it is.
    unacked: VecDeque<(PartId, usize)>,
    unacked_bytes: usize,
    acked: u64,
    inbox: Vec<u8>,
    pub deadline: Time,
}

/// A channel on which another node speaks.
pub(super) struct Heard {
    from: NodeRef,
    link_epoch: u64,
    opened: Time,
    /// When something came last.
    last: Time,
    taken: u64,
    inbox: Vec<u8>,
}

/// Which channels there are.
#[derive(Default)]
pub(super) struct Channels {
    outgoing: BTreeMap<NodeRef, JobId>,
    heard: BTreeMap<NodeRef, JobId>,
    /// Whose parts are to be told that words to whom may be lost.
    lost: BTreeSet<(NodeRef, PartId)>,
    /// Frames of kinds or parts that this build does not know.
    skipped: u64,
}

impl Links {
    /// Frames on channels of kinds or parts that this build does not know.
    pub fn frames_skipped(&self) -> u64 {
        self.channels.skipped
    }

    /// One more was of an unknown part.
    pub fn skip_frame(&mut self) {
        self.channels.skipped += 1;
    }

    /// To whom there are channels.
    pub fn spoken_to(&self) -> impl Iterator<Item = NodeRef> {
        self.channels.outgoing.keys().copied()
    }

    /// From whom there are channels.
    pub fn listened_to(&self) -> impl Iterator<Item = NodeRef> {
        self.channels.heard.keys().copied()
    }

    // ---- speaking ----

    /// A part says something to its counterpart on another node; `address` is that member's, if it
    /// is one. A word that cannot go out is told as lost.
    pub fn say_to(
        &mut self,
        now: Time,
        to: NodeRef,
        address: Option<SocketAddr>,
        (part, op): (PartId, u8),
        body: &[u8],
        out: &mut Vec<LinkEffect>,
    ) {
        let Some(address) = address.filter(|_| body.len() <= WORD_BYTES) else {
            return self.lose(now, to, part, out);
        };
        let job = match self.channels.outgoing.get(&to) {
            Some(job) => *job,
            None => self.open_channel(now, to, address, out),
        };
        let word = u32::from(part.0) << 8 | u32::from(op);
        let frame = frame(FrameKind::Part, word, body);
        let Some(Job::Outgoing(channel)) = self.jobs.get_mut(&job) else { return };
        channel.unacked.push_back((part, frame.len()));
        channel.unacked_bytes += frame.len();
        if channel.unacked.len() > OUTBOX_WORDS || channel.unacked_bytes > OUTBOX_BYTES {
            out.push(LinkEffect::Abort(job));
            return self.end_outgoing(now, job, "its peer takes too little", out);
        }
        if channel.open {
            if channel.unacked.len() == 1 {
                channel.deadline = now.plus(ACK_WITHIN);
            }
            out.push(LinkEffect::Write(job, frame));
        } else {
            channel.waiting.extend_from_slice(&frame);
        }
        self.arm(out);
    }

    fn open_channel(
        &mut self,
        now: Time,
        to: NodeRef,
        address: SocketAddr,
        out: &mut Vec<LinkEffect>,
    ) -> JobId {
        let channel = Outgoing {
            to,
            address,
            since: now,
            connected: false,
            open: false,
            waiting: Vec::new(),
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            acked: 0,
            inbox: Vec::new(),
            deadline: now,
        };
        self.dial_channel(now, channel, out)
    }

    fn dial_channel(
        &mut self,
        now: Time,
        mut channel: Outgoing,
        out: &mut Vec<LinkEffect>,
    ) -> JobId {
        self.link_epoch += 1;
        let latest = channel.since.plus(self.config.handshake_timeout);
        channel.deadline = now.plus(CONNECT).min(latest);
        let (to, address) = (channel.to, channel.address);
        let job = self.add(Job::Outgoing(Box::new(channel)));
        self.channels.outgoing.insert(to, job);
        out.push(LinkEffect::Dial(DialOrder {
            job,
            address,
            purpose: Purpose::Control,
            from_worker: WorkerIndex(0),
            to,
            to_worker: WorkerIndex(0),
            link_epoch: self.link_epoch,
            segment_bytes: self.segment_bytes(to),
        }));
        job
    }

    pub(super) fn outgoing_event(
        &mut self,
        now: Time,
        job: JobId,
        event: JobEvent,
        out: &mut Vec<LinkEffect>,
    ) {
        let Some(Job::Outgoing(channel)) = self.jobs.get_mut(&job) else { return };
        match event {
            JobEvent::Connected => {
                channel.connected = true;
                channel.deadline = channel.since.plus(self.config.handshake_timeout);
            }
            JobEvent::Dialed(_) => {
                channel.open = true;
                channel.deadline = channel.patience(now);
                self.closed.remove(&channel.to);
                out.push(LinkEffect::Keep(job));
                out.push(LinkEffect::Write(job, std::mem::take(&mut channel.waiting)));
                out.push(LinkEffect::Opened(channel.to));
            }
            JobEvent::Bytes(bytes) => {
                channel.inbox.extend_from_slice(&bytes);
                match channel.take_acks(&mut self.channels.skipped) {
                    Ok(false) => {}
                    Ok(true) => channel.deadline = channel.patience(now),
                    Err(error) => {
                        out.push(LinkEffect::Abort(job));
                        self.end_outgoing(now, job, &error.to_string(), out);
                    }
                }
            }
            JobEvent::Failed(how, why) => {
                let (to, address, open) = (channel.to, channel.address, channel.open);
                self.end_outgoing(now, job, &why, out);
                if open {
                    self.probe_at(now, to, address, out);
                } else {
                    self.not_opened(now, to, address, how, why, out);
                }
            }
            JobEvent::Began | JobEvent::Asked | JobEvent::Accepted(_) | JobEvent::Refused(..) => {}
        }
        self.arm(out);
    }

    /// Its time is over: it could not be opened, what it says is not acknowledged, or it has been
    /// silent.
    pub(super) fn outgoing_late(&mut self, now: Time, job: JobId, out: &mut Vec<LinkEffect>) {
        let limit = self.config.handshake_timeout;
        let Some(Job::Outgoing(channel)) = self.jobs.get(&job) else { return };
        out.push(LinkEffect::Abort(job));
        let address = channel.address;
        if channel.open {
            let why = format!("{address} acknowledged nothing for {ACK_WITHIN:?}");
            return self.end_outgoing(now, job, &why, out);
        }
        if channel.connected || now.since(channel.since) >= limit {
            let (to, what) = (channel.to, unopened(channel.connected));
            out.push(LinkEffect::Trouble(to, what, None));
            let why = format!("{address} did not complete the handshake within {limit:?}");
            return self.end_outgoing(now, job, &why, out);
        }
        if let Some(Job::Outgoing(channel)) = self.jobs.remove(&job) {
            self.dial_channel(now, *channel, out);
        }
    }

    fn end_outgoing(&mut self, now: Time, job: JobId, why: &str, out: &mut Vec<LinkEffect>) {
        let Some(Job::Outgoing(channel)) = self.jobs.remove(&job) else { return };
        self.channels.outgoing.remove(&channel.to);
        if channel.unacked.is_empty() {
            return;
        }
        let to = channel.to;
        let name = self.name(to.node);
        self.say(now, LogKind::DialFailed, out, || {
            format!("what parts said to {name} may be lost: {why}")
        });
        for (part, _) in channel.unacked {
            self.lose(now, to, part, out);
        }
    }

    /// Told from a timer, so that a part which answers a loss by speaking again cannot go round
    /// and round.
    fn lose(&mut self, now: Time, to: NodeRef, part: PartId, out: &mut Vec<LinkEffect>) {
        if self.channels.lost.is_empty() {
            out.push(LinkEffect::Schedule(now, LinkTimer::Lost));
        }
        self.channels.lost.insert((to, part));
    }

    pub(super) fn tell_lost(&mut self, out: &mut Vec<LinkEffect>) {
        for (to, part) in std::mem::take(&mut self.channels.lost) {
            out.push(LinkEffect::Lost { to, part });
        }
    }

    // ---- listening ----

    /// Another node's control has opened a channel.
    pub(super) fn hear(
        &mut self,
        now: Time,
        job: JobId,
        established: &Established,
        out: &mut Vec<LinkEffect>,
    ) {
        let (from, link_epoch) = (established.peer, established.link_epoch);
        if let Some(known) = self.channels.heard.get(&from).copied() {
            // What has come on the older one and was not read must not come after the newer.
            let lower = match self.jobs.get(&known) {
                Some(Job::Heard(heard)) if heard.link_epoch > link_epoch => {
                    let overtaken = now.since(heard.opened) < OVERTAKEN;
                    Some(if overtaken { Lower::Closed } else { Lower::Taken })
                }
                _ => None,
            };
            if let Some(lower) = lower {
                self.overtaken(now, (from, established.peer_worker), "control", lower, out);
            }
            if lower == Some(Lower::Closed) {
                return out.push(LinkEffect::Abort(job));
            }
            self.end_heard(known, out);
        } else if self.channels.heard.len() >= MOST_HEARD {
            // Nodes that are no members, or not yet, keep no member out.
            let kept = self.channels.heard.values().filter_map(|job| match self.jobs.get(job) {
                Some(Job::Heard(heard)) => {
                    Some((self.members.contains(&heard.from), heard.last, *job))
                }
                _ => None,
            });
            if let Some((_, _, least)) = kept.min() {
                self.end_heard(least, out);
            }
        }
        let heard = Heard { from, link_epoch, opened: now, last: now, taken: 0, inbox: Vec::new() };
        self.jobs.insert(job, Job::Heard(heard));
        self.channels.heard.insert(from, job);
        out.push(LinkEffect::Keep(job));
    }

    fn end_heard(&mut self, job: JobId, out: &mut Vec<LinkEffect>) {
        if let Some(Job::Heard(heard)) = self.jobs.remove(&job) {
            self.channels.heard.remove(&heard.from);
            out.push(LinkEffect::Abort(job));
        }
    }

    pub(super) fn heard_event(
        &mut self,
        now: Time,
        job: JobId,
        event: JobEvent,
        out: &mut Vec<LinkEffect>,
    ) {
        let Some(Job::Heard(heard)) = self.jobs.get_mut(&job) else { return };
        match event {
            JobEvent::Bytes(bytes) => {
                heard.last = now;
                heard.inbox.extend_from_slice(&bytes);
                let before = heard.taken;
                let outcome = heard.take_words(&mut self.channels.skipped, out);
                if heard.taken > before {
                    let body = two_words(heard.taken, 0);
                    out.push(LinkEffect::Write(job, frame(FrameKind::Ack, 0, &body)));
                }
                if let Err(error) = outcome {
                    let node = heard.from.node;
                    self.end_heard(job, out);
                    let name = self.name(node);
                    self.say(now, LogKind::BrokenFrame, out, || {
                        format!("the channel of {name} was closed: {error}")
                    });
                }
            }
            JobEvent::Failed(..) => {
                self.channels.heard.remove(&heard.from);
                self.jobs.remove(&job);
            }
            _ => {}
        }
    }

    /// These lives are over, whatever their processes do.
    pub(super) fn end_channels(
        &mut self,
        now: Time,
        gone: &BTreeSet<NodeRef>,
        out: &mut Vec<LinkEffect>,
    ) {
        for node in gone {
            if let Some(job) = self.channels.outgoing.get(node).copied() {
                out.push(LinkEffect::Abort(job));
                self.end_outgoing(now, job, "it is no member any more", out);
            }
            if let Some(job) = self.channels.heard.get(node).copied() {
                self.end_heard(job, out);
            }
        }
    }
}

impl Outgoing {
    /// Until when to wait for the next thing to happen.
    fn patience(&self, now: Time) -> Time {
        now.plus(if self.unacked.is_empty() { IDLE } else { ACK_WITHIN })
    }

    /// Returns whether anything was acknowledged.
    fn take_acks(&mut self, skipped: &mut u64) -> Result<bool, WireError> {
        let before = self.acked;
        let mut inbox = std::mem::take(&mut self.inbox);
        take_frames(&mut inbox, skipped, |frame| {
            if frame.header.kind != FrameKind::Ack {
                return Err(WireError::WrongDirection);
            }
            let total = Reader::new(frame.body()).u64();
            let total = total.map_err(|_| WireError::Incomplete("ack"))?;
            let newly = total.checked_sub(self.acked).ok_or(WireError::BadAck)?;
            if newly > self.unacked.len() as u64 {
                return Err(WireError::BadAck);
            }
            self.acked = total;
            for (_, bytes) in self.unacked.drain(..newly as usize) {
                self.unacked_bytes -= bytes;
            }
            Ok(())
        })?;
        self.inbox = inbox;
        Ok(self.acked > before)
    }
}

impl Heard {
    fn take_words(
        &mut self,
        skipped: &mut u64,
        out: &mut Vec<LinkEffect>,
    ) -> Result<(), WireError> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let outcome = take_frames(&mut inbox, skipped, |frame| {
            if frame.header.kind != FrameKind::Part {
                return Err(WireError::WrongDirection);
            }
            self.taken += 1;
            let word = frame.header.message.0;
            out.push(LinkEffect::Said {
                from: self.from,
                part: PartId((word >> 8) as u8),
                op: word as u8,
                body: frame.body().to_vec(),
            });
            Ok(())
        });
        self.inbox = inbox;
        outcome
    }
}

/// Takes whole frames off the front.
fn take_frames(
    inbox: &mut Vec<u8>,
    skipped: &mut u64,
    mut take: impl FnMut(Frame<'_>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut at = 0;
    while let Deframed::Frame(frame, full) = deframe(&inbox[at..], FRAME_BYTES as u32)? {
        at += full;
        if frame.header.kind == FrameKind::Unknown {
            *skipped += 1;
        } else {
            take(frame)?;
        }
    }
    inbox.drain(..at);
    Ok(())
}

fn frame(kind: FrameKind, word: u32, body: &[u8]) -> Vec<u8> {
    let mut chunk = Chunk::with_capacity(padded(HEADER_BYTES + body.len()));
    let (message, target) = (MessageTypeId(word), HandlerId(0));
    let taken = encode_empty(&mut chunk, kind, &Fields::default(), message, target, body);
    debug_assert!(taken.is_ok(), "the chunk is as large as the frame");
    chunk.bytes().to_vec()
}
