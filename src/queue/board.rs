//! Small facts that one worker publishes and any thread reads, without waiting for each other.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::tally::Tally;
use super::times::HandlerTimes;
use crate::base::{DestinationId, Time};

/// How one worker's link to a destination stands, as application threads see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WayState {
    /// Messages are taken.
    Open = 0,
    /// The queue is nearly full: refuse now, so that what was accepted still fits.
    Full = 1,
    /// The link is down.
    Down = 2,
    /// The peer leaves or is gone.
    Finished = 3,
}

/// One worker's links, by destination. It takes memory for those that were ever set. A destination
/// that it knows nothing of counts as open: its worker still decides, only later.
pub struct Board {
    pages: Box<[OnceLock<Box<Page>>]>,
}

/// Each cell says of which destination it speaks, since slots are used again.
type Page = [AtomicU64; PAGE_SLOTS];

const PAGE_SLOTS: usize = 256;

/// What a cell says: the destination's serial, and then how its link stands.
fn cell(destination: DestinationId, state: WayState) -> u64 {
    u64::from(destination.serial().get()) << 8 | state as u64
}

impl Board {
    /// Destinations that it has room for.
    pub const SLOTS: usize = 65_536;

    /// A board that knows nothing.
    pub fn new() -> Self {
        Self { pages: (0..Self::SLOTS / PAGE_SLOTS).map(|_| OnceLock::new()).collect() }
    }

    /// Publishes how a link stands. Only one thread may do so.
    #[inline]
    pub fn set(&self, destination: DestinationId, state: WayState) {
        let slot = destination.slot();
        let Some(page) = self.pages.get(slot / PAGE_SLOTS) else { return };
        let page = page.get_or_init(|| Box::new([const { AtomicU64::new(0) }; PAGE_SLOTS]));
        let (place, says) = (&page[slot % PAGE_SLOTS], cell(destination, state));
        // Relaxed: the fact stands for itself, and an old one only costs a later refusal.
        if place.load(Ordering::Relaxed) != says {
            place.store(says, Ordering::Relaxed);
        }
    }

    /// How a link stands.
    #[inline]
    pub fn get(&self, destination: DestinationId) -> WayState {
        let slot = destination.slot();
        let page = self.pages.get(slot / PAGE_SLOTS).and_then(OnceLock::get);
        let says = page.map_or(0, |page| page[slot % PAGE_SLOTS].load(Ordering::Relaxed));
        let Some(serial) = NonZeroU32::new((says >> 8) as u32) else { return WayState::Open };
        if serial != destination.serial() {
            // Either its worker does not know it yet, or another has its slot: it is gone.
            let is_new = destination.is_after(serial);
            return if is_new { WayState::Open } else { WayState::Finished };
        }
        match says as u8 {
            0 => WayState::Open,
            1 => WayState::Full,
            2 => WayState::Down,
            _ => WayState::Finished,
        }
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

/// What one worker shows of itself. Only the worker writes, as it goes along: in lines of the
/// processor's cache that it shares with no other worker.
#[derive(Default)]
#[repr(align(64))]
pub struct CountsBoard {
    /// What it has counted.
    pub tally: Tally,
    /// What it does right now.
    pub pulse: Pulse,
    /// How much of its room is taken.
    pub fill: Fill,
    /// How long its handlers take.
    pub times: HandlerTimes,
    given_up: AtomicBool,
}

impl CountsBoard {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The node has stopped without this worker: it handles nothing more.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// Whether the node has stopped without this worker.
    #[inline]
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// A number that one thread writes now and then, and others read.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// From now on it is this. Relaxed: it stands for itself.
    #[inline]
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How much of one worker's room is taken, as of when it published its counts.
#[derive(Debug, Default)]
pub struct Fill {
    /// Open asks.
    pub asks: Gauge,
    /// Work that its routees have begun elsewhere.
    pub work: Gauge,
    /// Hand-overs that wait for room on their links.
    pub held: Gauge,
    /// Bytes that outboxes hold, and may: of requests, of replies to members, to clients.
    pub outboxes: [(Gauge, Gauge); 3],
    /// Items in the rings from siblings and control.
    pub rings: Gauge,
    /// Bytes that were received and wait to be handled.
    pub inboxes: Gauge,
}

/// What one worker does right now, so that others can tell one that is stuck from one that is
/// idle. Only the worker writes. The facts are read one by one: they belong together while the
/// worker stands still, and that is when they are needed.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When the turn began, plus one; 0 while it sleeps.
    turn_since_ns: AtomicU64,
    /// What the turn called last: the handler plus one, 0 for none yet, and the message's type.
    call: AtomicU64,
    /// When it fell asleep, plus one; 0 while it is awake.
    asleep_since_ns: AtomicU64,
    slept_ns: AtomicU64,
}

/// What a [`Pulse`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PulseReading {
    /// When the present turn began; `None` while the worker sleeps.
    pub turn_since_ns: Option<u64>,
    /// The handler that the turn called last.
    pub handler: Option<u32>,
    /// For which type of message; `None` when it was woken or got a reply.
    pub message: Option<u32>,
    /// How long it has slept in all, the present sleep not counted.
    pub slept_ns: u64,
    /// When it fell asleep, while it sleeps.
    pub asleep_since_ns: Option<u64>,
}

impl Pulse {
    /// A turn begins. Relaxed, as everything here: each fact stands for itself.
    #[inline]
    pub fn turn(&self, now_ns: u64) {
        let asleep = self.asleep_since_ns.load(Ordering::Relaxed);
        if asleep > 0 {
            let slept = self.slept_ns.load(Ordering::Relaxed);
            self.slept_ns.store(slept + now_ns.saturating_sub(asleep - 1), Ordering::Relaxed);
            self.asleep_since_ns.store(0, Ordering::Relaxed);
        }
        self.call.store(0, Ordering::Relaxed);
        self.turn_since_ns.store(now_ns + 1, Ordering::Relaxed);
    }

