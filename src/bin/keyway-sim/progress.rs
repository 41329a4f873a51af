//! How far it is.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// So many seeds.
    Seeds(u64),
    /// As many as there are in this time.
    Until(Duration),
}

/// A line on the terminal that says how far it is, once it takes longer than a moment.
pub struct Progress {
    goal: Goal,
    seconds: u64,
    began: Instant,
    shown: bool,
    last: Mutex<Instant>,
}

impl Progress {
    /// Begins now, with seeds of so many simulated seconds.
    pub fn new(goal: Goal, seconds: u64) -> Self {
        let began = Instant::now();
        let shown = std::io::stderr().is_terminal();
        Self { goal, seconds, began, shown, last: Mutex::new(began) }
    }

    /// Whether the seed with this number is not needed any more.
    pub fn is_reached(&self, number: u64) -> bool {
        match self.goal {
            Goal::Seeds(seeds) => number >= seeds,
            Goal::Until(time) => self.began.elapsed() >= time,
        }
    }

    /// So many are done.
    pub fn show(&self, done: u64, failed: usize) {
        let elapsed = self.began.elapsed();
        if !self.shown || elapsed < Duration::from_secs(2) {
            return;
        }
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() < Duration::from_millis(200) {
            return;
        }
        *last = Instant::now();
        let width = 30_usize;
        let (part, of) = match self.goal {
            Goal::Seeds(seeds) => (done as f64 / seeds.max(1) as f64, format!("{done}/{seeds}")),
            Goal::Until(time) => {
                let left = time.saturating_sub(elapsed).as_secs();
                (elapsed.div_duration_f64(time), format!("{left} s left, {done}"))
            }
        };
        let full = (part.min(1.0) * width as f64) as usize;
        let bar = "#".repeat(full) + &".".repeat(width - full);
        let speed = (done * self.seconds) as f64 / elapsed.as_secs_f64();
        // A terminal that cannot be written to needs no progress.
        let _ = write!(
            std::io::stderr(),
            "\r[{bar}] {of} seeds, {failed} failed, {speed:.0} simulated s per s "
        );
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
