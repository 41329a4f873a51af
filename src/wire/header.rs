//! The frame header: 16 bytes, little-endian, with typed optional fields that cost nothing when
//! absent. `at` is its shape, and `fields!` has the list of the optional fields; whatever reads or
//! writes a frame goes by these two.

use super::codec::{Fixed, Place, Reader};
use super::version::WIRE_VERSION_MAX;
use crate::base::debug_as_display;
use crate::base::{HandlerId, MOST_ALIGNMENT, MessageTypeId};

/// Where the fields of a header stand.
pub mod at {
    use super::super::codec::Place;
    use crate::base::{HandlerId, MessageTypeId};

    /// Exact bytes of header, optional fields and body; the frame on the wire is this rounded up
    /// to 16, the gap filled with zeros.
    pub const LENGTH: Place<u32> = Place::FIRST;
    /// Version (high half) and kind (low half).
    pub const KIND: Place<u8> = LENGTH.then();
    /// One bit per optional field that follows.
    pub const FIELDS: Place<u8> = KIND.then();
    /// Reserved.
    pub const ZERO: Place<u16> = FIELDS.then();
    /// The message's type, or the failure code of a failure frame.
    pub const MESSAGE: Place<MessageTypeId> = ZERO.then();
    /// The handler on the receiving node.
    pub const TARGET: Place<HandlerId> = MESSAGE.then();
}

/// Bytes of the fixed part, and the alignment of every frame and body.
pub const HEADER_BYTES: usize = at::TARGET.end();

const _: () = assert!(HEADER_BYTES == MOST_ALIGNMENT, "what a message may be aligned to");

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

