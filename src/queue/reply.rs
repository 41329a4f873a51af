//! One-shot slots for replies to asks from application threads: bounded, pooled, no allocation per
//! ask.
//!
//! An ask takes a [`Ticket`], sends its slot and generation along with the message, and waits. The
//! worker calls [`ReplySlots::complete`] with both, exactly once: with the reply or with the error
//! that stands for it. The generation rises with every use of a slot, so that a late reply never
//! matches another ask. It wraps after 2^32 uses of one slot; slots are used in turn, so with the
//! usual 65,536 of them a reply would have to be 2^48 asks late.
//!
//! Each slot has one word of state: the generation and these flags.
//!
//! | flag | set by | means |
//! |---|---|---|
//! | `OPEN` | acquire | a ticket was handed out |
//! | `CLAIMED` | complete | a completer won the slot; it alone writes the value |
//! | `READY` | complete | the value is there; from now on the ticket alone touches it |
//! | `DONE` | complete | the completer will not touch the slot again |
//! | `WAKER` | poll | a waker is there; it is not written while this is set |
//! | `DROPPED` | drop | the ticket will not touch the slot again |
//!
//! Whoever is last to leave frees the slot: the ticket, unless a completer is between `CLAIMED` and
//! `DONE`, then that one.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::block_on::block_on;
use super::foreign::quietly;
use super::sync::{ArrayQueue, AtomicBool, AtomicU64, Ordering, UnsafeCell, fence};

const OPEN: u64 = 1;
const CLAIMED: u64 = 1 << 1;
const READY: u64 = 1 << 2;
const DONE: u64 = 1 << 3;
const WAKER: u64 = 1 << 4;
const DROPPED: u64 = 1 << 5;

const fn generation(state: u64) -> u32 {
    (state >> 32) as u32
}

/// Whether a completer may claim the slot.
const fn is_waiting(state: u64) -> bool {
    state & (OPEN | CLAIMED | DROPPED) == OPEN
}

// A slot on a cache line of its own: neighbours belong to other asks on other threads.
#[repr(align(64))]
struct Slot<T> {
    state: AtomicU64,
    value: UnsafeCell<Option<T>>,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: the cells are reached only through the protocol above, which gives each of them to one
// thread at a time (or to readers only), with release and acquire on `state` in between. Values
// move from thread to thread, so they must be `Send`; they are never shared, so need not be `Sync`.
unsafe impl<T: Send> Sync for Slot<T> {}

struct Shared<T> {
    slots: Box<[Slot<T>]>,
    /// By slot: until when its ticket waits. Apart from the slots, so that looking over them all
    /// reads little memory.
    deadlines: Box<[AtomicU64]>,
    free: ArrayQueue<u32>,
    closed: AtomicBool,
}

impl<T> Shared<T> {
    /// Makes the slot ready for its next use. The caller is the last one that touches it, and drops
    /// what was left in it: code of the application, after which nothing must have to be done.
    #[must_use = "what was left is the application's, and may panic as it is dropped"]
    fn release(&self, index: u32) -> (Option<T>, Option<Waker>) {
        let slot = &self.slots[index as usize];
        // SAFETY: the caller is the last user of the slot, so both cells are its own.
        let left = (
            slot.value.with_mut(|value| unsafe { (*value).take() }),
            // SAFETY: as above.
            slot.waker.with_mut(|waker| unsafe { (*waker).take() }),
        );
        let next = generation(slot.state.load(Ordering::Relaxed)).wrapping_add(1);
        slot.state.store(u64::from(next) << 32, Ordering::Release);
        // Cannot be full: it has room for every slot, and this one was not in it.
        let pushed = self.free.push(index);
        debug_assert!(pushed.is_ok(), "slot {index} was freed twice");
        left
    }

