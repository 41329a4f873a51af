//! Equal views give byte-equal tables, on every node and on every way that led there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::routers::ask_the_same;
use crate::base::{Member, NodeRef, View};
use crate::route::snapshot::{RouterState, Snapshot};
use crate::route::{LocalPreference, RouteTable, RouteeSet, RouterSpec};

/// The invariant's name.
pub const NAME: &str = "equal views give equal tables";

/// The first table seen for each roster, and the first mask for each view.
#[derive(Default)]
pub struct Tables {
    /// By roster: a view with it. Tables come later than the view that they were asked for.
    views: BTreeMap<u64, Arc<View>>,
    /// What routers were asked to be: ids are each node's own.
    specs: Vec<Arc<RouterSpec>>,
    first: BTreeMap<(u64, Kind), Arc<RouterState>>,
    masks: BTreeMap<(u64, u64, Kind), RouteeSet>,
    /// Of the view that was looked at last: what it is without those that are silent, or damped.
    steady: Option<(u64, View)>,
    /// How often a table was held against another one for the same members.
    pub compared: u64,
}

/// What a router is asked to be, and by whom where that makes a difference.
type Kind = (usize, Option<NodeRef>);

impl Tables {
    fn kind(&mut self, me: NodeRef, spec: &Arc<RouterSpec>) -> Kind {
        let known = self.specs.iter().position(|known| ask_the_same(known, spec));
        let kind = known.unwrap_or_else(|| {
            self.specs.push(Arc::clone(spec));
            self.specs.len() - 1
        });
        (kind, (spec.local == LocalPreference::Exclude).then_some(me))
    }

    /// A node publishes its tables, and what was found right in its snapshot before is right still.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&mut self, before: &Snapshot, snapshot: &Snapshot) -> Result<(), String> {
        // The first one is nobody's.
        let was_seen = before.version > 0;
        let same_view = was_seen && Arc::ptr_eq(&before.view, &snapshot.view);
        if !same_view {
            self.check_view(&snapshot.view)?;
        }
        for (id, router) in snapshot.routers() {
            let old = before.router(id).filter(|_| was_seen);
            if !same_view || old.is_none_or(|old| !Arc::ptr_eq(old, router)) {
                self.check_router(&snapshot.view, id, router, old)?;
            }
        }
        Ok(())
    }

    fn check_view(&mut self, view: &Arc<View>) -> Result<(), String> {
        if !view.is_in_order() {
            return Err(format!("the members of view {:016x} are not in order", view.digest));
        }
        self.views.entry(view.roster_digest).or_insert_with(|| Arc::clone(view));
        Ok(())
    }

    fn check_router(
        &mut self,
        view: &View,
        id: u32,
        router: &Arc<RouterState>,
        old: Option<&Arc<RouterState>>,
    ) -> Result<(), String> {
        let (table, spec) = (&router.table, &router.spec);
        let roster = table.roster_digest();
        let kind = self.kind(view.me, spec);
        let has = |state: &RouterState| {
            Arc::ptr_eq(&state.table, table) && Arc::ptr_eq(&state.spec, spec)
        };
        match self.first.get(&(roster, kind)) {
            Some(_) if old.is_some_and(|old| has(old)) => {}
            Some(first) if Arc::ptr_eq(&first.table, table) => {}
            Some(first) => {
                compare(id, &first.table, table)?;
                self.compared += 1;
            }
            None => {
                let Some(known) = self.views.get(&roster) else {
                    return Err(format!("router {id} has a table of no view there was"));
                };
                // However it came about, it is what the view alone gives, and whose view it is only
                // where that is asked for.
                let own = kind.1.map(|me| View { me, ..View::clone(known) });
                let right = RouteTable::build(own.as_ref().unwrap_or(known), spec, None);
                compare(id, &right, table)?;
                self.first.insert((roster, kind), Arc::clone(router));
                self.compared += 1;
            }
        }
        let key = (roster, view.digest, kind);
        if let Some(first) = self.masks.get(&key) {
            return match *first == router.active {
                true => Ok(()),
                false => Err(format!(
                    "router {id} has two masks for view {:016x}: {first:?} and {:?}",
                    view.digest, router.active
                )),
            };
        }
        if roster == view.roster_digest {
            self.check_heirs(id, view, router)?;
        }
        self.masks.insert(key, router.active.clone());
        Ok(())
    }
}

/// A view with those of its members only.
fn part_of(view: &View, takes: fn(&Member) -> bool) -> View {
    let takes = |member: &&Arc<Member>| takes(member);
    let members: Vec<_> = view.members.iter().filter(takes).cloned().collect();
    View::new(view.me, view.version, members)
}

impl Tables {
    fn steady(&mut self, view: &View) -> &View {
        let known = self.steady.take().filter(|(digest, _)| *digest == view.digest);
        let steady = match known {
            Some((_, steady)) => View { me: view.me, ..steady },
            None => part_of(view, Member::is_usable),
        };
        &self.steady.insert((view.digest, steady)).1
    }

    /// Keys of silent members are where they would be if these members were not there. Those of others
    /// are where they are as well; but where a limit is, they stay with their owners, and who stands in
    /// gets the keys of the silent only.
    fn check_heirs(&mut self, id: u32, view: &View, router: &RouterState) -> Result<(), String> {
        let Some(slots) = router.table.slots().filter(|_| !router.active.is_full()) else {
            return Ok(());
        };
        let table_of = |view: &View| RouteTable::build(view, &router.spec, None);
        let steady = table_of(self.steady(view));
        // Who is damped has its keys only where nobody else is.
        let alone = match steady.is_empty() {
            true => table_of(&part_of(view, Member::answers)),
            false => steady,
        };
        let place = |table: &RouteTable, owner: Option<u16>| {
            let routee = table.routees().get(usize::from(owner?))?;
            Some((routee.node, routee.worker))
        };
        for slot in 0..1u64 << slots.bits() {
            let key_hash = slot << (64 - slots.bits());
            let here = place(&router.table, router.table.owner(key_hash, &router.active));
            let owner = slots.lookup(key_hash);
            if router.table.over_limit() > 0 && router.active.contains(owner) {
                if here != place(&router.table, Some(owner)) {
                    return Err(format!("slot {slot} of router {id} left an owner that answers"));
                }
                continue;
            }
            let there = place(&alone, alone.owner(key_hash, &RouteeSet::all(alone.len())));
            if here != there {
                return Err(format!(
                    "slot {slot} of router {id} goes to {here:?}, and without those that do not \
                 answer would go to {there:?}"
                ));
            }
        }
        Ok(())
    }
}

fn compare(id: u32, one: &RouteTable, other: &RouteTable) -> Result<(), String> {
    let content = |table: &RouteTable| -> Vec<_> {
        let routees = table.routees().iter();
        routees.map(|r| (r.node, r.worker, r.handler, r.weight)).collect()
    };
    let equal = content(one) == content(other)
        && one.slots().map(|slots| slots.owners()) == other.slots().map(|slots| slots.owners())
        && one.digest() == other.digest();
    if equal {
        Ok(())
    } else {
        let (routees, others) = (one.len(), other.len());
        let roster = one.roster_digest();
        Err(format!(
            "router {id} has two tables for roster {roster:016x}: {routees} routees with digest \
             {:016x}, and {others} with {:016x}",
            one.digest(),
            other.digest()
        ))
    }
}
