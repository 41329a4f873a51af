//! Whatever is begun and ended ten thousand times leaves nothing behind. In a process of its own,
//! whose memory is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyway::worker::RouterRef;
use keyway::{
    AskError, AsyncReplies, Context, Gone, Handler, Later, Message, Node, OnReply, Replier, Routee,
    RouteeRef, Router,
};
use rkyv::rend::u64_le;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "soak.item", reply = u64)]
struct Item(u64);

/// Never answered; what it is asked is kept for a while.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "soak.mute", reply = u64)]
struct Mute;

/// Answered by a future.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "soak.slowly", reply = u64)]
struct Slowly(u64);

/// Begin and end [`AT_ONCE`] of something, from within a handler.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "soak.churn", reply = u64)]
enum Churn {
    Asks,
    Timeouts,
    Watches,
    Timers,
    Work,
}

const LIMIT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
const TIMES: u64 = 10_000;
const AT_ONCE: u64 = 100;

#[derive(Routee)]
#[routee(handles(Item, Mute, Slowly, Churn, Gone), wake = Self::woken)]
struct Busy {
    /// This routee, as a handler asks and watches it.
    other: RouterRef,
    target: Arc<std::sync::OnceLock<RouteeRef>>,
    replies: AsyncReplies,
    muted: Vec<Replier<u64>>,
    /// What was begun and has come to its end.
    ended: Arc<AtomicU64>,
}

impl Busy {
    fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn woken(&mut self, _: u64, _: &mut Context<'_>) {
        self.end();
    }
}

/// Kills what comes to it, without a word in the output.
#[derive(Routee)]
#[routee(handles(Item))]
struct Deadly;

impl Handler<Item> for Deadly {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedItem, _: &mut Context<'_>) -> u64 {
        std::panic::resume_unwind(Box::new("as it should"));
    }
}

impl Handler<Item> for Busy {
    type Reply = u64;
    fn handle(&mut self, item: &ArchivedItem, _: &mut Context<'_>) -> u64 {
        item.0.to_native()
    }
}

impl Handler<Mute> for Busy {
    type Reply = Later<u64>;
    fn handle(&mut self, _: &ArchivedMute, cx: &mut Context<'_>) -> Later<u64> {
        if self.muted.len() == 2 * AT_ONCE as usize {
            self.muted.clear();
        }
        let (later, replier) = cx.reply_later();
        self.muted.push(replier);
        later
    }
}

impl Handler<Slowly> for Busy {
    type Reply = Later<u64>;
    fn handle(&mut self, item: &ArchivedSlowly, cx: &mut Context<'_>) -> Later<u64> {
        let number = item.0.to_native();
        self.replies.reply(cx, async move {
            tokio::task::yield_now().await;
            number
        })
    }
}

impl Handler<Gone> for Busy {
    type Reply = ();
    fn handle(&mut self, _: &keyway::ArchivedGone, _: &mut Context<'_>) {
        self.end();
    }
}

impl OnReply<Item> for Busy {
    fn on_reply(&mut self, _: u64, reply: Result<&u64_le, AskError>, _: &mut Context<'_>) {
        assert!(reply.is_ok(), "{reply:?}");
        self.end();
    }
}

impl OnReply<Mute> for Busy {
    fn on_reply(&mut self, _: u64, reply: Result<&u64_le, AskError>, _: &mut Context<'_>) {
        assert!(matches!(reply, Err(AskError::Timeout | AskError::Dead(_))), "{reply:?}");
        self.end();
    }
}

