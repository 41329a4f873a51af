//! How much a worker holds, for those who watch its memory.

use std::time::Duration;

use super::calls::NO_CALL;
use super::link::Role;
use super::outbox::Outbox;
use super::purse::Account;
use super::routees::running;
use super::{Mourner, Worker};
use crate::base::{InstanceId, Time};
use crate::wire::{Chunk, Frame};

/// What a worker holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Links, those within the node included.
    pub links: usize,
    /// Open asks.
    pub asks: usize,
    /// Timers that run.
    pub timers: usize,
    /// Times at which routees asked to be woken.
    pub wakes: usize,
    /// Hand-overs that wait for room.
    pub held: usize,
    /// And what these weigh.
    pub held_bytes: usize,
    /// Bytes in the fullest outbox.
    pub fullest_outbox: usize,
    /// The memory of frames that are kept to be sent again: as it is counted, and as it is.
    pub kept_bytes: (usize, usize),
    /// Attempts of asks that wait for a destination which the snapshot says does not answer.
    pub stranded_attempts: usize,
    /// By [`Account::ALL`].
    pub purses: [PurseUsage; 3],
}

/// What outboxes hold on one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurseUsage {
    /// As the account says.
    pub taken: usize,
    /// What there is to take.
    pub most: usize,
    /// As the outboxes say.
    pub held: usize,
    /// How many outboxes there are.
    pub outboxes: usize,
    /// What each may hold in any case.
    pub share: usize,
    /// Bytes in the fullest of them.
    pub fullest: usize,
}

impl Worker {
    /// A duty cycle took longer than it may, and is over by now.
    pub(super) fn count_slow_turn(&mut self, now: Time) {
        // In this order, so that whoever reads both never counts the turn twice.
        self.core.published.pulse.ends_slowly(now.0);
        self.core.published.tally.slow_turns.add(1);
    }

    /// The duty cycle found nothing to do.
    #[inline]
    pub(super) fn idles(&self) {
        self.core.published.pulse.idles();
    }

    /// Shows how full it is.
    pub(super) fn show_fill(&self) {
        let core = &self.core;
        let fill = &core.published.fill;
        fill.asks.set(core.asks.len() + core.failed_asks.len());
        fill.work.set(core.works.len());
        fill.held.set(self.held.count());
        fill.accepted.0.set(self.accepted().count());
        fill.accepted.1.set(core.limits.max_accepted);
        for (cells, account) in fill.outboxes.iter().zip(Account::ALL) {
            let (taken, most) = core.encoder.purses().state(account);
            cells.0.set(taken);
            cells.1.set(most);
        }
    }

    /// A message is about to be timed by itself.
    pub(super) fn begin_sample(&mut self) {
        self.unsampled_call = std::mem::replace(&mut self.core.calls.last, NO_CALL);
    }

    /// There was none.
    #[cold]
    pub(super) fn undo_sample(&mut self) {
        self.core.calls.last = self.unsampled_call;
    }

    /// It took so long, if it was one for a handler.
    pub(super) fn end_sample(&mut self, took: Duration) {
        match self.core.calls.last {
            (handler, Some(_))
                if running(&mut self.routees, InstanceId::running(handler)).is_some() =>
            {
                self.core.published.times.record(handler.slot(), handler.0, took);
            }
            NO_CALL => self.core.calls.last = self.unsampled_call,
            _ => {}
        }
    }

    /// From here on somebody hears of each message that dies here.
    pub fn mourn(&mut self, by: Mourner) {
        self.core.mourner = Some(by);
    }

    /// What waits for each link.
    pub fn outboxes(&self) -> impl Iterator<Item = &Outbox> {
        self.core.links.iter().map(|(_, link)| &link.outbox)
    }

    /// Messages that were sent or handed over, and wait in here: for room, to be written, of those no
    /// byte of which was, for a routee of this worker, or for an attempt that has a link.
    pub fn waiting_messages(&self) -> u64 {
        let outboxes = self.core.links.iter().map(|(_, link)| link.outbox.untouched_requests());
        let waits = self.core.notices.len() + self.core.handed_over.len();
        outboxes.sum::<u64>() + self.held.messages() + waits as u64
    }

    /// Shows all these, but for routees' own notices, and what is tried again: that is kept with its
    /// ask.
    pub fn waiting(&self, each: &mut dyn FnMut(&Frame<'_>)) {
        let outboxes = self.core.links.iter().flat_map(|(_, link)| link.outbox.chunks());
        let waiting = outboxes.chain(self.held.requests()).flat_map(Chunk::untouched);
        waiting.for_each(|frame| each(&frame));
    }

    /// How much it holds at the moment.
    pub fn usage(&self) -> Usage {
        let core = &self.core;
        let mut purses = Account::ALL.map(|account| {
            let (taken, most) = core.encoder.purses().state(account);
            let share = core.encoder.purses().share(account);
            PurseUsage { taken, most, held: 0, outboxes: 0, share, fullest: 0 }
        });
        for (_, link) in core.links.iter() {
            let (held, account) = link.outbox.held();
            let purse = &mut purses[account as usize];
            purse.outboxes += 1;
            purse.held += held;
            purse.fullest = purse.fullest.max(link.outbox.bytes());
        }
        let stranded = |link| {
            let dialed = core.links.get(link).filter(|it| matches!(it.role, Role::Dialed { .. }));
            let destination = dialed.and_then(|link| link.destination);
            let snapshot = core.snapshot.as_ref();
            let there = snapshot.zip(destination).and_then(|(snapshot, destination)| {
                Some(snapshot.is_silent(snapshot.destinations.get(destination)?))
            });
            there == Some(true)
        };
        Usage {
            links: core.links.len(),
            asks: core.asks.len() + core.failed_asks.len(),
            timers: core.timers.len() + core.asks.timers(),
            wakes: core.wakes.len(),
            held: self.held.count(),
            held_bytes: self.held.bytes(),
            fullest_outbox: purses.iter().map(|purse| purse.fullest).max().unwrap_or(0),
            kept_bytes: core.asks.kept_bytes(),
            stranded_attempts: core.asks.attempted().filter(|link| stranded(*link)).count(),
            purses,
        }
    }
}
