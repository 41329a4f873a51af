//! What will happen and when: one queue for the whole simulated world. Events of one moment happen
//! in the order in which they were put in.

use std::collections::VecDeque;

use slab::Slab;

use super::faults::Fault;
use super::forgery::ForgedDatagram;
use crate::base::{NodeRef, Time};
use crate::control::ControlTimer;
use crate::route::job::TablesMade;
use crate::worker::Report;

/// A process's place in the world's list; places are never used again.
pub type LifeId = usize;
/// A machine: the place of an address.
pub type SlotId = usize;

/// A worker of a process.
pub type CoreId = (LifeId, usize);
/// A processor: a shared one, or that of a process's control (0) or one of its workers.
pub type ProcessorId = (usize, usize);
/// A connection's place in the network's list; places are never used again.
pub type ConnId = usize;
/// 0 is the side that dialed, 1 the other.
pub type Side = usize;

/// One thing that happens.
pub enum Event {
    /// A datagram arrives at an address.
    Datagram {
        /// Where.
        to: SlotId,
        /// Where it came from.
        from: SlotId,
        /// Sealed, as it was sent.
        bytes: Vec<u8>,
    },
    /// A timer of a process's control is due.
    Timer(LifeId, ControlTimer),
    /// Control hears from a worker.
    Report(LifeId, Report),
    /// Tables that a process's control asked for are made.
    Tables(LifeId, TablesMade),
    /// A worker's ring takes commands again.
    Pump(LifeId, usize),
    /// A worker's duty cycle.
    Turn(LifeId, usize),
    /// A connection's first segment arrives at the listener.
    Syn(ConnId),
    /// The answer to it arrives: a process listens there, or none.
    SynAnswer(ConnId, bool),
    /// The process that dialed hears of it.
    Connected(LifeId, ConnId, bool),
    /// Bytes arrive at this side's socket.
    Deliver(ConnId, Side),
    /// The keepalive of a connection that was swallowed.
    Silent(ConnId),
    /// By now this side has given up a connection on which what it sent vanishes.
    Noticed(ConnId, Side),
    /// This side may write again.
    Writable(ConnId, Side),
    /// A handshake's side looks at its socket.
    Job(LifeId, ConnId, Side),
    /// An application thread sends something.
    Application(LifeId, usize),
    /// Discovery has looked.
    Discovered(LifeId),
    /// A process asks others for their load; so many times more this one, in a flood.
    Questions(LifeId, Option<(NodeRef, u32)>),
    /// A process's application makes, drops and uses routers.
    Routers(LifeId),
    /// A newer process says what others do not know.
    News(LifeId),
    /// A process that has said goodbye stops.
    Exit(LifeId),
    /// A paused process runs on.
    Resume(LifeId),
    /// A slow machine stops for a moment.
    Stumble(SlotId),
    /// A process starts at a free address.
    Start(SlotId),
    /// A process serves its path again.
    Serve(LifeId),
    /// The next fault of a kind.
    Fault(Fault),
    /// A partition is over.
    Mend(u64),
    /// All faults end.
    Heal,
    /// The state after the healing is looked at.
    Look,
    /// The operator cleans up after the faults.
    Operate,
    /// Applications stop sending.
    Quiet,
    /// Who is no node does something, or what it made of a datagram arrives.
    Forge(Option<Box<ForgedDatagram>>),
    /// A processor has time for what waits for it.
    Free(ProcessorId),
}

/// The events to come, in order: a radix heap. What comes later than the event that was taken last
/// waits in the bucket of the highest bit in which the two times differ. All in one bucket come
/// before all in the next, and all of one time are in the same, in the order in which they were put
/// in; so only the lowest one is ever looked through, and what is in it moves to lower ones.
pub struct Queue {
    /// When the last event was.
    last: Time,
    /// What comes at that time as well.
    due: VecDeque<usize>,
    later: [Vec<(Time, usize)>; 64],
    /// Which of these are not empty, as bits.
    filled: u64,
    events: Slab<Event>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            last: Time::ZERO,
            due: VecDeque::new(),
            later: std::array::from_fn(|_| Vec::new()),
            filled: 0,
            events: Slab::new(),
        }
    }
}

impl Queue {
    /// Adds an event. It does not come before one that was taken.
    pub fn push(&mut self, at: Time, event: Event) {
        let place = self.events.insert(event);
        self.put(at.max(self.last), place);
    }

    /// Takes the next event, if it comes no later than `until`.
    pub fn pop(&mut self, until: Time) -> Option<(Time, Event)> {
        if self.due.is_empty() {
            self.advance(until);
        }
        if self.last > until {
            return None;
        }
        let place = self.due.pop_front()?;
        Some((self.last, self.events.remove(place)))
    }

    fn put(&mut self, at: Time, place: usize) {
        match (at.0 ^ self.last.0).checked_ilog2() {
            None => self.due.push_back(place),
            Some(bit) => {
                self.later[bit as usize].push((at, place));
                self.filled |= 1 << bit;
            }
        }
    }

    /// Goes on to the time of the next event, if that is no later than `until`.
    fn advance(&mut self, until: Time) {
        let lowest = self.filled.trailing_zeros() as usize;
        let Some(bucket) = self.later.get_mut(lowest) else { return };
        let Some(next) = bucket.iter().map(|(at, _)| *at).min().filter(|at| *at <= until) else {
            return;
        };
        let mut moving = std::mem::take(bucket);
        self.filled &= !(1 << lowest);
        self.last = next;
        for (at, place) in moving.drain(..) {
            self.put(at, place);
        }
        self.later[lowest] = moving;
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::base::Rng;

    fn pop_slot(queue: &mut Queue, until: u64) -> Option<(u64, SlotId)> {
        match queue.pop(Time(until)) {
            Some((at, Event::Start(slot))) => Some((at.0, slot)),
            _ => None,
        }
    }

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut queue = Queue::default();
        for (at, slot) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(Time(at), Event::Start(slot));
        }
        assert_eq!(pop_slot(&mut queue, 4), Some((3, 1)));
        assert_eq!(pop_slot(&mut queue, 4), Some((3, 3)));
        assert_eq!(pop_slot(&mut queue, 4), None);
        // What was not due is in no way of what comes before it.
        queue.push(Time(4), Event::Start(4));
        assert_eq!(pop_slot(&mut queue, 5), Some((4, 4)));
        assert_eq!(pop_slot(&mut queue, 5), Some((5, 0)));
    }

    #[test]
    fn whatever_is_put_in_and_taken_comes_as_from_a_sorted_list() {
        let mut rng = Rng::seed_from_u64(7);
        let (mut queue, mut list) = (Queue::default(), Vec::new());
        let mut now = 0;
        for slot in 0..20_000 {
            // From equal times to the end of all.
            let reach: u64 = u64::MAX >> rng.random_range(1..64_u32);
            let at = now + rng.random_range(0..=reach) / 2;
            queue.push(Time(at), Event::Start(slot));
            list.push((at, slot));
            while rng.random_range(0..2) == 0 {
                let until = now + rng.random_range(0..1_000_000);
                list.sort_unstable();
                let first = list.first().copied().filter(|(at, _)| *at <= until);
                assert_eq!(pop_slot(&mut queue, until), first);
                let Some((at, _)) = first else { break };
                (now, _) = (at, list.remove(0));
            }
        }
        assert!(list.len() < 19_000, "most are never due");
    }
}
