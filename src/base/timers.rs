//! Timers of a worker or decider: a hierarchical timing wheel (Varghese and Lauck, 1987, scheme 7).
//!
//! Each level has 64 slots, and a slot of one level spans all of the level below. A timer stands at
//! the level of the highest group of 6 bits in which its tick differs from the wheel's, so its slot
//! always lies ahead of the wheel's own at that level: nothing wraps, and every deadline that
//! [`Time`] can hold has a place. When the wheel reaches the start of a slot above level 0, the
//! slot's timers move down. Each timer moves at most once per level, in the order of the slot's
//! list, so timers of one tick keep the order of their insertion.

use std::fmt;
use std::time::Duration;

use super::Time;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = u64::BITS.div_ceil(BITS) as usize;
/// The list of timers that are ready, or were already due when they were inserted; the ones before
/// it are slots.
const DUE: u16 = (LEVELS * SLOTS) as u16;
/// No list: the node is free.
const FREE: u16 = DUE + 1;
/// No node.
const NONE: u32 = u32::MAX;

/// Names one timer for [`TimerWheel::cancel`]. A key whose timer is gone names nothing, even after
/// its place was given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

struct Node<T> {
    value: Option<T>,
    tick: u64,
    generation: u32,
    /// Which list it stands in: `level * SLOTS + slot`, [`DUE`] or [`FREE`].
    list: u16,
    previous: u32,
    /// In the free list, the next free node.
    next: u32,
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

/// Timers that carry a `T` each.
///
/// [`insert`](Self::insert) and [`cancel`](Self::cancel) take constant time;
/// [`expire`](Self::expire) takes time for the timers it touches, however long it was not called.
/// Once as many timers as ever stand at a time have stood, nothing allocates.
///
/// ```
/// use std::time::Duration;
/// use keyway::base::{Time, TimerWheel};
///
/// let mut wheel = TimerWheel::new(Duration::from_millis(1), Time::ZERO);
/// let in_ms = |ms| Time::ZERO.plus(Duration::from_millis(ms));
/// let retry = wheel.insert(in_ms(5), "retry");
/// wheel.insert(in_ms(20), "give up");
/// assert_eq!(wheel.cancel(retry), Some("retry"));
/// assert_eq!(wheel.cancel(retry), None);
///
/// let mut fired = vec![];
/// wheel.expire(in_ms(19), |what| fired.push(what));
/// assert!(fired.is_empty());
/// wheel.expire(in_ms(20), |what| fired.push(what));
/// assert_eq!(fired, ["give up"]);
/// assert_eq!(wheel.next_deadline(), None);
/// ```
pub struct TimerWheel<T> {
    tick_ns: u64,
    /// Every timer up to and including this tick has fired.
    now_tick: u64,
    nodes: Vec<Node<T>>,
    free: u32,
    len: usize,
    /// How many stand in the list of those that are due.
    due: usize,
    lists: Box<[List]>,
    /// One bit per slot that holds timers.
    occupied: [u64; LEVELS],
}

impl<T> TimerWheel<T> {
    /// A wheel whose timers fire on multiples of `tick` (1 ms suits network protocols), for
    /// deadlines from `start` on.
    ///
    /// # Panics
    /// If `tick` is zero.
    pub fn new(tick: Duration, start: Time) -> Self {
        Self::with_capacity(tick, start, 0)
    }

    /// As [`TimerWheel::new`], with memory for `timers` of them taken now.
    ///
    /// # Panics
    /// If `tick` is zero.
    pub fn with_capacity(tick: Duration, start: Time, timers: usize) -> Self {
        let tick_ns = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX);
        assert!(tick_ns > 0, "a timer wheel's tick must be longer than nothing");
        Self {
            tick_ns,
            now_tick: start.0 / tick_ns,
            nodes: Vec::with_capacity(timers),
            free: NONE,
            len: 0,
            due: 0,
            lists: vec![List { head: NONE, tail: NONE }; usize::from(DUE) + 1].into(),
            occupied: [0; LEVELS],
        }
    }

