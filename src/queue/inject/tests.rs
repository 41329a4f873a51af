//! The way into a worker: its bounds, its counts, its end, and many threads at once.

use super::super::sleeper;
use super::*;

/// A number that weighs what it says beyond ten.
impl Weigh for i32 {
    fn weight(&self) -> usize {
        if *self > 10 { *self as usize } else { 0 }
    }
}

impl Weigh for (usize, usize) {
    fn weight(&self) -> usize {
        20 * (self.1 % 2)
    }
}

fn room(items: usize) -> Room {
    Room { items, bytes: 100 }
}

#[test]
fn a_queue_takes_so_many_bytes() {
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(8), waker);
    injector.push(60).unwrap();
    assert_eq!(injector.push(41), Err(Full(41)));
    injector.push(40).unwrap();
    assert_eq!(injector.push(11), Err(Full(11)));
    injector.push(10).unwrap();
    assert_eq!((injected.pop(), injected.pop()), (Some(60), Some(40)));
    // What is heavier than all has its turn when it is alone.
    injector.push(300).unwrap();
    assert_eq!(injector.push(11), Err(Full(11)));
    assert_eq!((injected.pop(), injected.pop(), injected.pop()), (Some(10), Some(300), None));
    assert_eq!(injector.push(100), Ok(()));
}

#[test]
fn a_narrow_queue_takes_less_of_what_may_wait_on_and_all_of_the_rest() {
    /// Its weight, and whether it may have to wait on.
    #[derive(Debug, PartialEq)]
    struct Item(usize, bool);
    impl Weigh for Item {
        fn weight(&self) -> usize {
            self.0
        }
        fn may_wait_on(&self) -> bool {
            self.1
        }
    }
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(8), waker);
    injector.narrow(Some(Room { items: 2, bytes: 30 }));
    injector.push(Item(20, true)).unwrap();
    assert_eq!(injector.push(Item(11, true)), Err(Full(Item(11, true))));
    injector.push(Item(0, true)).unwrap();
    assert_eq!(injector.push(Item(0, true)), Err(Full(Item(0, true))));
    injector.push(Item(40, false)).unwrap();
    while injected.pop().is_some() {}
    // What is heavier than all has its turn when it is alone.
    injector.push(Item(40, true)).unwrap();
    assert_eq!(injector.push(Item(1, true)), Err(Full(Item(1, true))));
    injector.narrow(None);
    injector.push(Item(40, true)).unwrap();
    while injected.pop().is_some() {}
    injector.narrow(Some(Room { items: 0, bytes: 0 }));
    assert!(injector.push(Item(0, true)).is_err() && injector.push(Item(0, false)).is_ok());
    injected.close(drop);
    injector.narrow(None);
    assert!(injector.is_closed() && injector.push(Item(0, false)).is_err());
}

#[test]
fn what_is_handed_over_is_counted_in_messages_from_the_push_on() {
    /// So many messages.
    #[derive(Debug, PartialEq)]
    struct Batch(u64);
    impl Weigh for Batch {
        fn weight(&self) -> usize {
            0
        }
        fn messages(&self) -> u64 {
            self.0
        }
    }
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(4), waker);
    let mut sum = 0;
    for messages in [1, 5, 0, 7] {
        injector.push(Batch(messages)).unwrap();
        sum += messages;
        assert_eq!(injector.handed_over(), sum);
    }
    for messages in [0, 1, 9] {
        injector.push(Batch(messages)).unwrap_err();
        assert_eq!(injector.handed_over(), sum, "what is refused is not");
    }
    for messages in [1, 5] {
        assert_eq!(injected.pop(), Some(Batch(messages)));
        assert_eq!(injector.handed_over(), sum, "nor is anything less when it is taken");
    }
    assert_eq!(injector.push(Batch(2)), Ok(()));
    injected.close(|_| assert!((sum + 2..=sum + 6).contains(&injector.handed_over())));
    assert_eq!((injected.pop(), injector.handed_over()), (None, sum + 2));
    injector.push(Batch(3)).unwrap_err();
    assert_eq!(injector.handed_over(), sum + 2, "nothing is added to a closed one");
}

