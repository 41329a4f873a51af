//! A watch tells its watcher exactly once, only what is true, and in the end always.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;

use super::withdrawal::{Services, Site};
use crate::base::{InstanceId, Rng, RouteeId, Time, WorkerIndex};
use crate::part::watch::{GoneReason, Target, WatchWorker};
use crate::sim::events::LifeId;
use crate::sim::ledger::Ledger;
use crate::sim::process::{Fate, Life};
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a watch tells the truth once";

/// The name of the other one.
pub const KEPT: &str = "a watch that has ended is kept by nobody";

/// Of that, what withdrawals end.
pub const WITHDRAWN: &str = "a watch tells that its routee was withdrawn";

/// Of that, what ends at once.
pub const NOT_SERVED: &str = "a watch tells that its path is not served there";

/// How long after the healing watches must have caught up with what happened before.
const CAUGHT_UP: std::time::Duration = std::time::Duration::from_secs(8);

/// How long a watch may be on its way in calm weather.
const ARRIVED: std::time::Duration = std::time::Duration::from_secs(2);

struct Open {
    watcher: Site,
    target: Site,
    whole_node: bool,
    /// Whether the target's node was a member for the watcher's process when the watch began.
    known: bool,
    /// How often the target had been replaced when the watch began.
    replaced: u32,
    /// How often the target had been replaced when it must have heard of the watch.
    settled: Option<u32>,
}

/// Who watches what in one simulation, kept by the watchers themselves.
#[derive(Default)]
pub struct Watches {
    open: BTreeMap<u64, Open>,
    /// Watches that ended with their watcher; a notice may be on its way to its successor.
    dropped: BTreeSet<u64>,
    /// Watches that began since the world last looked.
    begun: Vec<u64>,
    /// Whether watches must have caught up.
    settles: bool,
    /// When watches were first seen since then, of which it is not known what replaced their targets.
    settling: VecDeque<(Time, u64)>,
    replaced: BTreeMap<Site, u32>,
    /// Notices that the world has not looked at.
    told: Vec<(u64, Option<Open>, GoneReason)>,
    next_token: u64,
    /// How many notices were held against the truth.
    checked: u64,
    /// How many of these told of a withdrawal.
    withdrawals: u64,
    /// How many told that the path is not served on that worker, and never was.
    not_served: u64,
    /// How many watches were kept in the end for watchers that live.
    kept: u64,
}

impl Watches {
    /// How often each of these was held against something that could have broken it.
    pub fn exercised(&self) -> [(&'static str, u64); 4] {
        [
            (NAME, self.checked),
            (KEPT, self.kept),
            (WITHDRAWN, self.withdrawals),
            (NOT_SERVED, self.not_served),
        ]
    }

    /// A routee may watch something.
    pub fn draw(
        &mut self,
        rng: &mut Rng,
        services: &Services,
        watcher: Site,
    ) -> Option<(u64, Target)> {
        if rng.random_range(0..6) > 0 {
            return None;
        }
        let life = rng.random_range(0..services.lives() as u64) as usize;
        let worker = rng.random_range(0..services.workers(life) as u64) as usize;
        let whole_node = rng.random_range(0..3) == 0;
        let (node, serving, handler) = services.latest(life)?;
        let target = Site { life, worker, serving };
        let replaced = self.replaced.get(&target).copied().unwrap_or(0);
        self.next_token += 1;
        let open = Open { watcher, target, whole_node, known: false, replaced, settled: None };
        self.open.insert(self.next_token, open);
        self.begun.push(self.next_token);
        let what = if whole_node {
            Target::Node(node)
        } else {
            let (worker, instance) = (WorkerIndex(worker as u16), InstanceId::running(handler));
            Target::Routee(RouteeId { node, worker, instance })
        };
        Some((self.next_token, what))
    }

    /// A routee is about to panic.
    pub fn replaced(&mut self, site: Site) {
        *self.replaced.entry(site).or_default() += 1;
        let dropped = self.end_those_of(site);
        self.dropped.extend(dropped);
    }

    /// A routee was withdrawn: unlike a fresh instance, what is served at its path afterwards has
    /// another address, and must hear of none of its watches.
    pub fn withdrawn(&mut self, site: Site) {
        self.end_those_of(site);
    }

    /// Forgets the watches of a watcher.
    fn end_those_of(&mut self, watcher: Site) -> Vec<u64> {
        let own = self.open.iter().filter(|(_, open)| open.watcher == watcher);
        let own: Vec<u64> = own.map(|(token, _)| *token).collect();
        for token in &own {
            self.open.remove(token);
        }
        own
    }

    /// Watches must have caught up: of those that are there for long enough, their targets keep them,
    /// for the instance that runs.
    fn settle(&mut self, now: Time) {
        let Self { open, begun, settles, settling, replaced, .. } = self;
        if std::mem::replace(settles, true) {
            settling.extend(begun.iter().map(|token| (now, *token)));
        } else {
            settling.extend(open.keys().map(|token| (now, *token)));
        }
        while let Some((at, token)) = settling.front()
            && now.since(*at) >= ARRIVED
        {
            if let Some(open) = open.get_mut(token) {
                open.settled = Some(replaced.get(&open.target).copied().unwrap_or(0));
            }
            settling.pop_front();
        }
    }

    /// A watcher was told.
    pub fn told(&mut self, token: u64, reason: GoneReason) {
        if !self.dropped.remove(&token) {
            let open = self.open.remove(&token);
            self.told.push((token, open, reason));
        }
    }
}

impl World {
    /// Holds what watchers were told in a duty cycle of this process against the truth.
    pub(in crate::sim) fn check_watches(&mut self) {
        let now = self.net.now;
        let settles = self.healed_at.is_some_and(|healed| now.since(healed) >= CAUGHT_UP);
        let mut ledger = self.ledger.lock();
        let Ledger { parts, services, placements, .. } = &mut *ledger;
        let watches = &mut parts.watches;
        if settles {
            watches.settle(now);
        }
        for token in std::mem::take(&mut watches.begun) {
            let Some(open) = watches.open.get_mut(&token) else { continue };
            let target = self.lives[open.target.life].me;
            let body = self.lives[open.watcher.life].body.as_deref();
            let member = body.and_then(|body| body.snapshot.view.member(target.node));
            open.known = member.is_some_and(|member| member.node_ref() == target);
        }
        let told = std::mem::take(&mut watches.told);
        watches.checked += told.len() as u64;
        let mut wrong = None;
        for (token, open, reason) in told {
            let Some(open) = open else {
                wrong = Some(format!(
                    "watch {token} was told twice, or after its watcher's end: {reason}"
                ));
                break;
            };
            let replaced = watches.replaced.get(&open.target).copied().unwrap_or(0);
            let served = placements.is_placed(open.target);
            let withdrawn = !served || services.is_withdrawn(open.target);
            watches.withdrawals += u64::from(served && reason == GoneReason::Withdrawn);
            watches.not_served += u64::from(!served && reason == GoneReason::Withdrawn);
            if !is_true(&self.lives, &open, reason, (replaced, withdrawn)) {
                let (watcher, target) = (open.watcher, open.target);
                wrong = Some(format!(
                    "watch {token} of {watcher:?} on {target:?} was told «{reason}», and it is not \
                     so"
                ));
                break;
            }
        }
        drop(ledger);
        if let Some(seen) = wrong {
            self.blame(NAME, seen);
        }
    }

