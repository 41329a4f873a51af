//! Small facts that one worker publishes and any thread reads, without waiting for each other.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use crate::base::fate::COUNT_WORDS;

/// How one worker's link to a destination stands, as application threads see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkState {
    /// Messages are taken.
    Open = 0,
    /// The queue is nearly full: refuse now, so that what was accepted still fits.
    Full = 1,
    /// The link is down.
    Down = 2,
    /// The peer leaves or is gone.
    Finished = 3,
}

/// One worker's links, by destination. A destination beyond its capacity counts as open: its
/// worker still decides, only later.
pub struct Board {
    states: Box<[AtomicU8]>,
}

impl Board {
    /// A board for so many destinations, all open.
    pub fn new(destinations: usize) -> Self {
        Self { states: (0..destinations).map(|_| AtomicU8::new(0)).collect() }
    }

    /// Publishes how a link stands.
    #[inline]
    pub fn set(&self, destination: u32, state: LinkState) {
        if let Some(cell) = self.states.get(destination as usize) {
            // Relaxed: the fact stands for itself, and an old one only costs a later refusal.
            if cell.load(Ordering::Relaxed) != state as u8 {
                cell.store(state as u8, Ordering::Relaxed);
            }
        }
    }

    /// How a link stands.
    #[inline]
    pub fn get(&self, destination: u32) -> LinkState {
        let state =
            self.states.get(destination as usize).map_or(0, |cell| cell.load(Ordering::Relaxed));
        match state {
            0 => LinkState::Open,
            1 => LinkState::Full,
            2 => LinkState::Down,
            _ => LinkState::Finished,
        }
    }
}

/// A worker's counts, published now and then. A sequence number lets a reader tell a whole set of
/// numbers from one that was being written meanwhile.
pub struct CountsBoard {
    version: AtomicU64,
    words: [AtomicU64; COUNT_WORDS],
}

impl CountsBoard {
    /// All zero.
    pub fn new() -> Self {
        Self { version: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Publishes a set. Only one thread may do so.
    pub fn publish(&self, words: &[u64; COUNT_WORDS]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, word) in self.words.iter().zip(words) {
            cell.store(*word, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// Reads a whole set.
    pub fn read(&self) -> [u64; COUNT_WORDS] {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let mut words = [0; COUNT_WORDS];
            for (word, cell) in words.iter_mut().zip(&self.words) {
                *word = cell.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return words;
            }
            spin_loop();
        }
    }
}

impl Default for CountsBoard {
    fn default() -> Self {
        Self::new()
    }
}
