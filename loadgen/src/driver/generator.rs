//! The routee that makes the load: it runs on its node's worker, so that no message changes
//! threads before it is sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use keyway::base::fate::Refusal;
use keyway::worker::RouterRef;
use keyway::{AskError, Context, Handler, OnReply, Routee};

use super::plan::{AskEnd, DriveReport, LoadPlan, Paced};
use crate::analysis::histogram::latency_histogram;
use crate::analysis::ledger::SentLedger;
use crate::analysis::schedule::{DueTimes, LagMeter};
use crate::analysis::timeline::{Fault, TimelineRecorder};
use crate::cluster::clock::now_ns;
use crate::cluster::message::{
    Answer, ArchivedAnswer, ArchivedPoke, Load, Load64, Load256, Load1024, Load4096, Poke, Request,
};

/// Where generators are served, followed by `-` and the node's number.
pub const GENERATOR_PATH: &str = "/load/generator";

/// Messages per duty cycle at saturation: enough that the few system calls of a cycle are shared by
/// many, few enough that they do not leave the caches before they are written.
const SATURATE_BATCH: u32 = 4096;
/// Messages per duty cycle when a paced plan has fallen behind.
const PACED_BATCH: u32 = 512;
/// How long to wait when a queue is full: the worker's timers have this resolution, and a full
/// queue lasts several of them.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// How long a closed-loop ask waits; far beyond anything that is a measurement.
const WINDOW_TIMEOUT: Duration = Duration::from_secs(5);

/// What the commanding thread and the generator share.
pub struct GeneratorShared {
    /// Answered asks, exact to the ask.
    pub answered: Counter,
    /// Asks without an end.
    pub open: Counter,
    state: Mutex<State>,
    changed: Condvar,
}

/// A count on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// What a generator can be told.
pub enum Order {
    /// Begin a plan; what was recorded before is forgotten, except the ledgers.
    Start(LoadPlan),
    /// Send nothing more.
    Stop,
    /// Report.
    Collect,
}

#[derive(Default)]
struct State {
    order: Option<Order>,
    done: bool,
    report: Option<DriveReport>,
    /// Whether the paced plan has come to its end.
    finished: bool,
}

