//! What the controls of nodes say to each other over channels is said in order and once, also when
//! one channel follows another; and what a channel that ends may have lost is told to whoever said
//! it. Seen where the driver moves the bytes: the letters are the questions of part load and the
//! answers to them, which say what they belong to.

use std::collections::BTreeMap;

use super::load::Truth;
use crate::base::Time;
use crate::control::links::JobId;
use crate::sim::events::LifeId;
use crate::sim::newer::FIRST_PART;
use crate::sim::world::World;
use crate::wire::{Deframed, Frame, FrameKind, WireError, deframe};

/// The invariant's name.
pub const NAME: &str = "letters come in order and once, or their loss is told";

/// The longest frame of a channel.
const FRAME_BYTES: u32 = 16 << 10;
/// What stands in a frame for a question and for an answer of part load.
const ASK: u32 = 0x0201;
const ANSWER: u32 = 0x0202;

/// What was written to one channel.
#[derive(Default)]
struct Channel {
    /// Each letter's word, and what it belongs to.
    letters: Vec<(u32, u64)>,
    /// How many of them the other side has taken.
    taken: usize,
    /// What came back, from the beginning of a frame on.
    came: Vec<u8>,
}

/// All channels there are.
#[derive(Default)]
pub struct Letters {
    channels: BTreeMap<(LifeId, JobId), Channel>,
    /// By speaker, listener and word: the latest letter.
    last: BTreeMap<(LifeId, LifeId, u32), u64>,
    /// Letters that came in order and once.
    pub said: u64,
    /// Letters that a channel may have lost.
    pub lost: u64,
}

impl Letters {
    fn wrote(
        &mut self,
        truth: &mut Truth,
        (life, job): (LifeId, JobId),
        to: Option<LifeId>,
        bytes: &[u8],
    ) -> Result<(), String> {
        let channel = self.channels.entry((life, job)).or_default();
        let mut written = Vec::new();
        let rest = frames(bytes, |frame| {
            let (word, body) = (frame.header.message.0, frame.body().first_chunk());
            let token = body.map_or(0, |token| u64::from_le_bytes(*token));
            if frame.header.kind == FrameKind::Part {
                written.push((word, token));
            }
        });
        if rest != Ok(bytes.len()) {
            return Err(format!("life {life} wrote no whole frames: {rest:?}"));
        }
        for (word, token) in written {
            channel.letters.push((word, token));
            // Whom it is for is not known any more when the other side has closed.
            let (Some(to), ASK | ANSWER) = (to, word) else { continue };
            let (asker, asked) = if word == ASK { (life, to) } else { (to, life) };
            let me = truth.node(asked);
            let question = truth.question(asker, token).filter(|question| question.to == me);
            let Some(question) = question else {
                return Err(format!(
                    "life {life} said {word:x} to a question that life {to} has not"
                ));
            };
            let said = if word == ASK { &mut question.written } else { &mut question.answered };
            if std::mem::replace(said, true) {
                return Err(format!("life {life} said {word:x} {token} twice to life {to}"));
            }
            let last = self.last.insert((life, to, word), token);
            if let Some(last) = last.filter(|last| *last > token) {
                return Err(format!("life {life} said {word:x} {token} after {last} to life {to}"));
            }
            self.said += 1;
        }
        Ok(())
    }

    /// Gives how many frames of unknown kinds or parts came to their end.
    fn came(&mut self, of: (LifeId, JobId), bytes: &[u8]) -> u64 {
        let channel = self.channels.entry(of).or_default();
        channel.came.extend_from_slice(bytes);
        let (mut taken, mut unknown) = (channel.taken, 0);
        let used = frames(&channel.came, |frame| {
            if let (FrameKind::Ack, Some(total)) = (frame.header.kind, frame.body().first_chunk()) {
                taken = u64::from_le_bytes(*total) as usize;
            }
            let (kind, word) = (frame.header.kind, frame.header.message.0);
            let other = kind == FrameKind::Part && (word >> 8) as u8 >= FIRST_PART;
            unknown += u64::from(kind == FrameKind::Unknown || other);
        });
        channel.taken = taken;
        channel.came.drain(..used.unwrap_or(0));
        unknown
    }

    fn over(&mut self, truth: &mut Truth, (life, job): (LifeId, JobId), now: Time) {
        truth.broke(life, now);
        let Some(channel) = self.channels.remove(&(life, job)) else { return };
        for (word, token) in channel.letters.into_iter().skip(channel.taken) {
            self.lost += 1;
            if let (ASK, Some(question)) = (word, truth.question(life, token)) {
                question.lost = Some(now);
            }
        }
    }
}

/// Gives each whole frame, and how many bytes they take.
fn frames(bytes: &[u8], mut each: impl FnMut(Frame<'_>)) -> Result<usize, WireError> {
    let mut at = 0;
    while let Deframed::Frame(frame, full) = deframe(&bytes[at..], FRAME_BYTES)? {
        at += full;
        each(frame);
    }
    Ok(at)
}

impl World {
    /// A process's control wrote to a channel; `to` is the life at its other end.
    pub(super) fn check_letters(&mut self, of: (LifeId, JobId), to: Option<LifeId>, bytes: &[u8]) {
        let wrote = {
            let ledger = &mut *self.ledger.lock();
            self.checks.letters.wrote(&mut ledger.parts.loads, of, to, bytes)
        };
        if let Err(seen) = wrote {
            self.blame(NAME, seen);
        }
    }

    /// Something came to a process's control on a channel. Gives how many unknown frames came to
    /// their end.
    pub(in crate::sim) fn letters_taken(&mut self, of: (LifeId, JobId), bytes: &[u8]) -> u64 {
        self.checks.letters.came(of, bytes)
    }

    /// A connection in a process's control's hands is over.
    pub(in crate::sim) fn channel_over(&mut self, of: (LifeId, JobId)) {
        let ledger = &mut *self.ledger.lock();
        self.checks.letters.over(&mut ledger.parts.loads, of, self.net.now);
    }
}
