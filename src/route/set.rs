//! Sets of routees, as bits by routee index: which of a table's routees can be reached from here.

/// A subset of the routees of one table. Whoever holds a table keeps one beside it, flips bits as
/// links go down and up, and makes a new one when the table changes.
///
/// All questions about an index outside the set's universe are answered with no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteeSet {
    words: Vec<u64>,
    universe: usize,
    count: usize,
}

impl RouteeSet {
    /// No routee out of `universe`.
    pub fn none(universe: usize) -> Self {
        Self { words: vec![0; universe.div_ceil(64)], universe, count: 0 }
    }

    /// Every routee out of `universe`.
    pub fn all(universe: usize) -> Self {
        Self::from_fn(universe, |_| true)
    }

    /// The routees out of `universe` for which `contains` says yes.
    pub fn from_fn(universe: usize, contains: impl FnMut(usize) -> bool) -> Self {
        let mut set = Self::none(universe);
        set.refill(universe, contains);
        set
    }

    /// Makes it the routees out of `universe` for which `contains` says yes. Asks the allocator
    /// only when the universe has grown.
    pub fn refill(&mut self, universe: usize, mut contains: impl FnMut(usize) -> bool) {
        self.words.clear();
        self.words.resize(universe.div_ceil(64), 0);
        self.universe = universe;
        self.count = 0;
        for index in 0..universe {
            if contains(index) {
                self.words[index / 64] |= 1 << (index % 64);
                self.count += 1;
            }
        }
    }

    /// How many routees the table has that this is a subset of.
    #[inline]
    pub fn universe(&self) -> usize {
        self.universe
    }

    /// How many routees are in the set.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether no routee is in the set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether every routee is in the set.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.count == self.universe
    }

    /// Whether this routee is in the set.
    #[inline]
    pub fn contains(&self, index: u16) -> bool {
        let index = usize::from(index);
        self.words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Adds or removes a routee; whether that changed anything.
    pub fn set(&mut self, index: u16, contained: bool) -> bool {
        if usize::from(index) >= self.universe || self.contains(index) == contained {
            return false;
        }
        self.words[usize::from(index) / 64] ^= 1 << (index % 64);
        if contained {
            self.count += 1;
        } else {
            self.count -= 1;
        }
        true
    }

    /// The first member at or after `index`, from the start again if there is none.
    #[inline]
    pub fn next_from(&self, index: u16) -> Option<u16> {
        if self.contains(index) {
            return Some(index);
        }
        self.at_or_after(index).or_else(|| self.at_or_after(0))
    }

    /// The first member at or after `index`, without starting over.
    pub fn at_or_after(&self, index: u16) -> Option<u16> {
        let first = usize::from(index) / 64;
        let mut word = self.words.get(first)? & (u64::MAX << (index % 64));
        let mut place = first;
        while word == 0 {
            place += 1;
            word = *self.words.get(place)?;
        }
        Some((place * 64 + word.trailing_zeros() as usize) as u16)
    }

    /// The member that has `rank` members before it.
    pub fn nth(&self, rank: usize) -> Option<u16> {
        if rank >= self.count {
            return None;
        }
        if self.is_full() {
            return Some(rank as u16);
        }
        let mut left = rank;
        for (place, &word) in self.words.iter().enumerate() {
            let ones = word.count_ones() as usize;
            if left < ones {
                let mut word = word;
                for _ in 0..left {
                    word &= word - 1;
                }
                return Some((place * 64 + word.trailing_zeros() as usize) as u16);
            }
            left -= ones;
        }
        None
    }

    /// All members in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let mut next = self.at_or_after(0);
        std::iter::from_fn(move || {
            let index = next?;
            next = index.checked_add(1).and_then(|index| self.at_or_after(index));
            Some(index)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(
            universe in 0usize..300,
            flips in prop::collection::vec((0u16..310, any::<bool>()), 0..200),
            probes in prop::collection::vec(0u16..310, 1..20),
        ) {
            let mut set = RouteeSet::none(universe);
            let mut model = BTreeSet::new();
            for (index, contained) in flips {
                let changed = match (usize::from(index) < universe, contained) {
                    (false, _) => false,
                    (true, true) => model.insert(index),
                    (true, false) => model.remove(&index),
                };
                prop_assert_eq!(set.set(index, contained), changed);
            }
            prop_assert_eq!(set.count(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert_eq!(set.is_full(), model.len() == universe);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(
                &set,
                &RouteeSet::from_fn(universe, |index| model.contains(&(index as u16)))
            );
            for probe in probes {
                let after = model.range(probe..).next().copied();
                prop_assert_eq!(set.contains(probe), model.contains(&probe));
                prop_assert_eq!(set.at_or_after(probe), after);
                prop_assert_eq!(set.next_from(probe), after.or_else(|| model.first().copied()));
                let nth = model.iter().nth(usize::from(probe)).copied();
                prop_assert_eq!(set.nth(usize::from(probe)), nth);
            }
        }
    }

    #[test]
    fn the_largest_table_fits() {
        let set = RouteeSet::all(crate::hash::MAX_CANDIDATES);
        assert_eq!(set.iter().count(), 65_535);
        assert_eq!(set.nth(65_534), Some(65_534));
        assert_eq!(set.next_from(u16::MAX), Some(0));
    }
}
