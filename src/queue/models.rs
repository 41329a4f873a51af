//! Loom models: the protocols in this folder under every interleaving and every stale load that
//! the memory model allows.
//!
//! Run with `cargo test --release -p keyway-loom`. A lost wake-up shows as loom's «deadlock», a
//! data race on a cell as its «concurrent access».

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::*;

/// For models of three threads, which take minutes when any number of preemptions is tried.
fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Two producers each put one item into a ring of their own and notify; the worker sleeps until it
/// has both. A ring is modelled by its write index, with the orderings of a real one: a mutex in
/// its place would bring fences of its own and hide the absence of ours.
fn sleep_until_both_came(notify: fn(&Waker), re_check: bool) {
    bounded(4, move || {
        let worker = thread::current();
        let (sleeper, waker) = sleeper(move || worker.unpark());
        let rings = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        for ring in rings.clone() {
            let waker = waker.clone();
            thread::spawn(move || {
                ring.store(1, Ordering::Release);
                notify(&waker);
            });
        }
        let arrived = || rings.iter().map(|ring| ring.load(Ordering::Acquire)).sum::<usize>();
        let mut seen = arrived();
        while seen < 2 {
            sleeper.announce();
            if !re_check || arrived() == seen {
                thread::park();
            }
            sleeper.awake();
            seen = arrived();
        }
    });
}

