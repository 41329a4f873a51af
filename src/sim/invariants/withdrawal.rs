//! What is withdrawn is over: nothing that was sent to it is handled, by it or by what is served at
//! its path afterwards, and who asks it is told why that came to nothing. And it is not over before
//! the others could hear of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::fate::{AskError, DeathReason};
use crate::base::{HandlerId, NodeRef, Time, WorkerIndex};
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "what is withdrawn is over";

/// One worker of one process, for one of the times that the path is served there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Which process.
    pub life: LifeId,
    /// Which of its workers.
    pub worker: usize,
    /// How often the path was served there before.
    pub serving: usize,
}

/// What one process serves.
struct Process {
    me: NodeRef,
    workers: usize,
    /// Of the path's servings, one after the other.
    handlers: Vec<HandlerId>,
    /// The last of them that the cluster was told of.
    announced: usize,
}

/// Who served the path where and when.
#[derive(Default)]
pub struct Services {
    processes: Vec<Process>,
    lives: BTreeMap<NodeRef, LifeId>,
    /// When it was first asked to withdraw a serving.
    asked: BTreeMap<(LifeId, HandlerId), Time>,
    /// Servings that control has told the workers to end.
    ending: BTreeSet<(LifeId, HandlerId)>,
    withdrawn: BTreeSet<Site>,
    /// Messages handed in for what was withdrawn by then.
    pub late: u64,
    /// Asks among them that ended as its worker says.
    pub told_unknown: u64,
}

impl Services {
    /// A process has begun, and serves nothing.
    pub fn add_life(&mut self, me: NodeRef, workers: usize) {
        self.lives.insert(me, self.processes.len());
        self.processes.push(Process { me, workers, handlers: Vec::new(), announced: 0 });
    }

    /// Who a process is.
    pub fn me(&self, life: LifeId) -> NodeRef {
        self.processes[life].me
    }

    /// Processes there have been.
    pub fn lives(&self) -> usize {
        self.processes.len()
    }

    /// Workers of a process.
    pub fn workers(&self, life: LifeId) -> usize {
        self.processes[life].workers
    }

    /// How often the path has been served.
    pub fn count(&self, life: LifeId) -> usize {
        self.processes[life].handlers.len()
    }

    /// The path is served once more.
    pub fn serving(&mut self, life: LifeId, handler: HandlerId) {
        self.processes[life].handlers.push(handler);
    }

    /// The cluster was told.
    pub fn announced(&mut self, life: LifeId, handler: HandlerId) {
        let process = &mut self.processes[life];
        let known = process.handlers.iter().position(|known| *known == handler);
        process.announced = known.unwrap_or(process.announced);
    }

    /// What others know of a process: who it is, which serving, and its handler.
    pub fn latest(&self, life: LifeId) -> Option<(NodeRef, usize, HandlerId)> {
        let process = &self.processes[life];
        Some((process.me, process.announced, *process.handlers.get(process.announced)?))
    }

    /// An application withdraws what it serves.
    pub fn asked(&mut self, life: LifeId, handler: HandlerId, now: Time) {
        self.asked.entry((life, handler)).or_insert(now);
    }

    /// Control has the workers end a serving.
    pub fn ending(&mut self, life: LifeId, handler: HandlerId) {
        self.ending.insert((life, handler));
    }

    /// A routee hears that it is its end. Gives whether it was withdrawn; otherwise its worker
    /// stops.
    pub fn ended(&mut self, site: Site) -> bool {
        let handler = self.processes[site.life].handlers[site.serving];
        let withdrawn = self.ending.contains(&(site.life, handler));
        if withdrawn {
            self.withdrawn.insert(site);
        }
        withdrawn
    }

    /// Whether a routee was withdrawn.
    pub fn is_withdrawn(&self, site: Site) -> bool {
        self.withdrawn.contains(&site)
    }

    /// How many routees were.
    pub fn withdrawals(&self) -> usize {
        self.withdrawn.len()
    }

    /// Whether a handler is already withdrawn as something is handed in for it.
    pub fn is_late(&mut self, node: NodeRef, worker: WorkerIndex, handler: HandlerId) -> bool {
        let Some(life) = self.lives.get(&node).copied() else { return false };
        let mut handlers = self.processes[life].handlers.iter();
        let Some(serving) = handlers.position(|known| *known == handler) else { return false };
        let site = Site { life, worker: usize::from(worker.0), serving };
        let late = self.is_withdrawn(site);
        self.late += u64::from(late);
        late
    }

    /// A routee takes a message that was sent to a handler.
    ///
    /// # Errors
    /// Why it must not.
    pub fn takes(&self, site: Site, to: HandlerId) -> Result<(), String> {
        if self.is_withdrawn(site) {
            return Err(format!("{site:?} took a message after it had been withdrawn"));
        }
        let own = self.processes[site.life].handlers[site.serving];
        if to != own {
            let (own, to) = (own.0, to.0);
            return Err(format!("{site:?} is handler {own} and took a message for handler {to}"));
        }
        Ok(())
    }

    /// An ask of what was withdrawn before it was handed in has failed.
    ///
    /// # Errors
    /// When the reason cannot be true.
    pub fn failed_late(&mut self, error: AskError) -> Result<(), String> {
        match error {
            AskError::Dead(DeathReason::UnknownHandler) => {
                self.told_unknown += 1;
                Ok(())
            }
            // It did not get that far.
            AskError::Refused(_)
            | AskError::Timeout
            | AskError::LinkLost
            | AskError::Dead(
                DeathReason::Unreachable
                | DeathReason::Expired
                | DeathReason::Stopped
                | DeathReason::Overflow,
            ) => Ok(()),
            AskError::Dead(_) | AskError::InvalidReply => {
                Err(format!("an ask of what was withdrawn before ended with «{error}»"))
            }
        }
    }
}

impl World {
    /// A process's workers are told to end their routees of a path. Others may send to them until
    /// they have heard that it is withdrawn.
    pub(super) fn withdraws(&mut self, life: LifeId, handler: HandlerId) {
        let own = self.lives[life].clock;
        let now = own.local(self.net.now);
        let grace = Duration::from_millis(3 * self.plan.member.settings.gossip_ms);
        let mut ledger = self.ledger.lock();
        ledger.services.ending(life, handler);
        // One that could not be served after all is known to nobody.
        let asked = ledger.services.asked.get(&(life, handler));
        if let Some(after) =
            asked.map(|at| now.since(own.local(*at))).filter(|after| *after < grace)
        {
            let seen = format!("life {life} ended handler {} {after:?} after", handler.0);
            ledger.blame(NAME, format!("{seen} it was withdrawn, and others have {grace:?}"));
        }
    }
}
