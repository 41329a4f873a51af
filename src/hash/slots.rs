//! Slot tables: consistent hashing whose lookup is one array read.
//!
//! The top bits of a key's hash name a slot, and each slot belongs to the candidate that wins it by
//! weighted rendezvous. The table is a pure function of slot bits, seed and candidates:
//! every node that knows the same candidates computes the same bytes. A candidate that joins takes
//! slots from others and gives none to them, one that leaves gives its own away and disturbs no
//! other, a changed weight moves slots only between that candidate and the others.
//!
//! How many slots? A candidate's share of S slots among n is nearly Poisson: its relative standard
//! deviation is sqrt(n / S), and the largest of 100 shares lies about 2.5 deviations above the
//! mean, give or take 0.4. At 100 candidates that is a max/mean of 1.10 for 2^16 slots, 1.05 for
//! 2^18, and 1.035 for 2^19, which is the default as it stays below 1.05 for whatever names the
//! nodes have. Its 1 MiB is read by a key at a time: independent lookups take as long as with a
//! quarter of the size (measured: `benches/route.rs`), as they overlap. Smaller tables suit smaller
//! clusters, many routers and simulations: a rebuild costs a pass over the slots.
//!
//! Decided against: a ring with points (binary search per message, and 1.2 max/mean at 200 points
//! per node) and Maglev (moves some keys between nodes that did not change); `benches/route.rs`
//! runs all three.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::key::HashSeed;
use super::rendezvous::{Bidder, Candidate, Field, MAX_WEIGHT, candidate_key, pair_hash, slot_key};

/// Fewest slot bits a table may have: 1,024 slots.
pub const MIN_SLOT_BITS: u8 = 10;
/// Most slot bits a table may have: 1,048,576 slots, 2 MiB.
pub const MAX_SLOT_BITS: u8 = 20;
/// 524,288 slots: max/mean about 1.035 at 100 candidates of equal weight.
pub const DEFAULT_SLOT_BITS: u8 = 19;
/// Most candidates of one table: owners are 16 bits wide, one value means nobody.
pub const MAX_CANDIDATES: usize = NO_OWNER as usize;
/// What [`SlotTable::lookup`] answers while no candidate has a weight.
pub const NO_OWNER: u16 = u16::MAX;

/// Who owns which slot. Cheap to clone: the slots are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotTable {
    owners: Arc<[u16]>,
    shift: u32,
    seed: HashSeed,
    candidates: Arc<[Candidate]>,
    /// The candidates' identities, hashed: for keys whose owner is passed over.
    keys: Arc<[u64]>,
    /// Made once: many tables share these slots.
    digest: u64,
}

impl SlotTable {
    /// Computes the table from nothing: one hash per slot and candidate.
    ///
    /// The list may come in any order; of two candidates with the same identity the lighter counts.
    ///
    /// # Panics
    /// If `bits` is outside [`MIN_SLOT_BITS`]..=[`MAX_SLOT_BITS`], or there are more than
    /// [`MAX_CANDIDATES`]: whoever takes these from outside checks them there.
    pub fn build(bits: u8, seed: HashSeed, candidates: &[Candidate]) -> Self {
        assert!(
            (MIN_SLOT_BITS..=MAX_SLOT_BITS).contains(&bits),
            "{bits} slot bits are outside {MIN_SLOT_BITS}..={MAX_SLOT_BITS}"
        );
        Self::fresh(bits, seed, normalised(candidates))
    }

    fn fresh(bits: u8, seed: HashSeed, candidates: Arc<[Candidate]>) -> Self {
        let field = Field::new(seed, indexed(&candidates));
        let owners = (0..1 << bits)
            .map(|slot| field.best(slot_key(seed, slot)).map_or(NO_OWNER, |bid| bid.index))
            .collect();
        Self::of(owners, 64 - u32::from(bits), seed, candidates)
    }

