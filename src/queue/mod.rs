//! Where threads meet: bounded queues, wake-ups and one-shot replies. The only folder with atomics.
//!
//! | from | to | through |
//! |---|---|---|
//! | application threads | a worker | [`Injector`] |
//! | control | a worker | [`RingSender`], and [`Latest`] for what a newer one replaces |
//! | a worker | a worker | [`WeighedSender`] |
//! | a worker | the thread that asked | [`ReplySlots`] |
//! | work elsewhere | the worker that had it begun | [`finished`] |
//! | whoever finds that queue full | a worker | [`spill`], a note each at most |
//! | anyone | anyone | [`Pool`], for buffers on their way back |
//! | a worker | whoever looks | [`board`], for facts that need no queue |
//! | control | any number of readers | [`stream`] |
//!
//! Nothing here grows and nothing here blocks: a full queue hands the item back in [`Full`], and
//! the caller decides. A producer wakes its consumer only when that one sleeps (see [`sleeper`]).
//!
//! The package `tests/loom` compiles this folder a second time with loom's primitives in place of
//! the standard ones (see `sync.rs`) and runs every interleaving of the models in `models.rs`.

pub mod allowance;
pub mod block_on;
#[cfg(not(loom))]
pub mod board;
pub mod finished;
pub mod foreign;
#[cfg(not(loom))]
pub mod gate;
pub mod inject;
pub mod latest;
#[cfg(not(loom))]
pub mod oversize;
pub mod pool;
pub mod reply;
pub mod ring;
#[cfg(not(loom))]
pub mod spill;
#[cfg(not(loom))]
pub mod stream;
mod sync;
#[cfg(not(loom))]
pub mod tally;
#[cfg(not(loom))]
pub mod times;
pub mod wake;
pub mod weighed;

#[cfg(all(test, loom))]
mod models;

pub use allowance::{Allowance, Taken};
pub use block_on::block_on;
#[cfg(not(loom))]
pub use block_on::{block_on_until, block_on_within};
pub use inject::{Injected, Injector, Room, Weigh, injector};
pub use latest::Latest;
pub use pool::Pool;
pub use reply::{ReplySlots, Ticket};
pub use ring::{RingReceiver, RingSender, ring};
pub use wake::{Sleeper, Waker, sleeper};
pub use weighed::{WeighedReceiver, WeighedSender, weighed_ring};

/// A queue had no room; here is the item back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full: its consumer is slower than its producers; try later or send less")]
pub struct Full<T>(pub T);

impl<T> Full<T> {
    /// The item that found no room.
    pub fn into_inner(self) -> T {
        self.0
    }
}

// By hand, because the item need not be `Debug` for the error to be.
impl<T> std::fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
