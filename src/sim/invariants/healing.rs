//! When all faults have ended, within [`BOUND`] all live nodes agree on view and tables (how soon,
//! `agreement.rs` says), and every node gets an answer from every routee. And so it stays: whoever
//! has agreed once does not disagree again, but for what was said before and comes in during the
//! first four seconds.

use std::sync::Arc;
use std::time::Duration;

use super::steadiness::HEARD;
use super::withdrawal::Site;
use crate::base::{NodeRef, Time, View, WorkerIndex};
use crate::control::troubles::PeerTrouble;
use crate::route::snapshot::Snapshot;
use crate::sim::events::LifeId;
use crate::sim::load::{Outcome, Pending};
use crate::sim::process::{Body, Life};
use crate::sim::world::{BOUND, World};
use crate::worker::Place;

/// The invariant's name.
pub const NAME: &str = "a healed cluster agrees and its traffic flows";

/// How long one probe may take.
const PROBE: Duration = Duration::from_millis(400);

/// What is known since the healing.
#[derive(Default)]
pub struct Healing {
    began: Option<Time>,
    agreed_at: Option<Time>,
    /// How it was when all agreed.
    agreed: Option<Agreed>,
    flows_at: Option<Time>,
    probes: Vec<Probe>,
    /// How many answers came from routees that had to answer.
    pub answered: u64,
}

/// What nodes agree by; as long as it is the same they do.
struct Agreed {
    /// Each node's snapshot, and the view that its control has.
    nodes: Vec<(LifeId, Arc<Snapshot>, Arc<View>)>,
    /// How often routers were made or dropped.
    routers: u64,
}

struct Probe {
    from: LifeId,
    to: (NodeRef, WorkerIndex),
    pending: Option<Pending>,
    answered: bool,
}

impl Healing {
    /// All faults have ended.
    pub fn begin(&mut self, now: Time) {
        self.began = Some(now);
    }

    /// A process is gone.
    pub fn forget(&mut self, life: LifeId) {
        self.probes.retain(|probe| probe.from != life);
    }

    /// From the healing until every routee had answered every node.
    pub fn traffic_flows(&self) -> Option<Duration> {
        Some(self.flows_at?.since(self.began?))
    }
}

impl World {
    /// Looks how far the healing is.
    pub(in crate::sim) fn look(&mut self) {
        let now = self.net.now;
        let Some(began) = self.checks.healing.began else { return };
        let disagreement = if self.agree_still() { None } else { self.look_at_all(began) };
        match disagreement {
            None if self.checks.healing.agreed_at.is_none() => {
                self.net.trace.note(now, 0, "agreed", 0);
                self.checks.healing.agreed_at = Some(now);
                self.checks.healing.probes = self.probes();
            }
            None => {}
            Some(seen) => {
                let since = now.since(began);
                let was_agreed = self.checks.healing.agreed_at.is_some();
                if since >= BOUND || was_agreed && since > HEARD {
                    let again = if was_agreed { "all had agreed, and " } else { "" };
                    self.blame(NAME, format!("{since:?} after the healing {again}{seen}"));
                    return;
                }
                let healing = &mut self.checks.healing;
                (healing.agreed_at, healing.flows_at) = (None, None);
                healing.probes.clear();
            }
        }
        if self.checks.healing.agreed_at.is_some() && self.checks.healing.flows_at.is_none() {
            self.ask_probes();
        }
        if now.since(began) >= BOUND {
            self.check_sending();
        }
        if let Some(agreed) = self.checks.healing.agreed_at {
            self.check_fresh(agreed);
        }
        self.look_again();
    }

    /// No system refuses datagrams any more, and nobody says that one does.
    fn check_sending(&mut self) {
        for life in self.staying() {
            let Some(body) = self.lives[life].body.as_deref() else { continue };
            let troubles = body.control.troubles().iter();
            let unsent: Vec<_> =
                troubles.filter(|it| it.what == PeerTrouble::NotSent).map(|it| it.peer).collect();
            if !unsent.is_empty() {
                self.blame(NAME, format!("life {life} is said to send nothing to {unsent:?}"));
            }
        }
    }

    /// Why the live nodes do not agree yet; if they do it is kept by what.
    fn look_at_all(&mut self, began: Time) -> Option<String> {
        let disagreement = self.check_agreement(began).err();
        self.checks.healing.agreed = disagreement.is_none().then(|| self.agreed());
        disagreement
    }

