//! A routee's life through the derive: its hooks, and times that are called off.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyway::{Context, Handler, Message, Node, Refusal, Routee, Router, WakeKey};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "life.tick", reply = bool)]
enum Tick {
    /// Set a time.
    Set { token: u64, after_ms: u64 },
    /// Call off the last one.
    CallOff,
    /// Panic.
    Panic,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Started,
    Woken(u64),
    Stopped(Option<Refusal>),
}

type Steps = Arc<Mutex<Vec<Step>>>;

#[derive(Routee)]
#[routee(handles(Tick), started = Self::open, wake = on_wake, stopped = Self::close)]
struct Clock {
    steps: Steps,
    last: Option<WakeKey>,
    own: Arc<Mutex<Option<Router>>>,
}

impl Clock {
    fn note(&self, step: Step) {
        self.steps.lock().unwrap().push(step);
    }

    fn open(&mut self, _: &mut Context<'_>) {
        self.note(Step::Started);
    }

    fn close(&mut self, cx: &mut Context<'_>) {
        let own = self.own.lock().unwrap().take();
        let sent = own.map(|own| cx.tell(&own, &Tick::CallOff).unwrap_err());
        self.note(Step::Stopped(sent));
    }
}

fn on_wake(clock: &mut Clock, token: u64, _: &mut Context<'_>) {
    clock.note(Step::Woken(token));
}

impl Handler<Tick> for Clock {
    type Reply = bool;
    fn handle(&mut self, tick: &ArchivedTick, cx: &mut Context<'_>) -> bool {
        match tick {
            ArchivedTick::Set { token, after_ms } => {
                let after = Duration::from_millis(after_ms.to_native());
                self.last = Some(cx.wake_after(after, token.to_native()));
                true
            }
            ArchivedTick::CallOff => self.last.is_some_and(|last| cx.cancel_wake(last)),
            ArchivedTick::Panic => panic!("told to"),
        }
    }
}

fn clock(steps: &Steps) -> (Node, Router, Arc<Mutex<Option<Router>>>) {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    let node = node.start().unwrap();
    let (steps, own) = (Arc::clone(steps), Arc::new(Mutex::new(None)));
    let given = Arc::clone(&own);
    let make = move |_| Clock { steps: steps.clone(), last: None, own: given.clone() };
    node.serve("/life/clock", make).unwrap();
    let router = node.router("/life/clock").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    (node, router, own)
}

#[test]
fn a_time_that_was_called_off_does_not_come() {
    let steps = Steps::default();
    let (node, router, _) = clock(&steps);
    let tick = |tick| router.ask(&tick).within(LIMIT).wait().unwrap();
    assert!(!tick(Tick::CallOff), "there is none");
    assert!(tick(Tick::Set { token: 1, after_ms: 30 }));
    assert!(tick(Tick::CallOff));
    assert!(!tick(Tick::CallOff), "a second time");
    assert!(tick(Tick::Set { token: 2, after_ms: 60 }));
    while !steps.lock().unwrap().contains(&Step::Woken(2)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!tick(Tick::CallOff), "it has come");
    drop(node);
    let all = [Step::Started, Step::Woken(2), Step::Stopped(None)];
    assert_eq!(*steps.lock().unwrap(), all);
}

#[test]
fn a_routee_is_told_once_that_its_worker_stops() {
    for leaves in [false, true] {
        let steps = Steps::default();
        let (node, router, own) = clock(&steps);
        *own.lock().unwrap() = Some(router.clone());
        if leaves {
            node.leave_and_wait().unwrap();
        } else {
            node.stop().unwrap();
        }
        let all = [Step::Started, Step::Stopped(Some(Refusal::Stopped))];
        assert_eq!(*steps.lock().unwrap(), all, "leaves: {leaves}");
    }
}

#[test]
fn an_instance_that_panicked_is_not_told_to_stop() {
    let steps = Steps::default();
    let (node, router, _) = clock(&steps);
    router.ask(&Tick::Panic).within(LIMIT).wait().unwrap_err();
    node.stop().unwrap();
    let all = [Step::Started, Step::Started, Step::Stopped(None)];
    assert_eq!(*steps.lock().unwrap(), all);
}
