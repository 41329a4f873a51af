//! Walk of a message: the socket comes before, `wire/deframe` after.
//!
//! A link's receive buffer. Frames are handled where they were received; only the beginning of a
//! frame that is not there in full yet is ever moved.

use rkyv::util::AlignedVec;

use crate::worker::turn::inboxes::FIRST_BYTES;

/// Bytes that were received and not handled yet. What lies in it starts at a frame boundary, and
/// so at a multiple of 16.
///
/// It grows, twofold, only when it was filled: what a peer announces takes no memory before it
/// comes.
pub struct Inbox {
    bytes: AlignedVec<64>,
    start: usize,
    end: usize,
    /// How large it is made when it is empty.
    next_bytes: usize,
    usual_bytes: usize,
    /// How large it may be.
    limit: usize,
    /// What the frame at the front takes.
    need: usize,
}

impl Inbox {
    /// An empty inbox that holds so many bytes when much is received. The memory is taken with the
    /// reads.
    pub fn new(usual_bytes: usize) -> Self {
        let next_bytes = FIRST_BYTES.min(usual_bytes);
        let bytes = AlignedVec::new();
        Self { bytes, start: 0, end: 0, next_bytes, usual_bytes, limit: usize::MAX, need: 0 }
    }

    /// From now on it is no larger than this, which must be enough for what it holds.
    pub fn allow(&mut self, bytes: usize) {
        debug_assert!(bytes >= self.end - self.start, "it holds more than it may");
        self.limit = bytes;
        if self.bytes.len() > bytes {
            self.move_to(bytes.max(self.end - self.start));
        }
    }

    /// Room for the next read. Never empty.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() {
            self.grow();
        }
        &mut self.bytes[self.end..]
    }

    #[cold]
    fn grow(&mut self) {
        let length = match self.bytes.len() {
            0 => self.next_bytes.min(self.limit),
            length => (2 * length).min(self.need.max(self.usual_bytes).min(self.limit)),
        };
        let length = length.max(self.bytes.len() + 1);
        self.bytes.reserve_exact(length - self.bytes.len());
        self.bytes.resize(length, 0);
    }

    /// The read brought this many bytes.
    #[inline]
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len(), "a read filled more than the room");
        if self.end == self.bytes.len() {
            // There was more than went in: the next one is larger.
            self.next_bytes = (2 * self.bytes.len()).min(self.usual_bytes);
        }
    }

    /// What waits to be handled.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// `count` bytes were handled, and what follows is the beginning of a frame that takes `need`
    /// bytes in all, which is capped by whoever parsed it. Makes place for it.
    #[inline]
    pub fn consumed(&mut self, count: usize, need: usize) {
        self.start += count;
        self.need = need;
        let usual = self.next_bytes.min(self.limit);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() != usual {
                // More is usual by now; or a large frame is through: give its memory back.
                self.bytes = AlignedVec::new();
            }
        } else if self.bytes.len() < usual {
            // A stream seldom ends a read with a whole frame: it must not stay small for that.
            self.move_to(usual);
        } else if self.bytes.len() - self.start < need.max(self.usual_bytes / 4) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    #[cold]
    fn move_to(&mut self, length: usize) {
        let mut other = AlignedVec::with_capacity(length);
        other.extend_from_slice(self.bytes());
        self.end = other.len();
        self.start = 0;
        other.resize(length, 0);
        self.bytes = other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(inbox: &mut Inbox, bytes: &[u8]) {
        inbox.room()[..bytes.len()].copy_from_slice(bytes);
        inbox.filled(bytes.len());
    }

    #[test]
    fn a_stream_whose_reads_end_within_frames_gets_its_usual_room() {
        let mut inbox = Inbox::new(64 << 10);
        for _ in 0..8 {
            let room = inbox.room().len();
            fill(&mut inbox, &vec![7; room]);
            inbox.consumed(inbox.bytes().len() - 16, 80);
            assert_eq!(inbox.bytes(), [7; 16]);
        }
        assert!(inbox.room().len() >= 48 << 10, "it has {} bytes", inbox.room().len());
    }

    #[test]
    fn what_is_left_moves_to_the_front_and_stays_aligned() {
        let mut inbox = Inbox::new(64);
        fill(&mut inbox, &[7; 60]);
        inbox.consumed(48, 32);
        assert_eq!(inbox.bytes(), [7; 12]);
        assert_eq!(inbox.bytes().as_ptr() as usize % 64, 0);
        assert!(inbox.room().len() >= 20);
    }

    #[test]
    fn a_large_frame_gets_room_and_gives_it_back() {
        let mut inbox = Inbox::new(64);
        fill(&mut inbox, &[1; 64]);
        inbox.consumed(0, 65_536);
        let mut came = 64;
        while came < 65_536 {
            assert!(inbox.bytes.len() <= 2 * came + FIRST_BYTES, "it grows with what comes");
            let part = inbox.room().len().min(65_536 - came);
            fill(&mut inbox, &vec![2; part]);
            came += part;
            inbox.consumed(0, 65_536);
        }
        assert_eq!(inbox.bytes.len(), 65_536);
        inbox.consumed(65_536, 16);
        assert_eq!(inbox.room().len(), 64);
    }

    #[test]
    fn it_becomes_as_large_as_usual_when_much_comes_at_once() {
        let mut inbox = Inbox::new(64 << 10);
        let mut sizes = vec![];
        for _ in 0..6 {
            let room = inbox.room().len();
            sizes.push(room >> 10);
            fill(&mut inbox, &vec![1; room]);
            inbox.consumed(room, 0);
        }
        assert_eq!(sizes, [4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn it_takes_no_more_than_it_is_allowed_whatever_is_needed() {
        let mut inbox = Inbox::new(64);
        inbox.allow(10_000);
        let mut came = 0;
        while came < 10_000 {
            let room = inbox.room().len();
            came += room;
            assert!(inbox.bytes.len() <= 10_000, "it grew to {}", inbox.bytes.len());
            fill(&mut inbox, &vec![1; room]);
            inbox.consumed(0, 65_536);
        }
        inbox.allow(20_000);
        assert!(inbox.room().len() <= 10_000);
    }
}
