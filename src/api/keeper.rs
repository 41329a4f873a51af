//! Keeps the deadlines of asks that futures wait for, whatever their workers do.
//!
//! A worker ends every ask at its deadline, unless a handler holds it up. So the asker keeps the
//! deadline as well: a thread that blocks wakes by itself ([`Ask::wait`](super::Ask::wait)), and
//! for futures, which know no clock, one thread of the node looks over the open asks every few
//! milliseconds. It starts with the first future that has to wait, and sleeps while nothing is open.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::ask::ASKERS_GRACE;
use crate::base::Time;
use crate::base::fate::AskError;
use crate::queue::reply::ReplySlots;
use crate::runtime::clock::Clock;
use crate::worker::AppReply;

/// How often open asks are looked over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often a sleeping keeper looks whether the node has ended.
const SLEEP: Duration = Duration::from_secs(1);

/// The handle of the thread, if there is one yet.
#[derive(Default)]
pub(crate) struct Keeper {
    thread: OnceLock<Option<Thread>>,
    asleep: std::sync::Arc<AtomicBool>,
}

impl Keeper {
    /// Sees to it that open asks are looked over. To be called after an ask was opened.
    #[inline]
    pub fn watch(&self, replies: &ReplySlots<AppReply>, clock: Clock) {
        let thread = self.thread.get_or_init(|| self.start(replies.clone(), clock));
        // Either this sees it asleep, or it sees the ask before it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && let Some(thread) = thread
        {
            thread.unpark();
        }
    }

    #[cold]
    fn start(&self, replies: ReplySlots<AppReply>, clock: Clock) -> Option<Thread> {
        let asleep = std::sync::Arc::clone(&self.asleep);
        let spawned = thread::Builder::new()
            .name("keyway-asks".into())
            .spawn(move || keep(&replies, clock, &asleep));
        match spawned {
            Ok(handle) => Some(handle.thread().clone()),
            Err(error) => {
                tracing::warn!(%error, "no thread for the deadlines of asks: workers alone keep them");
                None
            }
        }
    }
}

fn keep(replies: &ReplySlots<AppReply>, clock: Clock, asleep: &AtomicBool) {
    while !replies.is_closed() {
        let overdue = Time(clock.now().0.saturating_sub(ASKERS_GRACE.as_nanos() as u64));
        replies.expire(overdue.0, || Err(AskError::Timeout));
        asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if replies.in_flight() == 0 {
            thread::park_timeout(SLEEP);
            asleep.store(false, Ordering::Relaxed);
        } else {
            asleep.store(false, Ordering::Relaxed);
            thread::sleep(LOOK_EVERY);
        }
    }
}
