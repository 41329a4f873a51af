//! F3: 64-byte items through a single-producer single-consumer ring between two cores.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use rtrb::RingBuffer;
use serde::{Deserialize, Serialize};

use super::{FloorPlan, thread_pair};
use crate::error::{Failure, Result};
use crate::machine::WindowReport;

/// One measurement of F3.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpscFloor {
    /// Items taken out, each checked for its number.
    pub msgs: u64,
    /// Per second of wall time.
    pub msgs_per_s: f64,
    /// This process, with both threads.
    pub window: WindowReport,
}

/// One cache line.
type Item = [u64; 8];

/// Items in the ring: 64 KiB, which the second-level cache holds.
const CAPACITY: usize = 1024;
/// Items between two looks at the clock or at the phase.
const STRIDE: u64 = 1024;

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// Measures F3: one push and one pop per item, both ends spin.
pub fn run(plan: &FloorPlan) -> Result<SpscFloor> {
    let (mut producer, mut consumer) = RingBuffer::<Item>::new(CAPACITY);
    let phase = AtomicU8::new(WARM_UP);
    let phase = &phase;
    // The time begins when items pass: on a busy machine an end may not run for longer than it lasts.
    let (passing, passes): (mpsc::Sender<()>, _) = mpsc::channel();

    let produce = move || {
        let mut number = 0;
        loop {
            for _ in 0..STRIDE {
                let mut item = [number; 8];
                while let Err(rtrb::PushError::Full(back)) = producer.push(item) {
                    if producer.is_abandoned() {
                        // The other end found an error and will tell it.
                        return Ok(number);
                    }
                    item = back;
                    std::hint::spin_loop();
                }
                number += 1;
            }
            if phase.load(Ordering::Relaxed) == STOP {
                // Dropping the producer tells the other end.
                return Ok(number);
            }
        }
    };
    let consume = move || {
        let mut number = 0;
        let mut began: Option<(Instant, u64)> = None;
        let mut ended: Option<(Instant, u64)> = None;
        let mut passing = Some(passing);
        loop {
            match consumer.pop() {
                Ok(item) => {
                    if item[0] != number {
                        let cause = format!("item {} came in place of {number}", item[0]);
                        return Err(Failure::new("pass items through a ring", cause));
                    }
                    number += 1;
                    if number % STRIDE == 0 {
                        match phase.load(Ordering::Relaxed) {
                            MEASURE if began.is_none() => began = Some((Instant::now(), number)),
                            MEASURE => drop(passing.take()),
                            STOP if ended.is_none() => ended = Some((Instant::now(), number)),
                            _ => {}
                        }
                    }
                }
                Err(_) if consumer.is_abandoned() && consumer.is_empty() => break,
                Err(_) => std::hint::spin_loop(),
            }
        }
        // The other end may have heard of the end, and gone, after the last look here.
        let (ended, last) = ended.unwrap_or_else(|| (Instant::now(), number));
        let Some((began, first)) = began else {
            return Err(Failure::new("pass items through a ring", "the other end is gone"));
        };
        Ok((number, last - first, ended.duration_since(began).as_secs_f64()))
    };
    let (pushed, (popped, msgs, seconds), window) = thread_pair::run(
        plan,
        produce,
        consume,
        || {
            phase.store(MEASURE, Ordering::Relaxed);
            // Nothing is said: the end that takes items drops its half, also when it fails.
            let _ = passes.recv();
        },
        || phase.store(STOP, Ordering::Relaxed),
    )?;
    if pushed != popped {
        let cause = format!("{pushed} went in, {popped} came out");
        return Err(Failure::new("pass items through a ring", cause));
    }
    Ok(SpscFloor { msgs, msgs_per_s: msgs as f64 / seconds, window })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::machine::{pin_thread, resolve_cores};

    #[test]
    fn an_end_that_does_not_run_in_time_is_waited_for() {
        let Ok(cores) = resolve_cores(None, 2) else { return };
        let plan = FloorPlan {
            cores: (cores[0], cores[1]),
            frame_bytes: 80,
            duration: Duration::from_millis(10),
        };
        let over = AtomicBool::new(false);
        let busy = || {
            pin_thread(cores[1]).expect("it is allowed");
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let found = thread::scope(|scope| {
            (0..16).for_each(|_| drop(scope.spawn(busy)));
            let found: Vec<_> = (0..3).map(|_| run(&plan)).collect();
            over.store(true, Ordering::Relaxed);
            found
        });
        for floor in found {
            let floor = floor.expect("it is measured");
            assert!(floor.msgs > 0 && floor.msgs_per_s > 0.0, "{floor:?}");
        }
    }
}
