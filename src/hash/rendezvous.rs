//! Weighted rendezvous hashing in integers: which candidate wins a slot.
//!
//! Every (slot, candidate) pair has a 64-bit hash `h`. A candidate of weight `w` bids
//! `-log2(h / 2^64) / w`, and the lowest bid wins: the classic exponential race, in which each
//! candidate wins in proportion to its weight, and changing one candidate changes only the slots
//! that it wins or loses. (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005;
//! Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996.)
//!
//! Machines may round floating-point logarithms differently and would then disagree about owners,
//! so the logarithm is a table in fixed point, and bids are compared by cross-multiplication: the
//! order is exact and total (bid, then hash, then identity).
//!
//! Within one weight the lowest bid is simply the highest hash, as the logarithm is monotone. So
//! candidates are kept in classes of equal weight, and only the winner of each class needs a
//! logarithm. With one weight for all, none does.

use std::cmp::Reverse;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::key::HashSeed;

/// Higher weights count as this one.
pub const MAX_WEIGHT: u32 = 65_535;

/// Someone who can own slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Its identity, distinct among the candidates of a table. Best a hash, but need not be.
    pub id: u64,
    /// Its share relative to the others, up to [`MAX_WEIGHT`]. Zero owns nothing.
    pub weight: u32,
}

/// Fraction bits of a bid. The integer part is at most 64, a weight at most 16 bits, so that a
/// product of the two fits 64 bits.
const FRACTION_BITS: u32 = 40;
/// The logarithm's table has 2^8 segments and is linear in between. A segment's slope is off by at
/// most 0.2 %, and both ends are exact, so that bids near zero (the ones that win) keep their
/// relative precision.
const SEGMENT_BITS: u32 = 8;
/// Bits of the mantissa below the segment that take part in the interpolation: as many as leave the
/// product with a segment's height (33 bits) within 64.
const OFFSET_BITS: u32 = 30;

const LOG2: [u64; (1 << SEGMENT_BITS) + 1] = log2_table();

/// `log2(1 + i / 2^SEGMENT_BITS)` in fixed point, computed bit by bit by repeated squaring.
const fn log2_table() -> [u64; (1 << SEGMENT_BITS) + 1] {
    const ONE: u128 = 1 << 63;
    let mut table = [0; (1 << SEGMENT_BITS) + 1];
    let mut segment = 0;
    while segment < 1 << SEGMENT_BITS {
        let mut value = ONE + ((segment as u128) << (63 - SEGMENT_BITS));
        let mut log = 0;
        let mut bit = 0;
        while bit < FRACTION_BITS {
            value = (value * value) >> 63;
            log <<= 1;
            if value >= 2 * ONE {
                value >>= 1;
                log |= 1;
            }
            bit += 1;
        }
        table[segment] = log;
        segment += 1;
    }
    table[1 << SEGMENT_BITS] = 1 << FRACTION_BITS;
    table
}

/// `-log2(hash / 2^64)` in fixed point; never rises when `hash` does.
fn cost(hash: u64) -> u64 {
    // Zero has no logarithm; it shares that of one.
    let hash = hash | 1;
    let leading = hash.leading_zeros();
    // The mantissa without its leading one: segment bits on top, then the offset into it.
    let mantissa = (hash << leading) << 1;
    let segment = (mantissa >> (64 - SEGMENT_BITS)) as usize;
    let offset = (mantissa << SEGMENT_BITS) >> (64 - OFFSET_BITS);
    let from = LOG2[segment];
    let log = from + (((LOG2[segment + 1] - from) * offset) >> OFFSET_BITS);
    (u64::from(leading + 1) << FRACTION_BITS) - log
}

