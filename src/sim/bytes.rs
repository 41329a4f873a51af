//! What is on its way on one side of a connection of the fake network.

/// Bytes in order, taken from the front.
#[derive(Default)]
pub(super) struct Bytes {
    bytes: Vec<u8>,
    start: usize,
}

impl Bytes {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start += count;
        &self.bytes[from..from + count]
    }

    /// Gives room back once everything was taken.
    pub fn tidy(&mut self) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