    /// As [`Shared::release`], on the thread of the completer.
    #[cold]
    fn release_quietly(&self, index: u32) {
        let left = self.release(index);
        quietly(|| drop(left));
    }
}

/// All reply slots of a node (or of one worker); clones share them.
///
/// ```
/// use keyway::queue::ReplySlots;
///
/// let slots = ReplySlots::new(1_024);
/// let ticket = slots.acquire().expect("fewer than 1,024 asks in flight");
/// let (slot, generation) = (ticket.slot(), ticket.generation());
/// let worker = slots.clone();
/// let thread = std::thread::spawn(move || worker.complete(slot, generation, "pong"));
/// assert_eq!(ticket.wait(), "pong");
/// assert!(thread.join().unwrap());
/// assert!(!slots.complete(slot, generation, "too late"));
/// ```
pub struct ReplySlots<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for ReplySlots<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Send> ReplySlots<T> {
    /// Room for `capacity` asks in flight; all memory is taken now.
    ///
    /// # Panics
    /// If `capacity` is 0 or does not fit into 32 bits.
    pub fn new(capacity: usize) -> Self {
        let count = u32::try_from(capacity).expect("at most 2^32 - 1 asks in flight");
        assert!(count > 0, "reply slots need room for at least one ask");
        let slots = (0..count)
            .map(|_| Slot {
                state: AtomicU64::new(0),
                value: UnsafeCell::new(None),
                waker: UnsafeCell::new(None),
            })
            .collect();
        let free = ArrayQueue::new(capacity);
        for index in 0..count {
            let pushed = free.push(index);
            debug_assert!(pushed.is_ok());
        }
        let deadlines = (0..count).map(|_| AtomicU64::new(u64::MAX)).collect();
        let closed = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { slots, deadlines, free, closed }) }
    }

    /// A slot for one ask, or `None`: too many are in flight, or the slots were closed
    /// ([`ReplySlots::is_closed`] tells which).
    pub fn acquire(&self) -> Option<Ticket<T>> {
        self.acquire_until(u64::MAX)
    }

    /// As [`ReplySlots::acquire`], for an ask that [`ReplySlots::expire`] ends after its deadline.
    pub fn acquire_until(&self, deadline: u64) -> Option<Ticket<T>> {
        let index = self.shared.free.pop()?;
        let slot = &self.shared.slots[index as usize];
        // Published by the store of `OPEN` below.
        self.shared.deadlines[index as usize].store(deadline, Ordering::Relaxed);
        // Nobody else writes a free slot's state: no completer can claim it before it is open.
        let generation = generation(slot.state.load(Ordering::Acquire));
        slot.state.store(u64::from(generation) << 32 | OPEN, Ordering::Release);
        let ticket = Ticket { shared: self.shared.clone(), index, generation, taken: false };
        // Either `close` sees this slot open, or this sees it closed.
        fence(Ordering::SeqCst);
        if self.is_closed() { None } else { Some(ticket) }
    }

    /// Gives the reply to the ticket with this slot and generation and wakes whoever waits for it.
    ///
    /// False, and the value is dropped, if that ticket had its reply already or is gone. Any slot
    /// and generation may be passed: they may have come over the network.
    pub fn complete(&self, slot: u32, generation: u32, value: T) -> bool {
        let index = slot;
        let Some(slot) = self.shared.slots.get(index as usize) else { return false };
        let mut state = slot.state.load(Ordering::Relaxed);
        loop {
            if self::generation(state) != generation || !is_waiting(state) {
                return false;
            }
            match slot.state.compare_exchange_weak(
                state,
                state | CLAIMED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                // The ticket's waker came or went, the ticket left, or another was first.
                Err(now) => state = now,
            }
        }
        // SAFETY: only one completer claims an open slot, and the ticket looks at the value only
        // after `READY`.
        slot.value.with_mut(|cell| unsafe { *cell = Some(value) });
        let before = slot.state.fetch_or(READY, Ordering::AcqRel);
        if before & DROPPED != 0 {
            self.shared.release_quietly(index);
            return false;
        }
        if before & WAKER != 0 {
            // SAFETY: `WAKER` was set when `READY` came, and the ticket writes the waker only
            // after it cleared `WAKER` and found no `READY`; the slot is not freed before `DONE`.
            slot.waker.with(|waker| unsafe {
                (*waker).as_ref().map(|waker| quietly(|| waker.wake_by_ref()))
            });
        }
        if slot.state.fetch_or(DONE, Ordering::AcqRel) & DROPPED != 0 {
            self.shared.release_quietly(index);
        }
        true
    }

    /// Whether this ticket still waits for its reply.
    pub fn is_waiting(&self, slot: u32, generation: u32) -> bool {
        self.shared.slots.get(slot as usize).is_some_and(|slot| {
            let state = slot.state.load(Ordering::Acquire);
            self::generation(state) == generation && is_waiting(state)
        })
    }

    /// Ends the asks whose deadline is at or before `now` with a value from `make`, and says how
    /// many. Looks at each slot: for one thread, a few times in a second.
    pub fn expire(&self, now: u64, mut make: impl FnMut() -> T) -> usize {
        let mut ended = 0;
        for (index, deadline) in self.shared.deadlines.iter().enumerate() {
            if deadline.load(Ordering::Relaxed) > now {
                continue;
            }
            let state = self.shared.slots[index].state.load(Ordering::Acquire);
            // Looked at again: of this generation, or of a later one, for which `complete` fails.
            if is_waiting(state)
                && deadline.load(Ordering::Relaxed) <= now
                && self.complete(index as u32, generation(state), make())
            {
                ended += 1;
            }
        }
        ended
    }

    /// Ends all asks: every open ticket gets a value from `make`, and no more tickets are handed
    /// out. For a node that stops, so that nobody waits for a reply that cannot come.
    pub fn close(&self, mut make: impl FnMut() -> T) {
        self.shared.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for (index, slot) in self.shared.slots.iter().enumerate() {
            let state = slot.state.load(Ordering::Acquire);
            if is_waiting(state) {
                self.complete(index as u32, generation(state), make());
            }
        }
    }

    /// Whether [`ReplySlots::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// How many asks can be in flight.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// How many asks are in flight; a figure for observers.
    pub fn in_flight(&self) -> usize {
        self.shared.slots.len() - self.shared.free.len()
    }
}

