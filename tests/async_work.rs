//! Work that routees begin elsewhere: its result comes back to the routee that began it, once, and
//! to nobody else.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::{
    AskError, AsyncWork, Context, Counts, DeathReason, Handler, Later, Message, Node, Routee,
    Router, Work, WorkEnd, WorkKey, WorkLost,
};
use rkyv::{Archive, Deserialize, Serialize};
use tokio::sync::oneshot;

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "work.order", reply = u64)]
enum Order {
    /// Await the next gate's number; the reply is the sum of all so far.
    Await,
    /// The same, and reply at once: 1 if it was begun.
    AwaitAside,
    /// A future that panics.
    AwaitPanic,
    /// On a plain thread; the reply comes with the result.
    Thread(u64),
    /// A plain thread that gives up.
    ThreadGivesUp,
    /// Keep the work and begin as much as goes; the reply is how much that was.
    Hoard,
    /// Call the last one off: 1 if it was there.
    CallOff,
    /// The sum of all results.
    Sum,
    Panic,
}

/// Neither a message nor anything else that could go to another process.
struct Found {
    number: u64,
    _text: String,
}

/// Counts the futures that are alive.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Default)]
struct Outside {
    gates: Arc<Mutex<VecDeque<oneshot::Receiver<u64>>>>,
    alive: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<Result<u64, WorkLost>>>>,
}

impl Outside {
    fn gate(&self) -> oneshot::Sender<u64> {
        let (open, gate) = oneshot::channel();
        self.gates.lock().unwrap().push_back(gate);
        open
    }

    fn heard(&self) -> Vec<Result<u64, WorkLost>> {
        self.heard.lock().unwrap().clone()
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

#[derive(Routee)]
#[routee(handles(Order))]
struct Desk {
    work: AsyncWork,
    outside: Outside,
    sum: u64,
    last: Option<WorkKey>,
    hoard: Vec<Work<u64>>,
}

impl Desk {
    fn hear(&mut self, number: Result<u64, WorkLost>) {
        self.sum += number.unwrap_or(0);
        self.outside.heard.lock().unwrap().push(number);
    }

    /// What is awaited.
    fn next(&self) -> impl Future<Output = Found> + use<> {
        let gate = self.outside.gates.lock().unwrap().pop_front();
        self.outside.alive.fetch_add(1, Ordering::SeqCst);
        let alive = Alive(Arc::clone(&self.outside.alive));
        async move {
            let number = gate.expect("a gate").await.expect("it is opened");
            drop(alive);
            Found { number, _text: number.to_string() }
        }
    }
}

impl Handler<Order> for Desk {
    type Reply = Later<u64>;

    fn handle(&mut self, order: &ArchivedOrder, cx: &mut Context<'_>) -> Later<u64> {
        let (later, replier) = cx.reply_later();
        let now = match order {
            ArchivedOrder::Await => {
                let begun = self.work.spawn(cx, self.next(), move |me: &mut Self, found, _| {
                    me.hear(found.map(|found: Found| found.number));
                    replier.reply(&me.sum).unwrap();
                });
                self.last = begun.ok();
                return later;
            }
            ArchivedOrder::AwaitAside => {
                let begun = self.work.spawn(cx, self.next(), |me: &mut Self, found, _| {
                    me.hear(found.map(|found| found.number));
                });
                self.last = begun.ok();
                u64::from(begun.is_ok())
            }
            ArchivedOrder::AwaitPanic => {
                let panics = async { panic!("told to") };
                let heard =
                    |me: &mut Self, lost: Result<u64, _>, _: &mut Context<'_>| me.hear(lost);
                u64::from(self.work.spawn(cx, panics, heard).is_ok())
            }
            ArchivedOrder::Thread(number) => {
                let number = number.to_native();
                let work = cx.begin_work(move |me: &mut Self, number, _| {
                    me.hear(number);
                    replier.reply(&me.sum).unwrap();
                });
                let work = work.unwrap();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    assert!(work.is_wanted());
                    work.done(number);
                });
                return later;
            }
            ArchivedOrder::ThreadGivesUp => {
                let work = cx.begin_work(|me: &mut Self, number, _| me.hear(number)).unwrap();
                std::thread::spawn(move || drop(work));
                0
            }
            ArchivedOrder::Hoard => {
                while let Ok(work) = cx.begin_work(|me: &mut Self, number, _| me.hear(number)) {
                    self.hoard.push(work);
                }
                self.hoard.len() as u64
            }
            ArchivedOrder::CallOff => {
                self.hoard.clear();
                u64::from(self.last.is_some_and(|last| cx.cancel_work(last)))
            }
            ArchivedOrder::Sum => self.sum,
            ArchivedOrder::Panic => panic!("told to"),
        };
        replier.reply(&now).unwrap();
        later
    }
}