/// From the list of optional fields, in the order of their bits and of their bytes: the type, what
/// it writes and reads, and the sizes.
macro_rules! fields {
    ($($(#[$about:meta])* $name:ident: $value:ty,)*) => {
        /// The optional fields of a frame. The encoded size of `Fields::default()` is zero.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Fields { $($(#[$about])* pub $name: Option<$value>,)* }

        #[allow(non_camel_case_types, reason = "they are the names of fields")]
        #[derive(Clone, Copy)]
        enum Bit { $($name,)* }

        /// By their bits: what fields are called, and how many bytes each has.
        pub(super) const FIELDS: [(&str, usize); [$(Bit::$name),*].len()] =
            [$((stringify!($name), <$value>::BYTES)),*];

        impl Fields {
            #[inline]
            pub(super) fn bits(&self) -> u8 {
                0 $(| u8::from(self.$name.is_some()) << Bit::$name as u8)*
            }

            /// Writes the present fields, filled up to 16 bytes, and returns how many bytes that
            /// took.
            #[inline]
            pub(super) fn write(&self, out: &mut [u8; MAX_FIELDS_BYTES]) -> usize {
                let mut end = 0;
                $(if let Some(value) = self.$name {
                    value.write(&mut out[end..end + <$value>::BYTES]);
                    end += <$value>::BYTES;
                })*
                padded(end)
            }

            /// Reads the fields that `bits` announces from as many bytes as [`fields_bytes`] says.
            // Once: in line, it would keep what calls it from being in line.
            #[inline(never)]
            fn read(bits: u8, bytes: &[u8]) -> Self {
                let mut bytes = Reader::new(bytes);
                Self { $($name: match bits & 1 << Bit::$name as u8 {
                    0 => None,
                    _ => bytes.fixed().ok(),
                },)* }
            }
        }
    };
}

// A new field raises `WIRE_VERSION_MIN` and `WIRE_VERSION_MAX`: whoever does not know its bit closes
// the link over it.
fields! {
    /// Matches a reply to its ask; made and understood by the asking worker only.
    correlation: u64,
    /// What is left of the sender's deadline, in microseconds.
    deadline_us: u64,
    /// The allocation epoch under which a shard's message was sent.
    epoch: u64,
    /// The sender's sequence number for acknowledged delivery.
    delivery_sequence: u64,
    /// Trace id (16 bytes), span id (8 bytes), flags (8 bytes).
    trace: [u64; 4],
}

/// Where a correlation stands: it is the first of the optional fields.
pub(super) const CORRELATION: Place<u64> = at::TARGET.then();
const _: () = assert!(Bit::correlation as u8 == 0, "chunks are patched there");

/// Where a deadline stands behind a correlation.
pub(super) const DEADLINE_US: Place<u64> = CORRELATION.then();
const _: () = assert!(Bit::deadline_us as u8 == 1, "chunks are patched there");

/// What the fields of a frame with both say that they are.
pub(super) const CORRELATION_AND_DEADLINE: u8 =
    1 << Bit::correlation as u8 | 1 << Bit::deadline_us as u8;

const KNOWN_FIELDS: u8 = ((1 << FIELDS.len()) - 1) as u8;

/// The most bytes that [`Fields`] can take.
pub const MAX_FIELDS_BYTES: usize = FIELDS_BYTES[KNOWN_FIELDS as usize] as usize;

/// By the fields' bits: how many bytes they take together.
const FIELDS_BYTES: [u8; KNOWN_FIELDS as usize + 1] = {
    let mut bytes = [0; KNOWN_FIELDS as usize + 1];
    let mut bits = 0;
    while bits < bytes.len() {
        let (mut sum, mut field) = (0, 0);
        while field < FIELDS.len() {
            sum += FIELDS[field].1 * (bits >> field & 1);
            field += 1;
        }
        bytes[bits] = padded(sum) as u8;
        bits += 1;
    }
    bytes
};

/// How many bytes the fields with these bits take.
#[inline]
fn fields_bytes(bits: u8) -> usize {
    usize::from(FIELDS_BYTES[usize::from(bits & KNOWN_FIELDS)])
}

impl Fields {
    /// Only a correlation.
    #[inline]
    pub fn correlated(correlation: u64) -> Self {
        Self { correlation: Some(correlation), ..Self::default() }
    }
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
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
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

debug_as_display!(HeaderError);

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

    /// Puts it in front of its frame.
    #[inline]
    pub(super) fn write(self, out: &mut [u8; HEADER_BYTES]) {
        at::LENGTH.write(out, self.length);
        at::KIND.write(out, HEADER_VERSION << 4 | self.kind as u8);
        at::FIELDS.write(out, self.fields);
        at::ZERO.write(out, 0);
        at::MESSAGE.write(out, self.message);
        at::TARGET.write(out, self.target);
    }

    /// Checks 16 bytes from a peer. `limit` caps the announced length, so that nothing is
    /// allocated for a lie.
    #[inline]
    pub fn parse(bytes: &[u8; HEADER_BYTES], limit: u32) -> Result<Self, HeaderError> {
        let length = at::LENGTH.read(bytes);
        let version_and_kind = at::KIND.read(bytes);
        let mut fields = at::FIELDS.read(bytes);
        if version_and_kind >> 4 != HEADER_VERSION {
            return Err(HeaderError::Version(version_and_kind >> 4));
        }
        let Some(kind) = FrameKind::parse(version_and_kind & 15) else {
            return Err(HeaderError::Kind(version_and_kind & 15));
        };
        if kind == FrameKind::Unknown {
            // What its bits mean is not known either; its length is.
            fields = 0;
        } else if fields & !KNOWN_FIELDS != 0 || at::ZERO.read(bytes) != 0 {
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
            message: at::MESSAGE.read(bytes),
            target: at::TARGET.read(bytes),
            fields,
        })
    }

    /// Where the body starts within the frame.
    #[inline]
    pub fn body_offset(&self) -> usize {
        HEADER_BYTES + fields_bytes(self.fields)
    }

    /// The correlation, and what is left of the deadline, read from the whole frame: all that an ask
    /// or the answer to one has, without the other fields.
    #[inline]
    pub(super) fn correlation_of(&self, frame: &[u8]) -> Option<(u64, Option<u64>)> {
        let has = |bit: Bit| self.fields & 1 << bit as u8 != 0;
        if !has(Bit::correlation) {
            return None;
        }
        // Fields are filled up, so that both places are in every frame that has a correlation.
        let places = frame.first_chunk::<{ DEADLINE_US.end() }>()?;
        let deadline_us = has(Bit::deadline_us).then(|| DEADLINE_US.read(places));
        Some((CORRELATION.read(places), deadline_us))
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