impl<T> fmt::Debug for ReplySlots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplySlots").field("capacity", &self.shared.slots.len()).finish()
    }
}

/// One ask's claim to one reply: a future that needs no particular runtime.
///
/// Dropping it gives the ask up; its reply, should it still come, is dropped too.
#[must_use = "a dropped ticket gives its ask up"]
pub struct Ticket<T> {
    shared: Arc<Shared<T>>,
    index: u32,
    generation: u32,
    taken: bool,
}

impl<T> Ticket<T> {
    /// Which slot the reply goes to.
    pub fn slot(&self) -> u32 {
        self.index
    }

    /// Which use of the slot this is.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether the reply was taken out.
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// Parks the thread until the reply comes, however long that takes.
    pub fn wait(self) -> T {
        block_on(self)
    }

    /// Stores the task's waker; the state from before that, or `None` if the stored one will do.
    fn register(&self, slot: &Slot<T>, state: u64, waker: &Waker) -> Option<u64> {
        if state & WAKER != 0 {
            // SAFETY: only the ticket writes the waker, and `&self` is its only thread here; a
            // completer may read it meanwhile, as this does.
            if slot.waker.with(|stored| unsafe {
                (*stored).as_ref().is_some_and(|stored| stored.will_wake(waker))
            }) {
                return None;
            }
            let before = slot.state.fetch_and(!WAKER, Ordering::AcqRel);
            if before & READY != 0 {
                // A completer may be reading the waker; it is not needed any more.
                return Some(before);
            }
        }
        let waker = waker.clone();
        // SAFETY: `WAKER` is clear and was so before any `READY`, so no completer reads the waker
        // until the `fetch_or` below.
        let replaced = slot.waker.with_mut(|stored| unsafe { (*stored).replace(waker) });
        let before = slot.state.fetch_or(WAKER, Ordering::AcqRel);
        drop(replaced);
        Some(before)
    }
}

