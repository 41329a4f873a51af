//! Small facts that one worker publishes and any thread reads, without waiting for each other.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::tally::{Count, Tally};
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

/// Counters that all parts together may have.
pub const PART_COUNTERS: usize = 16;

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
    /// What its halves of parts have counted, in the order in which the parts' list names it.
    pub parts: [Count; PART_COUNTERS],
    given_up: AtomicBool,
    shown: Shown,
}

/// The most that observers were told of what never falls. What a worker writes in two places is
/// seen in part while it writes, and a little less than before would look like a restart.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shown {
    slow_turns: AtomicU64,
    awake_ns: AtomicU64,
    asleep_ns: AtomicU64,
    spun_ns: AtomicU64,
}

fn never_less(shown: &AtomicU64, now: u64) -> u64 {
    shown.fetch_max(now, Ordering::Relaxed).max(now)
}

/// How long a worker did what, since its node's start. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSpent {
    /// It had something to do.
    pub awake_ns: u64,
    /// It looked for something to do.
    pub spun_ns: u64,
    /// It slept.
    pub asleep_ns: u64,
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

    /// How many turns have taken longer than this, the present one included. Never falls.
    pub fn slow_turns(&self, now: Time, slow: Duration) -> u64 {
        // Those that have ended first: see `Pulse::ends_slowly`.
        let ended = self.tally.slow_turns.get();
        let present = self.pulse.read().turn(now) > slow;
        never_less(&self.shown.slow_turns, ended + u64::from(present))
    }

    /// How long the worker did what, up to now.
    pub fn time_spent(&self, clock: impl Fn() -> Time) -> TimeSpent {
        let TimeSpent { awake_ns, spun_ns, asleep_ns } = self.pulse.time_spent(clock);
        TimeSpent {
            awake_ns: never_less(&self.shown.awake_ns, awake_ns),
            spun_ns: never_less(&self.shown.spun_ns, spun_ns),
            asleep_ns: never_less(&self.shown.asleep_ns, asleep_ns),
        }
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
    /// Links that other nodes' workers have opened, and may.
    pub accepted: (Gauge, Gauge),
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
    /// In one word, since both belong together. While it is awake: twice how long it has slept.
    /// While it sleeps: twice the time since which it would have slept without a break, and one.
    slept: AtomicU64,
    /// The turn found nothing to do.
    idle: AtomicBool,
    spun_ns: AtomicU64,
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
}

/// How long a worker has slept by now, by what [`Pulse`] has of it.
fn asleep(word: u64, now_ns: u64) -> u64 {
    if word & 1 == 1 { now_ns.saturating_sub(word >> 1) } else { word >> 1 }
}

impl Pulse {
    /// A turn begins. Relaxed, as everything here: each fact stands for itself.
    #[inline]
    pub fn turn(&self, now_ns: u64) {
        let slept = self.slept.load(Ordering::Relaxed);
        if slept & 1 == 1 {
            self.slept.store(asleep(slept, now_ns) << 1, Ordering::Relaxed);
        }
        self.count_idle(now_ns);
        self.call.store(0, Ordering::Relaxed);
        self.turn_since_ns.store(now_ns + 1, Ordering::Relaxed);
    }

    /// The turn that began last has found nothing to do: it is no work.
    #[inline]
    pub fn idles(&self) {
        self.idle.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn count_idle(&self, now_ns: u64) {
        if self.idle.load(Ordering::Relaxed) {
            self.idle.store(false, Ordering::Relaxed);
            if let Some(since) = self.turn_since_ns.load(Ordering::Relaxed).checked_sub(1) {
                let spun = self.spun_ns.load(Ordering::Relaxed) + now_ns.saturating_sub(since);
                self.spun_ns.store(spun, Ordering::Relaxed);
            }
        }
    }

    /// The turn is over, and is about to be counted as slow: whoever sees it counted does not see
    /// it here any more.
    pub fn ends_slowly(&self, now_ns: u64) {
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
        self.count_idle(now_ns);
        self.turn_since_ns.store(0, Ordering::Relaxed);
        let slept = self.slept.load(Ordering::Relaxed);
        if slept & 1 == 0 {
            let without_a_break = now_ns.saturating_sub(slept >> 1);
            self.slept.store(without_a_break << 1 | 1, Ordering::Relaxed);
        }
    }

    /// What it says now.
    pub fn read(&self) -> PulseReading {
        let word = |cell: &AtomicU64| cell.load(Ordering::Relaxed).checked_sub(1);
        let call = self.call.load(Ordering::Relaxed);
        PulseReading {
            turn_since_ns: word(&self.turn_since_ns),
            handler: (call >> 32).checked_sub(1).map(|handler| handler as u32),
            message: Some(call as u32).filter(|message| *message > 0),
        }
    }

    fn time_spent(&self, clock: impl Fn() -> Time) -> TimeSpent {
        let mut slept = self.slept.load(Ordering::Acquire);
        loop {
            let now = clock().0;
            let still = self.slept.load(Ordering::Acquire);
            // Of one moment: it neither fell asleep nor woke up while the clock was read.
            if std::mem::replace(&mut slept, still) == still {
                let asleep_ns = asleep(still, now);
                let spun_ns = self.spun_ns.load(Ordering::Relaxed);
                let awake_ns = now.saturating_sub(asleep_ns + spun_ns);
                return TimeSpent { awake_ns, spun_ns, asleep_ns };
            }
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
        let asleep = |at: u64| pulse.time_spent(|| Time(at)).asleep_ns;
        pulse.sleeps(10);
        assert_eq!((pulse.read().turn_since_ns, asleep(10), asleep(24)), (None, 0, 14));
        pulse.turn(25);
        let expected = PulseReading { turn_since_ns: Some(25), handler: None, message: None };
        assert_eq!((pulse.read(), asleep(25), asleep(99)), (expected, 15, 15));
    }

    #[test]
    fn looking_for_work_is_neither_work_nor_sleep() {
        let board = CountsBoard::new();
        let spent = |at: u64| {
            let TimeSpent { awake_ns, spun_ns, asleep_ns } = board.time_spent(|| Time(at));
            (awake_ns, spun_ns, asleep_ns)
        };
        board.pulse.turn(0);
        board.pulse.turn(10);
        board.pulse.idles();
        board.pulse.turn(13);
        assert_eq!(spent(13), (10, 3, 0));
        board.pulse.idles();
        board.pulse.sleeps(15);
        assert_eq!(spent(20), (10, 5, 5));
        board.pulse.sleeps(21);
        board.pulse.turn(25);
        board.pulse.turn(26);
        assert_eq!(spent(26), (11, 5, 10));
    }

    #[test]
    fn what_is_shown_of_a_slow_turn_never_falls_while_it_ends() {
        let board = CountsBoard::new();
        let shown = |at: u64| board.slow_turns(Time(at), Duration::from_nanos(10));
        board.pulse.turn(100);
        assert_eq!((shown(110), shown(111)), (0, 1));
        // Whatever is seen of its end.
        board.pulse.ends_slowly(120);
        assert_eq!(shown(121), 1);
        board.tally.slow_turns.add(1);
        assert_eq!(shown(122), 1);
        board.pulse.turn(123);
        assert_eq!((shown(133), shown(134)), (1, 2), "the next one is slow as well");
        board.pulse.ends_slowly(134);
        board.tally.slow_turns.add(1);
        board.pulse.sleeps(135);
        assert_eq!(shown(1_000), 2);
    }
}
