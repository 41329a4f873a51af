//! What is believed about who answers, as members tell each other.

use std::collections::BTreeMap;

use foca::{Member as SwimMember, State};

use crate::base::{Member, NodeRef};
use crate::wire::codec::{ReadResult, Reader, Unreadable, Writer};

use super::identity::{self, Home, SwimId};

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
    Down {
        renewal: u32,
        /// The counter of the suspicion that it did not refute: that counts for nothing where a later
        /// refutation is known. [`FINAL`] where it was given up for another reason.
        doubted: u16,
    },
}

/// There is no later refutation.
pub(super) const FINAL: u16 = u16::MAX;

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
            // Builds that know of no counter here write 0, and mean that it is final.
            Self::Down { renewal, doubted } => (2, renewal, doubted.wrapping_add(1)),
        };
        out.u8(tag).u32(renewal).u16(refuted);
    }

    pub fn read(reader: &mut Reader<'_>) -> ReadResult<Self> {
        let (tag, renewal, refuted) = (reader.u8()?, reader.u32()?, reader.u16()?);
        match tag {
            0 => Ok(Self::Unknown),
            1 => Ok(Self::Active { renewal, refuted }),
            2 => Ok(Self::Down { renewal, doubted: refuted.wrapping_sub(1) }),
            _ => Err(Unreadable("a belief about a member is of an unknown kind")),
        }
    }

    /// About one life of a member, of whom the detector knows this.
    pub fn of(known: Option<&SwimMember<SwimId>>, member: NodeRef) -> Self {
        let Some(known) = known.filter(|known| known.id().member == member) else {
            return Self::Unknown;
        };
        let (renewal, count) = (known.id().renewal, known.incarnation());
        match known.state() {
            State::Alive | State::Suspect => Self::Active { renewal, refuted: count },
            State::Down => Self::Down { renewal, doubted: count },
        }
    }
}

/// A snapshot of what the detector knows, by member.
pub(super) struct Beliefs(pub BTreeMap<Home, SwimMember<SwimId>>);

impl Beliefs {
    pub fn of(&self, member: &Member) -> Belief {
        Belief::of(self.0.get(&identity::home(member.address, member.id)), member.node_ref())
    }
}