    /// A handler is about to run, for a type of message or, with 0, for something else.
    #[inline]
    pub fn calls(&self, handler: u32, message: u32) {
        let handler = u64::from(handler).wrapping_add(1);
        self.call.store(handler << 32 | u64::from(message), Ordering::Relaxed);
    }

    /// The worker goes to sleep, or ends.
    #[inline]
    pub fn sleeps(&self, now_ns: u64) {
        self.turn_since_ns.store(0, Ordering::Relaxed);
        self.asleep_since_ns.store(now_ns + 1, Ordering::Relaxed);
    }

    /// What it says now.
    pub fn read(&self) -> PulseReading {
        let word = |cell: &AtomicU64| cell.load(Ordering::Relaxed).checked_sub(1);
        let call = self.call.load(Ordering::Relaxed);
        PulseReading {
            turn_since_ns: word(&self.turn_since_ns),
            handler: (call >> 32).checked_sub(1).map(|handler| handler as u32),
            message: Some(call as u32).filter(|message| *message > 0),
            slept_ns: self.slept_ns.load(Ordering::Relaxed),
            asleep_since_ns: word(&self.asleep_since_ns),
        }
    }
}

impl PulseReading {
    /// How long the present turn has lasted; zero while the worker sleeps.
    pub fn turn(&self, now: Time) -> Duration {
        self.turn_since_ns.map_or(Duration::ZERO, |since| now.since(Time(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_speaks_of_one_destination_only() {
        let board = Board::new();
        let at = |slot, serial| DestinationId::new(slot, NonZeroU32::new(serial).unwrap());
        for slot in [0, 300, Board::SLOTS - 1] {
            assert_eq!(board.get(at(slot, 5)), WayState::Open, "nothing is known of it");
            for state in [WayState::Full, WayState::Down, WayState::Finished, WayState::Open] {
                board.set(at(slot, 5), state);
                assert_eq!(board.get(at(slot, 5)), state);
            }
            board.set(at(slot, 5), WayState::Down);
            assert_eq!(board.get(at(slot, 4)), WayState::Finished, "the one before is gone");
            assert_eq!(board.get(at(slot, 6)), WayState::Open, "its worker will decide");
            board.set(at(slot, 6), WayState::Full);
            assert_eq!(board.get(at(slot, 5)), WayState::Finished);
            assert_eq!(board.get(at(slot, 6)), WayState::Full);
        }
        board.set(at(Board::SLOTS, 1), WayState::Down);
        assert_eq!(board.get(at(Board::SLOTS, 1)), WayState::Open, "there is no room for it");
        assert_eq!(board.get(DestinationId::NONE), WayState::Open);
    }

    #[test]
    fn a_pulse_tells_sleep_from_a_turn() {
        let pulse = Pulse::default();
        assert_eq!(pulse.read(), PulseReading::default());
        pulse.turn(0);
        pulse.calls(0, 7);
        let reading = pulse.read();
        assert_eq!((reading.turn_since_ns, reading.handler), (Some(0), Some(0)));
        assert_eq!(reading.message, Some(7));
        pulse.calls(u32::MAX - 1, 0);
        let reading = pulse.read();
        assert_eq!((reading.handler, reading.message), (Some(u32::MAX - 1), None));
        pulse.sleeps(10);
        assert_eq!((pulse.read().turn_since_ns, pulse.read().asleep_since_ns), (None, Some(10)));
        pulse.turn(25);
        let expected = PulseReading {
            turn_since_ns: Some(25),
            handler: None,
            message: None,
            slept_ns: 15,
            asleep_since_ns: None,
        };
        assert_eq!(pulse.read(), expected);
    }
}
