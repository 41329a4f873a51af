//! The receiver's side: closed intervals of sequences per (sender, key), in arrival order.
//!
//! A healthy run extends one interval per (sender, key) for its whole length: two loads, one
//! compare and two stores per message. Everything unusual (a gap, a repeat, a step back) ends the
//! interval and starts another, so that the audit can reconstruct the exact history later.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::compiler_fence;

use serde::{Deserialize, Serialize};

use super::HIGHEST_SEQUENCE;
use super::region::{Region, damaged, read_words};

const MAGIC: u64 = u64::from_be_bytes(*b"kwrecv01");
const WORD_MAGIC: usize = 0;
const WORD_SENDERS: usize = 1;
const WORD_KEYS: usize = 2;
const WORD_LOG_CAPACITY: usize = 3;
const WORD_LOG_LENGTH: usize = 4;
/// While an interval moves to the log: the log's length before, + 1. Otherwise 0.
const WORD_PENDING: usize = 5;
const WORD_FOREIGN: usize = 6;
const WORD_OVERFLOWED: usize = 7;
const WORD_STEPS_BACK: usize = 8;
const HEADER_WORDS: usize = 16;

// One open interval per (sender, key). `NEXT` carries the epoch in its upper 16 bits, so that one
// compare covers both; 0 means that nothing has arrived.
const SLOT_NEXT: usize = 0;
const SLOT_LAST_NS: usize = 1;
const SLOT_FIRST: usize = 2;
const SLOT_FIRST_NS: usize = 3;
const SLOT_WORDS: usize = 4;

// One ended interval: the number of its slot, then the slot's words.
const LOG_WORDS: usize = 1 + SLOT_WORDS;

const SEQUENCE_BITS: u32 = 48;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;

/// How large a ledger is; all of it is reserved at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Senders are numbered `0..senders`.
    pub senders: u32,
    /// Keys are numbered `0..keys`.
    pub keys: u32,
    /// How many ended intervals are kept. 40 bytes each, touched only when used. When they are
    /// full, further ones are only counted and the audit does not balance.
    pub max_intervals: u32,
}

impl Shape {
    fn slots(self) -> usize {
        self.senders as usize * self.keys as usize
    }

    fn log_start(self) -> usize {
        HEADER_WORDS + self.slots() * SLOT_WORDS
    }

    fn words(self) -> io::Result<usize> {
        // In 128 bits, because two 32-bit numbers and the width of a slot can exceed 64.
        let words = HEADER_WORDS as u128
            + u128::from(self.senders) * u128::from(self.keys) * SLOT_WORDS as u128
            + u128::from(self.max_intervals) * LOG_WORDS as u128;
        usize::try_from(words).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a ledger of {words} words is too large; use fewer senders or keys"),
            )
        })
    }
}

/// Records what one routee receives.
pub struct ReceivedLedger {
    region: Region,
    shape: Shape,
    epoch_bits: u64,
}

impl ReceivedLedger {
    /// A ledger that dies with the process.
    pub fn in_memory(shape: Shape) -> io::Result<Self> {
        Ok(Self::new(Region::in_memory(shape.words()?)?, shape))
    }

    /// A ledger in a file, for a routee whose process may be killed. Put it on a memory file
    /// system, or the disk's write-back shows in the latencies.
    pub fn in_file(path: &Path, shape: Shape) -> io::Result<Self> {
        Ok(Self::new(Region::in_file(path, shape.words()?)?, shape))
    }

    fn new(region: Region, shape: Shape) -> Self {
        let words = region.words();
        words[WORD_SENDERS].store(u64::from(shape.senders), Relaxed);
        words[WORD_KEYS].store(u64::from(shape.keys), Relaxed);
        words[WORD_LOG_CAPACITY].store(u64::from(shape.max_intervals), Relaxed);
        compiler_fence(SeqCst);
        words[WORD_MAGIC].store(MAGIC, Relaxed);
        Self { region, shape, epoch_bits: 0 }
    }

    /// Ends every open interval, lazily: messages from here on belong to another table epoch.
    ///
    /// Call it when the routee's table changes, so that no interval spans two tables and
    /// misrouted messages are counted exactly.
    pub fn set_epoch(&mut self, epoch: u16) {
        self.epoch_bits = u64::from(epoch) << SEQUENCE_BITS;
    }

