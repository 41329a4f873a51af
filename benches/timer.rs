//! The timer wheel beside the standard library's binary heap, with the timers of asks in mind: each
//! is started 100 ms to 10 s ahead, and nearly all are cancelled because the reply came.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keyway::base::{Time, TimerWheel};

const STANDING: [usize; 3] = [100, 10_000, 1_000_000];
const MS: u64 = 1_000_000;

/// Deadlines without a pattern, equal in each run.
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_nanos(100 * MS + (self.0 >> 33) % (9_900 * MS))
    }
}

fn wheel_of(timers: usize, delays: &mut Delays) -> TimerWheel<u64> {
    let mut wheel = TimerWheel::with_capacity(Duration::from_millis(1), Time::ZERO, timers + 1);
    for timer in 0..timers {
        wheel.insert(Time::ZERO.plus(delays.next()), timer as u64);
    }
    wheel
}

fn heap_of(timers: usize, delays: &mut Delays) -> BinaryHeap<Reverse<(Time, u64)>> {
    let mut heap = BinaryHeap::with_capacity(timers + 1);
    heap.extend((0..timers).map(|timer| Reverse((Time::ZERO.plus(delays.next()), timer as u64))));
    heap
}

/// One ask: a timer starts and is cancelled again. A heap cannot cancel: it is left out.
fn start_and_cancel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timer_start_and_cancel");
    for standing in STANDING {
        group.bench_function(BenchmarkId::new("wheel", standing), |bench| {
            let mut delays = Delays(1);
            let mut wheel = wheel_of(standing, &mut delays);
            bench.iter(|| {
                let key = wheel.insert(Time::ZERO.plus(delays.next()), 0);
                wheel.cancel(black_box(key))
            });
        });
    }
    group.finish();
}

/// Time goes on by one tick; each timer that fires starts another, so that as many stand as before.
fn start_and_fire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timer_start_and_fire");
    // Per timer: criterion's iterations are timers fired, not ticks.
    group.throughput(Throughput::Elements(1));
    for standing in STANDING {
        group.bench_function(BenchmarkId::new("wheel", standing), |bench| {
            let mut delays = Delays(1);
            let mut wheel = wheel_of(standing, &mut delays);
            let mut now = Time::ZERO;
            bench.iter_custom(|timers| {
                let started = std::time::Instant::now();
                let mut fired = 0;
                while fired < timers {
                    now = wheel.next_deadline().expect("timers stand");
                    let count = wheel.expire(now, |timer| {
                        black_box(timer);
                    }) as u64;
                    for timer in 0..count {
                        wheel.insert(now.plus(delays.next()), timer);
                    }
                    fired += count;
                }
                started.elapsed().mul_f64(timers as f64 / fired.max(1) as f64)
            });
        });
        group.bench_function(BenchmarkId::new("binary_heap", standing), |bench| {
            let mut delays = Delays(1);
            let mut heap = heap_of(standing, &mut delays);
            bench.iter(|| {
                let Reverse((at, timer)) = heap.pop().expect("timers stand");
                heap.push(Reverse((at.plus(delays.next()), black_box(timer))));
            });
        });
    }
    group.finish();
}

/// What a duty cycle pays when nothing is due.
fn nothing_due(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timer_nothing_due");
    for standing in STANDING {
        let mut delays = Delays(1);
        let mut wheel = wheel_of(standing, &mut delays);
        group.bench_function(BenchmarkId::new("wheel", standing), |bench| {
            bench.iter(|| {
                let fired = wheel.expire(black_box(Time(MS)), |timer| {
                    black_box(timer);
                });
                (fired, wheel.next_deadline())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, start_and_cancel, start_and_fire, nothing_due);
criterion_main!(benches);