impl GeneratorShared {
    /// Nothing ordered yet.
    pub fn new() -> Self {
        Self {
            answered: Counter::default(),
            open: Counter::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Gives an order and waits until it is carried out. `poke` makes the generator look.
    pub fn order(
        &self,
        order: Order,
        poke: impl FnOnce() -> Result<(), String>,
    ) -> Result<Option<DriveReport>, String> {
        {
            let mut state = self.lock();
            state.order = Some(order);
            state.done = false;
        }
        poke()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut state = self.lock();
        while !state.done {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the generator did not take its order within 10 s".to_owned());
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(state.report.take())
    }

    /// Waits until the paced plan has ended; false when the time was over first.
    pub fn wait_finished(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut state = self.lock();
        while !state.finished {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for GeneratorShared {
    fn default() -> Self {
        Self::new()
    }
}

/// An ask without an end.
#[derive(Clone, Copy)]
struct OpenAsk {
    key: u32,
    /// When it was due (paced) or made (window); 0 when it is not timed.
    due_ns: u64,
}

enum Job {
    Idle,
    Saturate { payload_bytes: u32 },
    Window { timed: bool, warm_up_ends_ns: u64 },
    Paced(Box<PacedJob>),
}

struct PacedJob {
    plan: Paced,
    tells: Option<DueTimes>,
    next_tell_ns: Option<u64>,
    asks: Option<DueTimes>,
    next_ask_ns: Option<u64>,
    last_due_ns: u64,
}

/// Makes the load.
pub struct Generator {
    shared: Arc<GeneratorShared>,
    router: RouterRef,
    /// Its tells carry this number, its asks the next one.
    sender: u32,
    keys: u32,
    next_key: u32,
    next_ask_key: u32,
    tells: SentLedger,
    asks: SentLedger,
    job: Job,
    /// Rises with every order, so that wake-ups of an earlier plan are recognised.
    turn: u64,
    open: Vec<OpenAsk>,
    free: Vec<u32>,
    answered: u64,
    failed: u64,
    latency: Histogram<u64>,
    lag: LagMeter,
    /// Of the plan, once it is paced.
    mean_gap_ns: Option<f64>,
    timeline: Option<TimelineRecorder>,
    log: Vec<AskEnd>,
    finished: bool,
}

impl Generator {
    /// A generator that sends keys `0..keys` through a router.
    ///
    /// # Panics
    /// If there is no memory for its ledgers.
    pub fn new(shared: &Arc<GeneratorShared>, router: RouterRef, sender: u32, keys: u32) -> Self {
        let ledger = |sender| {
            SentLedger::in_memory(sender, keys)
                .unwrap_or_else(|cause| panic!("no memory for the ledger of {keys} keys: {cause}"))
        };
        Self {
            shared: Arc::clone(shared),
            router,
            sender,
            keys,
            next_key: 0,
            next_ask_key: 0,
            tells: ledger(sender),
            asks: ledger(sender + 1),
            job: Job::Idle,
            turn: 0,
            open: Vec::new(),
            free: Vec::new(),
            answered: 0,
            failed: 0,
            latency: latency_histogram(),
            lag: LagMeter::new(),
            mean_gap_ns: None,
            timeline: None,
            log: Vec::new(),
            finished: false,
        }
    }

    fn start(&mut self, plan: LoadPlan, cx: &mut Context<'_>) {
        self.turn += 1;
        self.answered = 0;
        self.failed = 0;
        self.mean_gap_ns = None;
        self.latency.reset();
        self.lag = LagMeter::new();
        self.log = Vec::new();
        self.timeline = None;
        self.set_finished(false);
        self.job = match plan {
            LoadPlan::Saturate { payload_bytes } => Job::Saturate { payload_bytes },
            // Not made here.
            LoadPlan::FromThread { .. } => Job::Idle,
            LoadPlan::Window { in_flight, timed, warm_up_ends_ns } => {
                self.job = Job::Window { timed, warm_up_ends_ns };
                for _ in 0..in_flight {
                    self.ask_next_of_window(cx);
                }
                return;
            }
            LoadPlan::Paced(plan) => {
                let due = |arrivals: &Option<_>, salt: u64| {
                    arrivals.as_ref().map(|arrivals: &crate::analysis::schedule::Arrivals| {
                        arrivals.due_times(plan.seed ^ salt, plan.duration_ns)
                    })
                };
                let (mut tells, mut asks) = (due(&plan.tells, 0), due(&plan.asks, 1));
                let start_ns = plan.start_ns;
                let first = |times: &mut Option<DueTimes>| {
                    times.as_mut().and_then(Iterator::next).map(|due| due + start_ns)
                };
                let (next_tell_ns, next_ask_ns) = (first(&mut tells), first(&mut asks));
                if plan.log_asks {
                    let rate = plan.asks.map_or(0.0, |asks| asks.msgs_per_s());
                    let planned = rate * plan.duration_ns as f64 / 1e9;
                    self.log.reserve(planned as usize + 1_024);
                }
                self.mean_gap_ns = Some(plan.mean_gap_ns());
                self.timeline = Some(TimelineRecorder::new(start_ns, plan.duration_ns));
                Job::Paced(Box::new(PacedJob {
                    plan,
                    tells,
                    next_tell_ns,
                    asks,
                    next_ask_ns,
                    last_due_ns: 0,
                }))
            }
        };
        cx.wake_soon(self.turn);
    }

    fn report(&mut self) -> DriveReport {
        DriveReport {
            sent: vec![self.tells.to_record(), self.asks.to_record()],
            lag: self.lag.histogram().clone(),
            lag_void: self.mean_gap_ns.and_then(|gap_ns| self.lag.void_reason(gap_ns)),
            finished: self.finished,
            ask_latency: self.latency.clone(),
            answered: self.answered,
            failed: self.failed,
            asks: std::mem::take(&mut self.log),
            timeline: self.timeline.take().map(TimelineRecorder::finish),
        }
    }

    fn set_finished(&mut self, finished: bool) {
        self.finished = finished;
        self.shared.lock().finished = finished;
        self.shared.changed.notify_all();
    }

    // ---- tells ----

    /// Sends one tell.
    #[inline]
    fn tell<M: Load>(&mut self, due_ns: u64, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let key = self.next_key;
        self.next_key = if key + 1 == self.keys { 0 } else { key + 1 };
        let sequence = self.tells.begin(key);
        let outcome = cx.tell(&self.router, &M::new(self.sender, key, sequence, due_ns));
        match outcome {
            Ok(()) => self.tells.accepted(key),
            Err(_) => self.tells.refused(key),
        }
        outcome
    }

    fn saturate<M: Load>(&mut self, cx: &mut Context<'_>) {
        for _ in 0..SATURATE_BATCH {
            if self.tell::<M>(0, cx).is_err() {
                cx.wake_after(FULL_PAUSE, self.turn);
                return;
            }
        }
        cx.wake_soon(self.turn);
    }

    // ---- asks ----

    fn ask(&mut self, due_ns: u64, within: Duration, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let key = self.next_ask_key;
        self.next_ask_key = if key + 1 == self.keys { 0 } else { key + 1 };
        let sequence = self.asks.begin(key);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.open.push(OpenAsk { key, due_ns });
            (self.open.len() - 1) as u32
        });
        self.open[slot as usize] = OpenAsk { key, due_ns };
        let request = Request {
            sender: self.sender + 1,
            reserved: 0,
            key: u64::from(key),
            sequence,
            due_ns,
            pad: [0; 4],
        };
        let outcome = cx.ask::<Self, _>(&self.router, &request, within, u64::from(slot));
        match outcome {
            Ok(()) => {
                self.asks.accepted(key);
                self.shared.open.set((self.open.len() - self.free.len()) as u64);
            }
            Err(_) => {
                self.asks.refused(key);
                self.free.push(slot);
                self.failed += 1;
                if let (Some(timeline), true) = (&mut self.timeline, due_ns > 0) {
                    let now = now_ns();
                    timeline.fault(now, Fault::Refused, 1);
                    self.note(AskEnd { key, node: None, due_ns, done_ns: now });
                }
            }
        }
        outcome
    }

    fn ask_next_of_window(&mut self, cx: &mut Context<'_>) {
        let Job::Window { timed, .. } = self.job else { return };
        let made_ns = if timed { now_ns() } else { 0 };
        if self.ask(made_ns, WINDOW_TIMEOUT, cx).is_err() {
            cx.wake_after(FULL_PAUSE, self.turn);
        }
    }

    fn note(&mut self, end: AskEnd) {
        if matches!(&self.job, Job::Paced(job) if job.plan.log_asks) || self.log.capacity() > 0 {
            self.log.push(end);
        }
    }

    // ---- pacing ----

    fn pace<M: Load>(&mut self, mut job: Box<PacedJob>, cx: &mut Context<'_>) {
        let within = Duration::from_millis(job.plan.ask_timeout_ms);
        let start_ns = job.plan.start_ns;
        for _ in 0..PACED_BATCH {
            let now = now_ns();
            let tell_ns = job.next_tell_ns.unwrap_or(u64::MAX);
            let ask_ns = job.next_ask_ns.unwrap_or(u64::MAX);
            let due_ns = tell_ns.min(ask_ns);
            if due_ns > now {
                break;
            }
            // Once for each due instant: that the rest of a burst waits for its first message is
            // part of every latency, which runs from the due time.
            if due_ns > job.last_due_ns && due_ns >= job.plan.warm_up_ends_ns {
                self.lag.record(due_ns, now);
            }
            job.last_due_ns = due_ns;
            // A refusal is counted in the ledger; the next message is due when it is due.
            if tell_ns <= ask_ns {
                let _ = self.tell::<M>(due_ns, cx);
                job.next_tell_ns =
                    job.tells.as_mut().and_then(Iterator::next).map(|due| due + start_ns);
            } else {
                let _ = self.ask(due_ns, within, cx);
                job.next_ask_ns =
                    job.asks.as_mut().and_then(Iterator::next).map(|due| due + start_ns);
            }
        }
        if job.next_tell_ns.is_none() && job.next_ask_ns.is_none() {
            self.job = Job::Idle;
            self.set_finished(true);
        } else {
            self.job = Job::Paced(job);
            cx.wake_soon(self.turn);
        }
    }
}

impl Routee for Generator {
    fn register(handlers: &mut keyway::HandlerTable<Self>) {
        handlers.add::<Poke>();
    }

    fn wake(&mut self, turn: u64, cx: &mut Context<'_>) {
        if turn != self.turn {
            return;
        }
        match std::mem::replace(&mut self.job, Job::Idle) {
            Job::Idle => {}
            Job::Saturate { payload_bytes } => {
                self.job = Job::Saturate { payload_bytes };
                match payload_bytes {
                    ..=64 => self.saturate::<Load64>(cx),
                    65..=256 => self.saturate::<Load256>(cx),
                    257..=1024 => self.saturate::<Load1024>(cx),
                    _ => self.saturate::<Load4096>(cx),
                }
            }
            Job::Window { timed, warm_up_ends_ns } => {
                self.job = Job::Window { timed, warm_up_ends_ns };
                self.ask_next_of_window(cx);
            }
            Job::Paced(job) => match job.plan.payload_bytes {
                ..=64 => self.pace::<Load64>(job, cx),
                65..=256 => self.pace::<Load256>(job, cx),
                257..=1024 => self.pace::<Load1024>(job, cx),
                _ => self.pace::<Load4096>(job, cx),
            },
        }
    }
}

impl Handler<Poke> for Generator {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedPoke, cx: &mut Context<'_>) {
        let order = self.shared.lock().order.take();
        let report = match order {
            None => return,
            Some(Order::Start(plan)) => {
                self.start(plan, cx);
                None
            }
            Some(Order::Stop) => {
                self.turn += 1;
                self.job = Job::Idle;
                None
            }
            Some(Order::Collect) => Some(self.report()),
        };
        let mut state = self.shared.lock();
        state.report = report;
        state.done = true;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl OnReply<Request> for Generator {
    #[inline]
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&ArchivedAnswer, AskError>,
        cx: &mut Context<'_>,
    ) {
        let OpenAsk { key, due_ns } = self.open[token as usize];
        self.free.push(token as u32);
        self.shared.open.set((self.open.len() - self.free.len()) as u64);
        match reply {
            Ok(_) => {
                self.answered += 1;
                self.shared.answered.set(self.shared.answered.get() + 1);
            }
            Err(_) => self.failed += 1,
        }
        if due_ns > 0 {
            let now = now_ns();
            let took_ns = now.saturating_sub(due_ns);
            let warm_up_ends_ns = match &self.job {
                Job::Window { warm_up_ends_ns, .. } => *warm_up_ends_ns,
                Job::Paced(job) => job.plan.warm_up_ends_ns,
                _ => 0,
            };
            if reply.is_ok() && due_ns >= warm_up_ends_ns {
                self.latency.saturating_record(took_ns);
            }
            if let Some(timeline) = &mut self.timeline {
                match reply {
                    Ok(_) => timeline.success(now, took_ns),
                    Err(AskError::Dead(_) | AskError::Refused(_)) => {
                        timeline.fault(now, Fault::Dead, 1);
                    }
                    Err(_) => timeline.fault(now, Fault::Unknown, 1),
                }
                let node = reply.ok().map(|answer| answer.node.to_native());
                self.note(AskEnd { key, node, due_ns, done_ns: now });
            }
        }
        if matches!(self.job, Job::Window { .. }) {
            self.ask_next_of_window(cx);
        }
    }
}

const _: () = assert!(size_of::<Answer>() == 64);
