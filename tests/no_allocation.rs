//! Counts heap allocations on the steady path: a worker must make none per message.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyway::{AskError, Context, Handler, Message, Node, OnReply, Refusal, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};

// ---- the counting allocator ----

const UNCOUNTED: usize = 0;
const WORKER: usize = 1;
const APPLICATION: usize = 2;

static ALLOCATIONS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static BYTES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

thread_local! {
    /// What this thread's allocations count as. Has no destructor, so it can be read at any time.
    static THREAD: Cell<usize> = const { Cell::new(UNCOUNTED) };
}

struct Counting;

impl Counting {
    fn count(bytes: usize) {
        let thread = THREAD.try_with(Cell::get).unwrap_or(UNCOUNTED);
        ALLOCATIONS[thread].fetch_add(1, Ordering::Relaxed);
        BYTES[thread].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it is; the counting touches only
// atomics and a thread-local cell, and neither allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        Self::count(bytes);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// ---- two nodes ----

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "steady.item", reply = u64)]
struct Item {
    number: u64,
    rest: [u64; 7],
}

fn item(number: u64) -> Item {
    Item { number, rest: [number; 7] }
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "steady.go")]
struct Go {
    count: u64,
    asks: bool,
}

static HANDLED: AtomicU64 = AtomicU64::new(0);
static REPLIED: AtomicU64 = AtomicU64::new(0);

#[derive(Routee)]
#[routee(handles(Item))]
struct Sink;

impl Handler<Item> for Sink {
    type Reply = u64;
    fn handle(&mut self, item: &ArchivedItem, _: &mut Context<'_>) -> u64 {
        THREAD.set(WORKER);
        HANDLED.fetch_add(1, Ordering::Relaxed);
        item.number.to_native() + item.rest[6].to_native()
    }
}

/// Sends as many as it is told to, in turns, as a busy handler would.
struct Source {
    sink: Arc<Router>,
    tells_left: u64,
    asks_left: u64,
}

const WINDOW: u64 = 64;
const WITHIN: Duration = Duration::from_secs(20);

impl Routee for Source {
    fn register(handlers: &mut keyway::HandlerTable<Self>) {
        handlers.add::<Go>();
    }

    fn wake(&mut self, _: u64, cx: &mut Context<'_>) {
        for _ in 0..WINDOW.min(self.tells_left) {
            match cx.tell(&*self.sink, &item(self.tells_left)) {
                Ok(()) => self.tells_left -= 1,
                Err(Refusal::QueueFull) => break,
                Err(refusal) => panic!("{refusal}"),
            }
        }
        if self.tells_left > 0 {
            cx.wake_soon(0);
        }
    }
}

impl Source {
    fn ask_next(&mut self, cx: &mut Context<'_>) {
        if self.asks_left > 0 {
            let number = self.asks_left;
            self.asks_left -= 1;
            cx.ask::<Self, _>(&*self.sink, &item(number), WITHIN, number).unwrap();
        }
    }
}

impl Handler<Go> for Source {
    type Reply = ();
    fn handle(&mut self, go: &ArchivedGo, cx: &mut Context<'_>) {
        THREAD.set(WORKER);
        if go.asks {
            self.asks_left = go.count.to_native();
            for _ in 0..WINDOW {
                self.ask_next(cx);
            }
        } else {
            self.tells_left = go.count.to_native();
            cx.wake_soon(0);
        }
    }
}

impl OnReply<Item> for Source {
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&rkyv::rend::u64_le, AskError>,
        cx: &mut Context<'_>,
    ) {
        assert_eq!(reply.map(|reply| reply.to_native()), Ok(2 * token));
        REPLIED.fetch_add(1, Ordering::Relaxed);
        self.ask_next(cx);
    }
}

