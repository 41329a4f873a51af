//! What really happened to messages, noted by the handlers themselves: the truth that the nodes'
//! own counts are held against.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};

use super::events::LifeId;
use super::invariants::load::{self, QuestionId, Truth};
use super::invariants::placement::{self, Placements};
use super::invariants::routers::Routers;
use super::invariants::watches::Watches;
use super::invariants::withdrawal::{self, Services, Site};
use super::invariants::{Violation, order::Order};
use super::plan::Traffic;
use crate::base::fate::{AskError, DeathReason};
use crate::base::{HandlerId, NodeRef, Rng, Time};
use crate::part::load::{Load, LoadError, Loads};
use crate::part::watch::GoneReason;

/// Who numbers messages: one thread of an application, or one worker's routee.
pub type SenderId = usize;

/// One numbered stream of messages.
struct Sender {
    next: u64,
}

/// An ask that a routee made and that has not ended yet.
struct OpenAsk {
    site: Site,
    /// Each routee that is made sends under a number of its own.
    asker: SenderId,
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
    /// Who watches what.
    pub watches: Watches,
    /// Who serves what.
    pub services: Services,
    /// Asks that failed for a reason which this version does not know.
    pub unknown_reasons: u64,
    /// What nodes say of their load.
    pub loads: Truth,
    /// On which workers.
    pub placements: Placements,
    /// Who holds which routers.
    pub routers: Routers,
    senders: Vec<Sender>,
    order: Order,
    asks: BTreeMap<u64, OpenAsk>,
    next_token: u64,
    /// By life of the sender: messages that handlers took.
    handled_of: Vec<u64>,
    /// By life and worker of the receiver: messages of other nodes that handlers took.
    handled_at: Vec<Vec<u64>>,
    /// All that handlers took.
    handled: u64,
}

impl Ledger {
    /// An empty one.
    pub fn new(seed: u64, traffic: Traffic) -> Self {
        Self {
            now: Time::ZERO,
            rng: Rng::seed_from_u64(seed),
            traffic,
            quiet: false,
            violation: None,
            watches: Watches::default(),
            services: Services::default(),
            unknown_reasons: 0,
            loads: Truth::default(),
            placements: Placements::default(),
            routers: Routers::default(),
            senders: Vec::new(),
            order: Order::default(),
            asks: BTreeMap::new(),
            next_token: 0,
            handled_of: Vec::new(),
            handled_at: Vec::new(),
            handled: 0,
        }
    }

    /// A process has begun.
    pub fn add_life(&mut self, me: NodeRef, workers: usize) {
        self.services.add_life(me, workers);
        self.loads.add_life(me);
        self.handled_of.push(0);
        self.handled_at.push(vec![0; workers]);
    }

    /// A new stream of numbered messages.
    pub fn add_sender(&mut self) -> SenderId {
        self.senders.push(Sender { next: 0 });
        self.senders.len() - 1
    }

    /// The number for a sender's next message.
    pub fn number(&self, sender: SenderId) -> u64 {
        self.senders[sender].next
    }

    /// The message with that number was accepted. A refused one leaves its number to the next, so
    /// that a refused message that arrives all the same shows as a duplicate.
    pub fn accepted(&mut self, sender: SenderId) {
        self.senders[sender].next += 1;
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

    /// A routee is made.
    pub fn made(&mut self, site: Site) -> SenderId {
        if let Err(seen) = self.placements.made(site) {
            self.blame(placement::NAME, seen);
        }
        self.add_sender()
    }

    /// A handler took a message. `number` is none for messages that may come twice.
    pub fn handled(
        &mut self,
        site: Site,
        sender: SenderId,
        sender_life: LifeId,
        number: Option<u64>,
    ) {
        self.handled += 1;
        if let Err(seen) = self.placements.handles(site) {
            self.blame(placement::NAME, seen);
        }
        let receiver = (site.life, site.worker);
        let known = sender_life < self.handled_of.len() && sender < self.senders.len();
        if !known {
            self.blame(
                "content",
                format!(
                    "a message came from sender {sender} of life {sender_life}, which never was"
                ),
            );
            return;
        }
        self.handled_of[sender_life] += 1;
        if sender_life != receiver.0 {
            self.handled_at[receiver.0][receiver.1] += 1;
        }
        if let Some(number) = number
            && let Err(seen) = self.order.arrived(receiver, sender, number)
        {
            self.blame(Order::NAME, seen);
        }
    }

    /// A handler was told by its own worker that what it watched is gone: a message as well.
    pub fn noticed(&mut self, life: LifeId, token: u64, reason: GoneReason) {
        self.handled_of[life] += 1;
        self.watches.told(token, reason);
    }

    /// A process shows what loads it knows.
    pub fn shown(&mut self, life: LifeId, loads: &Loads) {
        if let Err(seen) = self.loads.shown(life, self.now, loads) {
            self.blame(load::NAME, seen);
        }
    }

    /// An ask has failed.
    pub fn failed(&mut self, error: AskError) {
        self.unknown_reasons += u64::from(error == AskError::Dead(DeathReason::Other));
    }

    /// A process's question for a load has ended.
    pub fn answered(&mut self, id: QuestionId, outcome: Result<Load, LoadError>) {
        if let Err(seen) = self.loads.ended(id, self.now, outcome) {
            self.blame(load::NAME, seen);
        }
    }

    /// Messages of one process that handlers took, anywhere.
    pub fn handled_of(&self, life: LifeId) -> u64 {
        self.handled_of[life]
    }

    /// Messages of other processes that handlers of this worker took.
    pub fn handled_at(&self, life: LifeId, worker: usize) -> u64 {
        self.handled_at[life][worker]
    }

    /// All messages that handlers took.
    pub fn handled_total(&self) -> u64 {
        self.handled
    }

    /// A routee takes a message that was sent to a handler.
    pub fn addressed(&mut self, site: Site, to: HandlerId) {
        if let Err(seen) = self.services.takes(site, to) {
            self.blame(withdrawal::NAME, seen);
        }
    }

    /// A routee hears that it is its end: if it is withdrawn, what it waits for never comes.
    pub fn stopped(&mut self, site: Site) {
        if self.services.ended(site) {
            self.watches.withdrawn(site);
            self.asks.retain(|_, ask| ask.site != site);
        }
    }

    /// A routee's ask was accepted.
    pub fn opened(&mut self, token: u64, site: Site, asker: SenderId) {
        self.asks.insert(token, OpenAsk { site, asker });
    }

    /// A routee's ask has ended, as this routee was told.
    pub fn ended(&mut self, token: u64, told: SenderId) {
        let seen = match self.asks.remove(&token) {
            Some(ask) if ask.asker == told => return,
            Some(_) => format!("the end of ask {token} was told to a routee that did not ask"),
            None => format!("the ask {token} of a routee ended a second time, or after its asker"),
        };
        self.blame(super::invariants::asks::NAME, seen);
    }

    /// A routee is about to panic: none of its asks ends for anybody.
    pub fn forget_asks_of(&mut self, asker: SenderId) {
        self.asks.retain(|_, ask| ask.asker != asker);
    }

    /// How many asks of a process's routees have not ended.
    pub fn open_asks(&self, life: LifeId) -> usize {
        self.asks.values().filter(|ask| ask.site.life == life).count()
    }

    /// A process is gone with all its asks.
    pub fn forget(&mut self, life: LifeId) {
        self.asks.retain(|_, ask| ask.site.life != life);
    }

    /// A random number from a range.
    pub fn draw(&mut self, (least, most): (u64, u64)) -> u64 {
        self.rng.random_range(least..=most)
    }
}
