//! From a key to its owner: seeded key hashes and the slot tables that consistent hashing reads.
//!
//! ```
//! use keyway::hash::{Candidate, DEFAULT_SLOT_BITS, HashKey, HashSeed, SlotTable};
//!
//! let seed = HashSeed::from_cluster("shop");
//! let three = [1, 2, 3].map(|id| Candidate { id, weight: 100 });
//! let table = SlotTable::build(DEFAULT_SLOT_BITS, seed, &three);
//!
//! let owner = table.lookup("cart-7".hash_key(seed));
//! assert!(usize::from(owner) < three.len());
//! ```

pub mod key;
mod rendezvous;
pub mod slots;

pub use key::{HashKey, HashSeed};
pub use rendezvous::{Candidate, MAX_WEIGHT};
pub use slots::{
    DEFAULT_SLOT_BITS, MAX_CANDIDATES, MAX_SLOT_BITS, MIN_SLOT_BITS, NO_OWNER, SlotTable,
};
