//! What will happen and when: one queue for the whole simulated world. Events of one moment happen
//! in the order in which they were put in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

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
/// A connection's place in the network's list; places are never used again.
pub type ConnId = usize;
/// 0 is the side that dialed, 1 the other.
pub type Side = usize;

/// The kinds of faults that come again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed.
    Crash,
    /// A process stops for a while.
    Pause,
    /// Nothing passes between two groups, in one or both directions.
    Partition,
    /// A connection is reset.
    Reset,
    /// A process leaves gracefully.
    Leave,
    /// Several processes leave at once.
    MassLeave,
    /// Several processes start at once.
    MassJoin,
    /// The packets of one connection vanish from now on, and nobody is told.
    Flow,
    /// A handler holds its worker for long; the process, and its kernel, go on.
    Block,
    /// Nothing passes to and from the flapping member for a while.
    Flap,
    /// A process withdraws its path, and serves it again.
    Withdraw,
}

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
}

/// The events to come, in order.
#[derive(Default)]
pub struct Queue {
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Slab<Event>,
    sequence: u64,
}

impl Queue {
    /// Adds an event.
    pub fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        let place = self.events.insert(event);
        self.order.push(Reverse((at, self.sequence, place)));
    }

    /// Takes the next event, if it comes no later than `until`.
    pub fn pop(&mut self, until: Time) -> Option<(Time, Event)> {
        let Reverse((at, _, _)) = self.order.peek()?;
        if *at > until {
            return None;
        }
        let Reverse((at, _, place)) = self.order.pop()?;
        Some((at, self.events.remove(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut queue = Queue::default();
        for (at, slot) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(Time(at), Event::Start(slot));
        }
        let mut slots = Vec::new();
        while let Some((_, Event::Start(slot))) = queue.pop(Time(4)) {
            slots.push(slot);
        }
        assert_eq!(slots, [1, 3]);
        assert!(matches!(queue.pop(Time(5)), Some((Time(5), Event::Start(0)))));
    }
}
