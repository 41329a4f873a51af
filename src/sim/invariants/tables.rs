//! Equal views give byte-equal tables, on every node and on every way that led there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::View;
use crate::route::RouteTable;
use crate::route::snapshot::{RouterState, Snapshot};

/// The invariant's name.
pub const NAME: &str = "equal views give equal tables";

/// The first table seen for each view.
#[derive(Default)]
pub struct Tables {
    first: BTreeMap<(u64, usize), Arc<RouterState>>,
}

impl Tables {
    /// A node publishes its tables.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let view = &snapshot.view;
        let again = View::new(view.me, view.version, view.members.clone());
        let sorted = view.members.is_sorted_by(|one, next| one.id < next.id);
        if !sorted || again.digest != view.digest {
            return Err(format!("the members of view {:016x} are not in order", view.digest));
        }
        for (id, router) in snapshot.routers.iter().enumerate() {
            let table = &router.table;
            if table.view_digest() != view.digest {
                return Err(format!("router {id} has a table of another view"));
            }
            match self.first.get(&(view.digest, id)) {
                Some(first) => compare(id, &first.table, table)?,
                None => {
                    // However it came about, it is what the view alone gives.
                    compare(id, &RouteTable::build(view, &router.spec, None), table)?;
                    self.first.insert((view.digest, id), Arc::clone(router));
                }
            }
        }
        Ok(())
    }
}

fn compare(id: usize, one: &RouteTable, other: &RouteTable) -> Result<(), String> {
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
        let view = one.view_digest();
        Err(format!(
            "router {id} has two tables for view {view:016x}: {routees} routees with digest \
             {:016x}, and {others} with {:016x}",
            one.digest(),
            other.digest()
        ))
    }
}