fn node() -> keyway::NodeBuilder {
    Node::builder().bind("127.0.0.1:0").workers(1)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn all_handled(count: u64) {
    until("all were handled", || HANDLED.load(Ordering::Relaxed) == count);
}

const WARM_UP: u64 = 50_000;
const MESSAGES: u64 = 100_000;

/// Runs it once to warm up and once to count; gives the allocations of worker and application.
fn measure(what: &str, mut run: impl FnMut(u64)) -> (u64, u64) {
    for (round, count) in [WARM_UP, MESSAGES].into_iter().enumerate() {
        HANDLED.store(0, Ordering::Relaxed);
        REPLIED.store(0, Ordering::Relaxed);
        for counter in ALLOCATIONS.iter().chain(&BYTES) {
            counter.store(0, Ordering::Relaxed);
        }
        THREAD.set(APPLICATION);
        run(count);
        THREAD.set(UNCOUNTED);
        let [_, worker, application] = [0, 1, 2].map(|at| ALLOCATIONS[at].load(Ordering::Relaxed));
        let [_, worker_bytes, application_bytes] =
            [0, 1, 2].map(|at| BYTES[at].load(Ordering::Relaxed));
        println!(
            "{what}, round {round}, {count} messages: workers {worker} ({worker_bytes} bytes), \
             application {application} ({application_bytes} bytes)"
        );
    }
    let [_, worker, application] = [0, 1, 2].map(|at| ALLOCATIONS[at].load(Ordering::Relaxed));
    (worker, application)
}

/// Queues keep the depth they have grown to, and a run can find a moment at which one is deeper
/// than ever before: a chunk then, of 64 KiB, for a thousand messages or so.
const GROWTH: u64 = MESSAGES / 1_000;

#[test]
fn a_worker_allocates_nothing_per_message() {
    let from = node().start().unwrap();
    let to = node().seed(from.address()).start().unwrap();
    to.serve("/user/sink", |_| Sink).unwrap();
    let sink = Arc::new(from.router("/user/sink").build().unwrap());
    sink.wait_ready(1, WITHIN).unwrap();
    let route = Arc::clone(&sink);
    from.serve("/user/source", move |_| Source {
        sink: Arc::clone(&route),
        tells_left: 0,
        asks_left: 0,
    })
    .unwrap();
    let source = from.router("/user/source").build().unwrap();
    source.wait_ready(1, WITHIN).unwrap();

    let (worker, _) = measure("routee tells routee", |count| {
        source.tell(&Go { count, asks: false }).unwrap();
        all_handled(count);
    });
    assert!(worker <= GROWTH, "{worker} allocations for {MESSAGES} tells between routees");

    let (worker, _) = measure("routee asks routee", |count| {
        source.tell(&Go { count, asks: true }).unwrap();
        until("all were answered", || REPLIED.load(Ordering::Relaxed) == count);
    });
    assert!(worker <= GROWTH, "{worker} allocations for {MESSAGES} asks between routees");

    let (worker, application) = measure("thread tells routee", |count| {
        for number in 0..count {
            while let Err(refusal) = sink.tell(&item(number)) {
                assert_eq!(refusal, Refusal::QueueFull);
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        all_handled(count);
    });
    assert!(worker <= GROWTH, "{worker} allocations of workers for {MESSAGES} tells of a thread");
    // The free buffers that travel between threads become as many as the queue is long.
    assert!(application <= MESSAGES / 10, "{application} allocations of a thread for its tells");

    let (worker, application) = measure("thread tells in batches", |count| {
        let mut number = 0;
        while number < count {
            let mut batch = sink.batch();
            for _ in 0..1_000 {
                while let Err(refusal) = batch.tell(&item(number)) {
                    assert_eq!(refusal, Refusal::QueueFull);
                    std::thread::sleep(Duration::from_micros(100));
                }
                number += 1;
            }
            while batch.flush().is_err() {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        all_handled(count);
    });
    assert!(worker <= GROWTH, "{worker} allocations of workers for {MESSAGES} tells in batches");
    // A batch itself has a list of its runs.
    assert!(application <= MESSAGES / 100, "{application} allocations of a thread for batches");

    let (worker, application) = measure("thread asks routee", |count| {
        // Each waits for its reply: fewer do as well.
        for number in 0..count / 10 {
            assert_eq!(sink.ask(&item(number)).within(WITHIN).wait(), Ok(2 * number));
        }
    });
    assert!(worker <= GROWTH, "{worker} allocations of workers for asks of a thread");
    // It encodes into a buffer that comes back with the reply, and waits in a slot that is there.
    let most = GROWTH / 10;
    assert!(
        application <= most,
        "{application} allocations of a thread for {} asks",
        MESSAGES / 10
    );
}