struct Stage {
    node: Node,
    desk: Router,
    outside: Outside,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
        let node = node.set("workers.max_work", "5").start().unwrap();
        let outside = Outside::default();
        let desk = node.router("/work/desk").build().unwrap();
        let stage = Self { node, desk, outside, runtime };
        stage.serve();
        stage
    }

    fn serve(&self) {
        let work = AsyncWork::new(self.runtime.handle().clone(), 2);
        let outside = self.outside.clone();
        let make = move |_| {
            let (work, outside) = (work.clone(), outside.clone());
            Desk { work, outside, sum: 0, last: None, hoard: Vec::new() }
        };
        self.node.serve("/work/desk", make).unwrap();
        self.desk.wait_ready(1, LIMIT).unwrap();
    }

    fn ask(&self, order: Order) -> Result<u64, AskError> {
        self.desk.ask(&order).within(LIMIT).wait()
    }

    fn tell(&self, order: Order) {
        self.desk.tell(&order).unwrap();
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < end, "{what}: {:?}", self.node.counts());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn until_ended(&self, end: WorkEnd, count: u64) {
        self.until(&format!("{count} {end:?}"), |it| ended(&it.node.counts(), end) == count);
    }
}

fn ended(counts: &Counts, end: WorkEnd) -> u64 {
    counts.work_ended[end as usize]
}

#[test]
fn a_result_comes_to_its_routee_with_its_state_at_hand() {
    let stage = Stage::new();
    for (number, sum) in [(5, 5), (7, 12)] {
        let gate = stage.outside.gate();
        let asked = Order::Await;
        let ask = stage.desk.ask(&asked).within(LIMIT);
        let task = stage.runtime.spawn(async move { gate.send(number) });
        assert_eq!(ask.wait(), Ok(sum));
        stage.runtime.block_on(task).unwrap().unwrap();
    }
    assert_eq!(stage.ask(Order::Thread(30)), Ok(42), "from a plain thread");
    let counts = stage.node.stop().unwrap();
    assert_eq!((counts.work_begun, ended(&counts, WorkEnd::Done)), (3, 3));
}

#[test]
fn a_panic_or_an_end_without_a_result_is_told() {
    let stage = Stage::new();
    assert_eq!(stage.ask(Order::AwaitPanic), Ok(1));
    stage.until_ended(WorkEnd::Panicked, 1);
    stage.tell(Order::ThreadGivesUp);
    stage.until_ended(WorkEnd::GivenUp, 1);
    let _gate = stage.outside.gate();
    assert_eq!(stage.ask(Order::AwaitAside), Ok(1));
    let Stage { node, outside, runtime, desk } = stage;
    runtime.shutdown_timeout(LIMIT);
    let order = Order::AwaitAside;
    let _second = outside.gate();
    // On a runtime that has ended nothing runs, and the routee hears of that as well.
    assert_eq!(desk.ask(&order).within(LIMIT).wait(), Ok(1));
    let end = Instant::now() + LIMIT;
    while outside.heard().len() < 4 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    let lost = [WorkLost::Panicked, WorkLost::GivenUp, WorkLost::GivenUp, WorkLost::GivenUp];
    assert_eq!(outside.heard(), lost.map(Err));
    assert_eq!(outside.alive(), 0);
    node.stop().unwrap();
}

