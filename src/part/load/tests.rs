//! Control's half: the whole list of what it wants done, and what its askers are told.

use std::sync::{Arc, Mutex};

use super::*;
use crate::base::{Incarnation, Member, NodeId, View};
use crate::part::{ControlEffect, ControlEffects, ControlOutlet, ControlPart, PartId};

fn node(number: u64) -> NodeRef {
    NodeRef { node: NodeId(number), incarnation: Incarnation(1) }
}

fn member(number: u64) -> Member {
    Member {
        name: format!("n{number}").into(),
        ..Member::plain(node(number), "127.0.0.1:1".parse().unwrap())
    }
}

type Told = Arc<Mutex<Vec<Result<Load, LoadError>>>>;

struct Bench {
    control: LoadControl,
    facts: Arc<()>,
    effects: ControlEffects<super::worker::Never>,
    told: Told,
}

impl Bench {
    fn new() -> Self {
        let control = LoadControl::new(node(1), 1_000);
        let effects = ControlEffects::default();
        let mut bench = Self { control, facts: Arc::default(), effects, told: Told::default() };
        bench.members(1..4);
        bench
    }

    fn run(
        &mut self,
        call: impl FnOnce(&mut LoadControl, &mut ControlOutlet<'_, (), super::worker::Never>),
    ) -> Vec<String> {
        let mut out = ControlOutlet::new(PartId(2), &mut self.facts, &mut self.effects);
        call(&mut self.control, &mut out);
        self.effects.list.drain(..).map(describe).collect()
    }

    fn members(&mut self, numbers: std::ops::Range<u64>) {
        let view = Arc::new(View::new(node(1), 1, numbers.map(member).collect()));
        self.run(|control, out| control.view(&view, &[], out));
    }

    fn ask(&mut self, number: u64) -> Vec<String> {
        let told = Arc::clone(&self.told);
        let answer = Box::new(move |outcome| told.lock().unwrap().push(outcome));
        self.run(|control, out| control.order(Order::Ask { node: node(number), answer }, out))
    }

    fn told(&self) -> Vec<Result<Load, LoadError>> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn describe(effect: ControlEffect<super::worker::Never>) -> String {
    match effect {
        ControlEffect::After { after, token, .. } => format!("after {after:?} {token}"),
        ControlEffect::ToWorker(..) => unreachable!(),
        ControlEffect::Gossip { key, bytes, .. } => format!("gossip {key} {bytes:?}"),
        ControlEffect::Send { to, op, bytes, .. } => format!("send {} {op} {bytes:?}", to.node.0),
    }
}

#[test]
fn what_has_changed_enough_is_told_to_all() {
    let mut bench = Bench::new();
    // What was before it was begun is in no measurement.
    let before = Reading { awake_ns: 0, asleep_ns: 1_000_000, stuck: false };
    let reading = Arc::new(Mutex::new(before));
    let source = Arc::clone(&reading);
    let read = Box::new(move || *source.lock().unwrap());
    let shown = Arc::new(Mutex::new(Loads::default()));
    let place = Arc::clone(&shown);
    let show = Box::new(move |loads| *place.lock().unwrap() = loads);
    let begun = bench.run(|control, out| control.order(Order::Begin { read, show }, out));
    assert_eq!(begun, ["after 1s 0"]);
    let mut measure = |awake, asleep, stuck| {
        let mut now = reading.lock().unwrap();
        *now = Reading { awake_ns: now.awake_ns + awake, asleep_ns: now.asleep_ns + asleep, stuck };
        drop(now);
        bench.run(|control, out| control.timer(0, out))
    };
    assert_eq!(measure(300, 700, false), ["gossip 0 [44, 1, 0]", "after 1s 0"]);
    assert_eq!(measure(349, 651, false), ["after 1s 0"]);
    assert_eq!(measure(250, 750, false), ["gossip 0 [250, 0, 0]", "after 1s 0"]);
    assert_eq!(measure(250, 750, true), ["gossip 0 [250, 0, 1]", "after 1s 0"]);
    bench.run(|control, out| control.heard(node(2), 0, &[9, 0, 0, 77], out));
    let of = |number| shown.lock().unwrap().get(&node(number)).copied();
    assert_eq!(of(1), Some(Load { busy_per_mille: 250, stuck: true }));
    assert_eq!(of(2), Some(Load { busy_per_mille: 9, stuck: false }));
    bench.members(1..2);
    assert_eq!(of(2), None);
}

#[test]
fn a_question_ends_once_with_an_answer_a_loss_or_in_time() {
    let mut bench = Bench::new();
    let asked = bench.ask(2);
    assert_eq!(asked, ["send 2 1 [1, 0, 0, 0, 0, 0, 0, 0]", "after 2s 1"]);
    let answer = [1, 0, 0, 0, 0, 0, 0, 0, 30, 0, 0];
    // Not from whom it was asked.
    bench.run(|control, out| control.message(node(3), 2, &answer, out));
    assert_eq!(bench.told(), []);
    bench.run(|control, out| control.message(node(2), 2, &answer, out));
    bench.run(|control, out| control.message(node(2), 2, &answer, out));
    bench.run(|control, out| control.timer(1, out));
    assert_eq!(bench.told(), [Ok(Load { busy_per_mille: 30, stuck: false })]);

    bench.ask(2);
    bench.ask(3);
    bench.run(|control, out| control.lost(node(2), out));
    bench.run(|control, out| control.lost(node(2), out));
    assert_eq!(bench.told(), [Err(LoadError::Lost)]);
    bench.run(|control, out| control.timer(3, out));
    assert_eq!(bench.told(), [Err(LoadError::NoAnswer)]);
    bench.ask(3);
    bench.members(1..3);
    bench.ask(3);
    assert_eq!(bench.told(), [Err(LoadError::NotAMember), Err(LoadError::NotAMember)]);
    bench.ask(1);
    assert_eq!(bench.told(), [Ok(Load { busy_per_mille: 0, stuck: false })]);
}

#[test]
fn a_question_is_answered_and_what_a_newer_node_says_is_skipped() {
    let mut bench = Bench::new();
    let question = 7_u64.to_le_bytes();
    let answered = bench.run(|control, out| control.message(node(2), 1, &question, out));
    assert_eq!(answered, ["send 2 2 [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]);
    for (op, bytes) in [(1, &[0; 7][..]), (2, &[]), (9, &[0; 40])] {
        let wanted = bench.run(|control, out| control.message(node(2), op, bytes, out));
        assert!(wanted.is_empty());
    }
    bench.run(|control, out| control.heard(node(2), 0, &[1], out));
}

#[test]
fn a_load_is_these_bytes() {
    let load = Load { busy_per_mille: 0x0102, stuck: true };
    let mut bytes = Vec::new();
    load.put(&mut Writer::new(&mut bytes));
    assert_eq!(bytes, [2, 1, 1]);
    // What a newer node adds is left alone.
    assert_eq!(Load::read(&mut Reader::new(&[2, 1, 1, 9])), Ok(load));
    assert!(Load::read(&mut Reader::new(&[2, 1])).is_err());
}
