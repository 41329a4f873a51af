//! Each half alone: inputs go in, the whole list of effects is compared.

mod late;
mod once;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::control::{Notify, Order, WatchControl};
use super::members::{Ended, Members};
use super::wire::Op;
use super::worker::{
    BEGUN, GONE, REFUSED, Report, STOPPED, UNKNOWN_FRAMES, WatchWorker, Watcher, WorkerOrder,
};
use super::{Gone, GoneReason, Target, TooManyWatches};
use crate::base::{
    HandlerId, Incarnation, InstanceId, LifeNumber, Member, MemberEvent, MemberState, NodeId,
    NodeRef, RouteeId, View, WorkerIndex,
};
use crate::part::{
    ControlEffect, ControlEffects, ControlOutlet, ControlPart, LinkChange, LinkRef, Outlet, PartId,
    RouteeChange, To, WorkerEffect, WorkerEffects, WorkerPart,
};
use crate::wire::{Deframed, Message, WireType, deframe};

const W0: WorkerIndex = WorkerIndex(0);
/// How many each node has.
const WORKERS: u16 = 2;
const CARTS: HandlerId = HandlerId(3);
const RETRY: Duration = Duration::from_millis(500);
const UNKNOWN: Duration = Duration::from_millis(1_500);

fn node(name: &str, life: u64) -> NodeRef {
    NodeRef { node: NodeId::from_name(name), incarnation: Incarnation(life) }
}

fn members(lives: &[NodeRef], ends: &[(NodeRef, GoneReason)]) -> Arc<Members> {
    let mut nodes: Vec<_> = lives.iter().map(|life| (*life, WORKERS)).collect();
    nodes.sort_by_key(|(life, _)| life.node);
    let ends = ends.iter().map(|(node, reason)| Ended { node: *node, reason: *reason }).collect();
    Arc::new(Members { nodes, ends })
}

fn dialed(number: u64, peer: NodeRef) -> LinkRef {
    LinkRef { link: number, peer: (peer, W0), dialed: true }
}

fn accepted(number: u64, peer: NodeRef) -> LinkRef {
    LinkRef { dialed: false, ..dialed(number, peer) }
}

/// An effect in a form that can be compared.
#[derive(Debug, PartialEq)]
enum Seen {
    Send(To, Op),
    Deliver(InstanceId, u64, GoneReason),
    After(Duration, u64),
    Report(Report),
    Count(usize, u64),
}

/// One half with what it has to do.
struct Half {
    worker: WatchWorker,
    effects: WorkerEffects<Report>,
    /// Of `CARTS`, as its worker counts.
    life: u32,
}

impl Half {
    fn new(limit: usize) -> Self {
        let worker = WatchWorker::new(node("me", 1), limit);
        Self { worker, effects: WorkerEffects::default(), life: 0 }
    }

