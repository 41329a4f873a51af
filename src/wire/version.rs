//! Wire versions: which ones this build speaks, and which one two nodes agree on.

use std::fmt;

/// The oldest wire version this build speaks.
pub const WIRE_VERSION_MIN: u8 = 2;
/// The newest wire version this build speaks.
pub const WIRE_VERSION_MAX: u8 = 2;

// Nodes agree on a version link by link, but frames and datagrams are written with the newest, and
// no other is read: a build that speaks two would refuse what an older one sends by the version that
// both agreed on. Whoever wants a range lets `wire/header.rs` go by the link's version, and
// `wire/datagram.rs` read each of them and write one that all members read.
const _: () = assert!(WIRE_VERSION_MIN == WIRE_VERSION_MAX, "frames have one version only");

/// An unbroken range of wire versions, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    min: u8,
    max: u8,
}

impl VersionRange {
    /// What this build speaks.
    pub const SUPPORTED: Self = Self { min: WIRE_VERSION_MIN, max: WIRE_VERSION_MAX };

    /// `None` if `min` lies above `max`.
    pub const fn new(min: u8, max: u8) -> Option<Self> {
        if min <= max { Some(Self { min, max }) } else { None }
    }

    /// The oldest version in the range.
    pub const fn min(self) -> u8 {
        self.min
    }

    /// The newest version in the range.
    pub const fn max(self) -> u8 {
        self.max
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// The newest version that both sides speak; `None` if there is none. Both sides reach the same
/// answer, whichever of them asks.
pub fn negotiate(mine: VersionRange, theirs: VersionRange) -> Option<u8> {
    let newest = mine.max.min(theirs.max);
    (newest >= mine.min && newest >= theirs.min).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u8, max: u8) -> VersionRange {
        VersionRange::new(min, max).unwrap()
    }

    #[test]
    fn an_empty_range_cannot_be_made() {
        assert_eq!(VersionRange::new(3, 2), None);
        assert_eq!(VersionRange::new(0, 255).map(|all| (all.min(), all.max())), Some((0, 255)));
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        assert_eq!(negotiate(range(1, 1), range(1, 1)), Some(1));
        assert_eq!(negotiate(range(1, 3), range(2, 5)), Some(3));
        assert_eq!(negotiate(range(3, 3), range(1, 9)), Some(3));
        assert_eq!(negotiate(range(1, 2), range(3, 4)), None);
        assert_eq!(negotiate(range(3, 4), range(1, 2)), None);
    }

    #[test]
    fn every_pair_agrees_from_both_sides_on_a_version_that_both_speak() {
        let ranges: Vec<_> =
            (0..6).flat_map(|min| (min..6).map(move |max| range(min, max))).collect();
        for &mine in &ranges {
            for &theirs in &ranges {
                let chosen = negotiate(mine, theirs);
                assert_eq!(chosen, negotiate(theirs, mine));
                let common: Vec<u8> = (0..6)
                    .filter(|v| (mine.min..=mine.max).contains(v))
                    .filter(|v| (theirs.min..=theirs.max).contains(v))
                    .collect();
                assert_eq!(chosen, common.last().copied(), "{mine} with {theirs}");
            }
        }
    }
}
