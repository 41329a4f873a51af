//! Walk of a message: `api/router` or a handler's `worker/context` comes before, `worker/place` after.
//!
//! Picking a routee for one message.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::accepted::Fit;
use super::set::RouteeSet;
use super::spec::RouterSpec;
use super::strategy::consistent_hash::owner;
use super::strategy::round_robin::RoundRobin;
use super::strategy::{NoRoutee, Pick, PickRequest, PickState, Strategy, StrategyKind};
use super::table::RouteTable;
use crate::base::TypeRef;

/// What one worker, or one application thread, holds per router: the strategy and its state.
///
/// Tables and usable sets come with each call, so that a newer one needs no change here. Cursors
/// and the random generator live on across tables.
#[derive(Debug)]
pub struct Picker {
    strategy: StrategyKind,
    state: PickState,
    /// Kept for its memory: the routees that do not misread the message at hand.
    fitting: RouteeSet,
}

impl Picker {
    /// A picker of its own for each thread that sends: give each a different `seed`, so that they
    /// do not walk the routees in step.
    pub fn new(spec: &RouterSpec, seed: u64) -> Self {
        let (strategy, state) = (spec.strategy.clone(), PickState::new(seed));
        Self { strategy, state, fitting: RouteeSet::none(0) }
    }

    /// Picks for a message of this type: nobody who would misread it.
    ///
    /// Strategies that follow keys do not pass over who misreads, as they pass over nobody: a key
    /// has one owner, whatever its messages look like.
    ///
    /// # Panics
    /// As [`Picker::pick`].
    #[inline]
    pub fn pick_for(
        &mut self,
        table: &RouteTable,
        message: &TypeRef,
        key_hash: Option<u64>,
        active: &RouteeSet,
        usable: &RouteeSet,
    ) -> Pick {
        if table.accepted().is_everywhere(message.id) {
            return self.pick(table, key_hash, active, usable);
        }
        self.pick_fitting(table, message, key_hash, (active, usable))
    }

    #[cold]
    fn pick_fitting(
        &mut self,
        table: &RouteTable,
        message: &TypeRef,
        key_hash: Option<u64>,
        (active, usable): (&RouteeSet, &RouteeSet),
    ) -> Pick {
        let accepted = table.accepted();
        match accepted.fit(message) {
            Fit::Everywhere => self.pick(table, key_hash, active, usable),
            Fit::Nowhere => Pick::None(NoRoutee::LayoutMismatch),
            Fit::Somewhere => {
                let mut fitting = std::mem::replace(&mut self.fitting, RouteeSet::none(0));
                fitting.refill(table.len(), |routee| {
                    let routee = routee as u16;
                    usable.contains(routee) && !accepted.misreads(routee, message)
                });
                let pick = self.pick(table, key_hash, active, &fitting);
                self.fitting = fitting;
                readable(table, message, pick)
            }
        }
    }

    /// The owner of a key, if it does not misread a message of this type; for strategies that
    /// follow keys and so need no state.
    #[inline]
    pub fn owner_for(
        table: &RouteTable,
        message: &TypeRef,
        key_hash: Option<u64>,
        active: &RouteeSet,
    ) -> Pick {
        let pick = owner(table, key_hash, active);
        if table.accepted().is_everywhere(message.id) {
            return pick;
        }
        readable(table, message, pick)
    }

    /// Picks for a message with this key hash, if it has a key.
    ///
    /// `active` says which routees take messages, as all nodes with this view agree
    /// ([`RouteTable::active`]); `usable` which of these can be reached from here right now.
    /// Strategies that follow keys look only at the former: they answer with the key's owner, and
    /// the caller may find its link down.
    ///
    /// # Panics
    /// If `usable` is not about this table, which can be told by its size.
    #[inline]
    pub fn pick(
        &mut self,
        table: &RouteTable,
        key_hash: Option<u64>,
        active: &RouteeSet,
        usable: &RouteeSet,
    ) -> Pick {
        // The common cases in line, where they are little more than a read; the rest behind one
        // call.
        if let StrategyKind::ConsistentHash = self.strategy {
            return owner(table, key_hash, active);
        }
        assert!(usable.universe() == table.len(), "the usable set is of another table");
        let request = PickRequest { key_hash, active, usable };
        if let StrategyKind::RoundRobin = self.strategy {
            return RoundRobin.pick(table, &request, &mut self.state);
        }
        self.pick_other(table, &request)
    }

    #[inline(never)]
    fn pick_other(&mut self, table: &RouteTable, request: &PickRequest) -> Pick {
        if let StrategyKind::Custom(strategy) = &self.strategy {
            return pick_custom(&**strategy, table, request, &mut self.state);
        }
        self.strategy.pick(table, request, &mut self.state)
    }

    /// The strategy.
    pub fn strategy(&self) -> &StrategyKind {
        &self.strategy
    }
}

