//! The way from application threads into a worker: bounded in items and in bytes, many producers,
//! one consumer.
//!
//! Items that are small weigh nothing: their number bounds them, and a push of one costs nothing
//! more. The others take of one account, which producers add to and the consumer takes from.
//!
//! The consumer can narrow it: then it takes less of what may have to wait on at the consumer, so
//! that there is a place for all that it takes.
//!
//! It can be closed without losing anything: whatever a push was told about, accepted or not, is
//! true. The consumer closes it by filling it with tombstones, which nobody takes out any more: a
//! push either came before, and its item is found, or finds no place. So a push costs no more than
//! into a queue that stays open.

use std::sync::Arc;
use std::time::Duration;

use super::sync::{ArrayQueue, AtomicU64, Ordering, thread};
use super::{Full, Waker};

/// What an item of a queue holds beside its place.
pub trait Weigh {
    /// Bytes that count towards the queue's bound; 0 for a small item, which its place stands for.
    /// It must not change while the item waits.
    fn weight(&self) -> usize;

    /// Whether it may have to wait at the consumer once more, and so finds no place in a queue that
    /// is narrowed.
    fn may_wait_on(&self) -> bool {
        true
    }

    /// How many messages it is, for [`Injector::handed_over`].
    fn messages(&self) -> u64 {
        1
    }
}

/// How much an injection queue takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Items; at least one.
    pub items: usize,
    /// The weight of all of them together. An item that is heavier is taken when no other one with
    /// a weight waits.
    pub bytes: usize,
}

/// Makes a queue with this room into the worker that `waker` wakes.
///
/// # Panics
/// If there is no room for an item.
pub fn injector<T: Weigh>(room: Room, waker: Waker) -> (Injector<T>, Injected<T>) {
    assert!(room.items > 0, "an injection queue needs room for at least one item");
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(room.items),
        bytes: room.bytes as u64,
        put: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        moves: AtomicU64::new(0),
        tombstones: AtomicU64::new(0),
        beside: Twice::default(),
        void: Twice::default(),
        state: AtomicU64::new(WIDE),
        narrow_items: AtomicU64::new(0),
        narrow_bytes: AtomicU64::new(0),
    });
    (
        Injector { shared: shared.clone(), waker },
        Injected { shared, closed: false, taken: 0, moved: 0 },
    )
}

struct Shared<T> {
    /// `None` is a tombstone.
    queue: ArrayQueue<Option<T>>,
    bytes: u64,
    /// The weight of all that producers put in, or are about to.
    put: AtomicU64,
    /// The weight of all that the consumer took out. Never ahead of `put`.
    taken: AtomicU64,
    /// Twice what the consumer took out and put in, and one more while it does either: what is read
    /// of it between two equal even readings is of one moment.
    moves: AtomicU64,
    /// Tombstones that the consumer has put in.
    tombstones: AtomicU64,
    /// How many messages producers put in beyond one for each item.
    beside: Twice,
    /// Items without a message that producers put in.
    void: Twice,
    /// Keeps producers from racing against the closing, and tells them why there is no place. Only
    /// the consumer writes it, and the two that follow, and whoever gives the consumer up.
    state: AtomicU64,
    narrow_items: AtomicU64,
    narrow_bytes: AtomicU64,
}

/// What is counted before it is put in and once more behind that, so that an observer sees whether
/// somebody is in the middle of it.
#[derive(Default)]
struct Twice {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Twice {
    #[inline]
    fn begin(&self, more: u64) {
        self.begun.fetch_add(more, Ordering::Relaxed);
    }

    #[inline]
    fn end(&self, more: u64, put_in: bool) {
        if put_in {
            self.done.fetch_add(more, Ordering::Release);
        } else {
            self.begun.fetch_sub(more, Ordering::Relaxed);
        }
    }
}

/// How often an observer looks for a moment at which nobody is in the middle of anything.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 50_000 };

/// After so many it sleeps now and then: whoever is in the middle of something may wait for a core,
/// on a busy machine for as long as others may use it.
const QUICK_LOOKS: u32 = 5_000;

/// All that there is room for is taken.
const WIDE: u64 = 0;
/// Less of what may have to wait on.
const NARROW: u64 = 1;
/// Nothing any more.
const CLOSED: u64 = 2;

impl<T> Shared<T> {
    /// Takes so much of the account, if it is there. A producer that is about to be refused can
    /// have another one refused, never let one in too many.
    fn reserve(&self, weight: u64) -> bool {
        // Read first: what was taken was put before, and is in the sum that is read next.
        let taken = self.taken.load(Ordering::Acquire);
        let waiting = self.put.fetch_add(weight, Ordering::Relaxed).wrapping_sub(taken);
        let fits = waiting == 0 || waiting.saturating_add(weight) <= self.bytes;
        if !fits {
            self.put.fetch_sub(weight, Ordering::Relaxed);
        }
        fits
    }
}

/// The producers' half; clones push into the same queue.
///
/// Items of one thread keep their order.
pub struct Injector<T> {
    shared: Arc<Shared<T>>,
    waker: Waker,
}

impl<T> Clone for Injector<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), waker: self.waker.clone() }
    }
}

