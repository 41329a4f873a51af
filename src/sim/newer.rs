//! What a member of a later version says that this version does not know, as its own program would
//! write it, and what this version has heard of that.

use rand::{Rng as _, RngExt};

use crate::base::fate::DeathReason;
use crate::base::{MessageTypeId, Rng};
use crate::control::links::{Failure, JobEvent};
use crate::wire::datagram::PIECES;
use crate::wire::handshake::HandshakeError;
use crate::wire::header::{HEADER_VERSION, at};
use crate::wire::{FrameKind, HEADER_BYTES, padded};

/// The first part that no node here has.
pub const FIRST_PART: u8 = 3;
/// A reason of a failure, and one of a refusal, that this version does not have.
const REASON: MessageTypeId = MessageTypeId(100);
const REFUSAL: u8 = 99;

/// What a node of this version got to hear of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// Datagrams for parts that it does not have.
    pub datagrams: u64,
    /// Frames between controls, of unknown kinds or for such parts.
    pub letters: u64,
    /// The same between workers.
    pub frames: u64,
    /// Reasons why an ask failed.
    pub reasons: u64,
    /// Reasons why a connection was refused.
    pub refusals: u64,
}

impl Heard {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.datagrams + self.letters + self.frames + self.reasons + self.refusals
    }
}

/// A frame that this version skips: of a kind that it does not have, or of a part.
pub fn frame(rng: &mut Rng) -> Vec<u8> {
    let length = HEADER_BYTES + rng.random_range(0..300);
    let mut bytes = vec![0; padded(length)];
    rng.fill_bytes(&mut bytes[..length]);
    let header = bytes.first_chunk_mut::<HEADER_BYTES>().expect("it is at least as long");
    at::LENGTH.write(header, length as u32);
    let kind = rng.random_range(7..=15_u8);
    at::KIND.write(header, HEADER_VERSION << 4 | kind);
    if kind == FrameKind::Part as u8 {
        at::FIELDS.write(header, 0);
        at::ZERO.write(header, 0);
        let operation: u8 = rng.random();
        at::MESSAGE.write(header, MessageTypeId(u32::from(part(rng)) << 8 | u32::from(operation)));
    }
    bytes
}

/// A part that no node here has.
pub fn part(rng: &mut Rng) -> u8 {
    rng.random_range(FIRST_PART..PIECES)
}

/// On a channel a part's frame is a word that is acknowledged, and nobody would wait for that.
pub fn frame_of_kind(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = frame(rng);
    bytes[at::KIND.start()] |= 8;
    bytes
}

/// Whether a datagram is for a part that no node here has.
pub fn is_unknown(sealed: &[u8]) -> bool {
    sealed.get(6).is_some_and(|part| (FIRST_PART..PIECES).contains(part))
}

/// Whether an event tells of a refusal that this version does not know.
pub fn is_unknown_refusal(event: &JobEvent) -> bool {
    let JobEvent::Failed(Failure::Handshake(error), _) = event else { return false };
    matches!(error, HandshakeError::UnknownRefusal { .. })
}

/// What is said in a handshake: a refusal that means something else names another reason.
pub fn refuse_anew(bytes: &mut [u8]) {
    // Kind and length of a refusal; that another life is here, that the node is busy or stops.
    if bytes.len() == 40 && bytes[8] == 5 && matches!(bytes[16], 8 | 10 | 11) {
        bytes[16] = REFUSAL;
    }
}

/// Some failures among whole frames get another reason.
pub fn fail_anew(frames: &mut [u8], rng: &mut Rng) {
    let mut rest = frames;
    while let Some((header, _)) = rest.split_first_chunk_mut::<HEADER_BYTES>() {
        let (length, reason) = (at::LENGTH.read(header), at::MESSAGE.read(header));
        let told = [DeathReason::HandlerPanicked, DeathReason::NoReply].map(|known| known as u32);
        let failure = at::KIND.read(header) & 15 == FrameKind::Failure as u8;
        if failure && told.contains(&reason.0) && rng.random_range(0..2) == 0 {
            at::MESSAGE.write(header, REASON);
        }
        rest = &mut rest[padded(length as usize)..];
    }
}
