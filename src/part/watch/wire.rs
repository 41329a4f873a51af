//! The frames of watch. All have a body of 16 bytes, little-endian:
//!
//! ```text
//! op          0..8   8..12     12..16
//! 1 watch     id     handler   life, 0 for whichever runs
//! 2 watching  id     life      0
//! 3 gone      id     reason    0
//! 4 unwatch   id     0         0
//! ```
//!
//! The id is the watcher's own, and means something only on the link that it came in on.

use crate::base::{HandlerId, InstanceId, LifeNumber};
use crate::wire::codec::{ReadResult, Reader, two_words};

/// Bytes of every body.
pub(super) const BODY_BYTES: usize = 16;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Tell me when this instance is gone.
    Watch { id: u64, instance: InstanceId },
    /// The watch is kept, for this instance.
    Watching { id: u64, life: Option<LifeNumber> },
    /// It is gone; the watch is over.
    Gone { id: u64, reason: u32 },
    /// The watcher does not want to know any more.
    Unwatch { id: u64 },
}

impl Op {
    pub fn code(self) -> u8 {
        match self {
            Self::Watch { .. } => 1,
            Self::Watching { .. } => 2,
            Self::Gone { .. } => 3,
            Self::Unwatch { .. } => 4,
        }
    }

    pub fn body(self) -> [u8; BODY_BYTES] {
        let (id, a, b) = match self {
            Self::Watch { id, instance } => (id, instance.handler.0, number(instance.life)),
            Self::Watching { id, life } => (id, number(life), 0),
            Self::Gone { id, reason } => (id, reason, 0),
            Self::Unwatch { id } => (id, 0, 0),
        };
        two_words(id, u64::from(b) << 32 | u64::from(a))
    }

    /// `None` for an operation that this build does not know.
    ///
    /// # Errors
    /// For a body of another size.
    pub fn parse(code: u8, body: &[u8]) -> ReadResult<Option<Self>> {
        if !(1..=4).contains(&code) {
            return Ok(None);
        }
        let mut reader = Reader::new(body);
        let (id, a, b) = (reader.u64()?, reader.u32()?, reader.u32()?);
        reader.end()?;
        Ok(Some(match code {
            1 => {
                let (handler, life) = (HandlerId(a), LifeNumber::new(b));
                Self::Watch { id, instance: InstanceId { handler, life } }
            }
            2 => Self::Watching { id, life: LifeNumber::new(a) },
            3 => Self::Gone { id, reason: a },
            _ => Self::Unwatch { id },
        }))
    }
}

fn number(life: Option<LifeNumber>) -> u32 {
    life.map_or(0, LifeNumber::get)
}