    /// The table for changed candidates: byte-equal to a fresh build of them, at the cost of one
    /// pass over the slots per candidate that joined or gained weight, and one fresh decision for
    /// each slot of those that left or lost weight.
    ///
    /// # Panics
    /// If there are more than [`MAX_CANDIDATES`].
    pub fn update(&self, candidates: &[Candidate]) -> Self {
        let candidates = normalised(candidates);
        if candidates == self.candidates {
            return self.clone();
        }

        // By old index: the candidate as it is now, unless it left or lost weight. Whoever keeps at
        // least its weight also keeps its slots against everyone who did not gain any.
        let mut kept: Vec<Option<Bidder>> = vec![None; self.candidates.len()];
        let mut rivals: Vec<(u16, Candidate)> = Vec::new();
        let mut old = self.candidates.iter().enumerate().peekable();
        for (index, candidate) in indexed(&candidates) {
            while old.next_if(|(_, known)| known.id < candidate.id).is_some() {}
            let before = old.next_if(|(_, known)| known.id == candidate.id);
            if let Some((place, known)) = before
                && candidate.weight >= known.weight
                && candidate.weight > 0
            {
                kept[place] = Some(Bidder::new(self.seed, index, candidate));
            }
            if before.is_none_or(|(_, known)| candidate.weight > known.weight) {
                rivals.push((index, candidate));
            }
        }

        let all = Field::new(self.seed, indexed(&candidates));
        if rivals.len() + 1 >= all.len() {
            return Self::fresh(self.bits(), self.seed, candidates);
        }
        let alike = candidates.iter().all(|one| one.weight == candidates[0].weight);
        if alike && !self.candidates.is_empty() && kept.iter().all(Option::is_some) {
            let owners = self.joined(&kept, &rivals);
            return Self::of(owners, self.shift, self.seed, candidates);
        }
        let rivals = Field::new(self.seed, rivals.into_iter());
        let owners = self
            .owners
            .iter()
            .enumerate()
            .map(|(slot, &owner)| match kept.get(usize::from(owner)) {
                Some(Some(bidder)) if rivals.len() == 0 => bidder.index(),
                Some(Some(bidder)) => {
                    let slot_key = slot_key(self.seed, slot);
                    let bid = bidder.bid(slot_key);
                    rivals.best(slot_key).filter(|rival| rival.beats(&bid)).unwrap_or(bid).index
                }
                _ => all.best(slot_key(self.seed, slot)).map_or(NO_OWNER, |bid| bid.index),
            })
            .collect();
        Self::of(owners, self.shift, self.seed, candidates)
    }

    fn of(owners: Arc<[u16]>, shift: u32, seed: HashSeed, candidates: Arc<[Candidate]>) -> Self {
        let keys = hashed(seed, &candidates);
        let digest = digest(&owners, shift, &candidates);
        Self { owners, shift, seed, candidates, keys, digest }
    }

    /// Each slot's owner after rivals have come to candidates of their own weight, who all stay:
    /// the most common change of all. `kept` holds the candidates by old index.
    fn joined(&self, kept: &[Option<Bidder>], rivals: &[(u16, Candidate)]) -> Arc<[u16]> {
        let kept: Vec<_> = kept.iter().flatten().map(Bidder::key_and_index).collect();
        let rivals: Vec<_> = rivals
            .iter()
            .map(|(index, candidate)| (candidate_key(self.seed, candidate.id), *index))
            .collect();
        let owner = |(slot, owner): (usize, &u16)| {
            let slot_key = slot_key(self.seed, slot);
            let (key, mut best) = kept[usize::from(*owner)];
            let mut highest = pair_hash(slot_key, key);
            for (key, index) in &rivals {
                let hash = pair_hash(slot_key, *key);
                // Of equal hashes the lowest identity wins.
                let wins = hash > highest || (hash == highest && *index < best);
                best = if wins { *index } else { best };
                highest = if wins { hash } else { highest };
            }
            best
        };
        self.owners.iter().enumerate().map(owner).collect()
    }

    /// The owner of a key: its index in [`SlotTable::candidates`], or [`NO_OWNER`].
    #[inline]
    pub fn lookup(&self, key_hash: u64) -> u16 {
        self.owners[(key_hash >> self.shift) as usize]
    }

