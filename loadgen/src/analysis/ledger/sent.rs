//! The sender's side: the next sequence of each key, and how many sends were refused at the call.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::compiler_fence;

use serde::{Deserialize, Serialize};

use super::region::{Region, damaged, read_words};

const MAGIC: u64 = u64::from_be_bytes(*b"kwsent01");
const WORD_MAGIC: usize = 0;
const WORD_SENDER: usize = 1;
const WORD_KEYS: usize = 2;
const WORD_REFUSED: usize = 3;
/// Key + 1 of the send that is under way, 0 between sends.
const WORD_IN_DOUBT: usize = 4;
const HEADER_WORDS: usize = 8;

/// Counts what one sender sends. For each message call [`SentLedger::begin`], then send, then
/// either [`SentLedger::accepted`] or [`SentLedger::refused`].
///
/// A refused message gives its sequence back: the next message of the key carries it again, so a
/// refusal leaves no hole that would look like a loss.
pub struct SentLedger {
    region: Region,
}

impl SentLedger {
    /// A ledger for keys `0..keys` that dies with the process.
    pub fn in_memory(sender: u32, keys: u32) -> io::Result<Self> {
        Ok(Self::new(Region::in_memory(words(keys))?, sender, keys))
    }

    /// A ledger for keys `0..keys` in a file, for a sender that may be killed.
    pub fn in_file(path: &Path, sender: u32, keys: u32) -> io::Result<Self> {
        Ok(Self::new(Region::in_file(path, words(keys))?, sender, keys))
    }

    fn new(region: Region, sender: u32, keys: u32) -> Self {
        let words = region.words();
        words[WORD_SENDER].store(u64::from(sender), Relaxed);
        words[WORD_KEYS].store(u64::from(keys), Relaxed);
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        words[WORD_MAGIC].store(MAGIC, Relaxed);
        Self { region }
    }

    /// The sequence that the next message of this key carries.
    ///
    /// # Panics
    /// If the key is not below the number of keys.
    #[inline]
    pub fn begin(&mut self, key: u32) -> u64 {
        let words = self.region.words();
        let sequence = words[HEADER_WORDS + key as usize].load(Relaxed) + 1;
        words[WORD_IN_DOUBT].store(u64::from(key) + 1, Relaxed);
        sequence
    }

    /// The message that [`SentLedger::begin`] numbered was taken.
    #[inline]
    pub fn accepted(&mut self, key: u32) {
        let words = self.region.words();
        let next = &words[HEADER_WORDS + key as usize];
        next.store(next.load(Relaxed) + 1, Relaxed);
        // A sender killed between the two stores leaves both the count and the mark behind; the
        // message after the counted one is then in doubt, was never sent, and is not found.
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        words[WORD_IN_DOUBT].store(0, Relaxed);
    }

    /// The message that [`SentLedger::begin`] numbered was returned with an error.
    #[inline]
    pub fn refused(&mut self, _key: u32) {
        let words = self.region.words();
        words[WORD_REFUSED].store(words[WORD_REFUSED].load(Relaxed) + 1, Relaxed);
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        words[WORD_IN_DOUBT].store(0, Relaxed);
    }

    /// What was sent so far.
    pub fn to_record(&self) -> SentRecord {
        let words: Vec<u64> = self.region.words().iter().map(|word| word.load(Relaxed)).collect();
        decode(&words).expect("the ledger's own words are well formed")
    }
}

fn words(keys: u32) -> usize {
    HEADER_WORDS + keys as usize
}

/// What one sender sent; goes to the parent process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRecord {
    /// The sender's number within the run.
    pub sender: u32,
    /// How many messages of each key were accepted, and so the highest sequence of that key.
    pub accepted: Vec<u64>,
    /// How many messages were returned with an error at the call.
    pub refused: u64,
    /// The key whose next sequence may or may not have been sent, because the sender was killed
    /// in the middle of it.
    pub in_doubt: Option<u32>,
}

impl SentRecord {
    /// Reads the file of a ledger, also one whose process was killed.
    pub fn read(path: &Path) -> io::Result<Self> {
        decode(&read_words(path)?).map_err(|what| damaged(path, what))
    }

    /// How many messages were accepted in all.
    pub fn accepted_in_all(&self) -> u64 {
        self.accepted.iter().sum()
    }
}

fn decode(words: &[u64]) -> Result<SentRecord, &'static str> {
    if words.len() < HEADER_WORDS || words[WORD_MAGIC] != MAGIC {
        return Err("it does not begin like a sender's ledger");
    }
    let accepted = &words[HEADER_WORDS..];
    if accepted.len() as u64 != words[WORD_KEYS] {
        return Err("its length does not fit its number of keys");
    }
    let sender = u32::try_from(words[WORD_SENDER]).map_err(|_| "its sender is no 32-bit number")?;
    let in_doubt = match words[WORD_IN_DOUBT] {
        0 => None,
        key if key <= words[WORD_KEYS] => Some((key - 1) as u32),
        _ => return Err("the key in doubt lies outside its keys"),
    };
    if accepted.iter().any(|&count| count > super::HIGHEST_SEQUENCE) {
        return Err("a sequence is higher than any that can be sent");
    }
    Ok(SentRecord { sender, accepted: accepted.to_vec(), refused: words[WORD_REFUSED], in_doubt })
}