impl<T: Weigh> Injector<T> {
    /// Hands an item to the worker and wakes it if it sleeps. A queue that is full, or closed, hands
    /// it back.
    #[inline]
    pub fn push(&self, item: T) -> Result<(), Full<T>> {
        self.push_quiet(item)?;
        self.notify();
        Ok(())
    }

    /// Hands an item over without a wake-up. Call [`Injector::notify`] after the last one of a
    /// batch, or a sleeping worker will not see it until something else wakes it.
    #[inline]
    pub fn push_quiet(&self, item: T) -> Result<(), Full<T>> {
        let state = self.shared.state.load(Ordering::Relaxed);
        let weight = item.weight() as u64;
        if state != WIDE && !self.admits(state, item.may_wait_on(), weight) {
            return Err(Full(item));
        }
        if weight > 0 && !self.shared.reserve(weight) {
            return Err(Full(item));
        }
        let pushed = match item.messages() {
            // It is counted by its place: see `handed_over`.
            1 => self.shared.queue.push(Some(item)),
            0 => self.push_counted(item, &self.shared.void, 1),
            more => self.push_counted(item, &self.shared.beside, more - 1),
        };
        pushed.map_err(|item| {
            if weight > 0 {
                self.shared.put.fetch_sub(weight, Ordering::Relaxed);
            }
            // Not even a tombstone is ever handed back: only what was pushed.
            Full(item.expect("it was an item"))
        })
    }

    fn push_counted(&self, item: T, count: &Twice, more: u64) -> Result<(), Option<T>> {
        count.begin(more);
        let pushed = self.shared.queue.push(Some(item));
        count.end(more, pushed.is_ok());
        pushed
    }

    /// Whether a queue that is not wide takes such an item.
    #[cold]
    fn admits(&self, state: u64, may_wait_on: bool, weight: u64) -> bool {
        let Shared { queue, put, taken, narrow_items, narrow_bytes, .. } = &*self.shared;
        if state == CLOSED || !may_wait_on {
            return state != CLOSED;
        }
        // Taken first, as in `reserve`.
        let taken = taken.load(Ordering::Acquire);
        let waiting = put.load(Ordering::Relaxed).wrapping_sub(taken);
        let bytes = narrow_bytes.load(Ordering::Relaxed);
        (queue.len() as u64) < narrow_items.load(Ordering::Relaxed)
            && (weight == 0 || waiting + weight <= bytes || (waiting == 0 && bytes > 0))
    }
}

