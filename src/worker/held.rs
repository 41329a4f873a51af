//! Walk of a message from another thread: `worker/inject` comes before, `worker/admit` after.
//!
//! Hand-overs that were accepted and whose link has no room
//! yet. They wait here, each link's in order, so that none of them dies and none holds up what goes
//! elsewhere. Whoever sends to a link for which something waits is refused until nothing does.
//!
//! **What was accepted always has a place.** While some wait, the worker's queue takes no more than
//! half of the places that are left here: what lies in it could all be for another link that is
//! about to be without room. So one link that is slow takes half at most, two a quarter more, and
//! there are places for the messages of those that are quick.

use std::collections::VecDeque;
use std::time::Duration;

use super::Worker;
use super::inject::Injection;
use crate::base::fate::Refusal;
use crate::base::{DestinationId, Time};
use crate::queue::inject::{Room, Weigh};
use crate::wire::Chunk;

/// A link that has taken nothing for so long may not keep the worker from taking hand-overs.
const STUCK: Duration = Duration::from_millis(500);

/// What waits, by destination.
pub(super) struct Held {
    lists: Vec<List>,
    count: usize,
    /// The weight of all that waits.
    bytes: usize,
    most: Room,
}

struct List {
    destination: DestinationId,
    /// Since when its link has had no room.
    since: Time,
    /// No ask in here has to end before this.
    soonest: Time,
    waiting: VecDeque<Injection>,
}

impl Held {
    /// Room for twice as many hand-overs as the worker's queue holds: one link that is stuck can
    /// bring no more than what the queue takes, since its senders are refused from then on.
    pub fn new(queue: Room) -> Self {
        let most = Room { items: 2 * queue.items, bytes: queue.bytes.saturating_mul(2) };
        Self { lists: Vec::new(), count: 0, bytes: 0, most }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// What all that waits weighs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the first ask that waits has to end.
    #[inline]
    pub fn soonest(&self) -> Option<Time> {
        self.lists.iter().map(|list| list.soonest).min().filter(|at| *at < Time::NEVER)
    }

    /// How many messages wait.
    pub fn messages(&self) -> u64 {
        self.lists.iter().flat_map(|list| &list.waiting).map(Weigh::messages).sum()
    }

    /// Those messages.
    pub fn requests(&self) -> impl Iterator<Item = &Chunk> {
        self.lists.iter().flat_map(|list| &list.waiting).filter_map(Injection::requests)
    }

    /// What the worker's queue may take now of what may have to wait here; `None` while nothing
    /// waits. An eighth of the places is for pushes that are under way and do not see it yet.
    fn queue_takes(&self) -> Option<Room> {
        let half_left = |most: usize, taken: usize| (most - most / 8).saturating_sub(taken) / 2;
        let Room { items, bytes } = self.most;
        (!self.is_empty()).then(|| Room {
            items: half_left(items, self.count).min(items / 2),
            bytes: half_left(bytes, self.bytes).min(bytes / 2),
        })
    }

    #[inline]
    pub fn has(&self, destination: DestinationId) -> bool {
        self.lists.iter().any(|list| list.destination == destination)
    }

    #[cold]
    fn push(&mut self, now: Time, destination: DestinationId, injection: Injection) {
        self.count += 1;
        self.bytes += injection.weight();
        let deadline = deadline(&injection).unwrap_or(Time::NEVER);
        match self.lists.iter_mut().find(|list| list.destination == destination) {
            Some(list) => {
                list.soonest = list.soonest.min(deadline);
                list.waiting.push_back(injection);
            }
            None => {
                let waiting = VecDeque::from([injection]);
                self.lists.push(List { destination, since: now, soonest: deadline, waiting });
            }
        }
    }

    fn pop(&mut self, list: usize) -> Option<Injection> {
        let injection = self.lists[list].waiting.pop_front()?;
        self.count -= 1;
        self.bytes -= injection.weight();
        Some(injection)
    }

    /// Takes the asks out of a list that have to end now.
    #[cold]
    fn expire(&mut self, list: usize, now: Time) -> Vec<Injection> {
        let list = &mut self.lists[list];
        let is_over = |injection: &Injection| deadline(injection).is_some_and(|at| at <= now);
        let (over, waiting): (Vec<_>, Vec<_>) = list.waiting.drain(..).partition(is_over);
        list.soonest = waiting.iter().filter_map(deadline).min().unwrap_or(Time::NEVER);
        list.waiting = waiting.into();
        self.count -= over.len();
        self.bytes -= over.iter().map(Weigh::weight).sum::<usize>();
        over
    }
}

fn deadline(injection: &Injection) -> Option<Time> {
    match injection {
        Injection::Ask(ask) => Some(ask.deadline),
        Injection::Frames { .. } | Injection::Reply { .. } | Injection::Cancel { .. } => None,
    }
}

impl Worker {
    /// Whether another hand-over may be taken; if not, what waits here has to go first.
    #[inline]
    pub fn takes_hand_overs(&self) -> bool {
        self.held.count < self.held.most.items && self.held.bytes < self.held.most.bytes
    }

