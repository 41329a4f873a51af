//! Identities as newtypes, so that a worker index can never stand where a handler id belongs.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use xxhash_rust::xxh3::xxh3_64;

use super::layout::LayoutHash;

/// A node's identity within its cluster: the xxh3 hash of its name.
///
/// It survives restarts, so that a restarted process gets the same keys back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The identity that belongs to a node's name.
    pub fn from_name(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which life of a node this is; a restarted process has a higher one.
///
/// Drivers take microseconds since the Unix epoch at start-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The last that a node may have. By its clock it has this one in the year 294,247: a later one
    /// can only be a mistake, and would leave nothing later for the lives to come.
    pub const LAST: Self = Self(u64::MAX >> 1);

    /// How far above what others know of it a node begins at most, in what is about a second of its
    /// clock.
    const AHEAD: u64 = 1 << 20;

    /// One that exceeds this one, by chance: whoever told of it may not have heard of all the lives
    /// since, which were told the same. Of the last one it is that one itself.
    pub fn above(self, chance: u64) -> Self {
        Self(self.0.saturating_add(1 + chance % Self::AHEAD)).min(Self::LAST)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRef {
    /// Which node.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation)
    }
}

/// A worker's place within its node, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerIndex(pub u16);

impl WorkerIndex {
    /// The most workers that a node can have.
    pub const MOST: u16 = 1_024;

    /// No node's: who asks for it wants to know only whether it would be let in.
    pub const NONE: Self = Self(u16::MAX);
}

impl fmt::Display for WorkerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one worker of one life of one node, to the node that sends there. The slot is used again
/// when that life is over, the name is not: looked up by the name of one that is gone, nothing is
/// found. A name would come again after four billion others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(
    /// The slot, then the serial. One word, since it is moved and compared with every message.
    NonZeroU64,
);

impl DestinationId {
    /// Found nowhere.
    pub const NONE: Self = Self(NonZeroU64::MIN.saturating_add((u32::MAX as u64) << 32));

    /// The destination with this serial, in this slot.
    pub fn new(slot: usize, serial: NonZeroU32) -> Self {
        Self(NonZeroU64::from(serial) | (slot as u64) << 32)
    }

    /// Its place in tables of what there is at present.
    #[inline]
    pub fn slot(self) -> usize {
        (self.0.get() >> 32) as usize
    }

    /// Rises with each new destination, whatever its slot.
    #[inline]
    pub fn serial(self) -> NonZeroU32 {
        NonZeroU32::new(self.0.get() as u32).expect("made of one")
    }

    /// Whether it was named after another one.
    #[inline]
    pub fn is_after(self, other: NonZeroU32) -> bool {
        self.serial().get().wrapping_sub(other.get()) as i32 > 0
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.slot(), self.serial())
    }
}

/// One registration of a path on one node, never reused within an incarnation: together with a
/// [`NodeRef`] it names a handler of one life of a node. Its node finds it by a slot, which is used
/// again under another serial when the path is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandlerId(pub u32);

impl HandlerId {
    /// Handlers that a node can have at a time.
    pub const MAX_SLOTS: usize = 1 << Self::SLOT_BITS;

    const SLOT_BITS: u32 = 12;

    /// The first registration in a slot; `None` when there is no such slot.
    pub fn first(slot: usize) -> Option<Self> {
        (slot < Self::MAX_SLOTS).then_some(Self(slot as u32))
    }

    /// The next registration in the same slot; `None` after the last, 1,048,576th one.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1 << Self::SLOT_BITS).map(Self)
    }

    /// Where its node finds it.
    #[inline]
    pub fn slot(self) -> usize {
        self.0 as usize & (Self::MAX_SLOTS - 1)
    }
}

/// A message type on the wire: 32 bits of the hash of its name and its layout.
///
/// Nodes exchange full names and layouts in their member records and refuse a routee whose types
/// collide with different ones, so 32 bits are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageTypeId(pub u32);

impl MessageTypeId {
    /// The id of the type with this name and layout; `const`, so that it costs nothing at run
    /// time.
    pub const fn of(name: &str, layout: LayoutHash) -> Self {
        Self(LayoutHash::of(name).with(layout).0 as u32)
    }
}

impl fmt::Display for MessageTypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
