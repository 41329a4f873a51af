//! Walk of a message: `wire/encode` comes before, `net/link` (which writes to the socket) after.
//!
//! A bounded queue of encoded frames, kept as chunks that one vectored write takes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use rkyv::ser::allocator::Arena;

use super::buffers::{Buffers, SIZES, SMALL_CHUNK_BYTES};
use super::purse::{Account, Purses};
use crate::base::{HandlerId, MessageTypeId, fate::Refusal};
use crate::wire::{
    CHUNK_BYTES, Chunk, EncodeError, Fields, FrameKind, HEADER_BYTES, MAX_FIELDS_BYTES, WireType,
    encode, encode_empty, measure, padded,
};

/// How many free chunks a worker keeps for itself before it shares them.
const KEPT_CHUNKS: usize = 64;

/// What a frame says besides its body.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Tell, ask or reply.
    pub kind: FrameKind,
    /// The optional fields.
    pub fields: Fields,
    /// The type of the body; nothing for a reply, whose asker knows it.
    pub message: MessageTypeId,
    /// Which handler takes it.
    pub target: HandlerId,
}

impl Head {
    /// Of a reply.
    #[inline]
    pub fn reply(correlation: u64) -> Self {
        Self {
            kind: FrameKind::Reply,
            fields: Fields::correlated(correlation),
            message: MessageTypeId(0),
            target: HandlerId(0),
        }
    }
}

/// Adds one frame to a chunk and gives its bytes; `None` when there is no room for it.
///
/// # Errors
/// [`Refusal::TooLarge`] over the limit, [`Refusal::Unserialisable`]; the chunk is as it was.
// In line, so that what a frame leaves out is known when it is compiled.
#[inline(always)]
pub fn append<B: WireType>(
    chunk: &mut Chunk,
    arena: &mut Arena,
    (buffers, limit): (&Buffers, usize),
    head: &Head,
    body: &B,
) -> Result<Option<usize>, Refusal> {
    match encode(chunk, arena, head.kind, &head.fields, head.message, head.target, body) {
        Ok(bytes) if bytes > limit => {
            chunk.retract(bytes);
            Err(buffers.refuse(bytes, limit))
        }
        Ok(bytes) => Ok(Some(bytes)),
        Err(EncodeError::Serialize) => Err(Refusal::Unserialisable),
        Err(EncodeError::Overflow) => Ok(None),
    }
}

/// Encodes one frame into an empty chunk, or into larger ones until it fits.
fn grow<B: WireType>(
    mut chunk: Chunk,
    arena: &mut Arena,
    buffers: &Buffers,
    head: &Head,
    body: &B,
) -> Result<Chunk, Refusal> {
    let limit = buffers.max_frame_bytes;
    let most = padded(limit);
    loop {
        let refusal = match append(&mut chunk, arena, (buffers, limit), head, body) {
            Ok(Some(_)) => {
                if chunk.capacity() > CHUNK_BYTES {
                    let_go(arena);
                }
                return Ok(chunk);
            }
            Ok(None) if chunk.capacity() < most => {
                // The step is small where it is many bytes that may come to nothing.
                let step = if chunk.capacity() < CHUNK_BYTES { 4 } else { 2 };
                let larger = chunk.capacity() * step;
                buffers.give(chunk);
                chunk = buffers.take_fitting(larger.min(most));
                continue;
            }
            Ok(None) => match measure(arena, &head.fields, body) {
                Some(bytes) => buffers.refuse(bytes, limit),
                None => Refusal::Unserialisable,
            },
            Err(refusal) => refusal,
        };
        buffers.give(chunk);
        let_go(arena);
        return Err(refusal);
    }
}

/// Scratch memory keeps its largest block. What one long message took is not kept for good.
#[cold]
fn let_go(arena: &mut Arena) {
    if arena.capacity() > CHUNK_BYTES {
        *arena = Arena::new();
    }
}

thread_local! {
    /// Scratch memory for nested message types, on threads without an encoder.
    static ARENA: RefCell<Arena> = RefCell::new(Arena::new());
}