#[test]
fn no_wake_up_is_lost() {
    sleep_until_both_came(Waker::notify, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_re_check_a_wake_up_is_lost() {
    sleep_until_both_came(Waker::notify, false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_producers_fence_a_wake_up_is_lost() {
    sleep_until_both_came(Waker::wake_if_sleeping, true);
}

#[test]
fn one_sleep_is_ended_by_one_call() {
    loom::model(|| {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let (sleeper, waker) = sleeper(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        sleeper.announce();
        let producers = [waker.clone(), waker].map(|waker| thread::spawn(move || waker.notify()));
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

const ROOM: Room = Room { items: 2, bytes: 4 };

impl Weigh for i32 {
    fn weight(&self) -> usize {
        *self as usize
    }
}

#[test]
fn a_queue_never_holds_more_bytes_than_it_may_and_none_is_lost() {
    bounded(3, || {
        let (_sleeper, waker) = sleeper(|| ());
        let (injector, mut injected) = injector(ROOM, waker);
        let held = Arc::new(AtomicUsize::new(0));
        let producers = [2, 3].map(|weight: i32| {
            let (injector, held) = (injector.clone(), held.clone());
            thread::spawn(move || {
                let accepted = injector.push(weight).is_ok();
                if accepted {
                    held.fetch_add(weight as usize, Ordering::Relaxed);
                }
                accepted
            })
        });
        let taken: i32 = injected.pop().unwrap_or(0);
        let accepted = producers.map(|producer| producer.join().unwrap());
        assert!(accepted != [false; 2], "one of them finds it empty");
        let left = held.load(Ordering::Relaxed) - taken as usize;
        assert!(left <= 4, "{left} bytes wait");
        while injected.pop().is_some() {}
        assert!(injector.push(4).is_ok(), "all bytes came back");
    });
}

#[test]
fn what_was_handed_over_is_never_counted_as_less() {
    bounded(3, || {
        let (_sleeper, waker) = sleeper(|| ());
        let (injector, mut injected) = injector(ROOM, waker);
        let producer = {
            let injector = injector.clone();
            thread::spawn(move || {
                let mut accepted = 0;
                for _ in 0..2 {
                    accepted += u64::from(injector.push(0).is_ok());
                    assert!(injector.handed_over() >= accepted);
                }
                accepted
            })
        };
        let mut taken = u64::from(injected.pop().is_some());
        injected.close(|_: i32| taken += 1);
        assert_eq!(producer.join().unwrap(), taken);
        assert_eq!(injector.handed_over(), taken);
    });
}

/// Carries no message.
struct Void;

impl Weigh for Void {
    fn weight(&self) -> usize {
        0
    }

    fn messages(&self) -> u64 {
        0
    }
}

#[test]
fn what_carries_no_message_never_counts_as_less_than_none() {
    bounded(3, || {
        let (_sleeper, waker) = sleeper(|| ());
        let (injector, mut injected) = injector(ROOM, waker);
        let producer = {
            let injector = injector.clone();
            thread::spawn(move || injector.push(Void).is_ok())
        };
        let seen = injector.handed_over();
        assert!(seen <= 1, "{seen}");
        injected.pop();
        assert!(injector.handed_over() <= 1);
        assert!(producer.join().unwrap());
        assert_eq!(injector.handed_over(), 0);
    });
}

/// So many messages.
struct Run(u64);

impl Weigh for Run {
    fn weight(&self) -> usize {
        0
    }

    fn messages(&self) -> u64 {
        self.0
    }
}

#[test]
fn what_is_counted_at_a_quiet_moment_is_what_was_handed_over_by_then() {
    bounded(3, || {
        let (_sleeper, waker) = sleeper(|| ());
        let (injector, mut injected) = injector(ROOM, waker);
        let (begun, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let producer = {
            let (injector, begun, done) = (injector.clone(), begun.clone(), done.clone());
            thread::spawn(move || {
                begun.store(3, Ordering::Release);
                assert!(injector.push(Run(3)).is_ok());
                done.store(3, Ordering::Release);
                assert!(injector.push(Run(0)).is_ok());
            })
        };
        let observer = {
            let (injector, begun, done) = (injector.clone(), begun, done);
            thread::spawn(move || {
                let least = done.load(Ordering::Acquire) as u64;
                if let Some(seen) = injector.handed_over_now() {
                    assert!(seen >= least, "{seen} of {least}");
                    let most = begun.load(Ordering::Acquire) as u64;
                    assert!(seen <= most, "{seen} of {most}");
                }
            })
        };
        injected.pop();
        producer.join().unwrap();
        observer.join().unwrap();
        assert_eq!(injector.handed_over_now(), Some(3));
    });
}

#[test]
fn an_injected_item_reaches_a_worker_that_goes_to_sleep() {
    bounded(3, || {
        let worker = thread::current();
        let (sleeper, waker) = sleeper(move || worker.unpark());
        let (injector, mut injected) = injector(ROOM, waker);
        for number in [1, 2] {
            let injector = injector.clone();
            thread::spawn(move || injector.push(number).unwrap());
        }
        let (mut count, mut sum) = (0, 0);
        while count < 2 {
            count += injected.drain(2, |number: i32| sum += number);
            sleeper.announce();
            if injected.is_empty() && count < 2 {
                thread::park();
            }
            sleeper.awake();
        }
        assert_eq!(sum, 3);
    });
}

#[test]
fn what_a_closing_queue_accepted_is_taken_out() {
    bounded(3, || {
        let (_sleeper, waker) = sleeper(|| ());
        let (injector, mut injected) = injector(ROOM, waker);
        let producers = [1, 2].map(|number| {
            let injector = injector.clone();
            thread::spawn(move || injector.push(number).map_or(0, |()| number))
        });
        let mut taken = 0;
        injected.close(|number: i32| taken += number);
        // Whatever was late, the flag or the queue itself has refused it.
        let accepted: i32 = producers.map(|producer| producer.join().unwrap()).into_iter().sum();
        assert_eq!(taken, accepted);
        assert!(injector.push(3).is_err(), "nothing is taken after the closing");
    });
}

/// What lies between the halves is a real ring, which loom does not look into; it is made and given
/// back under the lock that loom sees.
#[test]
fn what_was_pushed_when_both_halves_of_a_ring_close_comes_to_one_of_them() {
    bounded(3, || {
        let (_sleeper, waker) = sleeper(|| ());
        let (mut sender, mut receiver) = ring(2, waker);
        let producer = thread::spawn(move || {
            let mut back = 0;
            for number in [1, 2] {
                back += sender.push(number).map_or(number, |()| 0);
            }
            sender.close(|number| back += number);
            back
        });
        let mut taken = receiver.pop().unwrap_or(0);
        receiver.close(|number: i32| taken += number);
        assert_eq!(taken + producer.join().unwrap(), 3);
    });
}

#[test]
fn a_blocked_ask_gets_its_reply_from_the_first_of_two_completers() {
    loom::model(|| {
        let slots = ReplySlots::new(1);
        let ticket = slots.acquire().unwrap();
        let completers = [1, 2].map(|value| {
            let slots = slots.clone();
            thread::spawn(move || slots.complete(0, 0, value).then_some(value))
        });
        let reply = ticket.wait();
        // Joined before the slot is looked for: a completer may be the one that frees it.
        let accepted = completers.map(|completer| completer.join().unwrap());
        assert!(matches!(accepted, [Some(value), None] | [None, Some(value)] if value == reply));
        assert!(slots.acquire().is_some(), "the slot came back");
    });
}

#[test]
fn an_ask_polled_by_changing_tasks_is_not_forgotten() {
    loom::model(|| {
        let slots = ReplySlots::new(1);
        let mut ticket = slots.acquire().unwrap();
        let completer = {
            let slots = slots.clone();
            thread::spawn(move || assert!(slots.complete(0, 0, Box::new(7))))
        };
        // The first task only looks; the second one is this thread, and must be woken.
        let mut other_task = Context::from_waker(std::task::Waker::noop());
        let early = Pin::new(&mut ticket).poll(&mut other_task);
        let reply = match early {
            Poll::Ready(reply) => {
                drop(ticket);
                reply
            }
            Poll::Pending => ticket.wait(),
        };
        assert_eq!(*reply, 7);
        completer.join().unwrap();
        assert_eq!(slots.acquire().unwrap().generation(), 1);
    });
}

#[test]
fn a_ticket_dropped_during_its_reply_frees_its_slot_once() {
    loom::model(|| {
        let slots = ReplySlots::new(1);
        let mut ticket = slots.acquire().unwrap();
        let value = Arc::new(());
        let completer = {
            let (slots, value) = (slots.clone(), value.clone());
            thread::spawn(move || slots.complete(0, 0, value))
        };
        let mut task = Context::from_waker(std::task::Waker::noop());
        let reply = Pin::new(&mut ticket).poll(&mut task);
        drop(ticket);
        let accepted = completer.join().unwrap();
        assert!(accepted || reply.is_pending(), "a reply that was read was accepted");
        drop(reply);
        assert_eq!(Arc::strong_count(&value), 1, "an unread reply is dropped");
        let next = slots.acquire().expect("the slot came back");
        assert_eq!(next.generation(), 1);
        assert!(slots.acquire().is_none(), "and came back once");
    });
}

#[test]
fn a_late_reply_never_matches_the_slots_next_ask() {
    loom::model(|| {
        let slots = ReplySlots::new(1);
        let given_up = slots.acquire().unwrap();
        let late = {
            let slots = slots.clone();
            thread::spawn(move || slots.complete(0, 0, "late"))
        };
        drop(given_up);
        // The late completer may hold the slot for a moment.
        if let Some(next) = slots.acquire() {
            let generation = next.generation();
            assert!(slots.complete(0, generation, "own"));
            assert_eq!(next.wait(), "own");
        }
        late.join().unwrap();
        assert!(slots.acquire().is_some(), "the slot came back");
    });
}

#[test]
fn closing_reaches_every_ask_that_was_admitted() {
    loom::model(|| {
        let slots = ReplySlots::new(1);
        let asker = {
            let slots = slots.clone();
            thread::spawn(move || slots.acquire().map(Ticket::wait))
        };
        slots.close(|| "stopped");
        assert!(matches!(asker.join().unwrap(), None | Some("stopped")));
        assert_eq!(slots.in_flight(), 0);
    });
}

/// Counts how many of it there are.
struct Snapshot(usize, Arc<AtomicUsize>);

impl Snapshot {
    fn new(number: usize, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(number, alive.clone())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Control tells its worker only of a place that was empty. `put` says whether it was.
fn the_latest_arrives(put: fn(&Latest<Snapshot>, Snapshot) -> bool) {
    bounded(3, move || {
        let worker = thread::current();
        let (sleeper, waker) = sleeper(move || worker.unpark());
        let (latest, alive) = (Latest::default(), Arc::new(AtomicUsize::new(0)));
        // How often the worker was told, with the orderings of a ring's write index.
        let told = Arc::new(AtomicUsize::new(0));
        let control = {
            let (latest, alive, told) = (latest.clone(), alive.clone(), told.clone());
            thread::spawn(move || {
                for number in 1..=3 {
                    if put(&latest, Snapshot::new(number, &alive)) {
                        told.store(told.load(Ordering::Relaxed) + 1, Ordering::Release);
                        waker.notify();
                    }
                    // The one that waits, the one that the worker has, and none that was replaced.
                    assert!(alive.load(Ordering::Relaxed) <= 2);
                }
            })
        };
        let (mut seen, mut last) = (0, 0);
        while last < 3 {
            if told.load(Ordering::Acquire) > seen {
                seen += 1;
                let next = latest.take().expect("whoever was told of one finds one");
                assert!(next.0 > last, "none comes twice, and none after a later one");
                last = next.0;
                continue;
            }
            sleeper.announce();
            if told.load(Ordering::Acquire) == seen {
                thread::park();
            }
            sleeper.awake();
        }
        control.join().unwrap();
        assert!(latest.take().is_none(), "each is taken once");
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn the_latest_always_reaches_its_taker_and_no_other_is_held() {
    the_latest_arrives(Latest::put);
}

/// Were the one before taken out first, its taker could come in between.
#[test]
#[should_panic(expected = "whoever was told of one finds one")]
fn if_one_were_not_replaced_at_once_its_taker_would_find_none() {
    the_latest_arrives(|latest, value| {
        let empty = latest.take().is_none();
        latest.put(value);
        empty
    });
}