#[test]
fn what_is_handed_over_is_never_less_than_what_was_accepted_while_it_is_taken() {
    const EACH: u64 = 20_000;
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(8), waker);
    let ends = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            for accepted in 1..=EACH {
                while injector.push(1).is_err() {
                    std::thread::yield_now();
                }
                let counted = injector.handed_over();
                assert!(counted >= accepted, "{counted} of {accepted}");
            }
        });
        let mut taken = 0;
        while taken < EACH {
            taken += u64::from(injected.pop().is_some());
        }
        producer.join()
    });
    assert!(ends.is_ok());
    assert_eq!(injector.handed_over(), EACH);
}

#[test]
fn what_is_handed_over_is_never_more_than_what_was_pushed_and_never_falls() {
    /// So many messages.
    struct Batch(u64);
    impl Weigh for Batch {
        fn weight(&self) -> usize {
            0
        }
        fn messages(&self) -> u64 {
            self.0
        }
    }
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(8), waker);
    let (begun, over) = (std::sync::atomic::AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (injector, begun, over) = (&injector, &begun, &over);
        let producer = scope.spawn(move || {
            let mut accepted = 0;
            // Many are refused, since others wait.
            for messages in (0..1_000_000_u64).map(|number| number * 7 % 5) {
                begun.store(accepted + messages, Ordering::SeqCst);
                accepted += messages * u64::from(injector.push(Batch(messages)).is_ok());
            }
            over.store(1, Ordering::SeqCst);
            accepted
        });
        scope.spawn(move || {
            let mut last = 0;
            while over.load(Ordering::SeqCst) == 0 {
                let seen = injector.handed_over();
                assert!(seen >= last, "it falls from {last} to {seen}");
                let begun = begun.load(Ordering::SeqCst);
                assert!(seen <= begun, "{seen} of {begun}");
                last = seen;
            }
        });
        while over.load(Ordering::SeqCst) == 0 {
            injected.drain(3, drop);
            std::hint::spin_loop();
        }
        let accepted = producer.join().unwrap();
        assert_eq!(injector.handed_over(), accepted);
        injected.close(drop);
        assert_eq!(injector.handed_over(), accepted);
    });
}

#[test]
fn what_finds_no_place_gives_its_bytes_back() {
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(1), waker);
    injector.push(1).unwrap();
    for _ in 0..10 {
        assert_eq!(injector.push(90), Err(Full(90)));
    }
    assert_eq!(injected.pop(), Some(1));
    injector.push(90).unwrap();
}

#[test]
fn a_full_queue_hands_the_item_back() {
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(2), waker);
    injector.push(1).unwrap();
    injector.push_quiet(2).unwrap();
    assert_eq!(injector.push(3), Err(Full(3)));
    assert_eq!(injector.push_quiet(4).unwrap_err().into_inner(), 4);
    assert_eq!((injector.len(), injector.capacity()), (2, 2));
    assert_eq!(injected.pop(), Some(1));
    injector.push(5).unwrap();
    let mut drained = vec![];
    assert_eq!(injected.drain(1, |item| drained.push(item)), 1);
    assert_eq!(injected.drain(10, |item| drained.push(item)), 1);
    assert_eq!(drained, [2, 5]);
    assert!(injected.is_empty() && injector.is_empty());
}

#[test]
fn a_closed_queue_has_given_out_what_it_took_and_takes_nothing_more() {
    let (_sleeper, waker) = sleeper(|| ());
    let (injector, mut injected) = injector(room(3), waker);
    injector.push(1).unwrap();
    injector.push(2).unwrap();
    let mut rest = vec![];
    injected.close(|item| rest.push(item));
    assert_eq!(rest, [1, 2]);
    assert!(injector.is_closed());
    assert_eq!(injector.push(3), Err(Full(3)));
}

#[test]
fn every_item_of_many_threads_arrives_in_its_threads_order() {
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    let worker = std::thread::current();
    let (sleeper, waker) = sleeper(move || worker.unpark());
    let (injector, mut injected) = injector(room(64), waker);
    let mut next = [0; THREADS];
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let injector = injector.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    while injector.push((thread, number)).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut seen = 0;
        while seen < THREADS * EACH {
            seen += injected.drain(16, |(thread, number): (usize, usize)| {
                assert_eq!(next[thread], number);
                next[thread] += 1;
            });
            sleeper.announce();
            if injected.is_empty() && seen < THREADS * EACH {
                // A lost wake-up would leave this thread here for good.
                std::thread::park();
            }
            sleeper.awake();
        }
    });
    assert_eq!(next, [EACH; THREADS]);
    assert!(injected.is_empty());
}
