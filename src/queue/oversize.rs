//! Messages that were too long, from whoever refused them to whoever tells of it.

use super::sync::{AtomicU64, Ordering};

/// How many there were since they were last told of, and how long the last one was.
#[derive(Default)]
pub struct Oversize {
    count: AtomicU64,
    /// How long, and in the lower half how long it could have been.
    last: AtomicU64,
}

/// What an [`Oversize`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How many messages were too long.
    pub count: u64,
    /// How many bytes the last one had, its header included.
    pub bytes: u32,
    /// How many it could have had.
    pub limit: u32,
}

impl Oversize {
    /// There were so many; the longest of them was this long, and could have been that long.
    pub fn note(&self, count: u64, bytes: usize, limit: usize) {
        let [bytes, limit] = [bytes, limit].map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        self.last.store(u64::from(bytes) << 32 | u64::from(limit), Ordering::Relaxed);
        // Release: whoever sees the count sees the sizes of that one, or of a later one.
        self.count.fetch_add(count, Ordering::Release);
    }

    /// What was noted since this was asked last.
    pub fn take(&self) -> Option<TooLong> {
        // A look at what hardly ever changes.
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let count = self.count.swap(0, Ordering::Acquire);
        let last = self.last.load(Ordering::Relaxed);
        Some(TooLong { count, bytes: (last >> 32) as u32, limit: last as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_told_once_with_the_last_sizes() {
        let kept = Oversize::default();
        assert_eq!(kept.take(), None);
        kept.note(2, 5_000, 4_096);
        kept.note(1, 1 << 40, 8_192);
        let told = TooLong { count: 3, bytes: u32::MAX, limit: 8_192 };
        assert_eq!((kept.take(), kept.take()), (Some(told), None));
    }
}