    /// Records one message. `cycle_ns` is the time the worker read at the start of its duty
    /// cycle; `clock` reads the time now and is called only when an interval starts, where the
    /// audit needs the exact time to compare receivers. Both are of one clock for the machine.
    #[inline]
    pub fn record(
        &mut self,
        sender: u32,
        key: u32,
        sequence: u64,
        cycle_ns: u64,
        clock: impl FnOnce() -> u64,
    ) {
        // Numbers from outside: also a sequence of 0 is above the highest after the subtraction.
        if sender >= self.shape.senders
            || key >= self.shape.keys
            || sequence.wrapping_sub(1) >= HIGHEST_SEQUENCE
        {
            return self.count(WORD_FOREIGN);
        }
        let slot = sender as usize * self.shape.keys as usize + key as usize;
        let words = self.slot(slot);
        let tagged = self.epoch_bits | sequence;
        if words[SLOT_NEXT].load(Relaxed) == tagged {
            words[SLOT_NEXT].store(tagged + 1, Relaxed);
            words[SLOT_LAST_NS].store(cycle_ns, Relaxed);
        } else {
            self.start_interval(slot, tagged, clock());
        }
    }

    #[inline]
    fn slot(&self, slot: usize) -> &[AtomicU64; SLOT_WORDS] {
        let start = HEADER_WORDS + slot * SLOT_WORDS;
        self.region.words()[start..start + SLOT_WORDS]
            .try_into()
            .expect("the slice has the array's length")
    }

    fn count(&self, word: usize) {
        let counter = &self.region.words()[word];
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }

    /// Moves the slot's interval to the log and starts another.
    ///
    /// The order of the stores matters: whoever reads the file after a kill in between must find
    /// the old interval exactly once. `PENDING` covers the moment in which it is in both places;
    /// a slot is filled while it still counts as empty.
    #[cold]
    #[inline(never)]
    fn start_interval(&mut self, slot: usize, tagged: u64, now_ns: u64) {
        let header = self.region.words();
        let words = self.slot(slot);
        let next = words[SLOT_NEXT].load(Relaxed);
        if next != 0 {
            if tagged & SEQUENCE_MASK < next & SEQUENCE_MASK {
                self.count(WORD_STEPS_BACK);
            }
            let length = header[WORD_LOG_LENGTH].load(Relaxed);
            if length >= u64::from(self.shape.max_intervals) {
                self.count(WORD_OVERFLOWED);
            } else {
                let start = self.shape.log_start() + length as usize * LOG_WORDS;
                let entry = &header[start..start + LOG_WORDS];
                entry[0].store(slot as u64, Relaxed);
                for (target, source) in entry[1..].iter().zip(words) {
                    target.store(source.load(Relaxed), Relaxed);
                }
                header[WORD_PENDING].store(length + 1, Relaxed);
                compiler_fence(SeqCst);
                header[WORD_LOG_LENGTH].store(length + 1, Relaxed);
                compiler_fence(SeqCst);
            }
            words[SLOT_NEXT].store(0, Relaxed);
            compiler_fence(SeqCst);
            header[WORD_PENDING].store(0, Relaxed);
        }
        words[SLOT_FIRST].store(tagged & SEQUENCE_MASK, Relaxed);
        words[SLOT_FIRST_NS].store(now_ns, Relaxed);
        words[SLOT_LAST_NS].store(now_ns, Relaxed);
        compiler_fence(SeqCst);
        words[SLOT_NEXT].store(tagged + 1, Relaxed);
    }

    /// How many messages so far did not follow a lower one of their sender and key: repeats and
    /// reordered ones together. For live display; the audit tells them apart.
    pub fn steps_back(&self) -> u64 {
        self.region.words()[WORD_STEPS_BACK].load(Relaxed)
    }

    /// What was received so far.
    pub fn to_record(&self) -> ReceivedRecord {
        let words = self.region.words();
        let length = words[WORD_LOG_LENGTH].load(Relaxed) as usize;
        let used = self.shape.log_start() + length * LOG_WORDS;
        let words: Vec<u64> = words[..used].iter().map(|word| word.load(Relaxed)).collect();
        decode(&words).expect("the ledger's own words are well formed")
    }
}

/// Consecutive sequences of one (sender, key) that arrived in order at one routee, without
/// anything of that sender and key in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PackedInterval", try_from = "PackedInterval")]
pub struct Interval {
    /// Who sent them.
    pub sender: u32,
    /// Their key.
    pub key: u32,
    /// The receiver's table epoch, see [`ReceivedLedger::set_epoch`].
    pub epoch: u16,
    /// The first sequence.
    pub first: u64,
    /// The last sequence, at least `first`.
    pub last: u64,
    /// When the first arrived, exactly.
    pub first_ns: u64,
    /// When the duty cycle began in which the last arrived; at most a cycle too early.
    pub last_ns: u64,
}

