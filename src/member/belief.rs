//! What is believed about who answers, as members tell each other.

use crate::wire::codec::{ReadResult, Reader, Unreadable, Writer};

/// What is believed about the reachability of one life of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// Nothing that others should hear; it is treated as unreachable.
    Unknown,
    /// It answers, or is not yet known not to.
    Active {
        renewal: u32,
        /// The detector's own counter of refuted suspicions.
        refuted: u16,
    },
    /// It does not answer.
    Down { renewal: u32 },
}

/// A belief's size on the wire.
pub(super) const BELIEF_BYTES: usize = 7;

impl Belief {
    pub fn is_active(self) -> bool {
        matches!(self, Self::Active { .. })
    }

    pub fn put(self, out: &mut Writer<'_>) {
        let (tag, renewal, refuted) = match self {
            Self::Unknown => (0, 0, 0),
            Self::Active { renewal, refuted } => (1, renewal, refuted),
            Self::Down { renewal } => (2, renewal, 0),
        };
        out.u8(tag).u32(renewal).u16(refuted);
    }

    pub fn read(reader: &mut Reader<'_>) -> ReadResult<Self> {
        let (tag, renewal, refuted) = (reader.u8()?, reader.u32()?, reader.u16()?);
        match tag {
            0 => Ok(Self::Unknown),
            1 => Ok(Self::Active { renewal, refuted }),
            2 => Ok(Self::Down { renewal }),
            _ => Err(Unreadable("a belief about a member is of an unknown kind")),
        }
    }
}