/// The hash of a slot, half of a pair's hash. An update computes it for every slot, so it is the
/// finaliser of SplitMix64 rather than a whole xxh3. (Steele, Lea and Flood, "Fast Splittable
/// Pseudorandom Number Generators", 2014.)
#[inline]
pub(super) fn slot_key(seed: HashSeed, slot: usize) -> u64 {
    let mut key = seed.0.wrapping_add((slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (key ^ (key >> 31)) | 1
}

/// The hash of a candidate's identity, the other half.
pub(super) fn candidate_key(seed: HashSeed, id: u64) -> u64 {
    xxh3_64_with_seed(&id.to_le_bytes(), seed.0 ^ 0xca4d_1da7_eca4_d1da) | 1
}

/// The hash of a pair: both halves are well mixed already, so one multiplication is enough. Its low
/// half runs through all values as either factor does; folding the high half in spreads every bit
/// of both over all bits.
#[inline]
pub(super) fn pair_hash(slot_key: u64, candidate_key: u64) -> u64 {
    let product = u128::from(slot_key) * u128::from(candidate_key);
    (product as u64) ^ (product >> 64) as u64
}

/// One candidate's bid for one slot.
#[derive(Clone, Copy)]
pub(super) struct Bid {
    hash: u64,
    weight: u32,
    /// The candidate's place in the list, which is sorted by identity.
    pub(super) index: u16,
}

impl Bid {
    pub(super) fn beats(&self, other: &Self) -> bool {
        // Whoever has neither the higher weight nor the higher hash cannot have the lower bid; most
        // comparisons end here, without a logarithm.
        if self.hash < other.hash && self.weight <= other.weight {
            return false;
        }
        if self.hash > other.hash && self.weight >= other.weight {
            return true;
        }
        if self.weight != other.weight {
            let mine = cost(self.hash) * u64::from(other.weight);
            let theirs = cost(other.hash) * u64::from(self.weight);
            if mine != theirs {
                return mine < theirs;
            }
        }
        (self.hash, other.index) > (other.hash, self.index)
    }
}

/// Candidates laid out for bidding: hashed once, grouped by weight.
pub(super) struct Field {
    classes: Vec<(u32, Range<usize>)>,
    keys: Vec<u64>,
    indices: Vec<u16>,
}

impl Field {
    /// Lines up these candidates with their places in the whole list. Weights of zero do not bid.
    pub(super) fn new(seed: HashSeed, candidates: impl Iterator<Item = (u16, Candidate)>) -> Self {
        let mut entries: Vec<_> =
            candidates.filter(|(_, candidate)| candidate.weight > 0).collect();
        // Heaviest first: then a lighter class must have the higher hash to be looked at.
        entries.sort_by_key(|&(index, candidate)| (Reverse(candidate.weight), index));
        let mut classes: Vec<(u32, Range<usize>)> = Vec::new();
        for (place, (_, candidate)) in entries.iter().enumerate() {
            match classes.last_mut() {
                Some((weight, range)) if *weight == candidate.weight => range.end = place + 1,
                _ => classes.push((candidate.weight, place..place + 1)),
            }
        }
        Self {
            classes,
            keys: entries.iter().map(|(_, candidate)| candidate_key(seed, candidate.id)).collect(),
            indices: entries.iter().map(|&(index, _)| index).collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The winning bid for a slot, if anyone bids.
    pub(super) fn best(&self, slot_key: u64) -> Option<Bid> {
        let mut best: Option<Bid> = None;
        for (weight, range) in &self.classes {
            let (place, hash) = highest(slot_key, &self.keys[range.clone()]);
            let index = self.indices[range.start + place];
            let bid = Bid { hash, weight: *weight, index };
            if best.is_none_or(|best| bid.beats(&best)) {
                best = Some(bid);
            }
        }
        best
    }
}

/// The first place with the highest hash, and that hash. There is at least one key.
fn highest(slot_key: u64, keys: &[u64]) -> (usize, u64) {
    // Few blocks hold a new maximum, so it is cheaper to ask each whether it does, without a branch
    // or a chain from key to key, than to keep the maximum and its place up to date at every key.
    const BLOCK: usize = 8;
    let (mut place, mut best) = (0, pair_hash(slot_key, keys[0]));
    let mut first = 0;
    for block in keys.chunks(BLOCK) {
        let mut higher = false;
        if let Ok(block) = <&[u64; BLOCK]>::try_from(block) {
            for &key in block {
                higher |= pair_hash(slot_key, key) > best;
            }
        }
        if higher || block.len() < BLOCK {
            for (within, &key) in block.iter().enumerate() {
                let hash = pair_hash(slot_key, key);
                // Not `>=`: of equal hashes the lowest identity wins.
                if hash > best {
                    (place, best) = (first + within, hash);
                }
            }
        }
        first += BLOCK;
    }
    (place, best)
}

/// One candidate outside of a [`Field`], hashed once.
#[derive(Clone, Copy)]
pub(super) struct Bidder {
    key: u64,
    weight: u32,
    index: u16,
}

impl Bidder {
    pub(super) fn new(seed: HashSeed, index: u16, candidate: Candidate) -> Self {
        Self { key: candidate_key(seed, candidate.id), weight: candidate.weight, index }
    }

    /// The same, of a key that was hashed before.
    #[inline]
    pub(super) fn hashed(key: u64, index: u16, weight: u32) -> Self {
        Self { key, weight, index }
    }

    pub(super) fn key_and_index(&self) -> (u64, u16) {
        (self.key, self.index)
    }

    pub(super) fn index(&self) -> u16 {
        self.index
    }

    #[inline]
    pub(super) fn bid(&self, slot_key: u64) -> Bid {
        Bid { hash: pair_hash(slot_key, self.key), weight: self.weight, index: self.index }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_logarithm_is_close_and_meets_its_ends() {
        assert_eq!(cost(0), 64 << FRACTION_BITS);
        assert_eq!(cost(1 << 63), 1 << FRACTION_BITS);
        assert!(cost(u64::MAX) <= 1 << (FRACTION_BITS - SEGMENT_BITS - OFFSET_BITS + 1));
        assert!(LOG2.windows(2).all(|pair| pair[0] < pair[1]));
        // A test may use floats: it only asks how near the fixed-point value is.
        for hash in (0..64).flat_map(|shift| [u64::MAX >> shift, (u64::MAX / 3 * 2) >> shift]) {
            let exact = 64.0 - ((hash | 1) as f64).log2();
            let ours = cost(hash) as f64 / (1u64 << FRACTION_BITS) as f64;
            assert!((exact - ours).abs() < 1e-5, "{hash:#x}: {exact} {ours}");
        }
        for near_top in [1u64 << 40, 1 << 48, 1 << 54] {
            let exact = -(-(near_top as f64) / 2f64.powi(64)).ln_1p() / std::f64::consts::LN_2;
            let ours = cost(0u64.wrapping_sub(near_top)) as f64 / (1u64 << FRACTION_BITS) as f64;
            assert!((exact / ours - 1.0).abs() < 3e-3, "{near_top:#x}: {exact} {ours}");
        }
    }

    proptest! {
        /// What lets a class of equal weights skip the logarithm.
        #[test]
        fn the_logarithm_is_monotone(a: u64, step in 0u64..1 << 50, shift in 0u32..64) {
            let low = a >> shift;
            prop_assert!(cost(low.saturating_add(step)) <= cost(low));
            prop_assert!(cost(low.saturating_add(1)) <= cost(low));
        }

        /// Two different bids never both beat each other, and one always does.
        #[test]
        fn bids_are_totally_ordered(
            hashes in prop::array::uniform3(prop_oneof![any::<u64>(), 0u64..3, u64::MAX - 2..]),
            weights in prop::array::uniform3(1u32..=super::super::rendezvous::MAX_WEIGHT),
        ) {
            let bid = |i: usize| Bid { hash: hashes[i], weight: weights[i], index: i as u16 };
            for (a, b) in [(0, 1), (1, 2), (0, 2)] {
                prop_assert!(bid(a).beats(&bid(b)) != bid(b).beats(&bid(a)));
            }
            if bid(0).beats(&bid(1)) && bid(1).beats(&bid(2)) {
                prop_assert!(bid(0).beats(&bid(2)));
            }
        }
    }
}