    fn run(&mut self, step: impl FnOnce(&mut WatchWorker, &mut Outlet<'_, Report>)) -> Vec<Seen> {
        let mut out = Outlet::new(PartId(1), &mut self.effects);
        step(&mut self.worker, &mut out);
        let bytes = std::mem::take(&mut self.effects.bytes);
        self.effects.list.drain(..).map(|effect| seen(effect, &bytes)).collect()
    }

    fn watch(&mut self, watcher: Watcher, target: Target) -> Vec<Seen> {
        self.run(|worker, out| worker.order(WorkerOrder::Watch { watcher, target }, out))
    }

    fn frame(&mut self, from: LinkRef, op: Op) -> Vec<Seen> {
        self.run(|worker, out| {
            worker.frame(from, op.code(), &op.body(), out).expect("a whole frame");
        })
    }

    fn told(&mut self, members: &Arc<Members>) -> Vec<Seen> {
        self.run(|worker, out| worker.told(members, out))
    }

    fn timer(&mut self, token: u64) -> Vec<Seen> {
        self.run(|worker, out| worker.timer(token, out))
    }

    /// The link to this peer had no room for a frame.
    fn crowded_out(&mut self, peer: NodeRef, op: Op) -> Vec<Seen> {
        self.run(|worker, out| worker.crowded_out((peer, W0), op.code(), &op.body(), out))
    }

    /// The link to this peer cannot be opened.
    fn cut_off(&mut self, peer: NodeRef, op: Op) -> Vec<Seen> {
        self.run(|worker, out| worker.cut_off((peer, W0), op.code(), &op.body(), out))
    }

    fn unwatch(&mut self, watcher: Watcher) -> Vec<Seen> {
        self.run(|worker, out| worker.order(WorkerOrder::Unwatch { watcher }, out))
    }

    fn link(&mut self, link: LinkRef, change: LinkChange) -> Vec<Seen> {
        self.run(|worker, out| worker.link(link, change, out))
    }

    fn routee(&mut self, change: RouteeChange) -> Vec<Seen> {
        self.life += u32::from(change != RouteeChange::Withdrawn);
        let instance = carts(self.life);
        self.run(|worker, out| worker.routee(instance, change, out))
    }
}

fn seen(effect: WorkerEffect<Report>, bytes: &[u8]) -> Seen {
    match effect {
        WorkerEffect::Send { part, to, op, body } => {
            assert_eq!(part, PartId(1));
            let op = Op::parse(op, &bytes[body]).expect("a whole body").expect("a known op");
            Seen::Send(to, op)
        }
        WorkerEffect::Deliver(to, chunk) => {
            let Ok(Deframed::Frame(frame, _)) = deframe(chunk.bytes(), 1 << 20) else {
                panic!("a delivered chunk holds a frame");
            };
            assert_eq!(frame.header.message, Gone::TYPE_ID);
            let gone = <Gone as WireType>::access(frame.body()).expect("a valid body");
            assert_eq!(frame.header.target, to.handler);
            Seen::Deliver(to, gone.token.to_native(), gone.reason())
        }
        WorkerEffect::After { after, token, .. } => Seen::After(after, token),
        WorkerEffect::ToControl(report) => Seen::Report(report),
        WorkerEffect::Count { counter, by, .. } => Seen::Count(counter, by),
    }
}

fn op_watch(id: u64, life: u32) -> Op {
    Op::Watch { id, instance: carts(life) }
}

fn watching_op(id: u64, life: u32) -> Op {
    Op::Watching { id, life: LifeNumber::new(life) }
}

/// This life of `CARTS`; 0 is whichever runs.
fn carts(life: u32) -> InstanceId {
    InstanceId { handler: CARTS, life: LifeNumber::new(life) }
}

fn carts_on(node: NodeRef) -> Target {
    Target::Routee(RouteeId { node, worker: W0, instance: carts(0) })
}

const WATCHING: InstanceId = InstanceId { handler: HandlerId(9), life: Some(LifeNumber::FIRST) };

const ME: Watcher = Watcher::Routee(WATCHING, 70);

/// A half that watches `CARTS` on `b`, confirmed for life 4.
fn watching() -> (Half, NodeRef) {
    let b = node("b", 1);
    let mut half = Half::new(8);
    assert_eq!(half.told(&members(&[b], &[])), []);
    let asked = half.watch(ME, carts_on(b));
    assert_eq!(
        asked,
        [Seen::Count(BEGUN, 1), Seen::Send(To::Peer(b, W0), op_watch(1, 0)), Seen::After(RETRY, 0),]
    );
    assert_eq!(half.frame(dialed(5, b), watching_op(1, 4)), []);
    assert_eq!(half.timer(0), [], "a confirmed watch is not asked for again");
    (half, b)
}

#[test]
fn a_watcher_learns_once_that_an_instance_is_gone() {
    let (mut half, b) = watching();
    let gone = Op::Gone { id: 1, reason: GoneReason::Replaced as u32 };
    assert_eq!(
        half.frame(dialed(5, b), gone),
        [Seen::Count(GONE, 1), Seen::Deliver(WATCHING, 70, GoneReason::Replaced)]
    );
    assert_eq!(half.frame(dialed(5, b), gone), [], "told once");
    let ended = members(&[], &[(b, GoneReason::NodeDown)]);
    assert_eq!(half.told(&ended), [], "not again when its node goes");
}

#[test]
fn a_new_link_is_asked_again_for_the_same_instance() {
    let (mut half, b) = watching();
    assert_eq!(half.link(dialed(5, b), LinkChange::Closed), [Seen::After(RETRY, 0)]);
    assert_eq!(half.timer(0), [Seen::Send(To::Peer(b, W0), op_watch(1, 4)), Seen::After(RETRY, 0)]);
    assert_eq!(
        half.link(dialed(6, b), LinkChange::Opened),
        [Seen::Send(To::Peer(b, W0), op_watch(1, 4))]
    );
    // It was replaced while nobody could say so.
    let gone = Op::Gone { id: 1, reason: GoneReason::Replaced as u32 };
    assert_eq!(
        half.frame(dialed(6, b), gone),
        [Seen::Count(GONE, 1), Seen::Deliver(WATCHING, 70, GoneReason::Replaced)]
    );
}

#[test]
fn the_view_tells_how_a_node_ended() {
    for (view, reason) in [
        (members(&[], &[(node("b", 1), GoneReason::NodeLeft)]), GoneReason::NodeLeft),
        (members(&[], &[(node("b", 1), GoneReason::NodeDown)]), GoneReason::NodeDown),
        (members(&[node("b", 2)], &[]), GoneReason::NodeRestarted),
    ] {
        let (mut half, b) = watching();
        let watched_node = half.watch(Watcher::Application(8), Target::Node(b));
        assert_eq!(watched_node, [Seen::Count(BEGUN, 1)]);
        assert_eq!(
            half.told(&view),
            [
                Seen::Count(GONE, 1),
                Seen::Deliver(WATCHING, 70, reason),
                Seen::Count(GONE, 1),
                Seen::Report(Report::Gone { token: 8, reason }),
            ]
        );
        // Gone before: told at once, nothing is asked.
        assert_eq!(
            half.watch(ME, carts_on(b)),
            [Seen::Count(BEGUN, 1), Seen::Count(GONE, 1), Seen::Deliver(WATCHING, 70, reason),]
        );
    }
}

#[test]
fn an_unknown_node_is_waited_for_and_then_gone() {
    let b = node("b", 1);
    let mut half = Half::new(8);
    assert_eq!(half.watch(ME, Target::Node(b)), [Seen::Count(BEGUN, 1), Seen::After(UNKNOWN, 1)]);
    assert_eq!(half.timer(1), [Seen::After(UNKNOWN, 1)], "it may still be on its way");
    assert_eq!(
        half.timer(1),
        [Seen::Count(GONE, 1), Seen::Deliver(WATCHING, 70, GoneReason::UnknownNode)]
    );
    half.watch(ME, Target::Node(b));
    assert_eq!(half.told(&members(&[b], &[])), []);
    assert_eq!(half.timer(1), [], "its record came in time");
}

#[test]
fn a_routee_on_a_worker_that_its_node_does_not_have_is_gone_as_soon_as_that_is_known() {
    for of in [node("b", 1), node("me", 1)] {
        let on = |worker| RouteeId { node: of, worker: WorkerIndex(worker), instance: carts(1) };
        let [there, nowhere] = [WORKERS - 1, WORKERS].map(on).map(Target::Routee);
        let gone = || [Seen::Count(GONE, 1), Seen::Deliver(WATCHING, 70, GoneReason::Withdrawn)];
        let mut half = Half::new(8);
        half.watch(ME, nowhere);
        assert_eq!(half.told(&members(&[of], &[])), gone());
        assert_eq!(half.watch(ME, nowhere)[1..], gone());
        assert!(matches!(half.watch(ME, there)[1], Seen::Send(..)));
    }
}

#[test]
fn a_life_that_is_named_is_the_one_that_is_watched() {
    let b = node("b", 1);
    let mut half = Half::new(8);
    half.told(&members(&[b], &[]));
    let third = Target::Routee(RouteeId { node: b, worker: W0, instance: carts(3) });
    assert_eq!(half.watch(ME, third)[1], Seen::Send(To::Peer(b, W0), op_watch(1, 3)));
}

#[test]
fn a_watch_that_is_stopped_says_nothing_more() {
    let (mut half, b) = watching();
    assert_eq!(
        half.run(|worker, out| worker.order(WorkerOrder::Unwatch { watcher: ME }, out)),
        [Seen::Count(STOPPED, 1), Seen::Send(To::Peer(b, W0), Op::Unwatch { id: 1 })]
    );
    let gone = Op::Gone { id: 1, reason: GoneReason::Replaced as u32 };
    assert_eq!(half.frame(dialed(5, b), gone), []);
    assert_eq!(half.told(&members(&[], &[(b, GoneReason::NodeDown)])), []);
}

/// Otherwise the other side would keep it for as long as the link lives.
#[test]
fn an_end_that_found_no_room_is_said_again_until_it_does() {
    let (mut half, b) = watching();
    let said = || Seen::Send(To::Peer(b, W0), Op::Unwatch { id: 1 });
    assert_eq!(half.unwatch(ME), [Seen::Count(STOPPED, 1), said()]);
    assert_eq!(half.crowded_out(b, Op::Unwatch { id: 1 }), [Seen::After(RETRY, 0)]);
    assert_eq!(half.timer(0), [said()]);
    assert_eq!(half.crowded_out(b, Op::Unwatch { id: 1 }), [Seen::After(RETRY, 0)], "and again");
    assert_eq!(half.timer(0), [said()]);
    assert_eq!(half.timer(0), [], "it found room");
}

#[test]
fn many_ends_are_said_in_rounds_in_which_each_comes_to_its_turn() {
    let b = node("b", 1);
    let mut half = Half::new(3_000);
    half.told(&members(&[b], &[]));
    for id in 1..=2_500 {
        let end = Op::Unwatch { id };
        assert_eq!(half.crowded_out(b, end).len(), usize::from(id == 1), "one timer");
    }
    let mut said = BTreeMap::<u64, u32>::new();
    for round in 1..=3 {
        let effects = half.timer(0);
        let ends: Vec<u64> = effects
            .iter()
            .filter_map(|effect| match effect {
                Seen::Send(To::Peer(..), Op::Unwatch { id }) => Some(*id),
                _ => None,
            })
            .collect();
        assert!(!ends.is_empty() && ends.len() <= 1_024, "{} in round {round}", ends.len());
        for id in ends {
            *said.entry(id).or_default() += 1;
            half.crowded_out(b, Op::Unwatch { id });
        }
    }
    assert_eq!(said.len(), 2_500, "nobody's is left out because others find no room");
}

#[test]
fn an_end_that_is_still_to_be_said_has_the_place_of_its_watch() {
    let b = node("b", 1);
    let mut half = Half::new(2);
    half.told(&members(&[b], &[]));
    let app = Watcher::Application;
    for token in [1, 2] {
        half.watch(app(token), carts_on(b));
    }
    half.unwatch(app(1));
    half.crowded_out(b, Op::Unwatch { id: 1 });
    let many = GoneReason::TooManyWatches;
    let refused = [Seen::Count(REFUSED, 1), Seen::Report(Report::Gone { token: 3, reason: many })];
    assert_eq!(half.watch(app(3), carts_on(b)), refused);
    assert_eq!(half.worker.admit(ME, 0), Err(TooManyWatches { most: 2 }));
    half.timer(0);
    assert_eq!(half.worker.admit(ME, 0), Ok(()), "it found room, and so does another one");
    assert_eq!(
        half.worker.admit(ME, 1),
        Err(TooManyWatches { most: 2 }),
        "one is still to be told"
    );
    assert_eq!(half.watch(app(3), carts_on(b))[0], Seen::Count(BEGUN, 1));
}

#[test]
fn an_answer_from_elsewhere_ends_no_watch() {
    let (mut half, _) = watching();
    let gone = Op::Gone { id: 1, reason: GoneReason::Replaced as u32 };
    assert_eq!(half.frame(dialed(7, node("stranger", 1)), gone), []);
}

#[test]
fn a_watched_routee_tells_each_watcher_once() {
    let (b, c) = (node("b", 1), node("c", 1));
    let (from_b, from_c) = (accepted(2, b), accepted(3, c));
    let mut half = Half::new(8);
    half.routee(RouteeChange::Started);
    for (from, id) in [(from_b, 11), (from_c, 12)] {
        let confirmed = [Seen::Send(To::Link(from), watching_op(id, 1))];
        assert_eq!(half.frame(from, op_watch(id, 0)), confirmed);
        assert_eq!(half.frame(from, op_watch(id, 1)), confirmed, "asked twice, kept once");
    }
    let replaced = GoneReason::Replaced as u32;
    assert_eq!(
        half.routee(RouteeChange::Replaced),
        [
            Seen::Send(To::Link(from_b), Op::Gone { id: 11, reason: replaced }),
            Seen::Send(To::Link(from_c), Op::Gone { id: 12, reason: replaced }),
        ]
    );
    assert_eq!(
        half.frame(from_b, op_watch(13, 1)),
        [Seen::Send(To::Link(from_b), Op::Gone { id: 13, reason: replaced })],
        "a watch for the instance before is told at once"
    );
    half.frame(from_b, op_watch(14, 0));
    half.frame(from_c, op_watch(15, 0));
    half.frame(from_c, Op::Unwatch { id: 15 });
    half.link(from_b, LinkChange::Closed);
    assert_eq!(half.routee(RouteeChange::Withdrawn), [], "nobody watches any more");
    let withdrawn = GoneReason::Withdrawn as u32;
    assert_eq!(
        half.frame(from_c, op_watch(16, 0)),
        [Seen::Send(To::Link(from_c), Op::Gone { id: 16, reason: withdrawn })]
    );
}

#[test]
fn a_routee_that_is_replaced_takes_its_own_watches_along() {
    let b = node("b", 1);
    let mut half = Half::new(8);
    half.told(&members(&[b], &[]));
    half.routee(RouteeChange::Started);
    half.watch(Watcher::Routee(carts(1), 5), Target::Node(b));
    assert_eq!(half.routee(RouteeChange::Replaced), [Seen::Count(STOPPED, 1)]);
    half.watch(Watcher::Routee(carts(2), 5), Target::Node(b));
    assert_eq!(half.routee(RouteeChange::Withdrawn), [Seen::Count(STOPPED, 1)]);
    assert_eq!(half.told(&members(&[], &[(b, GoneReason::NodeDown)])), []);
}

#[test]
fn frames_of_a_newer_peer_are_skipped_and_broken_ones_are_not() {
    let from = accepted(2, node("b", 1));
    let mut half = Half::new(8);
    let skipped = half.run(|worker, out| {
        worker.frame(from, 77, &[1, 2, 3], out).expect("unknown is not broken");
    });
    assert_eq!(skipped, [Seen::Count(UNKNOWN_FRAMES, 1)]);
    half.run(|worker, out| {
        worker.frame(from, 1, &[0; 15], out).expect_err("a body that is too short");
    });
}

// ---- control's half ----

fn member(name: &str, state: MemberState) -> Member {
    Member {
        name: name.into(),
        state,
        ..Member::plain(node(name, 1), "127.0.0.1:7400".parse().expect("an address"))
    }
}

#[test]
fn control_publishes_members_and_how_others_ended() {
    let mut control = WatchControl::new(2);
    let mut effects = ControlEffects::<WorkerOrder>::default();
    let mut facts = Arc::default();
    let a = Member { workers: WORKERS, ..member("a", MemberState::Up) };
    let view = Arc::new(View::new(node("me", 1), 1, vec![a.clone()]));
    let events = [
        MemberEvent::Removed(member("b", MemberState::Left).into()),
        MemberEvent::Removed(member("c", MemberState::Down).into()),
    ];
    let mut out = ControlOutlet::new(PartId(1), &mut facts, &mut effects);
    control.view(&view, &events, &mut out);
    assert!(effects.published);
    assert!(effects.list.is_empty());
    let ends = [(node("b", 1), GoneReason::NodeLeft), (node("c", 1), GoneReason::NodeDown)];
    assert_eq!(facts, members(&[node("a", 1)], &ends));
    // Whether a member answers is nothing to those who watch it.
    let silent = Member { reachable: false, ..a };
    let silent = Arc::new(view.next(view.me, vec![silent.into()]));
    effects.published = false;
    control.view(&silent, &[], &mut ControlOutlet::new(PartId(1), &mut facts, &mut effects));
    assert!(!effects.published);
}

struct Waits {
    token: u64,
    told: Arc<Mutex<Vec<(u64, GoneReason)>>>,
    wanted: bool,
}

impl Notify for Waits {
    fn is_wanted(&self) -> bool {
        self.wanted
    }