impl<T> Future for Ticket<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        assert!(!self.taken, "a Ticket was polled after it had given its reply");
        let slot = &self.shared.slots[self.index as usize];
        let mut state = slot.state.load(Ordering::Acquire);
        if state & READY == 0 {
            match self.register(slot, state, context.waker()) {
                Some(before) => state = before,
                None => return Poll::Pending,
            }
        }
        if state & READY == 0 {
            return Poll::Pending;
        }
        // SAFETY: after `READY` the value belongs to the ticket.
        let value = slot.value.with_mut(|value| unsafe { (*value).take() });
        self.taken = true;
        Poll::Ready(value.expect("READY is set after the value"))
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let slot = &self.shared.slots[self.index as usize];
        let before = slot.state.fetch_or(DROPPED, Ordering::AcqRel);
        if before & CLAIMED == 0 || before & DONE != 0 {
            drop(self.shared.release(self.index));
        }
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("slot", &self.index)
            .field("generation", &self.generation)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use super::*;

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting_waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicU32::new(0)));
        (count.clone(), Waker::from(count))
    }

    fn poll<T>(ticket: &mut Ticket<T>, waker: &Waker) -> Poll<T> {
        Pin::new(ticket).poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn a_reply_is_given_exactly_once_and_the_slot_comes_back() {
        let slots = ReplySlots::new(1);
        for round in 0..3 {
            let ticket = slots.acquire().unwrap();
            assert_eq!((ticket.slot(), ticket.generation()), (0, round));
            assert!(slots.acquire().is_none(), "too many asks in flight");
            assert_eq!(slots.in_flight(), 1);
            assert!(slots.complete(0, round, "first"));
            assert!(!slots.complete(0, round, "second"));
            assert_eq!(ticket.wait(), "first");
            assert_eq!(slots.in_flight(), 0);
        }
    }

    #[test]
    fn a_late_or_invented_reply_matches_nothing() {
        let slots = ReplySlots::new(1);
        drop(slots.acquire().unwrap());
        assert!(!slots.complete(0, 0, 1), "the ask was given up");
        assert!(!slots.complete(0, 1, 1), "a generation to come, on a free slot");
        let mut ticket = slots.acquire().unwrap();
        assert!(!slots.complete(0, 0, 1), "the slot serves another ask now");
        assert!(!slots.complete(0, 2, 1), "a generation to come");
        assert!(!slots.complete(9, 1, 1), "no such slot");
        assert_eq!(poll(&mut ticket, Waker::noop()), Poll::Pending);
        assert!(slots.complete(0, 1, 2));
        assert_eq!(poll(&mut ticket, Waker::noop()), Poll::Ready(2));
    }

    #[test]
    fn only_the_waker_of_the_last_poll_is_woken() {
        let slots = ReplySlots::new(1);
        let mut ticket = slots.acquire().unwrap();
        let (old, old_waker) = counting_waker();
        let (new, new_waker) = counting_waker();
        assert_eq!(poll(&mut ticket, &old_waker), Poll::Pending);
        assert_eq!(poll(&mut ticket, &old_waker), Poll::Pending);
        assert_eq!(Arc::strong_count(&old), 3, "the same waker is not stored twice");
        assert_eq!(poll(&mut ticket, &new_waker), Poll::Pending);
        assert!(slots.complete(0, 0, ()));
        assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
        drop(ticket);
        assert_eq!(Arc::strong_count(&new), 2, "a freed slot keeps no waker");
    }

    #[test]
    fn an_overdue_ask_ends_once_and_its_late_reply_is_dropped() {
        let slots = ReplySlots::new(3);
        let mut early = slots.acquire_until(10).unwrap();
        let (mut late, mut never) = (slots.acquire_until(20).unwrap(), slots.acquire().unwrap());
        let (woken, waker) = counting_waker();
        assert_eq!(poll(&mut early, &waker), Poll::Pending);
        assert_eq!(slots.expire(9, || "overdue"), 0);
        assert_eq!(slots.expire(10, || "overdue"), 1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(!slots.is_waiting(0, 0) && slots.is_waiting(1, 0) && !slots.is_waiting(1, 1));
        assert!(!slots.complete(0, 0, "reply"));
        assert_eq!(poll(&mut early, &waker), Poll::Ready("overdue"));
        assert_eq!(poll(&mut late, &waker), Poll::Pending);
        assert!(slots.complete(1, 0, "reply"));
        assert_eq!(slots.expire(1_000, || "overdue"), 0, "it had its reply, the other no deadline");
        drop(early);
        let mut next = slots.acquire_until(2_000).unwrap();
        assert_eq!(
            slots.expire(1_000, || "overdue"),
            0,
            "an old deadline is no matter of the next"
        );
        for ticket in [&mut never, &mut next] {
            assert_eq!(poll(ticket, &waker), Poll::Pending);
        }
        assert_eq!(poll(&mut late, &waker), Poll::Ready("reply"));
    }

    #[test]
    fn an_ask_without_a_deadline_has_none_of_the_one_before_in_its_slot() {
        let slots = ReplySlots::new(1);
        drop(slots.acquire_until(10));
        let _never = slots.acquire().unwrap();
        assert_eq!(slots.expire(1_000, || ()), 0);
    }

    #[test]
    fn a_reply_that_nobody_took_is_dropped_with_the_ticket() {
        let slots = ReplySlots::new(1);
        let ticket = slots.acquire().unwrap();
        let value = Arc::new(());
        assert!(slots.complete(0, 0, value.clone()));
        drop(ticket);
        assert_eq!(Arc::strong_count(&value), 1);
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn closing_ends_every_open_ask_and_admits_no_more() {
        let slots = ReplySlots::new(3);
        let (mut first, second) = (slots.acquire().unwrap(), slots.acquire().unwrap());
        let (woken, waker) = counting_waker();
        assert_eq!(poll(&mut first, &waker), Poll::Pending);
        assert!(slots.complete(1, 0, "reply"));
        slots.close(|| "stopped");
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!((first.wait(), second.wait()), ("stopped", "reply"));
        assert!(slots.acquire().is_none() && slots.is_closed());
        assert_eq!(slots.in_flight(), 0);
    }

    /// Drops the ticket as it is woken, so that the completer frees the slot. Panics then, and as it
    /// is dropped.
    struct Rude(Mutex<Option<Ticket<()>>>, Arc<AtomicU32>);

    impl Wake for Rude {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            self.1.fetch_add(1, Ordering::Relaxed);
            panic!("told to");
        }
    }

    impl Drop for Rude {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
            panic!("told to");
        }
    }

    #[test]
    fn a_waker_that_panics_takes_neither_its_completer_nor_the_slot_with_it() {
        let slots = ReplySlots::new(1);
        let calls = Arc::new(AtomicU32::new(0));
        let rude = Arc::new(Rude(Mutex::new(None), Arc::clone(&calls)));
        let mut ticket = slots.acquire().unwrap();
        assert_eq!(poll(&mut ticket, &Waker::from(Arc::clone(&rude))), Poll::Pending);
        *rude.0.lock().unwrap() = Some(ticket);
        drop(rude);
        assert!(slots.complete(0, 0, ()));
        assert_eq!((calls.load(Ordering::Relaxed), slots.in_flight()), (2, 0));
    }

    #[test]
    #[should_panic(expected = "polled after it had given its reply")]
    fn a_finished_ticket_must_not_be_polled() {
        let slots = ReplySlots::new(1);
        let mut ticket = slots.acquire().unwrap();
        assert!(slots.complete(0, 0, ()));
        assert!(poll(&mut ticket, Waker::noop()).is_ready());
        let _ = poll(&mut ticket, Waker::noop());
    }

    #[test]
    fn tickets_work_under_any_runtime() {
        let slots = ReplySlots::new(4);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        runtime.unwrap().block_on(async {
            for number in 0..200_u32 {
                let ticket = slots.acquire().unwrap();
                let (slot, generation) = (ticket.slot(), ticket.generation());
                let worker = slots.clone();
                let completer =
                    tokio::spawn(async move { worker.complete(slot, generation, number) });
                assert_eq!(ticket.await, number);
                assert!(completer.await.unwrap());
            }
        });
        assert_eq!(slots.in_flight(), 0);
    }
}