/// Runs with this thread's scratch memory; with fresh one inside an encoding.
pub fn with_arena<T>(run: impl FnOnce(&mut Arena) -> T) -> T {
    ARENA.with(|arena| match arena.try_borrow_mut() {
        Ok(mut arena) => run(&mut arena),
        // A message whose serialisation sends another.
        Err(_) => in_fresh_arena(run),
    })
}

#[cold]
#[inline(never)]
fn in_fresh_arena<T>(run: impl FnOnce(&mut Arena) -> T) -> T {
    run(&mut Arena::new())
}

/// Encodes one frame into the smallest chunk that takes it; for threads without an encoder.
///
/// # Errors
/// As [`append`].
pub fn encode_single<B: WireType>(
    buffers: &Buffers,
    head: &Head,
    body: &B,
) -> Result<Chunk, Refusal> {
    with_arena(|arena| grow(buffers.take_small(), arena, buffers, head, body))
}

/// Where a worker's encoders take buffers from, and the scratch memory rkyv needs for nested
/// types. Never asks the allocator on the steady path.
pub struct Encoder {
    arena: Arena,
    free: Vec<Chunk>,
    shared: Arc<Buffers>,
    purses: Purses,
}

impl Encoder {
    /// An encoder that shares free chunks with its siblings, for outboxes that take so many bytes
    /// together.
    pub fn new(shared: Arc<Buffers>, outboxes_bytes: usize) -> Self {
        let free = Vec::with_capacity(KEPT_CHUNKS);
        Self { arena: Arena::new(), free, shared, purses: Purses::new(outboxes_bytes) }
    }

    /// What the outboxes have taken.
    pub fn purses(&self) -> &Purses {
        &self.purses
    }

    /// Encodes one frame into the smallest chunk that takes it.
    pub(super) fn single<B: WireType>(&mut self, head: &Head, body: &B) -> Result<Chunk, Refusal> {
        grow(self.shared.take_small(), &mut self.arena, &self.shared, head, body)
    }

    #[inline]
    fn take(&mut self) -> Chunk {
        self.free.pop().unwrap_or_else(|| self.shared.take_large())
    }

    /// A chunk for what comes next into an outbox that holds so much: an ordinary one, unless many
    /// outboxes hold something. Then a small one, and larger ones as the outbox grows.
    #[inline]
    fn take_for(&mut self, account: Account, held: usize) -> Chunk {
        if self.purses.is_tight(account) { self.take_small(held) } else { self.take() }
    }

    #[cold]
    fn take_small(&mut self, held: usize) -> Chunk {
        match SIZES.into_iter().find(|size| held < *size) {
            Some(SMALL_CHUNK_BYTES) => self.shared.take_small(),
            Some(size) => Chunk::with_capacity(size),
            None => self.take(),
        }
    }

    /// Takes an emptied chunk back.
    #[inline]
    pub fn give(&mut self, mut chunk: Chunk) {
        if chunk.capacity() == CHUNK_BYTES && self.free.len() < KEPT_CHUNKS {
            chunk.clear();
            self.free.push(chunk);
        } else {
            self.shared.give(chunk);
        }
    }
}

/// Its free chunks are its siblings' from then on.
impl Drop for Encoder {
    fn drop(&mut self) {
        self.free.drain(..).for_each(|chunk| self.shared.give(chunk));
    }
}

/// Frames on their way to one peer.
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    limit_bytes: usize,
    /// The memory of its chunks, which is taken of the account.
    held: usize,
    account: Account,
    /// The longest frame that its peer takes, as far as is known.
    takes: usize,
}

/// What counts of a chunk that was lent.
pub(super) struct Lent {
    bytes: usize,
    held: usize,
}

impl Outbox {
    /// An empty outbox that takes frames until it holds `limit_bytes`, or as much as its account
    /// allows.
    pub fn new(limit_bytes: usize, account: Account) -> Self {
        let (bytes, held, takes) = (0, 0, usize::MAX);
        Self { chunks: VecDeque::new(), bytes, limit_bytes, held, account, takes }
    }

    /// Its peer takes frames up to this length, if it said so.
    pub(super) fn peer_takes(&mut self, takes: Option<NonZeroU32>) {
        self.takes = takes.map_or(usize::MAX, |takes| padded(takes.get() as usize));
    }

