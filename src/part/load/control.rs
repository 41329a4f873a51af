//! Control's half of load: measures this node, gossips what has changed, keeps what others say,
//! and asks one of them directly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::worker::Never;
use super::{Load, LoadError, Loads};
use crate::base::{MemberEvent, NodeRef, View, WorkerIndex};
use crate::part::{ControlOutlet, ControlPart};
use crate::wire::codec::{Reader, Writer};

/// By how much the busy share differs before the others are told, in thousandths.
const WORTH_TELLING: u16 = 50;
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The token of the timer that measures; others are those of questions.
const MEASURE: u64 = 0;
/// The part's only word.
const KEY: u32 = 0;

const OP_ASK: u8 = 1;
const OP_ANSWER: u8 = 2;

/// How much the workers did since the node's start, as its driver knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How long they have worked, all together, in nanoseconds.
    pub awake_ns: u64,
    /// How long they have slept, or looked for work.
    pub asleep_ns: u64,
    /// Whether one of them stands still.
    pub stuck: bool,
}

/// Called once with the outcome of a question.
pub type Answer = Box<dyn FnOnce(Result<Load, LoadError>) + Send>;

/// What faces want.
pub enum Order {
    /// Measure from now on.
    Begin {
        /// Reads what the workers did.
        read: Box<dyn FnMut() -> Reading + Send>,
        /// Is told all loads whenever one of them is another.
        show: Box<dyn FnMut(Loads) + Send>,
    },
    /// Ask a node how busy it is now.
    Ask {
        /// Which node.
        node: NodeRef,
        /// Whom to tell.
        answer: Answer,
    },
}

/// Control's half.
pub struct LoadControl {
    me: NodeRef,
    every: Duration,
    read: Option<Box<dyn FnMut() -> Reading + Send>>,
    show: Option<Box<dyn FnMut(Loads) + Send>>,
    /// As measured last, and what was read then.
    own: Load,
    last: Reading,
    told: Option<Load>,
    members: BTreeSet<NodeRef>,
    /// Which roster that is.
    roster: Option<u64>,
    loads: Loads,
    asked: BTreeMap<u64, (NodeRef, Answer)>,
    next_token: u64,
}

impl LoadControl {
    pub(super) fn new(me: NodeRef, every_ms: u64) -> Self {
        Self {
            me,
            every: Duration::from_millis(every_ms),
            read: None,
            show: None,
            own: Load { busy_per_mille: 0, stuck: false },
            last: Reading::default(),
            told: None,
            members: BTreeSet::new(),
            roster: None,
            loads: Loads::default(),
            asked: BTreeMap::new(),
            next_token: MEASURE,
        }
    }

    /// The load since the last measurement, which this does not end.
    fn now(&mut self) -> (Load, Reading) {
        let Some(read) = &mut self.read else { return (self.own, self.last) };
        let reading = read();
        let awake = reading.awake_ns.saturating_sub(self.last.awake_ns);
        let asleep = reading.asleep_ns.saturating_sub(self.last.asleep_ns);
        let share = (u128::from(awake) * 1_000).checked_div(u128::from(awake) + u128::from(asleep));
        let busy_per_mille = share.map_or(self.own.busy_per_mille, |share| share as u16);
        (Load { busy_per_mille, stuck: reading.stuck }, reading)
    }

    fn measure(&mut self, out: &mut ControlOutlet<'_, (), Never>) {
        (self.own, self.last) = self.now();
        self.keep(self.me, self.own);
        let news = self.told.is_none_or(|told| {
            let differs = told.busy_per_mille.abs_diff(self.own.busy_per_mille);
            differs >= WORTH_TELLING || told.stuck != self.own.stuck
        });
        if news {
            self.told = Some(self.own);
            let mut word = Vec::new();
            self.own.put(&mut Writer::new(&mut word));
            out.gossip(KEY, word);
        }
        out.after(self.every, MEASURE);
    }