impl Handler<Churn> for Busy {
    type Reply = u64;
    fn handle(&mut self, churn: &ArchivedChurn, cx: &mut Context<'_>) -> u64 {
        for number in 0..AT_ONCE {
            match churn {
                ArchivedChurn::Asks => {
                    cx.ask::<Self, _>(&self.other, &Item(number), LIMIT, number).unwrap();
                }
                ArchivedChurn::Timeouts => {
                    let soon = Duration::from_millis(1);
                    cx.ask::<Self, _>(&self.other, &Mute, soon, number).unwrap();
                }
                ArchivedChurn::Watches => {
                    cx.watch::<Self>(self.target.get().unwrap(), number).unwrap();
                    cx.unwatch(number);
                    // One that ends by itself: there is no such routee.
                    let mut nobody = self.target.get().unwrap().clone();
                    nobody.id.node.incarnation.0 -= 1;
                    cx.watch::<Self>(&nobody, AT_ONCE + number).unwrap();
                }
                ArchivedChurn::Timers => {
                    let key = cx.wake_after(Duration::from_secs(86_400), number);
                    assert!(cx.cancel_wake(key));
                    cx.wake_after(Duration::from_millis(number % 3), number);
                }
                ArchivedChurn::Work => {
                    let work = cx.begin_work(|me: &mut Self, done: Result<u64, _>, _| {
                        assert!(done.is_ok());
                        me.end();
                    });
                    let called_off = cx.begin_work(|_: &mut Self, _: Result<u64, _>, _| {});
                    work.unwrap().done(number);
                    assert!(cx.cancel_work(called_off.unwrap().key()));
                }
            }
        }
        AT_ONCE
    }
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// Does something [`TIMES`] times, after some times that make room for what stays.
fn soak(what: &str, mut times: impl FnMut(u64)) {
    times(TIMES / 5);
    let (before, began) = (resident(), Instant::now());
    times(TIMES);
    let grown = resident().saturating_sub(before);
    println!("{TIMES} {what}: {grown} bytes more, in {:?}", began.elapsed());
    assert!(grown <= 2 * MIB, "{grown} bytes more after {TIMES} {what}");
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Scene {
    node: Node,
    router: Router,
    ended: Arc<AtomicU64>,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
        let node = node.set("membership.gossip_ms", "20").start().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.unwrap();
        let router = node.router("/soak/busy").round_robin().build().unwrap();
        let (other, target) = (router.as_ref().clone(), Arc::new(std::sync::OnceLock::new()));
        let (its, ended) = (Arc::clone(&target), Arc::new(AtomicU64::new(0)));
        let (counter, handle) = (Arc::clone(&ended), runtime.handle().clone());
        let busy = move |_| Busy {
            other: other.clone(),
            target: Arc::clone(&its),
            replies: AsyncReplies::new(handle.clone(), 4),
            muted: Vec::new(),
            ended: Arc::clone(&counter),
        };
        node.serve("/soak/busy", busy).unwrap();
        router.wait_ready(1, LIMIT).unwrap();
        target.set(router.routees().remove(0)).unwrap();
        Self { node, router, ended, runtime }
    }

    /// Has the handler begin and end so many.
    fn churn(&self, churn: &Churn, times: u64) {
        for _ in 0..times / AT_ONCE {
            let before = self.ended.load(Ordering::Relaxed);
            assert_eq!(self.router.ask(churn).within(LIMIT).wait(), Ok(AT_ONCE));
            eventually("all have ended", || self.ended.load(Ordering::Relaxed) - before == AT_ONCE);
        }
    }
}

#[test]
fn what_handlers_begin_and_end_leaves_nothing_behind() {
    let scene = Scene::new();
    soak("asks of a handler", |times| scene.churn(&Churn::Asks, times));
    soak("timeouts of a handler", |times| scene.churn(&Churn::Timeouts, times));
    soak("watches of a handler", |times| scene.churn(&Churn::Watches, times));
    soak("timers", |times| scene.churn(&Churn::Timers, times));
    soak("pieces of work", |times| scene.churn(&Churn::Work, times));
    from_applications(&scene);
    streams(&scene);
    let counts = scene.node.counts();
    assert_eq!(counts.asks, counts.replies + counts.failed_asks, "{counts:?}");
}

fn from_applications(scene: &Scene) {
    let Scene { node, router, runtime, .. } = scene;
    soak("asks of a thread", |times| {
        for number in 0..times {
            assert_eq!(router.ask(&Item(number)).within(LIMIT).wait(), Ok(number));
        }
    });
    soak("timeouts of futures", |times| {
        for _ in 0..times / AT_ONCE {
            let ask = || router.ask(&Mute).within(Duration::from_millis(1)).into_future();
            let asks: Vec<_> = (0..AT_ONCE).map(|_| ask()).collect();
            for ask in asks {
                let outcome = runtime.block_on(ask);
                let is_over = matches!(outcome, Err(AskError::Timeout | AskError::Dead(_)));
                assert!(is_over, "{outcome:?}");
            }
        }
    });
    soak("asks that are dropped", |times| {
        for number in 0..times {
            drop(router.ask(&Item(number)).into_future());
            if number % AT_ONCE == 0 {
                router.ask(&Item(number)).within(LIMIT).wait().unwrap();
            }
        }
    });
    soak("replies by futures", |times| {
        for number in 0..times {
            assert_eq!(router.ask(&Slowly(number)).within(LIMIT).wait(), Ok(number));
        }
    });
    let target = router.routees().remove(0);
    soak("watches of an application", |times| {
        for _ in 0..times {
            // Refused by name while the worker is behind.
            eventually("there is room", || node.watch(&target).is_ok());
        }
    });
    soak("watches of a node", |times| {
        for _ in 0..times {
            eventually("there is room", || node.watch(node.id()).is_ok());
        }
    });
    soak("selections", |times| {
        for number in 0..times {
            let selected = node.select("/soak/*").unwrap();
            assert_eq!(selected.identify().len(), 1);
            if number % AT_ONCE == 0 {
                assert_eq!(selected.tell(&Item(number)), Ok(1));
            }
        }
    });
    soak("references to routers", |times| {
        for number in 0..times {
            let kept: RouterRef = router.as_ref().clone();
            let _ = node.router("/soak/busy").round_robin().build().unwrap();
            drop(kept);
            if number % AT_ONCE == 0 {
                assert_eq!(node.routers().len(), 1, "it is the same router");
            }
        }
    });
}

/// Batches, and streams: many at a time, with something in them that nobody has read.
fn streams(scene: &Scene) {
    let Scene { node, router, .. } = scene;
    soak("batches", |times| {
        for number in 0..times {
            // What waits for a worker that is behind is not left behind.
            if number % 16 == 0 {
                eventually("all is handled", || node.counts().in_flight() == 0);
            }
            let mut batch = router.batch();
            // It may be full while its worker is behind.
            eventually("there is room", || batch.tell(&Item(number)).is_ok());
            if number % 2 == 0 {
                eventually("there is room", || batch.flush().is_ok());
            }
        }
    });
    soak("streams of events", |times| {
        for _ in 0..times / AT_ONCE {
            let mut streams: Vec<_> = (0..AT_ONCE).map(|_| node.events()).collect();
            node.serve("/soak/event", |_| Deadly).unwrap();
            node.unserve("/soak/event").unwrap();
            let last = streams.last_mut().unwrap();
            eventually("it is told", || matches!(last.try_next(), Ok(Some(_))));
        }
    });
    node.serve("/soak/deadly", |_| Deadly).unwrap();
    let deadly = node.router("/soak/deadly").build().unwrap();
    deadly.wait_ready(1, LIMIT).unwrap();
    soak("streams of dead letters", |times| {
        for _ in 0..times / AT_ONCE {
            let mut streams: Vec<_> = (0..AT_ONCE).map(|_| node.dead_letters()).collect();
            deadly.tell(&Item(0)).unwrap();
            let last = streams.last_mut().unwrap();
            eventually("it is told", || last.try_next().unwrap().is_some());
        }
    });
}
