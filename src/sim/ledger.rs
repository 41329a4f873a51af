//! What really happened to messages, noted by the handlers themselves: the truth that the nodes'
//! own counts are held against.

use std::collections::BTreeMap;

use rand::RngExt;

use super::clocks::LocalClock;
use super::events::{ConnId, CoreId, LifeId, Side};
use super::invariants::deadlines::{self, Deadline, Deadlines};
use super::invariants::ends::{self, Outcomes};
use super::invariants::fates::{self, Fates};
use super::invariants::load::{self, QuestionId};
use super::invariants::owners::Owners;
use super::invariants::panics::Panics;
use super::invariants::parts::Parts;
use super::invariants::placement::{self, Placements};
use super::invariants::routers::Routers;
use super::invariants::withdrawal::{self, Services, Site};
use super::invariants::{Violation, order::Order};
use super::messages::{MessageId, SenderId};
use super::plan::Traffic;
use crate::base::fate::{AskError, DeathReason};
use crate::base::{HandlerId, NodeRef, Rng, Time};
use crate::part::load::{Load, LoadError, Loads};
use crate::worker::outbox::Outbox;

/// An ask that a routee made and that has not ended yet.
struct OpenAsk {
    site: Site,
    id: MessageId,
    deadline: Deadline,
}

/// The truth about one simulation's messages.
pub struct Ledger {
    /// The world's clock.
    pub now: Time,
    /// Chance for handlers: what they send, when they answer.
    pub rng: Rng,
    /// How much is sent.
    pub traffic: Traffic,
    /// Set when applications stop sending.
    pub quiet: bool,
    /// What was found wrong, first things first.
    pub violation: Option<Violation>,
    /// What is true of the parts.
    pub parts: Parts,
    /// Who serves what.
    pub services: Services,
    /// Asks that failed for a reason which this version does not know.
    pub unknown_reasons: u64,
    /// On which workers.
    pub placements: Placements,
    /// Who holds which routers.
    pub routers: Routers,
    /// What becomes of messages.
    pub fates: Fates,
    /// Which handlers were told to panic.
    pub panics: Panics,
    /// Whether messages are followed on connections: not those of users' own routees.
    pub follows: bool,
    /// When asks must have ended.
    pub deadlines: Deadlines,
    /// How they have.
    pub outcomes: Outcomes,
    /// Where keys go.
    pub owners: Owners,
    order: Order,
    asks: BTreeMap<u64, OpenAsk>,
    next_token: u64,
    /// By life of the sender: messages that handlers took.
    handled_of: Vec<u64>,
    /// By life and worker of the receiver: messages of other nodes that handlers took.
    handled_at: Vec<Vec<u64>>,
    /// All that handlers took.
    handled: u64,
    /// How often a worker took what had come from a peer, and understood it.
    pub understood: u64,
}

impl Ledger {
    /// An empty one.
    pub fn new(rng: Rng, traffic: Traffic) -> Self {
        Self {
            now: Time::ZERO,
            rng,
            traffic,
            quiet: false,
            violation: None,
            parts: Parts::default(),
            services: Services::default(),
            unknown_reasons: 0,
            placements: Placements::default(),
            routers: Routers::default(),
            fates: Fates::default(),
            panics: Panics::default(),
            follows: true,
            deadlines: Deadlines::default(),
            outcomes: Outcomes::default(),
            owners: Owners::default(),
            order: Order::default(),
            asks: BTreeMap::new(),
            next_token: 0,
            handled_of: Vec::new(),
            handled_at: Vec::new(),
            handled: 0,
            understood: 0,
        }
    }

    /// A process has begun.
    pub fn add_life(&mut self, me: NodeRef, clock: LocalClock, workers: usize) {
        self.services.add_life(me, workers);
        self.fates.add_life(workers);
        self.panics.add_life(workers);
        self.parts.add_life(me, clock);
        self.handled_of.push(0);
        self.handled_at.push(vec![0; workers]);
    }