#[test]
fn no_more_than_so_much_is_under_way() {
    let stage = Stage::new();
    let gates: Vec<_> = (0..4).map(|_| stage.outside.gate()).collect();
    let begun = [1, 1, 0].map(|begun| stage.ask(Order::AwaitAside) == Ok(begun));
    assert_eq!(begun, [true; 3], "by the limit of `AsyncWork`");
    assert_eq!(stage.ask(Order::Await), Err(AskError::Dead(DeathReason::NoReply)));
    assert_eq!(stage.ask(Order::Hoard), Ok(3), "by workers.max_work");
    assert_eq!(stage.ask(Order::AwaitAside), Ok(0));
    // What is hoarded is given up, and its places are free again.
    stage.ask(Order::CallOff).unwrap();
    stage.until_ended(WorkEnd::GivenUp, 3);
    drop(gates);
    stage.until("they end", |it| it.outside.heard().len() == 5);
    let again = stage.outside.gate();
    assert_eq!(stage.ask(Order::AwaitAside), Ok(1));
    again.send(9).unwrap();
    stage.until("another one", |it| it.outside.heard().last() == Some(&Ok(9)));
}

#[test]
fn what_is_called_off_is_ended_and_never_heard_of() {
    let stage = Stage::new();
    let gate = stage.outside.gate();
    stage.ask(Order::AwaitAside).unwrap();
    assert_eq!(stage.ask(Order::CallOff), Ok(1));
    assert_eq!(stage.ask(Order::CallOff), Ok(0), "a second time");
    stage.until("its future is dropped", |it| it.outside.alive() == 0);
    assert!(gate.is_closed());
    stage.until_ended(WorkEnd::CalledOff, 1);
    assert_eq!(stage.ask(Order::Sum), Ok(0));
}

#[test]
fn no_successor_hears_of_the_work_of_a_routee_that_panicked_or_was_withdrawn() {
    let stage = Stage::new();
    for end in [WorkEnd::Replaced, WorkEnd::Withdrawn] {
        let gate = stage.outside.gate();
        stage.ask(Order::AwaitAside).unwrap();
        assert_eq!(stage.outside.alive(), 1);
        if end == WorkEnd::Replaced {
            assert_eq!(stage.ask(Order::Panic), Err(AskError::Dead(DeathReason::HandlerPanicked)));
        } else {
            stage.node.unserve("/work/desk").unwrap();
            stage.serve();
        }
        stage.until_ended(end, 1);
        stage.until("its future is dropped", |it| it.outside.alive() == 0);
        drop(gate);
        // The place in the queue that the dropped one had is free again, for all of them.
        assert_eq!(stage.ask(Order::Thread(1)), Ok(1));
    }
    assert_eq!(stage.outside.heard(), [Ok(1), Ok(1)]);
}

#[test]
fn a_leave_waits_for_work_and_a_stop_does_not() {
    let stage = Stage::new();
    let gate = stage.outside.gate();
    stage.ask(Order::AwaitAside).unwrap();
    let opens = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        gate.send(3).unwrap();
    });
    let drained = stage.node.leave_and_wait().unwrap();
    opens.join().unwrap();
    assert!(drained);
    assert_eq!(stage.outside.heard(), [Ok(3)]);

    let stage = Stage::new();
    let _gate = stage.outside.gate();
    stage.ask(Order::AwaitAside).unwrap();
    let counts = stage.node.stop().unwrap();
    assert_eq!((counts.work_begun, ended(&counts, WorkEnd::Stopped)), (1, 1));
    assert_eq!(stage.outside.heard(), []);
}
