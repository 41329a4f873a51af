//! A node in a process of its own: what the hidden `node` command does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use keyway::{EventGap, MemberEvent, Node, RouteeRef, Router, WorkerIndex};
use serde::Serialize;

use super::clock::{Offset, now_ns};
use super::message::Poke;
use super::protocol::{
    CountsRecord, NodeCommand, Sample, StartPlan, Started, TableState, ViewChange, ViewChangeKind,
};
use super::sink::{SINK_PATH, Sink, SinkShared};
use crate::allocations;
use crate::analysis::histogram::{merge, to_base64};
use crate::analysis::ledger::Shape;
use crate::driver::LoadPlan;
use crate::driver::generator::{GENERATOR_PATH, Generator, GeneratorShared, Order};
use crate::driver::thread::ThreadLoad;
use crate::error::{Attempt, Failure, Result};
use crate::machine::process_cpu_ns;
use crate::process;

/// How fine the keys of a run are spread: enough for a handful of nodes, and a table that is made
/// anew in a millisecond. On a machine where control shares a core with the sender, making a finer
/// one would show as lateness of the sender.
const SLOT_BITS: u8 = 16;

/// The hidden command with which this program starts itself as a node.
pub const NODE_COMMAND: &str = "node";

/// How many ended intervals a sink's ledger keeps.
const MAX_INTERVALS: u32 = 1 << 18;

/// How long the local routees may take to be in the router.
const OWN_ROUTEES: Duration = Duration::from_secs(20);

/// Answers the commands of the parent until it closes the channel.
pub fn serve() -> Result<()> {
    let mut process = NodeProcess::default();
    process::serve(|command| process.handle(command)).attempting("serve as a node")
}

#[derive(Default)]
struct NodeProcess {
    running: Option<Running>,
    /// What the parent may still ask for after the node has left.
    left: Option<Running>,
}

struct Running {
    /// `None` once it has left.
    node: Option<Node>,
    router: Router,
    sink: Option<Arc<SinkShared>>,
    drive: Option<Drive>,
    changes: Arc<Mutex<Vec<ViewChange>>>,
}

struct Drive {
    shared: Arc<GeneratorShared>,
    /// Leads to the generator alone.
    router: Router,
    /// Pokes so far; they are in the node's counts.
    pokes: AtomicU64,
    /// Sends from a thread, where that is wished for.
    thread: ThreadLoad,
}

impl NodeProcess {
    fn handle(&mut self, command: NodeCommand) -> Result<serde_json::Value> {
        let command = match command {
            NodeCommand::Start(plan) => {
                let running = start(&plan)?;
                let address = running.node()?.address();
                self.running = Some(running);
                return answer(&Started { address });
            }
            NodeCommand::Leave => {
                let attempt = "leave the cluster";
                let mut running = self
                    .running
                    .take()
                    .ok_or_else(|| Failure::new(attempt, "the node does not run"))?;
                let node = running.node.take();
                self.left = Some(running);
                let node = node.ok_or_else(|| Failure::new(attempt, "it has left before"))?;
                return answer(&node.leave_and_wait().attempting(attempt)?);
            }
            other => other,
        };
        let running = self.running.as_ref().or(self.left.as_ref());
        running.ok_or_else(|| Failure::new("do as told", "no node was started"))?.handle(command)
    }
}

impl Running {
    fn node(&self) -> Result<&Node> {
        self.node.as_ref().ok_or_else(|| Failure::new("ask the node", "it has left"))
    }

    fn drive(&self) -> Result<&Drive> {
        self.drive.as_ref().ok_or_else(|| Failure::new("drive load", "this node is no driver"))
    }