    fn keep(&mut self, node: NodeRef, load: Load) {
        if self.loads.get(&node) != Some(&load) {
            Arc::make_mut(&mut self.loads).insert(node, load);
            self.show();
        }
    }

    fn show(&mut self) {
        if let Some(show) = &mut self.show {
            show(Arc::clone(&self.loads));
        }
    }

    fn ask(&mut self, node: NodeRef, answer: Answer, out: &mut ControlOutlet<'_, (), Never>) {
        if node == self.me {
            return answer(Ok(self.now().0));
        }
        if !self.members.contains(&node) {
            return answer(Err(LoadError::NotAMember));
        }
        self.next_token += 1;
        self.asked.insert(self.next_token, (node, answer));
        let mut question = Vec::new();
        Writer::new(&mut question).u64(self.next_token);
        out.send(node, OP_ASK, question);
        out.after(ANSWER_WITHIN, self.next_token);
    }

    fn fail(&mut self, error: LoadError, which: impl Fn(NodeRef) -> bool) {
        let over = self.asked.iter().filter(|(_, (node, _))| which(*node));
        for token in over.map(|(token, _)| *token).collect::<Vec<_>>() {
            if let Some((_, answer)) = self.asked.remove(&token) {
                answer(Err(error));
            }
        }
    }
}

impl ControlPart for LoadControl {
    type Facts = ();
    type WorkerOrder = Never;
    type Report = Never;
    type Order = Order;

    fn view(&mut self, view: &Arc<View>, _: &[MemberEvent], _: &mut ControlOutlet<'_, (), Never>) {
        if self.roster.replace(view.roster_digest) == Some(view.roster_digest) {
            return;
        }
        self.members = view.members.iter().map(|member| member.node_ref()).collect();
        if self.loads.keys().any(|node| !self.members.contains(node)) {
            Arc::make_mut(&mut self.loads).retain(|node, _| self.members.contains(node));
            self.show();
        }
        let members = self.members.clone();
        self.fail(LoadError::NotAMember, |node| !members.contains(&node));
    }

    fn order(&mut self, order: Order, out: &mut ControlOutlet<'_, (), Never>) {
        match order {
            Order::Begin { mut read, show } => {
                self.last = read();
                (self.read, self.show) = (Some(read), Some(show));
                self.show();
                out.after(self.every, MEASURE);
            }
            Order::Ask { node, answer } => self.ask(node, answer, out),
        }
    }

    fn report(&mut self, _: WorkerIndex, report: Never, _: &mut ControlOutlet<'_, (), Never>) {
        match report {}
    }

    fn timer(&mut self, token: u64, out: &mut ControlOutlet<'_, (), Never>) {
        if token == MEASURE {
            self.measure(out);
        } else if let Some((_, answer)) = self.asked.remove(&token) {
            answer(Err(LoadError::NoAnswer));
        }
    }

    fn heard(&mut self, from: NodeRef, _: u32, bytes: &[u8], _: &mut ControlOutlet<'_, (), Never>) {
        if let Ok(load) = Load::read(&mut Reader::new(bytes)) {
            self.keep(from, load);
        }
    }

    fn message(
        &mut self,
        from: NodeRef,
        op: u8,
        bytes: &[u8],
        out: &mut ControlOutlet<'_, (), Never>,
    ) {
        let mut reader = Reader::new(bytes);
        let Ok(token) = reader.u64() else { return };
        match op {
            OP_ASK => {
                let mut word = Vec::new();
                self.now().0.put(Writer::new(&mut word).u64(token));
                out.send(from, OP_ANSWER, word);
            }
            OP_ANSWER => {
                let meant = self.asked.get(&token).is_some_and(|(node, _)| *node == from);
                if let (true, Ok(load)) = (meant, Load::read(&mut reader))
                    && let Some((_, answer)) = self.asked.remove(&token)
                {
                    answer(Ok(load));
                }
            }
            _ => {}
        }
    }

    fn lost(&mut self, to: NodeRef, _: &mut ControlOutlet<'_, (), Never>) {
        self.fail(LoadError::Lost, |node| node == to);
    }
}
