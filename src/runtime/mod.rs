//! Threads: one pinned thread per worker drives its decider over mio, one control thread drives
//! its decider over tokio. They meet only in the queues of [`crate::queue`].

pub mod clock;
pub mod control;
mod crew;
mod effects;
pub mod hello;
mod jobs;
pub mod last;
pub mod proxies;
pub mod published;
pub mod start;
pub mod worker;