impl Interval {
    /// How many messages these are.
    pub fn messages(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// An interval as a bare list, which takes a third of the space of named fields in JSON.
type PackedInterval = (u32, u32, u16, u64, u64, u64, u64);

impl From<Interval> for PackedInterval {
    fn from(interval: Interval) -> Self {
        let Interval { sender, key, epoch, first, last, first_ns, last_ns } = interval;
        // The last sequence and time as distances: shorter.
        (sender, key, epoch, first, last - first, first_ns, last_ns.saturating_sub(first_ns))
    }
}

impl TryFrom<PackedInterval> for Interval {
    type Error = String;

    fn try_from(packed: PackedInterval) -> Result<Self, String> {
        let (sender, key, epoch, first, more, first_ns, took_ns) = packed;
        let last = first.checked_add(more).filter(|&last| first > 0 && last <= HIGHEST_SEQUENCE);
        match (last, first_ns.checked_add(took_ns)) {
            (Some(last), Some(last_ns)) => {
                Ok(Self { sender, key, epoch, first, last, first_ns, last_ns })
            }
            _ => Err(format!("interval {packed:?} of a ledger lies outside its range")),
        }
    }
}

/// What one routee received; goes to the parent process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedRecord {
    /// In arrival order for each (sender, key).
    pub intervals: Vec<Interval>,
    /// Messages whose sender, key or sequence no plan of this run contains.
    pub foreign: u64,
    /// Intervals that found no room; their messages are missing from the account.
    pub overflowed: u64,
}

impl ReceivedRecord {
    /// Reads the file of a ledger, also one whose process was killed.
    pub fn read(path: &Path) -> io::Result<Self> {
        decode(&read_words(path)?).map_err(|what| damaged(path, what))
    }

    /// How many messages arrived, repeats included.
    pub fn messages(&self) -> u64 {
        self.intervals.iter().map(Interval::messages).sum()
    }
}

fn decode(words: &[u64]) -> Result<ReceivedRecord, &'static str> {
    if words.len() < HEADER_WORDS || words[WORD_MAGIC] != MAGIC {
        return Err("it does not begin like a receiver's ledger");
    }
    let small = |word: usize| u32::try_from(words[word]).map_err(|_| "its shape is no shape");
    let shape = Shape {
        senders: small(WORD_SENDERS)?,
        keys: small(WORD_KEYS)?,
        max_intervals: small(WORD_LOG_CAPACITY)?,
    };
    let length = words[WORD_LOG_LENGTH];
    let whole = shape.words().map_err(|_| "its shape is no shape")?;
    if length > u64::from(shape.max_intervals) {
        return Err("it holds more intervals than it has room for");
    }
    let used = shape.log_start() + length as usize * LOG_WORDS;
    if words.len() < used || words.len() > whole {
        return Err("its length does not fit its shape");
    }

    let interval = |slot: usize, slot_words: &[u64]| {
        let next = slot_words[SLOT_NEXT] & SEQUENCE_MASK;
        let first = slot_words[SLOT_FIRST];
        if first == 0 || first >= next || slot >= shape.slots() {
            return Err("an interval is impossible");
        }
        let first_ns = slot_words[SLOT_FIRST_NS];
        Ok(Interval {
            sender: (slot / shape.keys as usize) as u32,
            key: (slot % shape.keys as usize) as u32,
            epoch: (slot_words[SLOT_NEXT] >> SEQUENCE_BITS) as u16,
            first,
            last: next - 1,
            first_ns,
            // The cycle may have begun before its first message arrived.
            last_ns: slot_words[SLOT_LAST_NS].max(first_ns),
        })
    };

    let mut intervals = Vec::with_capacity(length as usize);
    let log = &words[shape.log_start()..used];
    for entry in log.chunks_exact(LOG_WORDS) {
        intervals.push(interval(entry[0] as usize, &entry[1..])?);
    }
    // The slot whose interval had just gone to the log when the process was killed.
    let moved = (words[WORD_PENDING] != 0 && words[WORD_PENDING] == length)
        .then(|| log[log.len() - LOG_WORDS] as usize);
    let slots = &words[HEADER_WORDS..shape.log_start()];
    for (slot, slot_words) in slots.chunks_exact(SLOT_WORDS).enumerate() {
        if slot_words[SLOT_NEXT] != 0 && Some(slot) != moved {
            intervals.push(interval(slot, slot_words)?);
        }
    }
    Ok(ReceivedRecord {
        intervals,
        foreign: words[WORD_FOREIGN],
        overflowed: words[WORD_OVERFLOWED],
    })
}