    /// Who would own a key if only these candidates were there: of their indices and weights (of
    /// at least 1) the one that wins the key's slot. Takes a multiplication for each of them; for
    /// keys whose owner is passed over.
    ///
    /// # Panics
    /// If an index is not that of a candidate.
    pub fn owner_among(
        &self,
        key_hash: u64,
        among: impl Iterator<Item = (u16, u32)>,
    ) -> Option<u16> {
        let slot_key = slot_key(self.seed, (key_hash >> self.shift) as usize);
        let bids = among.map(|(index, weight)| {
            Bidder::hashed(self.keys[usize::from(index)], index, weight).bid(slot_key)
        });
        bids.reduce(|best, bid| if bid.beats(&best) { bid } else { best }).map(|bid| bid.index)
    }

    /// Whether both are the same slots in memory: told without a look at them.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owners, &other.owners) && Arc::ptr_eq(&self.candidates, &other.candidates)
    }

    /// The candidates, sorted by identity.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Each slot's owner, in slot order.
    pub fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// The table has two to this many slots.
    pub fn bits(&self) -> u8 {
        (64 - self.shift) as u8
    }

    /// The seed that the table was built with.
    pub fn seed(&self) -> HashSeed {
        self.seed
    }

    /// How many slots each candidate owns.
    pub fn shares(&self) -> Vec<u32> {
        let mut shares = vec![0; self.candidates.len()];
        for &owner in self.owners.iter() {
            if let Some(share) = shares.get_mut(usize::from(owner)) {
                *share += 1;
            }
        }
        shares
    }

    /// Which part of all keys has another owner in `other`, from 0 to 1.
    pub fn moved_share(&self, other: &Self) -> f64 {
        let shift = self.shift.min(other.shift);
        let slots = 1u64 << (64 - shift);
        let id = |table: &Self, hash| {
            table.candidates.get(usize::from(table.lookup(hash))).map(|candidate| candidate.id)
        };
        let moved =
            (0..slots).map(|slot| slot << shift).filter(|&hash| id(self, hash) != id(other, hash));
        moved.count() as f64 / slots as f64
    }

    /// A hash over bits, candidates and owners. The seed shows only through them.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// Leaves out the slots, which nobody wants to read, and the seed, which nobody may.
impl fmt::Debug for SlotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotTable")
            .field("bits", &self.bits())
            .field("candidates", &self.candidates.len())
            .field("digest", &format_args!("{:016x}", self.digest()))
            .finish_non_exhaustive()
    }
}

fn digest(owners: &[u16], shift: u32, candidates: &[Candidate]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&shift.to_le_bytes());
    hash.update(&(candidates.len() as u64).to_le_bytes());
    for candidate in candidates {
        hash.update(&candidate.id.to_le_bytes());
        hash.update(&candidate.weight.to_le_bytes());
    }
    let mut bytes = [0; 1 << MIN_SLOT_BITS];
    for owners in owners.chunks_exact(bytes.len() / 2) {
        for (place, owner) in bytes.chunks_exact_mut(2).zip(owners) {
            place.copy_from_slice(&owner.to_le_bytes());
        }
        hash.update(&bytes);
    }
    hash.digest()
}

/// Each candidate with its index. There are few enough for it to fit.
fn indexed(candidates: &[Candidate]) -> impl Iterator<Item = (u16, Candidate)> {
    // The other way round, the range would count one past the last candidate and overflow.
    candidates.iter().copied().zip(0..).map(|(candidate, index)| (index, candidate))
}

fn hashed(seed: HashSeed, candidates: &[Candidate]) -> Arc<[u64]> {
    candidates.iter().map(|candidate| candidate_key(seed, candidate.id)).collect()
}

/// Sorted by identity, each once, weights in range.
fn normalised(candidates: &[Candidate]) -> Arc<[Candidate]> {
    let mut candidates: Vec<_> = candidates
        .iter()
        .map(|candidate| Candidate { weight: candidate.weight.min(MAX_WEIGHT), ..*candidate })
        .collect();
    candidates.sort_unstable();
    candidates.dedup_by_key(|candidate| candidate.id);
    assert!(
        candidates.len() <= MAX_CANDIDATES,
        "{} candidates are more than {MAX_CANDIDATES}",
        candidates.len()
    );
    candidates.into()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