    /// Starts a timer that fires at the first multiple of the tick not before `at`; one already
    /// past fires with the next [`TimerWheel::expire`], before all others.
    pub fn insert(&mut self, at: Time, value: T) -> TimerKey {
        // Rounded up: early is never right, late by less than a tick always is.
        let tick = at.0.div_ceil(self.tick_ns);
        let index = self.allocate(tick, value);
        let list = self.place(tick);
        self.append(list, index);
        self.len += 1;
        TimerKey { index, generation: self.nodes[index as usize].generation }
    }

    /// Stops a timer and gives its value back; `None` if it fired or was cancelled before.
    #[inline] // Each ask that is answered comes by.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let node = self.nodes.get(key.index as usize)?;
        if node.generation != key.generation || node.list == FREE {
            return None;
        }
        self.unlink(key.index);
        Some(self.release(key.index))
    }

    /// Has a timer fire so much later; not when it fired or was cancelled before.
    #[cold]
    pub fn postpone(&mut self, key: TimerKey, by: Duration) {
        let Some(node) = self.nodes.get_mut(key.index as usize) else { return };
        if node.generation != key.generation || node.list == FREE {
            return;
        }
        let ticks = (by.as_nanos() as u64).div_ceil(self.tick_ns);
        node.tick = node.tick.saturating_add(ticks);
        let tick = node.tick;
        self.unlink(key.index);
        self.append(self.place(tick), key.index);
    }

    /// The value of a timer that still stands.
    pub fn get(&self, key: TimerKey) -> Option<&T> {
        let node = self.nodes.get(key.index as usize)?;
        if node.generation == key.generation { node.value.as_ref() } else { None }
    }

    /// The timers whose values fit. Looks at all of them.
    pub fn find(&self, fits: impl Fn(&T) -> bool) -> Vec<TimerKey> {
        let nodes = self.nodes.iter().enumerate();
        let fit = nodes.filter(|(_, node)| node.value.as_ref().is_some_and(&fits));
        fit.map(|(index, node)| TimerKey { index: index as u32, generation: node.generation })
            .collect()
    }

    /// Fires every timer due by `now`, by tick and then by insertion, and returns how many.
    ///
    /// A `now` before that of an earlier call fires only what was inserted already past.
    pub fn expire(&mut self, now: Time, mut fire: impl FnMut(T)) -> usize {
        let target = now.0 / self.tick_ns;
        let mut fired = self.fire_list(DUE, &mut fire);
        if target <= self.now_tick {
            return fired; // What a worker asks most often: several turns fit a tick.
        }
        while let Some((level, slot, start)) = self.first_slot() {
            if start > target {
                break;
            }
            self.now_tick = start;
            let list = (level * SLOTS + slot) as u16;
            if level == 0 {
                fired += self.fire_list(list, &mut fire);
            } else {
                self.cascade(list);
            }
        }
        self.now_tick = self.now_tick.max(target);
        fired
    }

    /// Makes every timer that is due by `now` ready for [`TimerWheel::pop`], in the order in which
    /// [`TimerWheel::expire`] would fire them, and returns how many are ready.
    pub fn ripen(&mut self, now: Time) -> usize {
        let target = now.0 / self.tick_ns;
        if target <= self.now_tick {
            return self.due;
        }
        while let Some((level, slot, start)) = self.first_slot() {
            if start > target {
                break;
            }
            self.now_tick = start;
            let list = (level * SLOTS + slot) as u16;
            if level == 0 { self.make_due(list) } else { self.cascade(list) }
        }
        self.now_tick = self.now_tick.max(target);
        self.due
    }

    /// Fires the first timer that is ready. One that is ready still stands, and can be cancelled.
    pub fn pop(&mut self) -> Option<T> {
        let index = self.lists[usize::from(DUE)].head;
        (index != NONE).then(|| {
            self.unlink(index);
            self.release(index)
        })
    }

    /// When to call [`TimerWheel::expire`] next: never later than the first timer's firing. For a
    /// timer more than 64 ticks ahead it may be earlier, then `expire` finds nothing and this says
    /// more; that happens at most once per power of 64 in the distance.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.lists[usize::from(DUE)].head != NONE {
            return Some(Time(self.now_tick.saturating_mul(self.tick_ns)));
        }
        let (_, _, start) = self.first_slot()?;
        Some(Time(start.saturating_mul(self.tick_ns)))
    }

    /// How many timers stand.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer stands.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first slot that holds timers, with the tick at which it starts. Slots of a lower level
    /// all come before those of a higher one, see the head of this file.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = level as u32 * BITS;
        // The wheel's own tick with this level's bits replaced and the lower ones cleared. At the
        // highest level there is nothing above to keep.
        let above = self.now_tick.checked_shr(shift + BITS).unwrap_or(0);
        let start = above.checked_shl(shift + BITS).unwrap_or(0) | u64::from(slot) << shift;
        Some((level, slot as usize, start))
    }

    /// The list for a timer of this tick.
    fn place(&self, tick: u64) -> u16 {
        if tick <= self.now_tick {
            return DUE;
        }
        self.slot_of(tick)
    }

    fn slot_of(&self, tick: u64) -> u16 {
        let differing = (tick ^ self.now_tick) | 1;
        let level = (u64::BITS - 1 - differing.leading_zeros()) / BITS;
        let slot = (tick >> (level * BITS)) as usize % SLOTS;
        (level as usize * SLOTS + slot) as u16
    }

    /// Fires a list from its front; the wheel is whole at each call, should `fire` panic.
    fn fire_list(&mut self, list: u16, fire: &mut impl FnMut(T)) -> usize {
        let mut fired = 0;
        loop {
            let index = self.lists[usize::from(list)].head;
            if index == NONE {
                return fired;
            }
            self.unlink(index);
            fire(self.release(index));
            fired += 1;
        }
    }

    /// Moves a slot's timers behind those that are due.
    fn make_due(&mut self, list: u16) {
        loop {
            let index = self.lists[usize::from(list)].head;
            if index == NONE {
                return;
            }
            self.unlink(index);
            self.append(DUE, index);
        }
    }

    /// Moves a slot's timers to the lower levels; the wheel stands at the slot's start.
    fn cascade(&mut self, list: u16) {
        let mut index = self.lists[usize::from(list)].head;
        while index != NONE {
            let next = self.nodes[index as usize].next;
            self.unlink(index);
            // Not `place`: a timer of exactly this tick fires from its slot, in order.
            let lower = self.slot_of(self.nodes[index as usize].tick);
            self.append(lower, index);
            index = next;
        }
    }

    fn allocate(&mut self, tick: u64, value: T) -> u32 {
        let index = self.free;
        if index != NONE {
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            node.tick = tick;
            node.value = Some(value);
            return index;
        }
        let index = u32::try_from(self.nodes.len()).ok().filter(|&index| index != NONE);
        let index = index.expect("fewer than 2^32 - 1 timers stand at a time");
        self.nodes.push(Node {
            value: Some(value),
            tick,
            generation: 0,
            list: FREE,
            previous: NONE,
            next: NONE,
        });
        index
    }

    /// Puts an unlinked node on the free list and gives its value back.
    fn release(&mut self, index: u32) -> T {
        let node = &mut self.nodes[index as usize];
        node.list = FREE;
        node.generation = node.generation.wrapping_add(1);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
        node.value.take().expect("a linked timer has a value")
    }

    #[inline] // Each ask comes by, twice.
    fn append(&mut self, list: u16, index: u32) {
        self.due += usize::from(list == DUE);
        let ends = &mut self.lists[usize::from(list)];
        let tail = ends.tail;
        ends.tail = index;
        if tail == NONE {
            ends.head = index;
            if list != DUE {
                self.occupied[usize::from(list) / SLOTS] |= 1 << (usize::from(list) % SLOTS);
            }
        } else {
            self.nodes[tail as usize].next = index;
        }
        let node = &mut self.nodes[index as usize];
        node.list = list;
        node.previous = tail;
        node.next = NONE;
    }

    #[inline] // Each ask comes by, twice.
    fn unlink(&mut self, index: u32) {
        let Node { list, previous, next, .. } = self.nodes[index as usize];
        self.due -= usize::from(list == DUE);
        let ends = &mut self.lists[usize::from(list)];
        if previous == NONE {
            ends.head = next;
        }
        if next == NONE {
            ends.tail = previous;
        }
        if ends.head == NONE && list != DUE {
            self.occupied[usize::from(list) / SLOTS] &= !(1 << (usize::from(list) % SLOTS));
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
    }
}

impl<T> fmt::Debug for TimerWheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerWheel")
            .field("len", &self.len)
            .field("next_deadline", &self.next_deadline())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
