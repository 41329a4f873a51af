//! Load from an ordinary thread, as an application makes it that has no routee of its own: each
//! message changes threads once before it is sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use keyway::{Refusal, Router};

use crate::analysis::histogram::latency_histogram;
use crate::analysis::ledger::SentLedger;
use crate::cluster::clock::now_ns;
use crate::cluster::message::{Load, Load64, Request};
use crate::error::{Attempt, Failure, Result};

/// Messages that are handed over together.
const BATCH: u32 = 512;
/// How long to rest when a queue is full.
const FULL_PAUSE: Duration = Duration::from_micros(200);
/// How often a batch that is not taken is offered before that is an error: 10 s.
const MOST_OFFERS: u32 = 50_000;
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the thread and the commanding one share.
struct State {
    keys: u32,
    sender: u32,
    tells: SentLedger,
    asks: SentLedger,
    next_key: u32,
    latency: Histogram<u64>,
    warm_up_ends_ns: u64,
}

/// A thread that can send; it does so between [`ThreadLoad::start`] and [`ThreadLoad::stop`].
pub struct ThreadLoad {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    /// Asks that were answered.
    pub answered: Arc<AtomicU64>,
    running: Mutex<Option<JoinHandle<Result<()>>>>,
}

impl ThreadLoad {
    /// A thread that sends keys `0..keys`; its tells carry the sender's number, its asks the next.
    pub fn new(sender: u32, keys: u32) -> Result<Self> {
        let ledger =
            |sender| SentLedger::in_memory(sender, keys).attempting("make a sender's ledger");
        let state = State {
            keys,
            sender,
            tells: ledger(sender)?,
            asks: ledger(sender + 1)?,
            next_key: 0,
            latency: latency_histogram(),
            warm_up_ends_ns: 0,
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            stop: Arc::default(),
            answered: Arc::default(),
            running: Mutex::default(),
        })
    }

    /// Begins to send through a handle of the thread's own: asks one after another, or tells in
    /// batches.
    pub fn start(&self, router: Router, asks: bool, warm_up_ends_ns: u64) -> Result<()> {
        self.stop()?;
        self.stop.store(false, Ordering::Relaxed);
        let (state, stop) = (Arc::clone(&self.state), Arc::clone(&self.stop));
        let answered = Arc::clone(&self.answered);
        let send = move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.latency.reset();
            state.warm_up_ends_ns = warm_up_ends_ns;
            while !stop.load(Ordering::Relaxed) {
                if asks { state.ask(&router, &answered) } else { state.batch(&router)? }
            }
            Ok(())
        };
        let thread = std::thread::Builder::new()
            .name("application".to_owned())
            .spawn(send)
            .attempting("start a sending thread")?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Sends nothing more.
    pub fn stop(&self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(Failure::new("send from a thread", "it panicked")),
        }
    }

    /// The ledgers so far and the round trips since the last start. Call it when stopped.
    pub fn report(&self) -> (Vec<crate::analysis::ledger::SentRecord>, Histogram<u64>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (vec![state.tells.to_record(), state.asks.to_record()], state.latency.clone())
    }
}

impl State {
    fn next_key(&mut self) -> u32 {
        let key = self.next_key;
        self.next_key = if key + 1 == self.keys { 0 } else { key + 1 };
        key
    }

    fn batch(&mut self, router: &Router) -> Result<()> {
        let mut batch = router.batch();
        for _ in 0..BATCH {
            let key = self.next_key();
            let sequence = self.tells.begin(key);
            match batch.tell(&Load64::new(self.sender, key, sequence, 0)) {
                Ok(()) => self.tells.accepted(key),
                Err(_) => {
                    self.tells.refused(key);
                    std::thread::sleep(FULL_PAUSE);
                    break;
                }
            }
        }
        // What was accepted must go out: dropped with the batch it would count as refused.
        for _ in 0..MOST_OFFERS {
            match batch.flush() {
                Ok(()) => return Ok(()),
                Err(Refusal::QueueFull) => std::thread::sleep(FULL_PAUSE),
                Err(why) => return Err(Failure::new("hand a batch over", why)),
            }
        }
        Err(Failure::new("hand a batch over", "the queue stayed full"))
    }

    fn ask(&mut self, router: &Router, answered: &AtomicU64) {
        let key = self.next_key();
        let sequence = self.asks.begin(key);
        let made_ns = now_ns();
        let request = Request {
            sender: self.sender + 1,
            reserved: 0,
            key: u64::from(key),
            sequence,
            due_ns: made_ns,
            pad: [0; 4],
        };
        match router.ask(&request).within(ASK_TIMEOUT).wait() {
            Err(keyway::AskError::Refused(_)) => {
                self.asks.refused(key);
                std::thread::sleep(FULL_PAUSE);
            }
            outcome => {
                self.asks.accepted(key);
                if outcome.is_ok() {
                    answered.fetch_add(1, Ordering::Relaxed);
                    if made_ns >= self.warm_up_ends_ns {
                        self.latency.saturating_record(now_ns() - made_ns);
                    }
                }
            }
        }
    }
}
