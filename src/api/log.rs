//! The log of the application's own threads: what its load can cause is limited there as well.

use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use crate::base::{LogKind, LogLimiter, Time};

static LOG: LazyLock<(Instant, Mutex<LogLimiter>)> =
    LazyLock::new(|| (Instant::now(), Mutex::default()));

/// Whether a line of this kind is written, and how many were left out before it.
pub(super) fn line(kind: LogKind) -> Option<u64> {
    let (since, log) = &*LOG;
    let now = Time::ZERO.plus(since.elapsed());
    log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).line(now, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_cause_is_a_line_now_and_then() {
        let begun = Instant::now();
        let written: usize = std::thread::scope(|scope| {
            let load = || (0..1_000).filter(|_| line(LogKind::AsyncReply).is_some()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((1..=2 + begun.elapsed().as_secs() as usize).contains(&written), "{written}");
    }
}