    fn agreed(&self) -> Agreed {
        let bodies = self.staying().into_iter().filter_map(|life| {
            let body = self.lives[life].body.as_deref()?;
            Some((life, Arc::clone(&body.snapshot), Arc::clone(body.control.view())))
        });
        Agreed { nodes: bodies.collect(), routers: self.ledger.lock().routers.changes }
    }

    /// Whether nothing is another since all agreed by which they do.
    fn agree_still(&self) -> bool {
        let Some(agreed) = &self.checks.healing.agreed else { return false };
        let staying = self.staying();
        agreed.routers == self.ledger.lock().routers.changes
            && staying.iter().eq(agreed.nodes.iter().map(|(life, ..)| life))
            && agreed.nodes.iter().all(|(life, snapshot, view)| {
                let Life { downed, leaving, body, .. } = &self.lives[*life];
                let same = |body: &Body| {
                    Arc::ptr_eq(&body.snapshot, snapshot) && Arc::ptr_eq(body.control.view(), view)
                };
                !downed && !leaving && body.as_deref().is_some_and(same)
            })
    }

    fn probes(&self) -> Vec<Probe> {
        let staying = self.staying();
        let mut probes = Vec::new();
        for from in &staying {
            for to in &staying {
                let workers = self.lives[*to].body.as_deref().map_or(0, |body| body.workers.len());
                for worker in (0..workers as u16).map(WorkerIndex) {
                    if !self.is_served_on(*to, worker) {
                        continue;
                    }
                    let to = (self.lives[*to].me, worker);
                    probes.push(Probe { from: *from, to, pending: None, answered: false });
                }
            }
        }
        probes
    }

    /// Whether a worker runs what its process serves, as others know it.
    fn is_served_on(&self, life: LifeId, worker: WorkerIndex) -> bool {
        let ledger = self.ledger.lock();
        ledger.services.latest(life).is_some_and(|(_, serving, _)| {
            ledger.placements.is_placed(Site { life, worker: usize::from(worker.0), serving })
        })
    }

    fn ask_probes(&mut self) {
        let now = self.net.now;
        let mut probes = std::mem::take(&mut self.checks.healing.probes);
        let mut open = None;
        for probe in probes.iter_mut().filter(|probe| !probe.answered) {
            let outcome = probe.pending.as_mut().map(|pending| (pending.id(), pending.look()));
            let ended = match outcome {
                Some((_, Outcome::Open)) => false,
                Some((id, Outcome::Answered)) => {
                    self.ledger.lock().told(id, Ok(()));
                    probe.answered = true;
                    self.checks.healing.answered += 1;
                    continue;
                }
                Some((_, Outcome::Wrong(seen))) => {
                    self.blame(super::asks::NAME, format!("life {}: {seen}", probe.from));
                    true
                }
                Some((id, Outcome::Failed(error))) => {
                    self.ledger.lock().told(id, Err(error));
                    self.net
                        .trace
                        .say(|| format!("probe {} -> {:?}: {error}", probe.from, probe.to));
                    true
                }
                None => true,
            };
            open.get_or_insert((probe.from, probe.to));
            if ended {
                probe.pending = None;
                let (node, worker) = probe.to;
                let asked = self.with_thread(probe.from, 0, |thread, hands| {
                    let destination = hands.sender.snapshot.destinations.find(node, worker)?.id;
                    let routees = hands.sender.snapshot.router(0)?.table.routees();
                    let routee = routees.iter().find(|r| (r.node, r.worker) == (node, worker))?;
                    let place = Place { destination, handler: routee.handler };
                    let pending = thread.probe(hands, place, PROBE)?;
                    Some((thread.worker, pending))
                });
                if let Some(Some((worker, pending))) = asked {
                    probe.pending = Some(pending);
                    self.nudge(probe.from, worker);
                }
            }
        }
        let healing = &mut self.checks.healing;
        healing.probes = probes;
        match open {
            None => healing.flows_at = Some(now),
            Some((from, (node, worker))) => {
                let since = self.healed_at.map(|at| now.since(at)).unwrap_or_default();
                if since >= BOUND {
                    let seen = format!(
                        "{since:?} after the healing life {from} has no answer from worker \
                         {worker} of {node}"
                    );
                    self.blame(NAME, seen);
                }
            }
        }
    }
}
