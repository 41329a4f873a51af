//! The frame header: 16 bytes, little-endian, with typed optional fields that cost nothing when
//! absent.
//!
//! ```text
//! offset size
//!      0    4  length    exact bytes of header, fields and body; the frame on the wire is this
//!                        rounded up to 16, the gap filled with zeros
//!      4    1  version (high half) and kind (low half)
//!      5    1  fields    one bit per optional field that follows
//!      6    2  reserved  zero
//!      8    4  message   message type id, or the failure code of a failure frame
//!     12    4  target    handler id on the receiving node
//! ```
//!
//! Each optional field is 8 bytes (the trace context 32), in the order of the bits, and the whole
//! is filled up to 16, so that the body starts aligned.

use super::version::WIRE_VERSION_MAX;
use crate::base::{HandlerId, MessageTypeId};

/// Bytes of the fixed part, and the alignment of every frame and body.
pub const HEADER_BYTES: usize = 16;

/// Where version and kind stand in the header.
pub(super) const KIND_OFFSET: usize = 4;

/// Where the type stands in the header.
pub(super) const MESSAGE_OFFSET: usize = 8;

/// Where the target stands in the header.
pub(super) const TARGET_OFFSET: usize = 12;

/// The header version this build writes and reads: the wire version, which fits half a byte.
pub const HEADER_VERSION: u8 = WIRE_VERSION_MAX;

/// `length` rounded up to the 16 bytes that every frame is aligned to.
#[inline]
pub const fn padded(length: usize) -> usize {
    (length + 15) & !15
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A message that wants no answer.
    Tell = 1,
    /// A message that wants one reply; carries [`Fields::correlation`].
    Ask = 2,
    /// The reply to an ask; carries its correlation.
    Reply = 3,
    /// An ask that got no reply, with a code in the header's `message` word.
    Failure = 4,
    /// How many frames of this link the receiver has brought to their end so far.
    Ack = 5,
    /// The sender will put no further tell or ask on this link.
    Fin = 6,
    /// A frame of a part, whose number and operation stand in the header's `message` word.
    Part = 7,
    /// One that a newer peer has and this build does not: it is counted and skipped, as long as it
    /// says it is. Never sent.
    Unknown = 15,
}

impl FrameKind {
    #[inline]
    fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::Tell,
            2 => Self::Ask,
            3 => Self::Reply,
            4 => Self::Failure,
            5 => Self::Ack,
            6 => Self::Fin,
            7 => Self::Part,
            8..=15 => Self::Unknown,
            _ => return None,
        })
    }
}

/// The optional fields of a frame. The encoded size of `Fields::default()` is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Matches a reply to its ask; made and understood by the asking worker only.
    pub correlation: Option<u64>,
    /// What is left of the sender's deadline, in microseconds.
    pub deadline_us: Option<u64>,
    /// The allocation epoch under which a shard's message was sent.
    pub epoch: Option<u64>,
    /// The sender's sequence number for acknowledged delivery.
    pub delivery_sequence: Option<u64>,
    /// Trace id (16 bytes), span id (8 bytes), flags (8 bytes).
    pub trace: Option<[u64; 4]>,
}

const CORRELATION: u8 = 1;
const DEADLINE: u8 = 1 << 1;
const EPOCH: u8 = 1 << 2;
const DELIVERY: u8 = 1 << 3;
const TRACE: u8 = 1 << 4;
const KNOWN_FIELDS: u8 = CORRELATION | DEADLINE | EPOCH | DELIVERY | TRACE;

/// The most bytes that [`Fields`] can take.
pub const MAX_FIELDS_BYTES: usize = 64;

impl Fields {
    /// Only a correlation.
    #[inline]
    pub fn correlated(correlation: u64) -> Self {
        Self { correlation: Some(correlation), ..Self::default() }
    }

    #[inline]
    pub(super) fn bits(&self) -> u8 {
        u8::from(self.correlation.is_some())
            | u8::from(self.deadline_us.is_some()) << 1
            | u8::from(self.epoch.is_some()) << 2
            | u8::from(self.delivery_sequence.is_some()) << 3
            | u8::from(self.trace.is_some()) << 4
    }

    /// Writes the present fields, filled up to 16 bytes, and returns how many bytes that took.
    #[inline]
    pub(super) fn write(&self, out: &mut [u8; MAX_FIELDS_BYTES]) -> usize {
        let mut at = 0;
        let mut put = |word: u64| {
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += 8;
        };
        for word in [self.correlation, self.deadline_us, self.epoch, self.delivery_sequence]
            .into_iter()
            .flatten()
        {
            put(word);
        }
        for word in self.trace.into_iter().flatten() {
            put(word);
        }
        padded(at)
    }