    fn tell(&mut self, reason: GoneReason) {
        self.told.lock().unwrap().push((self.token, reason));
    }
}

/// An application's place is free when the worker has let go of its watch, not before.
#[test]
fn a_watch_that_was_stopped_has_its_place_until_its_worker_has_forgotten_it() {
    let mut control = WatchControl::new(1);
    let mut effects = ControlEffects::<WorkerOrder>::default();
    let mut facts = Arc::default();
    let mut out = ControlOutlet::new(PartId(1), &mut facts, &mut effects);
    let places = Arc::new(Mutex::new(Vec::new()));
    let target = Target::Node(node("b", 1));
    let watch = |token, wanted| {
        let notify = Box::new(Waits { token, told: Arc::clone(&places), wanted });
        Order::Watch { token, target, notify }
    };
    let taken = || Arc::strong_count(&places) - 1;
    for token in 1..=3 {
        control.order(watch(token, true), &mut out);
        control.order(Order::Unwatch { token }, &mut out);
    }
    // The word of its end came before the watch itself.
    control.order(Order::Unwatch { token: 4 }, &mut out);
    control.order(watch(4, false), &mut out);
    assert_eq!(taken(), 3);
    control.report(WorkerIndex(0), Report::Stopped { token: 1 }, &mut out);
    assert_eq!(taken(), 2);
    // What it watched was gone before the worker heard that nobody waits.
    let gone = Report::Gone { token: 2, reason: GoneReason::NodeLeft };
    control.report(WorkerIndex(0), gone, &mut out);
    for token in [2, 3, 3] {
        control.report(WorkerIndex(0), Report::Stopped { token }, &mut out);
    }
    assert_eq!((taken(), places.lock().unwrap().len()), (0, 0));
    let orders = effects.list.len();
    assert_eq!(orders, 6, "nothing of the fourth");
}

#[test]
fn a_worker_says_that_it_has_forgotten_what_an_application_stopped() {
    let mut half = Half::new(8);
    let watcher = Watcher::Application(3);
    half.watch(watcher, Target::Node(node("b", 1)));
    let stopped = Seen::Report(Report::Stopped { token: 3 });
    let stop = |half: &mut Half| {
        half.run(|worker, out| worker.order(WorkerOrder::Unwatch { watcher }, out))
    };
    assert_eq!(stop(&mut half), [Seen::Count(STOPPED, 1), stopped]);
    let stopped = Seen::Report(Report::Stopped { token: 3 });
    assert_eq!(stop(&mut half), [stopped], "also when it was gone before");
}

#[test]
fn an_application_is_told_once_and_not_after_it_stopped() {
    let mut control = WatchControl::new(2);
    let mut effects = ControlEffects::<WorkerOrder>::default();
    let mut facts = Arc::default();
    let told = Arc::new(Mutex::new(Vec::new()));
    let target = Target::Node(node("b", 1));
    let watch = |token: u64| {
        let notify = Box::new(Waits { token, told: Arc::clone(&told), wanted: true });
        Order::Watch { token, target, notify }
    };
    let mut out = ControlOutlet::new(PartId(1), &mut facts, &mut effects);
    control.order(watch(4), &mut out);
    control.order(watch(5), &mut out);
    control.order(Order::Unwatch { token: 5 }, &mut out);
    for token in [4, 4, 5] {
        let report = Report::Gone { token, reason: GoneReason::NodeLeft };
        control.report(WorkerIndex(0), report, &mut out);
    }
    assert_eq!(*told.lock().unwrap(), [(4, GoneReason::NodeLeft)]);
    let orders: Vec<(WorkerIndex, WorkerOrder)> = effects
        .list
        .into_iter()
        .map(|effect| match effect {
            ControlEffect::ToWorker(worker, order) => (worker, order),
            ControlEffect::After { .. } => panic!("no timer was asked for"),
            ControlEffect::Gossip { .. } | ControlEffect::Send { .. } => {
                panic!("watch says nothing to other controls")
            }
        })
        .collect();
    let of = Watcher::Application;
    assert_eq!(
        orders,
        [
            (WorkerIndex(0), WorkerOrder::Watch { watcher: of(4), target }),
            (WorkerIndex(1), WorkerOrder::Watch { watcher: of(5), target }),
            (WorkerIndex(1), WorkerOrder::Unwatch { watcher: of(5) }),
        ]
    );
}

#[test]
fn frames_are_these_bytes() {
    let instance = InstanceId { handler: HandlerId(0x0102), life: LifeNumber::new(0x0304) };
    let id = 0x0506;
    for (op, code, rest) in [
        (Op::Watch { id, instance }, 1, [2, 1, 0, 0, 4, 3, 0, 0]),
        (
            Op::Watch { id, instance: InstanceId { life: None, ..instance } },
            1,
            [2, 1, 0, 0, 0, 0, 0, 0],
        ),
        (Op::Watching { id, life: LifeNumber::new(7) }, 2, [7, 0, 0, 0, 0, 0, 0, 0]),
        (Op::Gone { id, reason: 8 }, 3, [8, 0, 0, 0, 0, 0, 0, 0]),
        (Op::Unwatch { id }, 4, [0; 8]),
    ] {
        let (body, name) = (op.body(), [6, 5, 0, 0, 0, 0, 0, 0]);
        assert_eq!((op.code(), &body[..8], &body[8..]), (code, &name[..], &rest[..]));
        assert_eq!(Op::parse(code, &body), Ok(Some(op)));
        for wrong in [&body[..15], &[&body[..], &[0]].concat()] {
            assert!(Op::parse(code, wrong).is_err());
        }
    }
    assert_eq!(Op::parse(5, &[]), Ok(None));
}