impl<T> Injector<T> {
    /// Whether the worker takes nothing more, for good.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.shared.state.load(Ordering::Relaxed) == CLOSED
    }

    /// From now on it takes no more than this of what may have to wait on; `None` for all that
    /// there is room for. For the consumer's thread only. A push that is under way may not see it.
    pub fn narrow(&self, to: Option<Room>) {
        let Shared { state, narrow_items, narrow_bytes, .. } = &*self.shared;
        if let Some(Room { items, bytes }) = to {
            narrow_items.store(items as u64, Ordering::Relaxed);
            narrow_bytes.store(bytes as u64, Ordering::Relaxed);
        }
        let (was, becomes) =
            (state.load(Ordering::Relaxed), if to.is_some() { NARROW } else { WIDE });
        if was != CLOSED && was != becomes {
            // It fails where another thread shuts the queue meanwhile, which then stays shut.
            let _ = state.compare_exchange(was, becomes, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// From now on every push is refused, although the worker does not come to close the queue: what
    /// waits in it stays there. A push that is under way may not see it.
    pub fn shut(&self) {
        self.shared.state.store(CLOSED, Ordering::Relaxed);
    }

    /// Wakes the worker if it sleeps.
    #[inline]
    pub fn notify(&self) {
        self.waker.notify();
    }

    /// What wakes the worker, for another way to it.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.shared.queue.capacity()
    }

    /// How much it takes.
    pub fn room(&self) -> Room {
        Room { items: self.capacity(), bytes: self.shared.bytes as usize }
    }

    /// How many messages were ever handed over, whether the worker has taken them or they wait. It
    /// never falls, and what a push was told about before is in it. Only where no quiet moment is
    /// found in more than a second may it seem to be a few more.
    pub fn handed_over(&self) -> u64 {
        for look in 1..=LOOKS {
            if let Some(exact) = self.handed_over_now() {
                return exact;
            }
            if look > QUICK_LOOKS && look.is_multiple_of(32) {
                std::thread::sleep(Duration::from_millis(1));
            } else if look.is_multiple_of(64) {
                thread::yield_now();
            }
        }
        self.handed_over_at_most()
    }

    /// The same at once, for whoever must not wait: where somebody is in the middle of something it
    /// may seem to be a few more.
    pub fn handed_over_at_most(&self) -> u64 {
        if let Some(exact) = self.handed_over_now() {
            return exact;
        }
        let Shared { queue, moves, tombstones, beside, void, .. } = &*self.shared;
        // In this order: what comes or goes meanwhile is counted twice, rather than not at all.
        let void = void.done.load(Ordering::Acquire);
        let tombstones = tombstones.load(Ordering::Acquire);
        let waiting = queue.len() as u64;
        let moved = moves.load(Ordering::Acquire).div_ceil(2);
        moved + waiting - 2 * tombstones - void + beside.begun.load(Ordering::Relaxed)
    }

    /// The same, exactly as it is at one moment; `None` if somebody was in the middle of something.
    pub(super) fn handed_over_now(&self) -> Option<u64> {
        let Shared { queue, moves, tombstones, beside, void, .. } = &*self.shared;
        // Acquire, and in this order: whoever is seen in the queue's length is seen to have begun.
        let (more, less) = (beside.done.load(Ordering::Acquire), void.done.load(Ordering::Acquire));
        let before = moves.load(Ordering::Acquire);
        let tombstones = tombstones.load(Ordering::Acquire);
        let waiting = queue.len() as u64;
        let still = before.is_multiple_of(2)
            && moves.load(Ordering::Acquire) == before
            && beside.begun.load(Ordering::Acquire) == more
            && void.begun.load(Ordering::Acquire) == less;
        still.then(|| before / 2 + waiting + more - 2 * tombstones - less)
    }

    /// Has it look from now on, or no longer, as if a thread that puts something in waited for a core.
    #[cfg(test)]
    pub fn has_somebody_in_the_middle(&self, has: bool) {
        match has {
            true => self.shared.beside.begin(1),
            false => self.shared.beside.end(1, false),
        }
    }

    /// How many items wait; a figure for observers, stale as soon as it is read.
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// What all that waits weighs, as stale as [`Injector::len`].
    pub fn weight(&self) -> u64 {
        let taken = self.shared.taken.load(Ordering::Acquire);
        self.shared.put.load(Ordering::Relaxed).wrapping_sub(taken)
    }

    /// Whether nothing waits; as stale as [`Injector::len`].
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }
}

/// The worker's half.
pub struct Injected<T> {
    shared: Arc<Shared<T>>,
    closed: bool,
    /// As in the shared part, which nobody else writes.
    taken: u64,
    moved: u64,
}

impl<T: Weigh> Injected<T> {
    /// The next item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let item = self.take().flatten()?;
        let weight = item.weight() as u64;
        if weight > 0 {
            self.taken = self.taken.wrapping_add(weight);
            self.shared.taken.store(self.taken, Ordering::Release);
        }
        Some(item)
    }

    /// Closes the queue and takes out all that is in it: after this every push is refused, and
    /// what was accepted before has been passed to `each`.
    pub fn close(&mut self, mut each: impl FnMut(T)) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.shared.state.store(CLOSED, Ordering::Relaxed);
        let mut tombstones = 0;
        loop {
            let is_put_in = self.bury();
            if is_put_in {
                tombstones += 1;
            } else if tombstones == self.shared.queue.capacity() {
                return;
            } else {
                // Nobody else takes anything out of it.
                match self.take().expect("a full queue has an item") {
                    Some(item) => each(item),
                    None => tombstones -= 1,
                }
            }
        }
    }

    /// Puts in a tombstone, if there is a place.
    fn bury(&mut self) -> bool {
        let Shared { queue, moves, tombstones, .. } = &*self.shared;
        moves.store(2 * self.moved + 1, Ordering::Release);
        let is_put_in = queue.push(None).is_ok();
        if is_put_in {
            self.moved += 1;
            tombstones.store(tombstones.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        moves.store(2 * self.moved, Ordering::Release);
        is_put_in
    }

    /// Takes out what comes next. It is counted before it leaves, so that no observer misses it.
    #[inline]
    fn take(&mut self) -> Option<Option<T>> {
        self.shared.moves.store(2 * self.moved + 1, Ordering::Release);
        let item = self.shared.queue.pop();
        self.moved += u64::from(item.is_some());
        self.shared.moves.store(2 * self.moved, Ordering::Release);
        item
    }

    /// Takes up to `max` items; returns how many there were.
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        for taken in 0..max {
            match self.pop() {
                Some(item) => each(item),
                None => return taken,
            }
        }
        max
    }

    /// Whether nothing waits: what a worker asks of each queue after [`announce`]. Once it is closed
    /// it is empty, since every tombstone stays.
    ///
    /// [`announce`]: super::Sleeper::announce
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.closed || self.shared.queue.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
