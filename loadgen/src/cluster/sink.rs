//! The routee at `/load/sink`: counts, checks and times what arrives, and answers asks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use keyway::{Context, Handler, Routee};

use super::clock::{Offset, now_ns};
use super::message::{
    Answer, ArchivedLoad64, ArchivedLoad256, ArchivedLoad1024, ArchivedLoad4096, ArchivedPoke,
    ArchivedRequest, Load64, Load256, Load1024, Load4096, Poke, Request,
};
use crate::analysis::histogram::LatencyRecorder;
use crate::analysis::ledger::{ReceivedLedger, Shape};

/// Where sinks are served.
pub const SINK_PATH: &str = "/load/sink";

/// What the commanding thread and the sinks of one process share.
pub struct SinkShared {
    /// The node's number within the run.
    pub node: u32,
    /// Where its ledgers are, one per worker.
    pub ledger_folder: PathBuf,
    /// How large they are.
    pub shape: Shape,
    /// From the node's clock to the machine's.
    pub offset: Offset,
    /// By worker: how many messages it handled.
    pub handled: Vec<Handled>,
    orders: Mutex<Orders>,
    answered: Condvar,
}

/// A worker's count on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct Handled(AtomicU64);

#[derive(Default)]
struct Orders {
    warm_up_ends_ns: u64,
    /// By worker: what it recorded.
    taken: Vec<Option<Histogram<u64>>>,
}

/// The file of one worker's ledger.
pub fn ledger_path(folder: &std::path::Path, node: u32, worker: u16) -> PathBuf {
    folder.join(format!("received-{node}-{worker}.ledger"))
}

impl SinkShared {
    /// State for so many workers.
    pub fn new(
        node: u32,
        ledger_folder: PathBuf,
        shape: Shape,
        offset: Offset,
        workers: usize,
    ) -> Self {
        Self {
            node,
            ledger_folder,
            shape,
            offset,
            handled: (0..workers).map(|_| Handled::default()).collect(),
            orders: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// Messages handled so far, exact to the message.
    pub fn handled(&self) -> u64 {
        self.handled.iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
    }

    /// Takes the latencies of all workers and begins new histograms. `poke` makes each worker
    /// look at its orders.
    pub fn take_latencies(
        &self,
        warm_up_ends_ns: u64,
        poke: impl FnOnce() -> Result<(), String>,
    ) -> Result<Vec<Histogram<u64>>, String> {
        {
            let mut orders = self.lock();
            orders.warm_up_ends_ns = warm_up_ends_ns;
            orders.taken = self.handled.iter().map(|_| None).collect();
        }
        poke()?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut orders = self.lock();
        while orders.taken.iter().any(Option::is_none) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("a worker did not hand over its latencies within 5 s".to_owned());
            }
            orders = match self.answered.wait_timeout(orders, left) {
                Ok((orders, _)) => orders,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(orders.taken.drain(..).flatten().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's routee.
pub struct Sink {
    shared: Arc<SinkShared>,
    worker: u16,
    ledger: ReceivedLedger,
    latency: LatencyRecorder,
    count: u64,
}

impl Sink {
    /// The sink of one worker.
    ///
    /// # Panics
    /// If its ledger cannot be mapped: a sink that counts nothing is of no use.
    pub fn new(shared: &Arc<SinkShared>, worker: u16) -> Self {
        let path = ledger_path(&shared.ledger_folder, shared.node, worker);
        let ledger = ReceivedLedger::in_file(&path, shared.shape)
            .unwrap_or_else(|cause| panic!("could not map the ledger {path:?}: {cause}"));
        let count = shared.handled[usize::from(worker)].0.load(Ordering::Relaxed);
        Self { shared: Arc::clone(shared), worker, ledger, latency: LatencyRecorder::new(0), count }
    }

    #[inline]
    fn take(&mut self, sender: u32, key: u64, sequence: u64, due_ns: u64, cx: &Context<'_>) {
        // A key of more than 32 bits is none of ours and is counted as foreign.
        let key = u32::try_from(key).unwrap_or(u32::MAX);
        let cycle_ns = self.shared.offset.machine_ns(cx.now());
        self.ledger.record(sender, key, sequence, cycle_ns, now_ns);
        if due_ns != 0 {
            self.latency.record(due_ns, now_ns());
        }
        self.count += 1;
        self.shared.handled[usize::from(self.worker)].0.store(self.count, Ordering::Relaxed);
    }
}

impl Routee for Sink {
    fn register(handlers: &mut keyway::HandlerTable<Self>) {
        handlers.add::<Load64>();
        handlers.add::<Request>();
        handlers.add::<Load256>();
        handlers.add::<Load1024>();
        handlers.add::<Load4096>();
        handlers.add::<Poke>();
    }
}

macro_rules! takes {
    ($($message:ident, $archived:ident;)*) => {$(
        impl Handler<$message> for Sink {
            type Reply = ();
            #[inline]
            fn handle(&mut self, message: &$archived, cx: &mut Context<'_>) {
                self.take(
                    message.sender.to_native(),
                    message.key.to_native(),
                    message.sequence.to_native(),
                    message.due_ns.to_native(),
                    cx,
                );
            }
        }
    )*};
}

takes! {
    Load64, ArchivedLoad64;
    Load256, ArchivedLoad256;
    Load1024, ArchivedLoad1024;
    Load4096, ArchivedLoad4096;
}

impl Handler<Request> for Sink {
    type Reply = Answer;
    #[inline]
    fn handle(&mut self, message: &ArchivedRequest, cx: &mut Context<'_>) -> Answer {
        // The asker takes the time of the whole round trip; the way here is not timed.
        let (key, sequence) = (message.key.to_native(), message.sequence.to_native());
        self.take(message.sender.to_native(), key, sequence, 0, cx);
        Answer { node: self.shared.node, worker: u32::from(self.worker), pad: [0; 7] }
    }
}

impl Handler<Poke> for Sink {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedPoke, _: &mut Context<'_>) {
        let shared = Arc::clone(&self.shared);
        let mut orders = shared.lock();
        let fresh = LatencyRecorder::new(orders.warm_up_ends_ns);
        let taken = std::mem::replace(&mut self.latency, fresh).into_histogram();
        if let Some(place) = orders.taken.get_mut(usize::from(self.worker)) {
            *place = Some(taken);
        }
        shared.answered.notify_all();
    }
}
