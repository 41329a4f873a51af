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
