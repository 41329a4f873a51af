//! Where each message is that a process has sent, once it is over: it has an end, is written and not
//! acknowledged, or waits in a queue or an outbox of the process. And what dies in a process before
//! anybody has it was never handled, message by message.

use std::collections::BTreeMap;

use super::asks;
use super::fates::{
    AGAIN, BROADCAST, Broadcast, DEAD_THERE, DIED, Fates, HANDLED, Known, LOST, NAME, REFUSED,
    UNKNOWN, WRITTEN,
};
use crate::base::fate::DeathReason;
use crate::sim::events::{CoreId, LifeId};
use crate::sim::load::Shared;
use crate::sim::messages::{MessageId, Request, read_request};
use crate::sim::process::Fate;
use crate::sim::world::World;
use crate::wire::{Chunk, Frame};
use crate::worker::Mourner;

/// The messages that wait in a process, and how many copies of each.
pub type Waiting = BTreeMap<MessageId, usize>;

fn waits(waiting: &mut Waiting, frame: &Frame<'_>) {
    if let Some(request) = read_request(frame) {
        *waiting.entry(request.id).or_default() += 1;
    }
}

/// What tells of each message that dies where it was sent.
pub fn mourner(ledger: &Shared, core: CoreId) -> Mourner {
    let ledger = ledger.clone();
    Box::new(move |reason, frame| {
        if let Some(request) = read_request(frame) {
            let mut ledger = ledger.lock();
            let died = ledger.fates.died(core, request, reason);
            ledger.judge(NAME, died);
        }
    })
}

impl Broadcast {
    /// Its sender's process is over, in which so many copies wait.
    ///
    /// # Errors
    /// How many are nowhere.
    fn settle(&self, id: MessageId, life: LifeId, waiting: usize) -> Result<(), String> {
        let Self { accepted, got, written, died, .. } = self;
        let own = got.iter().filter(|core| core.0 == life).count();
        match own + written + died + waiting == *accepted {
            true => Ok(()),
            false => Err(format!(
                "of {accepted} copies of {id} {own} were handled here, {written} were written, \
                 {died} died and {waiting} wait"
            )),
        }
    }
}

impl Fates {
    /// A message has died on its own node.
    ///
    /// # Errors
    /// Why it cannot have.
    pub fn died(
        &mut self,
        core: CoreId,
        request: Request,
        reason: DeathReason,
    ) -> Result<(), String> {
        let Request { id, attempt, .. } = request;
        // Its handler was told to panic, and had it.
        if reason == DeathReason::HandlerPanicked {
            return Ok(());
        }
        self.seen.died += 1;
        if let Some(broadcast) = self.broadcasts.get_mut(&id) {
            broadcast.died += 1;
            return Ok(());
        }
        let is_own = self.senders.get(id.sender).is_some_and(|sender| sender.core == core);
        let known = self.known(id).ok_or_else(|| format!("{id} died and was never sent"))?;
        let before = std::mem::replace(known, *known | DIED);
        if let Some(attempt) = attempt {
            self.dead_attempts.insert((id, attempt));
        }
        let wrong = match before {
            _ if is_own && before & (UNKNOWN | LOST | WRITTEN) == UNKNOWN => {
                "was told to be unknown"
            }
            // What may be sent again may have been before.
            _ if before & (AGAIN | BROADCAST) > 0 => return Ok(()),
            _ if before & REFUSED > 0 => "was refused",
            _ if before & HANDLED > 0 => "was handled",
            _ if before & WRITTEN > 0 => "was written",
            _ if before & DIED > 0 => "had died",
            _ => return Ok(()),
        };
        let (life, worker) = core;
        Err(format!("{id} {wrong}, and died as {reason:?} on worker {worker} of life {life}"))
    }

    /// A process is over, and these wait in it.
    ///
    /// # Errors
    /// Which message is nowhere.
    fn settle(&mut self, life: LifeId, waiting: &Waiting) -> Result<(), String> {
        let written = self.passage.written_by(life);
        for (sender, of) in self.senders.iter().enumerate().filter(|(_, of)| of.core.0 == life) {
            for (number, known) in of.messages.iter().enumerate() {
                let id = MessageId { sender, number: number as u64 };
                self.seen.settled += 1;
                if *known & BROADCAST > 0 {
                    let waits = waiting.get(&id).copied().unwrap_or(0);
                    self.broadcasts.get(&id).map_or(Ok(()), |sent| sent.settle(id, life, waits))?;
                } else {
                    let is_written = *known & WRITTEN > 0 && written.contains(&id);
                    if !(has_ended(*known) || waiting.contains_key(&id) || is_written) {
                        return Err(format!("{id} was accepted, and is nowhere ({known:#b})"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether what becomes of a message is known, or that it never will be.
fn has_ended(known: Known) -> bool {
    known & (REFUSED | HANDLED | DIED | DEAD_THERE | LOST | AGAIN) > 0
}

impl World {
    /// A process is about to be gone: what its application and its routees were told of their asks is
    /// true to the last, and who leaves tells the application of each.
    pub(in crate::sim) fn check_tickets(&mut self, life: LifeId, fate: Fate) {
        let Some(body) = self.lives[life].body.as_deref().filter(|body| !body.paused) else {
            return;
        };
        if fate == Fate::Left {
            let fates = &mut self.ledger.lock().fates;
            (0..body.workers.len()).for_each(|worker| fates.stops((life, worker)));
        }
        for thread in 0..body.threads.len() {
            self.collect(life, thread);
        }
        let threads = self.lives[life].body.iter().flat_map(|body| &body.threads);
        let open: usize = threads.map(|thread| thread.pending.len()).sum();
        if fate == Fate::Left && open > 0 {
            let seen = format!("life {life} is gone, and {open} asks of its application are open");
            self.blame(asks::NAME, seen);
        }
        let total = self.total_counts(life);
        let open = self.ledger.lock().open_asks(life) as u64;
        let left = total.asks - total.replies - total.failed_asks;
        if open > left {
            let seen = format!("{open} asks of routees have not ended, and {left} are counted so");
            self.blame(asks::NAME, format!("life {life} is gone: {seen}"));
        }
    }

    /// A process is over, or all is: each message that it has sent is somewhere. What waits in it is
    /// taken out for that.
    pub(in crate::sim) fn check_all_found(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let mut waiting = Waiting::new();
        let mut each = |frame: &Frame<'_>| waits(&mut waiting, frame);
        for core in &mut body.workers {
            core.worker.waiting(&mut each);
            core.turn.waiting(&mut each);
            core.ends.rings.drain(&mut each);
            while let Some(injection) = core.ends.injected.pop() {
                let frames = injection.requests().into_iter().flat_map(Chunk::untouched);
                frames.for_each(|frame| each(&frame));
            }
        }
        let settled = self.ledger.lock().fates.settle(life, &waiting);
        if let Err(seen) = settled {
            self.blame(NAME, format!("life {life} is over: {seen}"));
        }
    }
}