    /// In the end whoever is gone has been told of.
    pub(in crate::sim) fn check_open_watches(&mut self) {
        let ledger = self.ledger.lock();
        let Ledger { parts, services, placements, .. } = &*ledger;
        let watches = &parts.watches;
        let missed = watches.open.iter().find(|(_, open)| {
            let alive = self.lives[open.watcher.life].fate == Fate::Alive;
            let replaced = watches.replaced.get(&open.target).copied().unwrap_or(0);
            let target_lives = self.lives[open.target.life].fate == Fate::Alive;
            let panicked = !open.whole_node
                && target_lives
                && open.settled.is_some_and(|settled| settled < replaced);
            let not_served = open.settled.is_some() && !placements.is_placed(open.target);
            let withdrawn = !open.whole_node
                && self.is_staying(open.target.life)
                && self.is_staying(open.watcher.life)
                && (not_served || services.is_withdrawn(open.target));
            alive && (has_ended(&self.lives, open.target.life) || panicked || withdrawn)
        });
        let seen = missed.map(|(token, open)| {
            format!("watch {token} of {:?} on {:?} was never told", open.watcher, open.target)
        });
        drop(ledger);
        if let Some(seen) = seen {
            self.blame(NAME, seen);
        }
    }
}

impl World {
    /// In the end nobody keeps a watch that its watcher has ended.
    pub(in crate::sim) fn check_kept_watches(&mut self) {
        let halves = |life: LifeId| {
            let workers = self.lives[life].body.iter().flat_map(|body| &body.workers);
            workers.map(|core| &core.worker.parts().watch).collect::<Vec<_>>()
        };
        let living = self.living();
        let mut looked = 0;
        let stale = living.iter().find_map(|&keeper| {
            let kept: Vec<_> = halves(keeper).into_iter().flat_map(WatchWorker::kept).collect();
            kept.into_iter().find_map(|((node, worker), id)| {
                let watcher = *living.iter().find(|life| self.lives[**life].me == node)?;
                let half = *halves(watcher).get(usize::from(worker.0))?;
                looked += 1;
                (!half.watches(id)).then_some((keeper, watcher, id))
            })
        });
        self.ledger.lock().parts.watches.kept += looked;
        if let Some((keeper, watcher, id)) = stale {
            let seen = format!("life {keeper} keeps watch {id} of life {watcher}, which ended it");
            self.blame(KEPT, seen);
        }
    }
}

/// Whether a life is over for its cluster, not only dead.
fn has_ended(lives: &[Life], life: LifeId) -> bool {
    let target = &lives[life];
    // Who only tried to take its name has not replaced it.
    let replaces = |(later, it): (LifeId, &Life)| {
        let comes_after = later > life && it.slot == target.slot;
        it.succeeds(target) && (comes_after || it.fate == Fate::Alive)
    };
    target.fate == Fate::Left || target.downed || lives.iter().enumerate().any(replaces)
}

fn has_successor(lives: &[Life], life: LifeId) -> bool {
    lives.iter().any(|it| it.succeeds(&lives[life]))
}

/// `replaced` and `withdrawn` say what has happened to the target; one that never was counts as
/// withdrawn.
fn is_true(
    lives: &[Life],
    open: &Open,
    reason: GoneReason,
    (replaced, withdrawn): (u32, bool),
) -> bool {
    let target = open.target.life;
    match reason {
        GoneReason::Replaced => !open.whole_node && replaced > open.replaced,
        GoneReason::NodeLeft => lives[target].leaving,
        GoneReason::NodeDown => lives[target].downed || has_successor(lives, target),
        GoneReason::NodeRestarted => has_successor(lives, target),
        // One that was a member is remembered by how it ended.
        GoneReason::UnknownNode => !open.known,
        GoneReason::Withdrawn => !open.whole_node && withdrawn,
        // No simulated node has that many watches.
        GoneReason::TooManyWatches => false,
    }
}