    fn handle(&self, command: NodeCommand) -> Result<serde_json::Value> {
        match command {
            // Handled before.
            NodeCommand::Start(_) | NodeCommand::Leave => answer(&()),
            NodeCommand::AwaitRoutees { routees, timeout_ms } => {
                let within = Duration::from_millis(timeout_ms);
                let attempt = format!("wait for {routees} routees at {SINK_PATH}");
                answer(&self.router.wait_ready(routees, within).attempting(&attempt)?)
            }
            NodeCommand::Sample { pids } => answer(&self.sample(&pids)?),
            NodeCommand::TakeLatencies { warm_up_ends_ns } => {
                answer(&to_base64(&self.take_latencies(warm_up_ends_ns)?))
            }
            NodeCommand::Drive(plan) => answer(&self.begin(plan)?),
            NodeCommand::AwaitFinished { timeout_ms } => {
                answer(&self.drive()?.shared.wait_finished(Duration::from_millis(timeout_ms)))
            }
            NodeCommand::StopDriving => {
                self.drive()?.order(Order::Stop)?;
                answer(&self.drive()?.thread.stop()?)
            }
            NodeCommand::Collect => answer(&self.drive()?.collect()?),
            NodeCommand::Counts => answer(&self.counts()?),
            NodeCommand::ViewChanges => {
                answer(&*self.changes.lock().unwrap_or_else(PoisonError::into_inner))
            }
            NodeCommand::Table => {
                let view = self.node()?.view();
                answer(&TableState {
                    digest: self.router.table_digest(),
                    routees: self.router.routee_count(),
                    members: view.members.iter().filter(|member| member.is_usable()).count(),
                })
            }
            NodeCommand::Down { name } => {
                let id = keyway::NodeId::from_name(&name);
                answer(&self.node()?.down(id).attempting(&format!("remove {name}"))?)
            }
        }
    }

    fn sample(&self, pids: &[u32]) -> Result<Sample> {
        let cpu_ns: Result<Vec<u64>> = pids.iter().map(|pid| process_cpu_ns(*pid)).collect();
        Ok(Sample {
            at_ns: now_ns(),
            handled: self.sink.as_ref().map_or(0, |sink| sink.handled()),
            answered: self.drive.as_ref().map_or(0, Drive::answered),
            cpu_ns: cpu_ns?,
            allocations: allocations::of_other_threads(),
        })
    }

    fn take_latencies(&self, warm_up_ends_ns: u64) -> Result<Histogram<u64>> {
        let attempt = "take the latencies";
        let sink = self.sink.as_ref();
        let sink = sink.ok_or_else(|| Failure::new(attempt, "this node serves nothing"))?;
        let node = self.node()?;
        let own = own_routees(node, &self.router);
        let taken = sink.take_latencies(warm_up_ends_ns, || {
            own.iter().try_for_each(|routee| {
                node.tell_to(routee, &Poke { nothing: 0 }).map_err(|why| why.to_string())
            })
        });
        Ok(merge(&taken.attempting(attempt)?))
    }

    fn begin(&self, plan: LoadPlan) -> Result<()> {
        let drive = self.drive()?;
        let from_thread = match plan {
            LoadPlan::FromThread { asks, warm_up_ends_ns } => Some((asks, warm_up_ends_ns)),
            _ => None,
        };
        drive.order(Order::Start(plan))?;
        if let Some((asks, warm_up_ends_ns)) = from_thread {
            drive.thread.start(self.router.clone(), asks, warm_up_ends_ns)?;
        }
        Ok(())
    }

    fn counts(&self) -> Result<CountsRecord> {
        let drive = self.drive.as_ref();
        let pokes = drive.map_or(0, |drive| drive.pokes.load(Ordering::Relaxed));
        let open = drive.map_or(0, |drive| drive.shared.open.get());
        Ok(CountsRecord::of(&self.node()?.counts(), pokes, open))
    }
}

impl Drive {
    fn answered(&self) -> u64 {
        self.shared.answered.get() + self.thread.answered.load(Ordering::Relaxed)
    }

    /// What the generator and the thread have to report.
    fn collect(&self) -> Result<Option<crate::driver::DriveReport>> {
        let mut report = self.order(Order::Collect)?;
        if let Some(report) = &mut report {
            let (sent, latency) = self.thread.report();
            report.sent.extend(sent);
            report.ask_latency = merge([&report.ask_latency, &latency]);
        }
        Ok(report)
    }

    fn order(&self, order: Order) -> Result<Option<crate::driver::DriveReport>> {
        let poke = || {
            self.pokes.fetch_add(1, Ordering::Relaxed);
            self.router.tell(&Poke { nothing: 0 }).map_err(|why| why.to_string())
        };
        self.shared.order(order, poke).attempting("give the generator an order")
    }
}

