//! The rules by which a routee is picked, and what each of them is given and answers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::{Rng as _, SeedableRng as _};

use super::error::SpecError;
use super::set::RouteeSet;
use super::table::RouteTable;
use crate::base::Rng;
use crate::base::debug_as_display;

/// A rule that picks routees.
///
/// Must not depend on anything but its arguments: no clock, no own random source, no shared state;
/// that is what makes a simulated run repeatable.
pub trait Strategy: Send + Sync + fmt::Debug {
    /// What it is called in configuration and reports.
    fn name(&self) -> &str;

    /// Whether it follows keys, and so needs a table with slots.
    fn is_keyed(&self) -> bool {
        false
    }

    /// Picks for one message. Called on the hot path: no lock, no allocation. The table may be
    /// empty. One that panics has picked nobody, and the message is refused.
    fn pick(&self, table: &RouteTable, request: &PickRequest, state: &mut PickState) -> Pick;
}

/// What a strategy knows about one message.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'a> {
    /// Hash of the message's key, if it has one.
    pub key_hash: Option<u64>,
    /// Routees of the table whose nodes answer, within the router's limit: equal on all nodes with
    /// equal views. What strategies that follow keys go by, with [`RouteTable::owner`].
    pub active: &'a RouteeSet,
    /// Those of them that can be reached from here right now.
    pub usable: &'a RouteeSet,
}

/// What strategies remember from message to message, per router and thread.
#[derive(Clone, Debug)]
pub struct PickState {
    /// The routee whose turn is next.
    pub cursor: u16,
    /// How often the cursor went around.
    pub lap: u32,
    /// The same among local routees, by their place in the table's local list.
    pub local_cursor: u16,
    /// The source of all randomness.
    pub rng: Rng,
}

impl PickState {
    /// Starts at a place that depends on the seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::seed_from_u64(seed);
        let start = rng.next_u64();
        Self { cursor: start as u16, lap: 0, local_cursor: (start >> 16) as u16, rng }
    }

    /// A uniform number below `bound`, which must not be 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is at most bound / 2^64.
        ((u128::from(self.rng.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// To the routee with this index in the table.
    One(u16),
    /// To every active routee of the table.
    All,
    /// To nobody.
    None(NoRoutee),
}

/// Why nobody was picked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NoRoutee {
    /// The table is empty: no member serves the path with the roles asked for.
    #[error("no node serves the path: wait until the router is ready, or serve it")]
    NoRoutees,
    /// There are routees, but their nodes do not answer, or the links to all of them are down.
    #[error("all routees are unreachable from this node: try again later")]
    NoneUsable,
    /// The strategy follows keys, and the message has none.
    #[error("the message has no key, which the router's strategy needs: give it one")]
    MissingKey,
    /// All routees take the message's name for another layout, or the key's owner does.
    #[error(
        "the routee takes messages of this name with another layout: see \"Changing a message\""
    )]
    LayoutMismatch,
    /// The application's own strategy picked an index beyond the table.
    #[error("the custom strategy picked a routee that is not in the table: correct the strategy")]
    InvalidPick,
    /// The application's own strategy panicked.
    #[error("the custom strategy panicked: correct the strategy")]
    StrategyPanicked,
}

debug_as_display!(NoRoutee);

macro_rules! strategies {
    ($($module:ident :: $strategy:ident, $doc:literal;)*) => {
        $(pub(super) mod $module;)*

        /// How a router picks.
        #[derive(Clone, Debug)]
        pub enum StrategyKind {
            $(#[doc = $doc] $strategy,)*
            /// The application's own.
            Custom(Arc<dyn Strategy>),
        }

        impl Strategy for StrategyKind {
            fn name(&self) -> &str {
                match self {
                    $(Self::$strategy => $module::$strategy.name(),)*
                    Self::Custom(strategy) => strategy.name(),
                }
            }

            fn is_keyed(&self) -> bool {
                match self {
                    $(Self::$strategy => $module::$strategy.is_keyed(),)*
                    Self::Custom(strategy) => strategy.is_keyed(),
                }
            }

            #[inline]
            fn pick(
                &self,
                table: &RouteTable,
                request: &PickRequest,
                state: &mut PickState,
            ) -> Pick {
                match self {
                    $(Self::$strategy => $module::$strategy.pick(table, request, state),)*
                    Self::Custom(strategy) => strategy.pick(table, request, state),
                }
            }
        }

        impl StrategyKind {
            /// All that come with Keyway.
            pub const BUILT_IN: &[Self] = &[$(Self::$strategy,)*];
        }
    };
}

// Adding a built-in strategy: its file, and a line here. Written by hand are the methods that choose
// it, of `RouterBuilder` and `testing::Router`, and an arm in `fn draw` of `sim/routers.rs`, whose
// routers come and go; those that a simulated node has from its start follow from this list.
strategies! {
    round_robin::RoundRobin, "Each usable routee in turn, in proportion to its weight.";
    random::Random, "A random usable routee, in proportion to its weight.";
    broadcast::Broadcast, "All routees.";
    consistent_hash::ConsistentHash, "The owner of the message's key.";
}

impl StrategyKind {
    /// Whether it follows keys.
    pub fn is_keyed(&self) -> bool {
        Strategy::is_keyed(self)
    }

    /// Whether both are the same built-in one, or the same object of an application.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl FromStr for StrategyKind {
    type Err = SpecError;

    /// A built-in strategy by its name in configuration.
    fn from_str(name: &str) -> Result<Self, SpecError> {
        Self::BUILT_IN.iter().find(|kind| kind.name() == name).cloned().ok_or_else(|| {
            let names: Vec<_> = Self::BUILT_IN.iter().map(|kind| kind.name()).collect();
            SpecError::new("strategy", format!("{name:?}"), format!("one of {}", names.join(", ")))
        })
    }
}

/// Why a pick found nobody.
fn nobody(table: &RouteTable) -> Pick {
    Pick::None(if table.is_empty() { NoRoutee::NoRoutees } else { NoRoutee::NoneUsable })
}

#[cfg(test)]
mod tests;
