//! Free buffers that all threads of a node share, and replies that wait in them for an application.

use crate::base::fate::Refusal;
use crate::queue::allowance::{Allowance, Taken};
use crate::queue::oversize::Oversize;
use crate::queue::pool::Pool;
use crate::wire::{CHUNK_BYTES, Chunk};

/// Capacity of the chunks that carry single frames between threads.
pub const SMALL_CHUNK_BYTES: usize = 1024;

/// Capacities of chunks that are no larger than needed.
pub const SIZES: [usize; 3] = [SMALL_CHUNK_BYTES, 4 * SMALL_CHUNK_BYTES, 16 * SMALL_CHUNK_BYTES];

/// The free buffers that all threads of a node share.
pub struct Buffers {
    /// Of [`CHUNK_BYTES`].
    pub large: Pool<Chunk>,
    /// Of [`SMALL_CHUNK_BYTES`].
    pub small: Pool<Chunk>,
    /// The most bytes that a frame may have.
    pub max_frame_bytes: usize,
    /// What replies may take that applications have not taken yet, those of
    /// [`SMALL_CHUNK_BYTES`] apart: of them there is one per ask at most.
    pub replies: Allowance,
    /// Messages and replies that are longer than [`Buffers::max_frame_bytes`].
    pub too_long: Oversize,
    /// Those that are not, and longer than the node takes that they are for.
    pub too_long_there: Oversize,
}

/// A reply's body on its way to an application thread.
pub struct Reply {
    body: Chunk,
    /// Given back when the reply is taken out or dropped.
    _taken: Option<Taken>,
}

impl Reply {
    /// The body, and its buffer.
    pub fn into_chunk(self) -> Chunk {
        self.body
    }
}

impl Buffers {
    /// Empty pools that keep up to so many chunks each.
    pub fn new(large: usize, small: usize, max_frame_bytes: usize, replies_bytes: usize) -> Self {
        let replies = Allowance::new(replies_bytes);
        let (large, small) = (Pool::new(large), Pool::new(small));
        let (too_long, too_long_there) = Default::default();
        Self { large, small, max_frame_bytes, replies, too_long, too_long_there }
    }

    /// Why a frame of so many bytes is not sent where only so many are allowed. It is noted, so that
    /// the log can tell how long it was.
    #[cold]
    pub fn refuse(&self, bytes: usize, limit: usize) -> Refusal {
        let is_ours = limit >= self.max_frame_bytes;
        let kept = if is_ours { &self.too_long } else { &self.too_long_there };
        kept.note(1, bytes, limit);
        Refusal::TooLarge
    }

    /// Holds a reply for an application; nothing when too much waits there already.
    pub fn hold_reply(&self, body: &[u8]) -> Option<Reply> {
        let mut chunk = match SIZES.into_iter().find(|size| body.len() <= *size) {
            Some(SMALL_CHUNK_BYTES) => self.take_small(),
            // It may lie there for long, so it takes no more than it needs.
            Some(size) => Chunk::with_capacity(size),
            None => self.take_fitting(body.len()),
        };
        let taken = match chunk.capacity() {
            SMALL_CHUNK_BYTES => None,
            large => match self.replies.take(large) {
                Some(taken) => Some(taken),
                None => {
                    self.give(chunk);
                    return None;
                }
            },
        };
        chunk.hold(body);
        Some(Reply { body: chunk, _taken: taken })
    }

    /// The same for the body of a frame.
    pub fn hold_reply_of(&self, mut frame: Chunk) -> Option<Reply> {
        frame.keep_body();
        if frame.capacity() == SMALL_CHUNK_BYTES {
            return Some(Reply { body: frame, _taken: None });
        }
        let held = self.hold_reply(frame.bytes());
        self.give(frame);
        held
    }

    /// An empty chunk for a batch of frames.
    pub fn take_large(&self) -> Chunk {
        take(&self.large, CHUNK_BYTES)
    }

    /// An empty chunk for one small frame.
    pub fn take_small(&self) -> Chunk {
        take(&self.small, SMALL_CHUNK_BYTES)
    }

    /// An empty chunk for so many bytes.
    pub fn take_fitting(&self, bytes: usize) -> Chunk {
        match bytes {
            _ if bytes <= SMALL_CHUNK_BYTES => self.take_small(),
            _ if bytes <= CHUNK_BYTES => self.take_large(),
            _ => Chunk::with_capacity(bytes),
        }
    }

    /// Takes a chunk back; one of unusual size goes to the allocator.
    pub fn give(&self, chunk: Chunk) {
        match chunk.capacity() {
            CHUNK_BYTES => self.large.give(chunk),
            SMALL_CHUNK_BYTES => self.small.give(chunk),
            _ => {}
        }
    }
}

fn take(pool: &Pool<Chunk>, capacity: usize) -> Chunk {
    match pool.take() {
        Some(mut chunk) => {
            chunk.clear();
            chunk
        }
        None => Chunk::with_capacity(capacity),
    }
}