fn start(plan: &StartPlan) -> Result<Running> {
    let attempt = format!("start the node {}", plan.name);
    let mut builder = Node::builder()
        .name(&plan.name)
        .bind(plan.bind)
        .cluster("loadgen")
        .workers(plan.workers)
        .spin(Duration::from_micros(plan.spin_us))
        .role(if plan.serves { "node" } else { "driver" });
    for seed in &plan.seeds {
        builder = builder.seed(seed);
    }
    if !plan.cores.is_empty() {
        builder = builder.pin_to(plan.cores.iter().copied());
    }
    for (key, value) in &plan.settings {
        builder = builder.set(key, value);
    }
    let node = builder.start().attempting(&attempt)?;
    let changes = Arc::default();
    watch(&node, &changes)?;

    let sink = plan.serves.then(|| {
        let shape = Shape { senders: plan.senders, keys: plan.keys, max_intervals: MAX_INTERVALS };
        let offset = Offset::of(&node);
        let folder = plan.ledger_folder.clone();
        Arc::new(SinkShared::new(plan.node, folder, shape, offset, plan.workers))
    });
    if let Some(sink) = &sink {
        let sink = Arc::clone(sink);
        node.serve(SINK_PATH, move |WorkerIndex(worker)| Sink::new(&sink, worker))
            .attempting(&attempt)?;
    }
    let router = node
        .router(SINK_PATH)
        .consistent_hash()
        .slot_bits(SLOT_BITS)
        .build()
        .attempting(&attempt)?;
    let drive = match plan.sender {
        None => None,
        Some(sender) => {
            let shared = Arc::new(GeneratorShared::new());
            let (to, keys) = (router.as_ref().clone(), plan.keys);
            let make = Arc::clone(&shared);
            // The number keeps the generators of several drivers apart.
            let path = format!("{GENERATOR_PATH}-{}", plan.node);
            node.serve(&path, move |_| Generator::new(&make, to.clone(), sender, keys))
                .attempting(&attempt)?;
            let own = node.router(&path).build().attempting(&attempt)?;
            own.wait_ready(1, OWN_ROUTEES).attempting(&attempt)?;
            // The generator has two senders' numbers.
            let thread = ThreadLoad::new(sender + 2, plan.keys)?;
            Some(Drive { shared, router: own, pokes: AtomicU64::new(0), thread })
        }
    };
    Ok(Running { node: Some(node), router, sink, drive, changes })
}

/// The routees of this node's own sink.
fn own_routees(node: &Node, router: &Router) -> Vec<RouteeRef> {
    let me = node.id();
    router.routees().into_iter().filter(|routee| routee.id.node == me).collect()
}

/// Writes down when this node notices what.
fn watch(node: &Node, changes: &Arc<Mutex<Vec<ViewChange>>>) -> Result<()> {
    let mut events = node.events();
    let changes = Arc::clone(changes);
    let record = move || {
        loop {
            let event = match events.wait() {
                Ok(event) => event,
                Err(EventGap::Missed(_)) => continue,
                Err(EventGap::Stopped | EventGap::WouldBlock) => return,
            };
            let at_ns = now_ns();
            let (member, kind) = match event {
                MemberEvent::Unreachable(member) => (member, ViewChangeKind::Unreachable),
                MemberEvent::Removed(member) => (member, ViewChangeKind::Removed),
                MemberEvent::Joined(member)
                | MemberEvent::Changed(member)
                | MemberEvent::Reachable(member) => {
                    let serves = member.services.iter().any(|service| &*service.path == SINK_PATH);
                    let usable = member.is_usable() && serves;
                    let kind =
                        if usable { ViewChangeKind::Usable } else { ViewChangeKind::NotUsable };
                    (member, kind)
                }
                _ => continue,
            };
            let change = ViewChange { at_ns, name: member.name.to_string(), kind };
            changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        }
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(record).attempting("watch")?;
    Ok(())
}

fn answer(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).attempting("write the answer")
}