    /// Whether hand-overs wait for room.
    #[inline]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether replies found no room of which their askers have not been told.
    #[inline]
    pub fn has_unsaid(&self) -> bool {
        self.core.repliers.has_notes()
    }

    /// Takes one hand-over from another thread, or keeps it until its link has room.
    #[inline]
    pub fn inject(&mut self, injection: Injection) {
        self.core.published.tally.handed.add(injection.messages());
        match injection.destination() {
            Some(to) if self.core.is_crowded(to) || self.held.has(to) => {
                self.held.push(self.core.now, to, injection);
                self.core.injector.narrow(self.held.queue_takes());
            }
            _ => self.admit(injection),
        }
    }

    /// Takes in what has found room meanwhile, and tells those whose replies found none. To be called
    /// once a duty cycle.
    #[inline]
    pub fn admit_held(&mut self) {
        if self.core.repliers.has_notes() {
            self.core.repliers.take().into_iter().for_each(|note| self.core.no_reply(note));
        }
        if !self.held.is_empty() {
            self.admit_some();
            self.core.injector.narrow(self.held.queue_takes());
        }
    }

    #[cold]
    fn admit_some(&mut self) {
        let mut at = 0;
        while let Some(list) = self.held.lists.get(at) {
            let to = list.destination;
            if list.soonest <= self.core.now {
                for ask in self.held.expire(at, self.core.now) {
                    self.admit(ask);
                }
            }
            while !self.core.is_crowded(to)
                && let Some(injection) = self.held.pop(at)
            {
                self.admit(injection);
            }
            if !self.takes_hand_overs() && self.is_stuck(at) {
                // Nothing else would be sent for as long as its peer is stuck.
                while let Some(injection) = self.held.pop(at) {
                    self.give_up(injection, Refusal::QueueFull);
                }
            }
            if self.held.lists[at].waiting.is_empty() && !self.core.is_crowded(to) {
                self.held.lists.swap_remove(at);
                // So that threads see that it is not full any more.
                if let Some(id) = self.core.link_of(to) {
                    self.core.mark_dirty(id);
                }
            } else {
                at += 1;
            }
        }
    }

    fn is_stuck(&self, list: usize) -> bool {
        let List { destination, since, .. } = &self.held.lists[list];
        let (destination, since) = (*destination, *since);
        let link = self.core.link_of(destination).and_then(|id| self.core.links.get(id));
        let progressed = link.map_or(Time::ZERO, |link| link.progressed_at);
        self.core.now.since(progressed.max(since)) >= STUCK
    }

    /// The worker ends, and its links with it: whatever waits gets the end that they give it.
    pub(super) fn admit_all_held(&mut self) {
        while let Some(mut list) = self.held.lists.pop() {
            self.held.count -= list.waiting.len();
            while let Some(injection) = list.waiting.pop_front() {
                self.held.bytes -= injection.weight();
                self.admit(injection);
            }
        }
    }
}
