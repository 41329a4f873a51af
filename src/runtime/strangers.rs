//! How often strangers are spoken of in the log: whoever can reach the port must not be able to
//! fill a disk with lines.

use std::time::Duration;

use crate::base::Time;

/// The least time between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Decides whether a line about a stranger is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct StrangerLog {
    next: Time,
    left_out: u64,
}

impl StrangerLog {
    /// Asks for a line. Gives how many were left out since the last one; `None` when this one is
    /// left out too.
    pub fn line(&mut self, now: Time) -> Option<u64> {
        if now < self.next {
            self.left_out += 1;
            return None;
        }
        self.next = now.plus(PAUSE);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second_that_counts_the_others() {
        let mut log = StrangerLog::default();
        let at = |ms: u64| Time(ms * 1_000_000);
        assert_eq!(log.line(at(0)), Some(0));
        for ms in 1..1_000 {
            assert_eq!(log.line(at(ms)), None);
        }
        assert_eq!(log.line(at(1_000)), Some(999));
        assert_eq!(log.line(at(5_000)), Some(0));
    }
}