/// An application's own code. A worker picks with it too, also for asks that it sends again, where
/// no handler's call would catch a panic.
fn pick_custom(
    strategy: &dyn Strategy,
    table: &RouteTable,
    request: &PickRequest,
    state: &mut PickState,
) -> Pick {
    match catch_unwind(AssertUnwindSafe(|| strategy.pick(table, request, state))) {
        Err(_) => Pick::None(NoRoutee::StrategyPanicked),
        Ok(Pick::One(index)) if usize::from(index) >= table.len() => {
            Pick::None(NoRoutee::InvalidPick)
        }
        Ok(pick) => pick,
    }
}

#[cold]
fn readable(table: &RouteTable, message: &TypeRef, pick: Pick) -> Pick {
    match pick {
        Pick::One(routee) if table.accepted().misreads(routee, message) => {
            Pick::None(NoRoutee::LayoutMismatch)
        }
        pick => pick,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::table::tests::{LAYOUT, cluster, table, table_of};
    use super::*;
    use crate::base::{LayoutHash, MessageType, MessageTypeId, View};
    use crate::hash::HashSeed;

    #[derive(Debug)]
    struct Broken;

    impl Strategy for Broken {
        fn name(&self) -> &str {
            "broken"
        }

        fn pick(&self, table: &RouteTable, _: &PickRequest, _: &mut PickState) -> Pick {
            Pick::One((7 % table.len()) as u16)
        }
    }

    /// Whoever picks may be a worker's thread, which must not end with it.
    #[test]
    fn a_custom_strategy_that_panics_has_picked_nobody() {
        let strategy = StrategyKind::Custom(Arc::new(Broken));
        let spec = RouterSpec::new("/user/a".parse().unwrap(), strategy, HashSeed(1));
        let mut picker = Picker::new(&spec, 1);
        for (members, wanted) in [(0, Pick::None(NoRoutee::StrategyPanicked)), (3, Pick::One(1))] {
            let table = RouteTable::build(&cluster(members), &spec, None);
            let all = RouteeSet::all(table.len());
            assert_eq!(picker.pick(&table, None, &all, &all), wanted);
        }
    }

    #[derive(Debug)]
    struct Fixed(Pick);

    impl Strategy for Fixed {
        fn name(&self) -> &str {
            "fixed"
        }

        fn pick(&self, _: &RouteTable, _: &PickRequest, _: &mut PickState) -> Pick {
            self.0
        }
    }

    #[test]
    fn a_custom_strategy_cannot_name_a_routee_that_is_not_there() {
        let pick = |pick| {
            let strategy = StrategyKind::Custom(Arc::new(Fixed(pick)));
            let spec = RouterSpec::new("/user/a".parse().unwrap(), strategy, HashSeed(1));
            let table = RouteTable::build(&cluster(3), &spec, None);
            let all = RouteeSet::all(table.len());
            Picker::new(&spec, 1).pick(&table, None, &all, &all)
        };
        assert_eq!(pick(Pick::One(5)), Pick::One(5));
        assert_eq!(pick(Pick::One(6)), Pick::None(NoRoutee::InvalidPick));
        assert_eq!(pick(Pick::All), Pick::All);
    }

    #[test]
    #[should_panic(expected = "of another table")]
    fn a_usable_set_of_another_table_is_a_bug() {
        let (spec, table) = table(3, StrategyKind::Random);
        let all = RouteeSet::all(table.len() + 1);
        Picker::new(&spec, 1).pick(&table, None, &all, &all);
    }

    #[test]
    fn who_would_misread_a_message_is_picked_for_none() {
        let mut view = cluster(3);
        let mut members = view.members.clone();
        Arc::make_mut(&mut members[1]).services[0].messages =
            vec![MessageType::new("x", LayoutHash(2))];
        let misreading = members[1].node_ref();
        view = View::new(view.me, 2, members);
        let (spec, table) = table_of(view, StrategyKind::ConsistentHash);
        let all = RouteeSet::all(table.len());
        let id = MessageTypeId::of("x", LAYOUT);
        let message = TypeRef { name: "x", layout: LAYOUT, id };
        let mut refused = 0;
        for key in 0..200_u64 {
            let hash = key << 55 | key;
            let owner = table.owner(hash, &all).unwrap();
            let misreads = table.routees()[usize::from(owner)].node == misreading;
            let expected =
                if misreads { Pick::None(NoRoutee::LayoutMismatch) } else { Pick::One(owner) };
            let hash = Some(hash);
            assert_eq!(Picker::owner_for(&table, &message, hash, &all), expected);
            let picked = Picker::new(&spec, 1).pick_for(&table, &message, hash, &all, &all);
            assert_eq!(picked, expected);
            refused += u32::from(misreads);
        }
        assert!((20..180).contains(&refused), "{refused} of 200 keys are of the one that misreads");
    }
}
