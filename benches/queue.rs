//! What it costs to hand something to another thread, piece by piece.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use keyway::queue::{ReplySlots, Room, Weigh, injector, ring, sleeper};

const CAPACITY: usize = 1_024;
/// As large as a queued command: a handful of words.
type Item = [u64; 8];

/// An item that weighs nothing in an injection queue.
struct Small(Item);

/// An ask's slot and its use.
struct Asked(u32, u32);

impl Weigh for Asked {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Small {
    fn weight(&self) -> usize {
        0
    }
}

fn within_a_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue_within_a_thread");
    let (_sleeper, waker) = sleeper(|| ());

    group.bench_function("notify_awake", |bench| bench.iter(|| black_box(&waker).notify()));

    let (mut sender, mut receiver) = ring::<Item>(CAPACITY, waker.clone());
    group.bench_function("ring_push_pop", |bench| {
        bench.iter(|| {
            sender.push(black_box([1; 8])).expect("room");
            receiver.pop()
        });
    });
    group.bench_function("ring_push_pop_in_batches_of_32", |bench| {
        bench.iter_custom(|items| {
            let started = Instant::now();
            for _ in 0..items.div_ceil(32) {
                for _ in 0..32 {
                    sender.push_quiet(black_box([1; 8])).expect("room");
                }
                sender.notify();
                receiver.drain(32, |item| {
                    black_box(item);
                });
            }
            started.elapsed().mul_f64(items as f64 / (items.div_ceil(32) * 32) as f64)
        });
    });

    let (injector, mut injected) = injector::<Small>(Room { items: CAPACITY, bytes: 0 }, waker);
    group.bench_function("injector_push_pop", |bench| {
        bench.iter(|| {
            injector.push(Small(black_box([1; 8]))).expect("room");
            injected.pop()
        });
    });

    // As many slots as a node has unless configured otherwise: most are not in the cache.
    let slots = ReplySlots::<Item>::new(65_536);
    group.bench_function("reply_acquire_complete_wait", |bench| {
        bench.iter(|| {
            let ticket = slots.acquire().expect("none in flight");
            slots.complete(ticket.slot(), ticket.generation(), black_box([1; 8]));
            ticket.wait()
        });
    });
    group.finish();
}

/// Time per item while a second thread drains as fast as it can.
fn stream_to_a_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue_stream_to_a_thread");
    let (_sleeper, waker) = sleeper(|| ());

    let (mut sender, mut receiver) = ring::<Item>(CAPACITY, waker.clone());
    group.bench_function("ring", |bench| {
        bench.iter_custom(|items| {
            thread::scope(|scope| {
                let started = Instant::now();
                let (sender, receiver) = (&mut sender, &mut receiver);
                scope.spawn(move || {
                    for _ in 0..items {
                        while sender.push([1; 8]).is_err() {
                            std::hint::spin_loop();
                        }
                    }
                });
                let mut seen = 0;
                while seen < items {
                    seen += receiver.drain(CAPACITY, |item| {
                        black_box(item);
                    }) as u64;
                }
                started.elapsed()
            })
        });
    });

    let (injector, mut injected) = injector::<Small>(Room { items: CAPACITY, bytes: 0 }, waker);
    group.bench_function("injector", |bench| {
        bench.iter_custom(|items| {
            thread::scope(|scope| {
                let started = Instant::now();
                let (injector, injected) = (&injector, &mut injected);
                scope.spawn(move || {
                    for _ in 0..items {
                        while injector.push(Small([1; 8])).is_err() {
                            std::hint::spin_loop();
                        }
                    }
                });
                let mut seen = 0;
                while seen < items {
                    seen += injected.drain(CAPACITY, |Small(item)| {
                        black_box(item);
                    }) as u64;
                }
                started.elapsed()
            })
        });
    });
    group.finish();
}

/// Time from this thread to another and back, both spinning.
fn round_trip_between_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue_round_trip_between_threads");
    let (_sleeper, waker) = sleeper(|| ());
    let stop = AtomicBool::new(false);

    thread::scope(|scope| {
        let (mut request, mut requests) = ring::<Item>(CAPACITY, waker.clone());
        let (mut response, mut responses) = ring::<Item>(CAPACITY, waker.clone());
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                requests.drain(CAPACITY, |item| response.push(item).expect("one in flight"));
            }
        });
        group.bench_function("ring", |bench| {
            bench.iter(|| {
                request.push([1; 8]).expect("one in flight");
                loop {
                    if let Some(item) = responses.pop() {
                        break item;
                    }
                }
            });
        });
        stop.store(true, Ordering::Relaxed);
    });

    // An ask as an application thread sees it: injected, completed, the caller parked meanwhile.
    stop.store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        let (injector, mut injected) = injector::<Asked>(Room { items: CAPACITY, bytes: 0 }, waker);
        let slots = ReplySlots::<Item>::new(65_536);
        let (stop, worker) = (&stop, slots.clone());
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                injected.drain(CAPACITY, |Asked(slot, generation)| {
                    worker.complete(slot, generation, [1; 8]);
                });
            }
        });
        group.bench_function("ask_with_the_asker_parked", |bench| {
            bench.iter(|| {
                let ticket = slots.acquire().expect("one in flight");
                injector.push(Asked(ticket.slot(), ticket.generation())).expect("room");
                ticket.wait()
            });
        });
        stop.store(true, Ordering::Relaxed);
    });
    group.finish();
}

criterion_group!(benches, within_a_thread, stream_to_a_thread, round_trip_between_threads);
criterion_main!(benches);
