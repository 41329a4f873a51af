//! The fingerprint of a run: everything that happens is folded into one number, and on request
//! also printed. Equal seeds must give equal fingerprints on every machine.

use std::fmt;
use std::io::{self, Write};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::scenario::Print;
use crate::base::Time;

/// Seconds and microseconds.
fn stamp(at: Time) -> String {
    format!("{:>3}.{:06}", at.0 / 1_000_000_000, at.0 / 1_000 % 1_000_000)
}

/// Writes a line; whoever closes the other end of the pipe has read enough.
fn print(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Folds what happens into a number.
pub struct Trace {
    hash: u64,
    events: u64,
    print: Print,
    /// When the last event was.
    last: Time,
}

impl Trace {
    /// The trace of a run that has just begun.
    pub fn new(seed: u64, print: Print) -> Self {
        Self { hash: seed ^ 0x51af_d7ed_558c_cd25, events: 0, print, last: Time::ZERO }
    }

    /// Notes an event: when, at which process or address, what, and a number that says more.
    #[inline]
    pub fn note(&mut self, at: Time, place: usize, kind: &'static str, detail: u64) {
        self.events += 1;
        self.last = at;
        let first = kind.as_bytes();
        let name = u64::from(first[0]) | u64::from(first[first.len() - 1]) << 8;
        for word in [at.0, (place as u64) << 32 | name << 16 | first.len() as u64, detail] {
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash ^= self.hash >> 29;
        }
        if self.print == Print::Events {
            print(format_args!("{} {place:>3} {kind:<12} {detail:016x}", stamp(at)));
        }
    }

    /// Prints what an event's number cannot say; costs nothing when nobody reads it.
    #[inline]
    pub fn say(&self, text: impl FnOnce() -> String) {
        match self.print {
            Print::Nothing => {}
            Print::Story => print(format_args!("{} {}", stamp(self.last), text())),
            Print::Events => print(format_args!("               {}", text())),
        }
    }

    /// Notes an event with bytes.
    #[inline]
    pub fn note_bytes(&mut self, at: Time, place: usize, kind: &'static str, bytes: &[u8]) {
        self.note(at, place, kind, xxh3_64_with_seed(bytes, bytes.len() as u64));
    }

    /// The fingerprint so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }
}