    /// Whether its peer takes all messages of a chunk.
    pub(super) fn fits(&self, chunk: &Chunk) -> bool {
        self.takes >= chunk.len() || chunk.messages().all(|(_, bytes)| bytes <= self.takes)
    }

    /// Why messages are not sent that its peer does not take.
    #[cold]
    pub(super) fn refuse(&self, buffers: &Buffers, chunk: &Chunk) -> Refusal {
        let lengths = || chunk.messages().map(|(_, bytes)| bytes);
        let longest = lengths().max().unwrap_or_default();
        buffers.too_long_there.note(lengths().count() as u64, longest, self.takes);
        Refusal::TooLarge
    }

    /// The frames of a chunk that its peer takes, and those that it does not.
    pub(super) fn split(&self, chunk: &Chunk) -> (Chunk, Chunk) {
        chunk.split_by_length(self.takes)
    }

    /// Takes out the messages that its peer does not take.
    pub(super) fn take_too_large(&mut self, encoder: &mut Encoder) -> Vec<Chunk> {
        let takes = self.takes;
        self.take_out(encoder, |frame| frame.len() > takes)
    }

    /// Takes out the frames, of those no byte of which was written, that fit.
    pub(super) fn take_out(
        &mut self,
        encoder: &mut Encoder,
        fits: impl Fn(&[u8]) -> bool,
    ) -> Vec<Chunk> {
        let out = self.chunks.iter_mut().filter_map(|chunk| chunk.take_out(&fits));
        let out: Vec<Chunk> = out.collect();
        self.bytes -= out.iter().map(Chunk::len).sum::<usize>();
        for _ in 0..self.chunks.len() {
            match self.remove(encoder) {
                Some(chunk) if !chunk.is_empty() => self.add(encoder, chunk),
                emptied => emptied.into_iter().for_each(|chunk| encoder.give(chunk)),
            }
        }
        out
    }

    /// Bytes waiting.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory of the chunks in which they wait, and the account that it is taken of.
    pub fn held(&self) -> (usize, Account) {
        (self.held, self.account)
    }

    /// What waits, chunk by chunk.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// How many tells and asks wait, of those no byte of which was written.
    pub(super) fn untouched_requests(&self) -> u64 {
        self.chunks.iter().map(Chunk::untouched_requests).sum()
    }

    /// Of each message that waits, if no byte of it was written: whether it is a request, and how
    /// many bytes it takes.
    pub fn messages(&self) -> impl Iterator<Item = (bool, usize)> {
        self.chunks.iter().flat_map(Chunk::messages)
    }

    /// How many chunks wait.
    #[inline]
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether the limit is reached, its own or its account's; what a sender adds is refused then.
    #[inline]
    pub fn is_full(&self, encoder: &Encoder) -> bool {
        self.bytes >= self.limit_bytes || self.held >= encoder.purses.allows(self.account)
    }

    /// Whether three quarters of its own limit are reached, or its account's. Never of an empty
    /// one: it will be written, and looked at again.
    #[inline]
    pub fn is_nearly_full(&self, encoder: &Encoder) -> bool {
        self.bytes >= self.limit_bytes / 4 * 3
            || (self.bytes > 0 && self.held >= encoder.purses.allows(self.account))
    }

    /// Whether no more should be asked for that is replied to here: what comes of what was asked
    /// already needs room. Never while it is empty, as [`Outbox::is_nearly_full`].
    #[inline]
    pub fn is_choked(&self, encoder: &Encoder) -> bool {
        self.bytes >= self.limit_bytes
            || (self.bytes > 0 && self.held >= encoder.purses.allows(self.account) / 4)
    }

    /// Whether it takes not even replies.
    #[inline]
    pub fn is_overfull(&self, encoder: &Encoder) -> bool {
        self.bytes >= 2 * self.limit_bytes || self.held >= encoder.purses.allows(self.account)
    }

    #[inline]
    fn add(&mut self, encoder: &mut Encoder, chunk: Chunk) {
        self.held += chunk.capacity();
        encoder.purses.take(self.account, chunk.capacity());
        self.chunks.push_back(chunk);
    }

