//! Router options: what a router sends to, and by which rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::SpecError;
use super::strategy::StrategyKind;
use crate::base::{Path, WorkerIndex};
use crate::hash::{DEFAULT_SLOT_BITS, HashSeed, MAX_CANDIDATES, MAX_SLOT_BITS, MIN_SLOT_BITS};

/// Workers beyond these are no routees: bounds what a member record can ask of a table.
pub const MAX_WORKERS_PER_NODE: u16 = WorkerIndex::MOST;

/// Whether a router uses the routees of its own node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalPreference {
    /// Like all others.
    #[default]
    Any,
    /// Before all others, as long as one is usable. Only for strategies that pick one routee
    /// without a key: a key has the same owner on every node.
    Prefer,
    /// Never. Each node then has a table of its own, so that with consistent hashing two nodes
    /// send a key to the same routee only if it is on neither of them.
    Exclude,
}

/// What a router is asked to be. Nodes whose specs are equal make equal tables from equal views.
#[derive(Clone, Debug)]
pub struct RouterSpec {
    /// Where the routees serve.
    pub path: Path,
    /// How routees are picked.
    pub strategy: StrategyKind,
    /// Whether routees of this node count.
    pub local: LocalPreference,
    /// A routee's node must carry all of these.
    pub roles: BTreeSet<Arc<str>>,
    /// At most this many routees on one node, 1 to [`MAX_WORKERS_PER_NODE`]. Which of its workers
    /// they are depends on the path.
    pub max_routees_per_node: Option<u16>,
    /// At most this many routees in all, 1 to [`MAX_CANDIDATES`]; spread over the nodes.
    pub max_routees: Option<u32>,
    /// Size of the slot table of strategies that follow keys, [`MIN_SLOT_BITS`] to
    /// [`MAX_SLOT_BITS`]. More slots balance better and fill more cache.
    pub slot_bits: u8,
    /// The cluster's hash seed. Keys must be hashed with it too.
    pub seed: HashSeed,
}

impl RouterSpec {
    /// A router over all routees at `path`, with defaults for everything else.
    pub fn new(path: Path, strategy: StrategyKind, seed: HashSeed) -> Self {
        Self {
            path,
            strategy,
            local: LocalPreference::default(),
            roles: BTreeSet::new(),
            max_routees_per_node: None,
            max_routees: None,
            slot_bits: DEFAULT_SLOT_BITS,
            seed,
        }
    }

    /// Whether both ask for the same, and so can share one table. Applications' own strategies are
    /// the same only if they are one object.
    pub fn is_same(&self, other: &Self) -> bool {
        self.path == other.path
            && self.strategy.is_same(&other.strategy)
            && self.local == other.local
            && self.roles == other.roles
            && self.max_routees_per_node == other.max_routees_per_node
            && self.max_routees == other.max_routees
            && self.slot_bits == other.slot_bits
            && self.seed == other.seed
    }

    /// Checks every option against its range. Call it where options come in: building a table
    /// panics on slot bits out of range.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.roles.iter().any(|role| role.is_empty()) {
            return Err(SpecError::new("roles", "\"\"", "non-empty names"));
        }
        fn range(
            key: &'static str,
            value: Option<impl Into<u64>>,
            low: u64,
            high: u64,
        ) -> Result<(), SpecError> {
            match value.map(Into::into) {
                Some(value) if !(low..=high).contains(&value) => {
                    Err(SpecError::new(key, value, format!("{low} to {high}")))
                }
                _ => Ok(()),
            }
        }
        range("max_routees_per_node", self.max_routees_per_node, 1, MAX_WORKERS_PER_NODE.into())?;
        range("max_routees", self.max_routees, 1, MAX_CANDIDATES as u64)?;
        range("slot_bits", Some(self.slot_bits), MIN_SLOT_BITS.into(), MAX_SLOT_BITS.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RouterSpec {
        RouterSpec::new("/user/carts".parse().unwrap(), StrategyKind::RoundRobin, HashSeed(1))
    }

    #[test]
    fn every_option_is_checked_by_name() {
        assert_eq!(spec().validate(), Ok(()));
        let full = RouterSpec {
            roles: BTreeSet::from(["eu".into()]),
            max_routees_per_node: Some(1),
            max_routees: Some(65_535),
            slot_bits: 20,
            ..spec()
        };
        assert_eq!(full.validate(), Ok(()));

        let key = |spec: RouterSpec| spec.validate().unwrap_err().key;
        assert_eq!(key(RouterSpec { roles: BTreeSet::from(["".into()]), ..spec() }), "roles");
        for count in [0, MAX_WORKERS_PER_NODE + 1] {
            let spec = RouterSpec { max_routees_per_node: Some(count), ..spec() };
            assert_eq!(key(spec), "max_routees_per_node");
        }
        for count in [0, 65_536] {
            let spec = RouterSpec { max_routees: Some(count), ..spec() };
            assert_eq!(key(spec), "max_routees");
        }
        for slot_bits in [9, 21] {
            assert_eq!(key(RouterSpec { slot_bits, ..spec() }), "slot_bits");
        }
    }

    #[test]
    fn an_error_says_what_to_do() {
        let error = RouterSpec { slot_bits: 9, ..spec() }.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot build the router: option `slot_bits` is 9, but must be 10 to 20"
        );
    }

    #[test]
    fn routers_share_a_table_only_where_all_options_are_the_same() {
        let others = [
            RouterSpec { path: "/user/other".parse().unwrap(), ..spec() },
            RouterSpec { strategy: StrategyKind::Random, ..spec() },
            RouterSpec { local: LocalPreference::Prefer, ..spec() },
            RouterSpec { roles: BTreeSet::from(["eu".into()]), ..spec() },
            RouterSpec { max_routees_per_node: Some(1), ..spec() },
            RouterSpec { max_routees: Some(1), ..spec() },
            RouterSpec { slot_bits: 10, ..spec() },
            RouterSpec { seed: HashSeed(2), ..spec() },
        ];
        assert!(spec().is_same(&spec()));
        for other in others {
            assert!(!spec().is_same(&other) && other.is_same(&other.clone()), "{other:?}");
        }
    }
}