    /// A message was refused to its sender, by the sender's worker if that has `counted` it.
    pub fn refused(&mut self, id: MessageId, counted: bool) {
        let seen = self.fates.refused(id, counted);
        self.judge(fates::NAME, seen);
    }

    /// A token that stands for one ask.
    pub fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Notes the first thing found wrong.
    pub fn blame(&mut self, invariant: &'static str, seen: String) {
        self.violation.get_or_insert(Violation { invariant, seen });
    }

    /// Notes what was found wrong, if anything was.
    pub fn judge(&mut self, invariant: &'static str, found: Result<(), String>) {
        if let Err(seen) = found {
            self.blame(invariant, seen);
        }
    }

    /// A routee is made.
    pub fn made(&mut self, site: Site) -> SenderId {
        let made = self.placements.made(site);
        self.judge(placement::NAME, made);
        self.fates.add_sender((site.life, site.worker))
    }

    /// A handler has a message, and is about to panic over it. None of its routee's asks ends for
    /// anybody.
    pub fn panics(&mut self, site: Site, asker: SenderId, id: MessageId, again: bool) {
        let placed = self.placements.handles(site);
        self.judge(placement::NAME, placed);
        let receiver = (site.life, site.worker);
        self.panics.plan(receiver);
        let reached = self.fates.reached(receiver, self.services.me(site.life), id);
        self.judge(fates::NAME, reached);
        self.fates.panicked(id);
        if !again {
            let arrived = self.order.arrived(receiver, id);
            self.judge(Order::NAME, arrived);
        }
        self.parts.watches.replaced(site);
        self.asks.retain(|_, ask| ask.id.sender != asker);
    }

    /// A handler took a message; of one that may come again, this attempt.
    pub fn handled(
        &mut self,
        site: Site,
        (id, attempt): (MessageId, Option<u64>),
        sender_life: LifeId,
    ) {
        self.handled += 1;
        let placed = self.placements.handles(site);
        self.judge(placement::NAME, placed);
        let receiver = (site.life, site.worker);
        if sender_life >= self.handled_of.len() || !self.fates.has_sender(id.sender) {
            let seen = format!("{id} of life {sender_life} came, neither of which ever was");
            return self.blame(fates::NAME, seen);
        }
        self.handled_of[sender_life] += 1;
        if sender_life != receiver.0 {
            self.handled_at[receiver.0][receiver.1] += 1;
        }
        let got = self.fates.got(receiver, self.services.me(site.life), (id, attempt));
        self.judge(fates::NAME, got);
        if attempt.is_none() {
            let arrived = self.order.arrived(receiver, id);
            self.judge(Order::NAME, arrived);
        }
    }

    /// A handler was told something by its own worker: a message as well.
    pub fn noticed(&mut self, site: Site) {
        self.handled_of[site.life] += 1;
        self.fates.noticed((site.life, site.worker));
    }

    /// A process shows what loads it knows.
    pub fn shown(&mut self, life: LifeId, loads: &Loads) {
        let shown = self.parts.loads.shown(life, self.now, loads);
        self.judge(load::NAME, shown);
    }

    /// Whoever asked is told how that ended.
    pub fn told(&mut self, id: MessageId, end: Result<(), AskError>) {
        self.unknown_reasons += u64::from(end == Err(AskError::Dead(DeathReason::Other)));
        self.outcomes.note(id, self.now, end);
        let told = self.fates.told(id, end);
        self.judge(ends::NAME, told);
    }

    /// A process's question for a load has ended.
    pub fn answered(&mut self, id: QuestionId, outcome: Result<Load, LoadError>) {
        let ended = self.parts.loads.ended(id, self.now, outcome);
        self.judge(load::NAME, ended);
    }

    /// Messages of one process that handlers took, anywhere.
    pub fn handled_of(&self, life: LifeId) -> u64 {
        self.handled_of[life]
    }

    /// Messages of other processes that handlers of this worker took.
    pub fn handled_at(&self, life: LifeId, worker: usize) -> u64 {
        self.handled_at[life][worker]
    }

