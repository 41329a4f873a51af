//! Walk of a message: the socket comes before, `wire/deframe` after.
//!
//! A link's receive buffer. Frames are handled where they were received; only the beginning of a
//! frame that is not there in full yet is ever moved.

use rkyv::util::AlignedVec;

/// Bytes that were received and not handled yet. What lies in it starts at a frame boundary, and
/// so at a multiple of 16.
pub struct Inbox {
    bytes: AlignedVec<64>,
    start: usize,
    end: usize,
    usual_bytes: usize,
}

impl Inbox {
    /// An empty inbox that usually holds so many bytes. The memory is taken with the first read.
    pub fn new(usual_bytes: usize) -> Self {
        Self { bytes: AlignedVec::new(), start: 0, end: 0, usual_bytes }
    }

    /// Room for the next read. Never empty.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes.resize(self.usual_bytes, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// The read brought this many bytes.
    #[inline]
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len(), "a read filled more than the room");
    }

    /// What waits to be handled.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// `count` bytes were handled, and what follows is the beginning of a frame that takes `need`
    /// bytes in all. Makes room for it: `need` is capped by whoever parsed it.
    #[inline]
    pub fn consumed(&mut self, count: usize, need: usize) {
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() > self.usual_bytes {
                // A large frame is through: give its memory back.
                self.bytes = AlignedVec::new();
            }
            return;
        }
        if self.bytes.len() - self.start < need.max(self.usual_bytes / 4) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.bytes.len() < need {
                self.bytes.resize(need, 0);
            }
        }
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
        inbox.consumed(0, 4096);
        assert!(inbox.room().len() >= 4032);
        fill(&mut inbox, &[2; 4032]);
        assert_eq!(inbox.bytes().len(), 4096);
        inbox.consumed(4096, 16);
        assert_eq!(inbox.room().len(), 64);
    }
}
