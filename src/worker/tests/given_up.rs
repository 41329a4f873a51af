//! Nothing of users' runs any more on a worker that its node has given up, whenever it wakes up.

use std::sync::Mutex;

use super::*;

type Steps = Arc<Mutex<Vec<&'static str>>>;

const NOTING: HandlerId = HandlerId(2);

/// Notes what is called of it. Its node gives its worker up while it handles a message.
struct Noting(Steps, Arc<CountsBoard>);

impl Routee for Noting {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Ping>();
    }
    fn started(&mut self, _: &mut Context<'_>) {
        self.0.lock().unwrap().push("started");
    }
    fn stopped(&mut self, _: &mut Context<'_>) {
        self.0.lock().unwrap().push("stopped");
    }
}

impl Handler<Ping> for Noting {
    type Reply = u64;
    fn handle(&mut self, ping: &ArchivedPing, _: &mut Context<'_>) -> u64 {
        self.0.lock().unwrap().push("handled");
        self.1.give_up();
        assert_ne!(ping.what.to_native(), PANIC, "told to");
        0
    }
}

#[test]
fn a_worker_that_is_given_up_makes_starts_and_stops_no_routee() {
    for what in [REPLY, PANIC] {
        let (mut net, steps) = (Net::new(1), Steps::default());
        let (its, board) = (Arc::clone(&steps), Arc::clone(&net.sides[0].worker.core.published));
        let factory = RouteeFactory::new(move |_| {
            its.lock().unwrap().push("made");
            Noting(Arc::clone(&its), Arc::clone(&board))
        });
        net.sides[0].worker.serve(NOTING, factory.clone());
        let mut to = reference(0);
        to.id.instance = crate::base::InstanceId::running(NOTING);
        net.cx(0, |cx| cx.tell_to(&to, &doing(1, what))).unwrap();
        net.settle();
        let worker = &mut net.sides[0].worker;
        worker.serve(NOTING.next().unwrap(), factory);
        worker.stop();
        assert_eq!(*steps.lock().unwrap(), ["made", "started", "handled"]);
        assert_eq!(Arc::strong_count(&steps), 1, "they are gone all the same");
    }
}

/// Notes that it is gone.
struct Held(Steps);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("dropped");
    }
}

#[test]
fn on_a_worker_that_is_given_up_what_stops_work_is_dropped_and_not_called() {
    for gives_up in [false, true] {
        let (mut net, steps) = (Net::new(1), Steps::default());
        let work = net.cx_of(0, CALLER, |cx| {
            let work = cx.begin_work(|_: &mut Caller, _: Result<(), _>, _| {}).unwrap();
            let held = Held(Arc::clone(&steps));
            cx.stop_work_with(work.key(), move || held.0.lock().unwrap().push("stopped"));
            work
        });
        let worker = &mut net.sides[0].worker;
        if gives_up {
            worker.core.published.give_up();
        }
        worker.stop();
        let all = ["stopped", "dropped"];
        assert_eq!(*steps.lock().unwrap(), all[usize::from(gives_up)..]);
        assert!(!work.is_wanted());
    }
}