    /// Messages that came after another one of the same sender.
    pub fn followed(&self) -> u64 {
        self.order.followed
    }

    /// All messages that handlers took.
    pub fn handled_total(&self) -> u64 {
        self.handled
    }

    /// A routee takes a message that was sent to a handler.
    pub fn addressed(&mut self, site: Site, to: HandlerId) {
        let taken = self.services.takes(site, to);
        self.judge(withdrawal::NAME, taken);
    }

    /// A routee hears that it is its end: if it is withdrawn, what it waits for never comes.
    pub fn stopped(&mut self, site: Site) {
        if self.services.ended(site) {
            self.parts.withdrawn(site);
            self.asks.retain(|_, ask| ask.site != site);
        }
    }

    /// A routee's ask was accepted.
    pub fn opened(&mut self, token: u64, site: Site, id: MessageId, deadline: Time) {
        let deadline = Deadline::new(deadline);
        self.asks.insert(token, OpenAsk { site, id, deadline });
    }

    /// A routee's ask has ended so, as this routee was told at a time on its own clock.
    pub fn ended(&mut self, token: u64, told: SenderId, end: Result<(), AskError>, now: Time) {
        let seen = match self.asks.remove(&token) {
            Some(ask) if ask.id.sender == told => {
                let ended = self.deadlines.ended(&ask.deadline, now, end);
                self.judge(deadlines::EARLY, ended.map_err(|seen| format!("{}: {seen}", ask.id)));
                return self.told(ask.id, end);
            }
            Some(_) => format!("the end of ask {token} was told to a routee that did not ask"),
            None => format!("the ask {token} of a routee ended a second time, or after its asker"),
        };
        self.blame(super::invariants::asks::NAME, seen);
    }

    /// Looks for asks of routees that are open for too long, by the clocks of processes that run.
    pub fn check_deadlines(&mut self, clock: impl Fn(LifeId) -> Option<Time>) {
        let mut late = Ok(());
        for OpenAsk { site, id, deadline } in self.asks.values_mut() {
            let Some(now) = clock(site.life) else { continue };
            let by = (*id, (site.life, Some(site.worker)));
            let owed = (self.fates.owed(*id), self.fates.is_stopping((site.life, site.worker)));
            late = late.and(self.deadlines.open(deadline, now, by, owed));
        }
        self.judge_open(late);
    }

    /// Notes which ask is open for too long, if one is.
    pub fn judge_open(&mut self, open: Result<(), Violation>) {
        if let Err(found) = open {
            self.violation.get_or_insert(found);
        }
    }

    /// How many asks of a process's routees have not ended.
    pub fn open_asks(&self, life: LifeId) -> usize {
        self.asks.values().filter(|ask| ask.site.life == life).count()
    }

    /// A process is gone with all its asks.
    pub fn forget(&mut self, life: LifeId) {
        self.asks.retain(|_, ask| ask.site.life != life);
    }

    /// A worker has written so many bytes of an outbox.
    pub fn wrote(
        &mut self,
        (conn, side): (ConnId, Side),
        core: CoreId,
        outbox: &Outbox,
        count: usize,
    ) {
        if side == 0 && self.follows {
            let wrote = self.fates.wrote(conn, core, outbox, count);
            self.judge(fates::NAME, wrote);
        }
    }

    /// A worker is done with these bytes that came to it.
    pub fn took(&mut self, (conn, side): (ConnId, Side), core: CoreId, bytes: &[u8]) {
        self.understood += 1;
        let took = match side {
            _ if !self.follows => Ok(()),
            0 => self.fates.heard(conn, core, bytes),
            _ => self.fates.took(conn, core, bytes),
        };
        self.judge(fates::NAME, took);
    }

    /// A worker has closed a connection.
    pub fn closed(&mut self, (conn, side): (ConnId, Side), core: CoreId) {
        if side == 0 {
            self.fates.closed(conn, core);
        }
    }

    /// A random number from a range.
    pub fn draw(&mut self, (least, most): (u64, u64)) -> u64 {
        self.rng.random_range(least..=most)
    }
}