    #[inline]
    fn remove(&mut self, encoder: &mut Encoder) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.held -= chunk.capacity();
        encoder.purses.give(self.account, chunk.capacity());
        Some(chunk)
    }

    /// From now on what it holds is taken of this account.
    pub(super) fn charge(&mut self, encoder: &mut Encoder, account: Account) {
        encoder.purses.give(self.account, self.held);
        encoder.purses.take(account, self.held);
        self.account = account;
    }

    /// Encodes one frame at the end.
    #[inline(always)]
    pub(super) fn push<B: WireType>(
        &mut self,
        encoder: &mut Encoder,
        head: &Head,
        body: &B,
    ) -> Result<(), Refusal> {
        if let Some(chunk) = self.chunks.back_mut() {
            let limit = encoder.shared.max_frame_bytes.min(self.takes);
            let Encoder { arena, shared, .. } = encoder;
            if let Some(bytes) = append(chunk, arena, (shared, limit), head, body)? {
                self.bytes += bytes;
                return Ok(());
            }
        }
        self.push_into_new(encoder, *head, body)
    }

    #[cold]
    fn push_into_new<B: WireType>(
        &mut self,
        encoder: &mut Encoder,
        head: Head, // A copy, so that in the common case it is nowhere in memory.
        body: &B,
    ) -> Result<(), Refusal> {
        let chunk = encoder.take_for(self.account, self.held);
        let chunk = grow(chunk, &mut encoder.arena, &encoder.shared, &head, body)?;
        if chunk.len() > self.takes {
            let refusal = self.refuse(&encoder.shared, &chunk);
            encoder.give(chunk);
            return Err(refusal);
        }
        self.bytes += chunk.len();
        self.add(encoder, chunk);
        Ok(())
    }

    /// Puts a frame of the protocol itself at the end, whatever the limit: there are few of them.
    pub(super) fn push_control(
        &mut self,
        encoder: &mut Encoder,
        kind: FrameKind,
        fields: &Fields,
        code: u32,
        body: &[u8],
    ) {
        debug_assert!(body.len() <= HEADER_BYTES, "control frames are small");
        self.push_raw(encoder, kind, fields, MessageTypeId(code), HandlerId(0), body);
    }

    /// Puts a frame whose body is encoded already at the end, whatever the limit: whoever sends
    /// such frames bounds them.
    pub(super) fn push_raw(
        &mut self,
        encoder: &mut Encoder,
        kind: FrameKind,
        fields: &Fields,
        message: MessageTypeId,
        target: HandlerId,
        body: &[u8],
    ) {
        if let Some(chunk) = self.chunks.back_mut()
            && let Ok(bytes) = encode_empty(chunk, kind, fields, message, target, body)
        {
            self.bytes += bytes;
            return;
        }
        let room = HEADER_BYTES + MAX_FIELDS_BYTES + padded(body.len());
        // Not an ordinary one: very many links may have but one such frame at a time.
        let mut chunk = match room.max(self.held.min(CHUNK_BYTES)) {
            room if room <= CHUNK_BYTES => encoder.take_small(room - 1),
            room => Chunk::with_capacity(room),
        };
        let bytes = encode_empty(&mut chunk, kind, fields, message, target, body)
            .expect("an empty chunk of this size has room for the frame");
        self.bytes += bytes;
        self.add(encoder, chunk);
    }

    /// Adds frames that were encoded elsewhere: small runs are copied together, large ones moved.
    pub(super) fn push_chunk(&mut self, encoder: &mut Encoder, chunk: Chunk) {
        self.bytes += chunk.len();
        if chunk.len() < CHUNK_BYTES / 8 {
            let back = self.chunks.back_mut();
            if back.is_some_and(|back| back.append(chunk.bytes(), chunk.frames())) {
                encoder.give(chunk);
                return;
            }
            // Not the small chunk itself: the next ones would find no room in it.
            let mut back = encoder.take_for(self.account, self.held);
            if back.append(chunk.bytes(), chunk.frames()) {
                self.add(encoder, back);
                encoder.give(chunk);
                return;
            }
            encoder.give(back);
        }
        self.add(encoder, chunk);
    }

    /// The waiting bytes, chunk by chunk, oldest first.
    #[inline]
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Chunk::bytes)
    }

    /// Takes the oldest chunk whole; for queues within the process.
    #[inline]
    pub fn pop_chunk(&mut self, encoder: &mut Encoder) -> Option<Chunk> {
        let chunk = self.remove(encoder)?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    /// As [`Outbox::pop_chunk`], of which only so many frames are handled now: what is behind them
    /// still waits and counts, until [`Outbox::settle`] is given what is left.
    pub(super) fn lend_chunk(&mut self, encoder: &mut Encoder, most: u32) -> Option<(Chunk, Lent)> {
        let chunk = self.pop_chunk(encoder)?;
        let bytes = chunk.bytes_behind(most);
        let held = if bytes > 0 { chunk.capacity() } else { 0 };
        self.bytes += bytes;
        self.held += held;
        encoder.purses.take(self.account, held);
        Some((chunk, Lent { bytes, held }))
    }

    /// Takes back what is left of a chunk that was lent.
    pub(super) fn settle(&mut self, encoder: &mut Encoder, lent: Lent, rest: Option<Chunk>) {
        self.bytes -= lent.bytes;
        self.held -= lent.held;
        encoder.purses.give(self.account, lent.held);
        if let Some(rest) = rest {
            self.unpop_chunk(encoder, rest);
        }
    }

    /// Puts a chunk that [`Outbox::pop_chunk`] took back to the front.
    pub fn unpop_chunk(&mut self, encoder: &mut Encoder, chunk: Chunk) {
        self.bytes += chunk.len();
        self.held += chunk.capacity();
        encoder.purses.take(self.account, chunk.capacity());
        self.chunks.push_front(chunk);
    }

    /// Drops `count` bytes from the front, which the socket took.
    #[inline]
    pub(super) fn written(&mut self, encoder: &mut Encoder, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let front = self.chunks.front_mut().expect("more was written than waited");
            let step = count.min(front.len());
            front.consume(step);
            count -= step;
            if front.is_empty()
                && let Some(chunk) = self.remove(encoder)
            {
                encoder.give(chunk);
            }
        }
    }

    /// The peer takes nothing at the moment: what is left in the last chunk waits in one that fits.
    #[cold]
    pub(super) fn tighten(&mut self, encoder: &mut Encoder) {
        let Some(last) = self.chunks.back() else { return };
        if last.capacity() != CHUNK_BYTES || last.len() > CHUNK_BYTES / 4 {
            return;
        }
        let Some(last) = self.chunks.pop_back() else { return };
        self.held -= last.capacity();
        encoder.purses.give(self.account, last.capacity());
        let before = self.chunks.back_mut();
        if before.is_none_or(|before| {
            !last.is_untouched() || !before.append(last.bytes(), last.frames())
        }) {
            let mut fitting = encoder.take_small(last.len().saturating_sub(1));
            if !fitting.take_rest_of(&last) {
                return self.add(encoder, last); // The part of a frame that is gone takes it.
            }
            self.add(encoder, fitting);
        }
        encoder.give(last);
    }

    /// After a loss: forgets the frame that was written in part, keeps those of which nothing was
    /// written, and says how many tells and asks those are.
    pub(super) fn rewind(&mut self, encoder: &mut Encoder) -> u64 {
        if let Some(front) = self.chunks.front_mut() {
            front.skip_partial_frame();
            if front.is_empty()
                && let Some(chunk) = self.remove(encoder)
            {
                encoder.give(chunk);
            }
        }
        self.bytes = self.chunks.iter().map(Chunk::len).sum();
        self.untouched_requests()
    }

    /// The correlations of the asks of which nothing was written, sorted.
    pub(super) fn unwritten_asks(&self) -> Vec<u64> {
        let mut asks: Vec<u64> = self.chunks.iter().flat_map(Chunk::untouched_asks).collect();
        asks.sort_unstable();
        asks
    }

    /// Drops everything.
    pub(super) fn clear(&mut self, encoder: &mut Encoder) {
        self.bytes = 0;
        while let Some(chunk) = self.remove(encoder) {
            encoder.give(chunk);
        }
    }
}
