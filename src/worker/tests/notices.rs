//! Messages of parts, which are for one life of a routee.

use std::sync::Mutex;

use super::*;
use crate::base::{Incarnation, InstanceId, LifeNumber, NodeId, NodeRef, RouteeId};
use crate::config::WatchConfig;
use crate::part::Facts;
use crate::part::watch::{ArchivedGone, Ended, Gone, GoneReason, Members, TooManyWatches};

const WATCHER: HandlerId = HandlerId(2);

/// A registration that there is not.
const NOBODY: HandlerId = HandlerId(77);

/// Which life was told of the end of which watch.
type Told = Arc<Mutex<Vec<(LifeNumber, u64)>>>;

/// Watches what its times name, and panics when told to.
struct Watcher(Told);

impl Routee for Watcher {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Gone>();
    }
    fn wake(&mut self, token: u64, cx: &mut Context<'_>) {
        assert_ne!(token, PANIC, "told to");
        let nobody = RouteeId { instance: InstanceId::running(NOBODY), ..cx.id() };
        cx.watch::<Self>(nobody, token).expect("there are places");
    }
}

impl Handler<Gone> for Watcher {
    type Reply = ();
    fn handle(&mut self, gone: &ArchivedGone, cx: &mut Context<'_>) {
        let life = cx.id().instance.life.expect("what runs has a life");
        self.0.lock().unwrap().push((life, gone.token.to_native()));
    }
}

/// A routee whose 100 watches have ended, which it has not been told yet; and who is told.
fn with_notices() -> (Net, Told) {
    let (mut net, told) = (Net::joined(2), Told::default());
    let its = Arc::clone(&told);
    let worker = &mut net.sides[0].worker;
    worker.serve(WATCHER, RouteeFactory::new(move |_| Watcher(Arc::clone(&its))));
    (100..200).for_each(|token| net.cx_of(0, WATCHER, |cx| cx.wake_soon(token)));
    while net.sides[0].worker.core.notices.len() < 100 {
        assert!(net.sides[0].worker.has_work(), "the watches of nobody end");
        net.pass(0);
    }
    net.check(0);
    assert!(!net.sides[0].worker.is_drained());
    (net, told)
}

#[test]
fn each_is_delivered_once_and_a_turn_takes_a_part_of_many() {
    let (mut net, told) = with_notices();
    net.pass(0);
    let first = told.lock().unwrap().len();
    assert!(first > 0 && first < 100, "{first} in one turn");
    net.settle();
    let tokens: Vec<u64> = told.lock().unwrap().iter().map(|(_, token)| *token).collect();
    assert_eq!(tokens, (100..200).collect::<Vec<_>>());
    let counts = net.counts(0);
    assert_eq!((counts.delivered, counts.dead_total()), (101, 0), "one joined the sides");
    assert!(net.sides[0].worker.is_drained());
}

#[test]
fn what_is_on_its_way_to_a_life_that_ends_is_dead_and_reaches_no_successor() {
    let (mut net, told) = with_notices();
    let old = net.cx_of(0, WATCHER, |cx| cx.id().instance);
    net.sides[0].worker.wake(old, PANIC);
    assert!(net.cx_of(0, WATCHER, |cx| cx.id().instance) != old);
    net.settle();
    assert_eq!(*told.lock().unwrap(), []);
    assert_eq!(net.counts(0).dead[DeathReason::UnknownHandler as usize], 100);
    // The fresh one is told of what it watches itself.
    net.cx_of(0, WATCHER, |cx| cx.wake_soon(300));
    net.settle();
    assert_eq!(told.lock().unwrap().len(), 1);
}

#[test]
fn what_waits_when_the_worker_stops_is_dead() {
    let (mut net, told) = with_notices();
    net.sides[0].worker.stop();
    net.check(0);
    let counts = net.counts(0);
    assert_eq!((counts.dead[DeathReason::Stopped as usize], counts.in_flight()), (100, 0));
    assert_eq!(*told.lock().unwrap(), []);
}

/// Each end waits for its turn: who watches what is gone, again and again in one call, would have an
/// endless list of them.
#[test]
fn a_call_that_watches_more_than_there_are_places_is_refused_by_name() {
    let most = WatchConfig::default().max_watches;
    let (mut net, told) = (Net::joined(2), Told::default());
    let its = Arc::clone(&told);
    let worker = &mut net.sides[0].worker;
    worker.serve(WATCHER, RouteeFactory::new(move |_| Watcher(Arc::clone(&its))));
    let gone = NodeRef { node: NodeId::from_name("gone"), incarnation: Incarnation(1) };
    let end = Ended { node: gone, reason: GoneReason::NodeLeft };
    let members = Members { nodes: Vec::new(), ends: vec![end] };
    worker.told(&Facts { watch: Arc::new(members), ..Facts::default() });
    let watch_many = |net: &mut Net| {
        net.cx_of(0, WATCHER, |cx| {
            let begun = |token: &u64| cx.watch::<Watcher>(gone, *token).is_ok();
            (0..most as u64 + 1_000).filter(begun).count()
        })
    };
    for round in 1..=2 {
        assert_eq!(watch_many(&mut net), most);
        assert_eq!(net.sides[0].worker.core.notices.len(), most);
        let refused = net.cx_of(0, WATCHER, |cx| cx.watch::<Watcher>(gone, 0));
        assert_eq!(refused, Err(TooManyWatches { most }));
        net.settle();
        assert_eq!(told.lock().unwrap().len(), round * most, "each that began was told of");
    }
}

/// The link to the watched routee is full when its watcher stops watching.
#[test]
fn a_watch_that_is_stopped_is_forgotten_by_a_peer_that_was_slow() {
    let mut net = Net::joined(2);
    let worker = &mut net.sides[0].worker;
    worker.serve(WATCHER, RouteeFactory::new(|_| Watcher(Told::default())));
    let mut nodes = vec![(reference(0).id.node, 1), (reference(1).id.node, 1)];
    nodes.sort_by_key(|(life, _)| life.node);
    let members = Members { nodes, ends: Vec::new() };
    worker.told(&Facts { watch: Arc::new(members), ..Facts::default() });
    net.cx_of(0, WATCHER, |cx| cx.watch::<Watcher>(&reference(1), 5)).expect("there are places");
    net.settle();
    let kept = |net: &Net| net.sides[1].worker.parts().watch.kept().count();
    assert_eq!(kept(&net), 1);
    while net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).is_ok() {}
    net.cx_of(0, WATCHER, |cx| cx.unwatch(5));
    net.settle();
    assert_eq!(kept(&net), 1, "the word of its end found no room");
    net.pass(500);
    net.settle();
    assert_eq!(kept(&net), 0, "it was said again");
}
