//! Soon after the healing all live nodes show equal views, with each of them usable and nobody else,
//! and route by them.
//!
//! What ends later than the faults counts from its own end: a leave that began before takes its time,
//! a path that was withdrawn is served again after a while, whoever fell silent again and again waits
//! for its keys, whoever could meet nobody calls its seeds after a pause (`seed_retry_max_ms`), and of
//! whoever has gone without anybody hearing its goodbye only the operator can know that it does not
//! come back. But for those, all agree by then.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Member, MemberState, NodeRef, Time, View};
use crate::route::snapshot::RouterState;
use crate::sim::events::LifeId;
use crate::sim::process::{Body, Life};
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "healed views agree in time";

/// By when, in each seed.
const BOUND: Duration = Duration::from_secs(5);

/// Who has to agree, and on what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Those of whom nothing is awaited, on each other.
    Rest,
    /// All, and nobody else is shown.
    All,
}

/// How far it is.
#[derive(Default)]
pub struct Agreement {
    /// When something was last awaited that the healing does not end, or the operator removed somebody.
    awaited_at: Option<Time>,
    /// How long those took at first of whom nothing was awaited.
    rest: Option<Duration>,
    /// How long all took.
    whole: Option<Duration>,
    /// How many agreed, with at least one other.
    pub agreed: u64,
}

impl Agreement {
    /// The operator removes somebody of whom nobody could know that it is gone.
    pub fn operates(&mut self, now: Time) {
        self.awaited_at = Some(now);
    }

    /// The longer of both, once all agree.
    pub fn took(&self) -> Option<Duration> {
        self.whole.max(self.rest).filter(|_| self.whole.is_some())
    }
}

impl World {
    /// Looks whether all agree, since the healing at `began`, and why they do not.
    pub(super) fn check_agreement(&mut self, began: Time) -> Result<(), String> {
        let now = self.net.now;
        let staying = self.staying();
        if staying.iter().any(|life| self.is_awaited(*life)) {
            self.checks.agreement.awaited_at = Some(now);
        }
        let rest = self.agree(&staying, Who::Rest);
        let whole = rest.clone().and_then(|()| self.agree(&staying, Who::All));
        let found = &mut self.checks.agreement;
        let rest_took = now.since(began);
        let took = now.since(found.awaited_at.unwrap_or(began));
        if rest.is_ok() {
            found.rest.get_or_insert(rest_took);
        }
        let rest_is_due = found.rest.is_none() && rest_took > BOUND;
        if whole.is_ok() && staying.len() > 1 {
            found.agreed += staying.len() as u64;
        }
        found.whole = whole.is_ok().then_some(took);
        let late = match (&rest, &whole) {
            (Err(seen), _) if rest_is_due => Some((rest_took, seen)),
            (_, Err(seen)) if took > BOUND => Some((took, seen)),
            _ => None,
        };
        if let Some((took, seen)) = late {
            self.blame(NAME, format!("{took:?} after what went wrong was over, {seen}"));
        }
        whole
    }

    /// Whether something of a process, or that it shows, ends in its own time.
    fn is_awaited(&self, life: LifeId) -> bool {
        let awaited = |body: &Body| {
            let View { me, members, .. } = &**body.control.view();
            let unserved = |it: &Member| it.id == me.node && it.services.is_empty();
            members.iter().any(|it| it.damped_until.is_some() || unserved(it))
        };
        self.is_apart(life) || self.lives[life].body.as_deref().is_some_and(awaited)
    }

    /// Whether it leaves, is removed, or has met nobody.
    fn is_apart(&self, life: LifeId) -> bool {
        let Life { downed, leaving, body, .. } = &self.lives[life];
        let alone = |body: &Body| body.control.view().members.len() == 1;
        *downed || *leaving || body.as_deref().is_some_and(alone)
    }

    /// Whether these agree, or why not.
    fn agree(&self, staying: &[LifeId], who: Who) -> Result<(), String> {
        let mut expected: Vec<NodeRef> = Vec::new();
        for id in staying {
            let life = &self.lives[*id];
            if who == Who::All && life.is_gone() {
                return Err(format!("life {id} has not gone yet"));
            }
            if who == Who::All || !self.is_apart(*id) {
                expected.push(life.me);
            }
        }
        expected.sort();
        let mut first = None;
        for id in staying.iter().copied().filter(|id| expected.contains(&self.lives[*id].me)) {
            let Some(body) = self.lives[id].body.as_deref() else { continue };
            let view = body.control.view();
            let stale = |router: &Arc<RouterState>| {
                router.table.roster_digest() != view.roster_digest
                    || who == Who::All && router.active != router.table.active(|_| true)
            };
            let mut routers = body.snapshot.routers();
            let ledger = self.ledger.lock();
            let missing = ledger.routers.held(id).any(|held| body.snapshot.router(held).is_none());
            drop(ledger);
            if missing || routers.any(|(_, router)| stale(router)) {
                return Err(format!("life {id} does not route by its view yet"));
            }
            if who == Who::All && *first.get_or_insert(view.digest) != view.digest {
                let mut seen = format!("life {id} has another view than others: ");
                for member in &view.members {
                    let (node, state) = (member.node_ref(), member.state);
                    seen += &format!("{node} {state:?} {}, ", member.reachable);
                }
                return Err(seen);
            }
            let counts = |node: NodeRef| who == Who::All || expected.contains(&node);
            let shown = view.members.iter().filter(|member| counts(member.node_ref()));
            let shown: Vec<_> = shown.collect();
            let mut members: Vec<_> = shown.iter().map(|member| member.node_ref()).collect();
            members.sort();
            if members != expected {
                return Err(format!("life {id} sees {members:?}, there are {expected:?}"));
            }
            for member in shown {
                let usable = member.state == MemberState::Up && member.reachable;
                if !usable || who == Who::All && member.services.is_empty() {
                    let (state, reachable) = (member.state, member.reachable);
                    let node = member.node_ref();
                    return Err(format!("life {id} sees {node} {state:?}, reachable {reachable}"));
                }
            }
        }
        Ok(())
    }
}