    /// Reads the fields that `bits` announces; `bytes` is exactly as long as [`fields_bytes`]
    /// says.
    fn read(bits: u8, bytes: &[u8]) -> Self {
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = |bit: u8| if bits & bit != 0 { words.next() } else { None };
        let mut fields = Self {
            correlation: next(CORRELATION),
            deadline_us: next(DEADLINE),
            epoch: next(EPOCH),
            delivery_sequence: next(DELIVERY),
            trace: None,
        };
        if bits & TRACE != 0 {
            fields.trace = Some(std::array::from_fn(|_| next(TRACE).unwrap_or_default()));
        }
        fields
    }
}

/// How many bytes the fields with these bits take.
#[inline]
fn fields_bytes(bits: u8) -> usize {
    const BYTES: [u8; KNOWN_FIELDS as usize + 1] = {
        let mut bytes = [0; KNOWN_FIELDS as usize + 1];
        let mut bits = 0;
        while bits <= KNOWN_FIELDS {
            let words = (bits & !TRACE).count_ones() + if bits & TRACE != 0 { 4 } else { 0 };
            bytes[bits as usize] = padded(words as usize * 8) as u8;
            bits += 1;
        }
        bytes
    };
    usize::from(BYTES[usize::from(bits & KNOWN_FIELDS)])
}

/// A header that has been checked: its lengths fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Exact bytes of header, fields and body.
    pub length: u32,
    /// What the frame is for.
    pub kind: FrameKind,
    /// The message's type, or a failure's code.
    pub message: MessageTypeId,
    /// Which handler on the receiving node.
    pub target: HandlerId,
    fields: u8,
}

/// Why 16 bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The version half-byte is not ours.
    #[error("frame header version {0} is unknown here, this build speaks {HEADER_VERSION}")]
    Version(u8),
    /// The kind half-byte is one that no frame has.
    #[error("{0} is no kind of frame")]
    Kind(u8),
    /// A reserved bit is set.
    #[error("a reserved bit of the frame header is set")]
    Reserved,
    /// The length is smaller than the header and its fields.
    #[error("a frame of {0} bytes cannot hold its own header")]
    TooShort(u32),
    /// The length is over the cap that both sides configured.
    #[error(
        "a frame of {length} bytes is over the limit of {limit}; raise links.max_frame_bytes on \
         both sides or send less"
    )]
    TooLong {
        /// What the peer announced.
        length: u32,
        /// What is allowed here.
        limit: u32,
    },
}

impl Header {
    /// A header for a frame of `length` exact bytes.
    #[inline]
    pub(super) fn new(
        length: u32,
        kind: FrameKind,
        fields: &Fields,
        message: MessageTypeId,
        target: HandlerId,
    ) -> Self {
        Self { length, kind, message, target, fields: fields.bits() }
    }

    /// The 16 bytes on the wire.
    #[inline]
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let low = u64::from(self.length)
            | u64::from(HEADER_VERSION << 4 | self.kind as u8) << 32
            | u64::from(self.fields) << 40;
        let high = u64::from(self.message.0) | u64::from(self.target.0) << 32;
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[MESSAGE_OFFSET..].copy_from_slice(&high.to_le_bytes());
        bytes
    }

    /// Checks 16 bytes from a peer. `limit` caps the announced length, so that nothing is
    /// allocated for a lie.
    #[inline]
    pub fn parse(bytes: &[u8; HEADER_BYTES], limit: u32) -> Result<Self, HeaderError> {
        let (halves, _) = bytes.as_chunks::<8>();
        let low = u64::from_le_bytes(halves[0]);
        let high = u64::from_le_bytes(halves[1]);
        let length = low as u32;
        let version_and_kind = (low >> 32) as u8;
        let mut fields = (low >> 40) as u8;
        if version_and_kind >> 4 != HEADER_VERSION {
            return Err(HeaderError::Version(version_and_kind >> 4));
        }
        let Some(kind) = FrameKind::parse(version_and_kind & 15) else {
            return Err(HeaderError::Kind(version_and_kind & 15));
        };
        if kind == FrameKind::Unknown {
            // What its bits mean is not known either; its length is.
            fields = 0;
        } else if fields & !KNOWN_FIELDS != 0 || low >> 48 != 0 {
            return Err(HeaderError::Reserved);
        }
        if (length as usize) < HEADER_BYTES + fields_bytes(fields) {
            return Err(HeaderError::TooShort(length));
        }
        if length > limit {
            return Err(HeaderError::TooLong { length, limit });
        }
        Ok(Self {
            length,
            kind,
            message: MessageTypeId(high as u32),
            target: HandlerId((high >> 32) as u32),
            fields,
        })
    }

    /// Where the body starts within the frame.
    #[inline]
    pub fn body_offset(&self) -> usize {
        HEADER_BYTES + fields_bytes(self.fields)
    }

    /// The optional fields, read from the whole frame.
    #[inline]
    pub(super) fn fields_of(&self, frame: &[u8]) -> Fields {
        if self.fields == 0 {
            return Fields::default();
        }
        Fields::read(self.fields, &frame[HEADER_BYTES..self.body_offset()])
    }
}
