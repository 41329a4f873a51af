//! What is reckoned for one of everything that takes memory, and what that depends on. What only a
//! part's own settings need stands with them.

use super::bound::Kind;

/// What is reckoned for one item in a queue, without the frames it points to.
pub const QUEUE_ITEM_BYTES: u64 = 128;
/// The frames of a hand-over or reply up to this size count with its place, larger ones by their
/// bytes.
pub(super) const SMALL_HAND_OVER_BYTES: u64 = 1_024;
/// What is reckoned for one ask in flight on each worker: two places in its table, and two timers.
pub(super) const ASK_BYTES: u64 = 320;
/// What is reckoned for one place where an application waits: its slot and deadline.
const REPLY_SLOT_BYTES: u64 = 176;
/// What is reckoned for a connection that has not proved itself yet.
pub(super) const HANDSHAKE_BYTES: u64 = 4_096;
/// What is reckoned for a link beside its buffers.
const LINK_BYTES: u64 = 1_024;
/// What a receive buffer has in any case.
const FIRST_INBOX_BYTES: u64 = 4_096;
/// A message of an application thread, with its place.
pub(super) const HAND_OVER_BYTES: u64 = QUEUE_ITEM_BYTES + SMALL_HAND_OVER_BYTES;
/// A place where an application waits, with its reply.
pub(super) const REPLY_BYTES: u64 = REPLY_SLOT_BYTES + SMALL_HAND_OVER_BYTES;
/// A dialed link beside its outbox and what more its inbox takes.
pub(super) const DIALED_BYTES: u64 = LINK_BYTES + FIRST_INBOX_BYTES;
/// An accepted one, with small frames of the protocol itself.
pub(super) const ACCEPTED_BYTES: u64 = DIALED_BYTES + SMALL_HAND_OVER_BYTES;
/// An ordinary chunk of frames.
pub(super) const CHUNK_BYTES: u64 = 64 << 10;
/// The share of a link's outbox that no other link can take.
pub(super) const SHARE_BYTES: u64 = CHUNK_BYTES / 4;
/// Free chunks that a worker keeps.
pub(super) const KEPT_CHUNKS: u64 = 64;
/// What is reckoned for work under way elsewhere, without what it captured and its result.
pub(super) const WORK_BYTES: u64 = 512;
/// What control holds for a channel on which it speaks to another node's: twice what may be
/// unacknowledged, as buffers double, and its list.
pub(super) const CHANNEL_BYTES: u64 = (2 * 256 + 16) << 10;
/// What all channels take together on which others speak.
pub(super) const HEARD_BYTES: u64 = 20 << 20;
/// Items that a stream of events holds for those who read it.
pub(crate) const STREAM_ITEMS: usize = 1_024;
/// What changes of membership take there, which tell of whole members.
pub(crate) const EVENTS_BYTES: usize = 4 << 20;
/// What dead letters take there.
pub(crate) const DEAD_LETTERS_BYTES: usize = 1 << 20;
/// What is reckoned for the largest member: with the longest record, of the shortest texts.
pub(crate) const MEMBER_BYTES: usize = 384 << 10;
/// What both streams hold, with the item by which each passes its bound, its places, and the one
/// event that is being made.
pub(super) const STREAMS_BYTES: u64 =
    (EVENTS_BYTES + DEAD_LETTERS_BYTES + 3 * MEMBER_BYTES + 2 * STREAM_ITEMS * 64) as u64;
/// What is reckoned for a word that a part of a node gossips: the longest with its place.
const WORD_BYTES: u64 = 512;
/// What the parts of one node say at most to all others: two parts, of 16 words each.
pub(crate) const WORDS_BYTES: u64 = 2 * 16 * WORD_BYTES;
/// Connections that wait for a worker that is held up.
pub(super) const WAITING: u64 = 64;

/// What the memory of a setting depends on beside its own value.
pub(super) struct Sizes {
    /// Workers of each node.
    pub workers: u64,
    /// Workers of all other nodes.
    pub members: u64,
    /// The longest message, or a chunk if that is longer.
    pub frame: u64,
    /// Links that one worker takes from others.
    pub accepted: u64,
}

impl Sizes {
    /// So much on each worker.
    pub fn each(&self, bytes: u64) -> u64 {
        self.workers.saturating_mul(bytes)
    }

    pub fn siblings(&self) -> u64 {
        self.workers.saturating_sub(1)
    }

    /// Links of one worker whose outboxes have a share in any case: to itself and its siblings,
    /// dialed ones, and accepted ones of members.
    pub fn sharing(&self) -> u64 {
        let dialed = self.workers.saturating_add(self.members);
        dialed.saturating_add(self.members.min(self.accepted))
    }
}

/// What a setting may take, by its value.
pub(super) type Take = (Kind, fn(u64, &Sizes) -> u64);
