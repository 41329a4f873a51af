//! The coordinating process's side: a cluster of node processes and one driver.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::books::{Books, settle};
use super::clock::now_ns;
use super::node::NODE_COMMAND;
use super::protocol::{
    CountsRecord, NodeCommand, Sample, StartPlan, Started, TableState, ViewChange,
};
use super::sink::ledger_path;
use crate::analysis::histogram::{from_base64, latency_histogram, merge};
use crate::analysis::ledger::{Owner, Period, Received, ReceivedRecord};
use crate::driver::{DriveReport, LoadPlan};
use crate::error::{Attempt, Failure, Result};
use crate::process::{Cleanup, SpawnPlan, Spawned};

/// How long any command may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the nodes may take to find each other.
const ASSEMBLY: Duration = Duration::from_secs(30);
/// How long messages may take to come to their end after the last was sent.
const SETTLING: Duration = Duration::from_secs(15);
/// How often a table is looked at that should change.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// How many nodes serve.
    pub nodes: u32,
    /// Workers of each node.
    pub workers: usize,
    /// The driver's core.
    pub driver_core: usize,
    /// The cores of the nodes, dealt out in turn.
    pub node_cores: Vec<usize>,
    /// How long a worker looks for work before it sleeps.
    pub spin_us: u64,
    /// Keys are numbered `0..keys`.
    pub keys: u32,
    /// Further settings of all nodes.
    pub settings: Vec<(String, String)>,
    /// Where the logs of the processes go.
    pub log_folder: PathBuf,
    /// Whether each node is put where a link can be cut.
    pub network: Option<super::netns::Network>,
}

impl ClusterPlan {
    /// Whether every node has a core for each of its workers to itself.
    pub fn is_pinned_apart(&self) -> bool {
        self.nodes as usize * self.workers <= self.node_cores.len()
    }
}

/// A node's process.
pub struct NodeHandle {
    /// Its number within the run.
    pub number: u32,
    /// Its name in the cluster.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it runs and takes messages, as far as was ordered.
    pub alive: bool,
    process: Spawned,
}

impl NodeHandle {
    /// Tells it something and waits for the answer.
    pub fn call<A: DeserializeOwned>(&mut self, command: &NodeCommand) -> Result<A> {
        Ok(self.process.call(command, PATIENCE)?)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A running cluster: the nodes, a driver, and where their ledgers are.
pub struct Cluster {
    /// How it was set up.
    pub plan: ClusterPlan,
    /// All nodes that ever ran, by their numbers.
    pub nodes: Vec<NodeHandle>,
    /// The sender.
    pub driver: NodeHandle,
    ledgers: PathBuf,
    /// Removes the ledgers.
    _ledgers: Cleanup,
}

impl Cluster {
    /// Starts all processes and waits until every one has the same full table.
    pub fn start(plan: ClusterPlan) -> Result<Self> {
        let (ledgers, cleanup) = ledger_folder()?;
        let mut nodes: Vec<NodeHandle> = Vec::new();
        for number in 0..plan.nodes {
            let seeds = nodes.first().map(|first| first.address).into_iter().collect();
            nodes.push(spawn(&plan, number, seeds, &ledgers, true)?);
        }
        let seeds = nodes.iter().map(|node| node.address).collect();
        let driver = spawn(&plan, DRIVER_NUMBER, seeds, &ledgers, false)?;
        let mut cluster = Self { plan, nodes, driver, ledgers, _ledgers: cleanup };
        cluster.await_full_tables(ASSEMBLY)?;
        Ok(cluster)
    }

    /// The nodes that take messages.
    pub fn alive(&mut self) -> impl Iterator<Item = &mut NodeHandle> {
        self.nodes.iter_mut().filter(|node| node.alive)
    }

    /// How many of them there are.
    pub fn alive_count(&self) -> usize {
        self.nodes.iter().filter(|node| node.alive).count()
    }

    /// Process ids of the driver and of the nodes that take messages, in this order.
    pub fn pids(&self) -> Vec<u32> {
        let nodes = self.nodes.iter().filter(|node| node.alive);
        std::iter::once(self.driver.pid()).chain(nodes.map(NodeHandle::pid)).collect()
    }

    // ---- membership ----

    /// Starts one more node and gives its number. Returns when the process listens; the others
    /// learn of it by and by.
    pub fn join(&mut self) -> Result<u32> {
        let number = self.nodes.len() as u32;
        let seeds = self.nodes.iter().filter(|node| node.alive).map(|node| node.address).collect();
        let node = spawn(&self.plan, number, seeds, &self.ledgers, true)?;
        self.nodes.push(node);
        Ok(number)
    }

    /// A node leaves gracefully. Gives whether it was drained in time.
    pub fn leave(&mut self, number: u32) -> Result<bool> {
        let node = &mut self.nodes[number as usize];
        node.alive = false;
        node.call(&NodeCommand::Leave)
    }

    /// A node's process is killed as by `kill -9`. Gives the instant before.
    pub fn kill(&mut self, number: u32) -> Result<u64> {
        let node = &mut self.nodes[number as usize];
        node.alive = false;
        let at_ns = now_ns();
        node.process.kill()?;
        Ok(at_ns)
    }

    /// A node's process is stopped or continued. Gives the instant before.
    pub fn pause(&mut self, number: u32, paused: bool) -> Result<u64> {
        let node = &mut self.nodes[number as usize];
        node.alive = !paused;
        let at_ns = now_ns();
        node.process.signal(if paused { Signal::STOP } else { Signal::CONT })?;
        Ok(at_ns)
    }

    /// Waits until the driver and every live node have the same table with all live nodes in it.
    /// Gives how long that took.
    pub fn await_full_tables(&mut self, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        let routees = self.alive_count() * self.plan.workers;
        loop {
            let tables = self.tables()?;
            let (first, others) = tables.split_first().expect("the driver is always there");
            let equal = others.iter().all(|(_, table)| table.digest == first.1.digest);
            if equal && tables.iter().all(|(_, table)| table.routees == routees) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > within {
                let seen: Vec<String> = tables
                    .iter()
                    .map(|(name, table)| format!("{name} has {} routees", table.routees))
                    .collect();
                return Err(Failure::new(
                    format!("wait {within:?} for equal tables of {routees} routees"),
                    seen.join(", "),
                )
                .hint("see the logs of the nodes in the run's folder"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The tables of the driver and of every live node.
    pub fn tables(&mut self) -> Result<Vec<(String, TableState)>> {
        let nodes = self.nodes.iter_mut().filter(|node| node.alive);
        std::iter::once(&mut self.driver)
            .chain(nodes)
            .map(|node| Ok((node.name.clone(), node.call(&NodeCommand::Table)?)))
            .collect()
    }

    /// What the driver and the live nodes noticed so far.
    pub fn view_changes(&mut self) -> Result<Vec<(String, Vec<ViewChange>)>> {
        let nodes = self.nodes.iter_mut().filter(|node| node.alive);
        std::iter::once(&mut self.driver)
            .chain(nodes)
            .map(|node| Ok((node.name.clone(), node.call(&NodeCommand::ViewChanges)?)))
            .collect()
    }

    // ---- load ----

    /// The driver begins a plan.
    pub fn drive(&mut self, plan: LoadPlan) -> Result<()> {
        self.driver.call(&NodeCommand::Drive(plan))
    }

    /// The driver sends nothing more.
    pub fn stop_driving(&mut self) -> Result<()> {
        self.driver.call(&NodeCommand::StopDriving)
    }

    /// Waits until the paced plan has ended.
    pub fn await_finished(&mut self, within: Duration) -> Result<()> {
        let timeout_ms = within.as_millis() as u64;
        let command = NodeCommand::AwaitFinished { timeout_ms };
        if self.driver.process.call(&command, within + PATIENCE)? {
            return Ok(());
        }
        Err(Failure::new("send the planned load", format!("it had not ended after {within:?}"))
            .hint("lower the rate"))
    }

    /// What the driver recorded since its last plan began.
    pub fn collect(&mut self) -> Result<DriveReport> {
        let report: Option<DriveReport> = self.driver.call(&NodeCommand::Collect)?;
        report.ok_or_else(|| Failure::new("collect the driver's report", "it gave none"))
    }

    /// Takes the latencies of all live sinks and begins new histograms there.
    pub fn take_latencies(&mut self, warm_up_ends_ns: u64) -> Result<Histogram<u64>> {
        let mut whole = latency_histogram();
        for node in self.nodes.iter_mut().filter(|node| node.alive) {
            let text: String = node.call(&NodeCommand::TakeLatencies { warm_up_ends_ns })?;
            let part = from_base64(&text).attempting("read a sink's latencies")?;
            whole = merge([&whole, &part]);
        }
        Ok(whole)
    }

    /// Counters of the driver (first) and of every live node. The first live node reads the CPU
    /// time of all of them at its own instant.
    pub fn sample(&mut self) -> Result<Vec<Sample>> {
        let pids = self.pids();
        let mut samples = vec![self.driver.call(&NodeCommand::Sample { pids: Vec::new() })?];
        for (index, node) in self.nodes.iter_mut().filter(|node| node.alive).enumerate() {
            let pids = if index == 0 { pids.clone() } else { Vec::new() };
            samples.push(node.call(&NodeCommand::Sample { pids })?);
        }
        Ok(samples)
    }

    // ---- the books ----

    /// Waits until every message has come to its end; false when some had none in time.
    pub fn await_settled(&mut self) -> Result<(CountsRecord, bool)> {
        let deadline = Instant::now() + SETTLING;
        let mut before = CountsRecord::default();
        loop {
            let counts: CountsRecord = self.driver.call(&NodeCommand::Counts)?;
            // Published counts lag behind by some milliseconds: two equal readings are final.
            let settled = counts.in_flight == 0 && counts.open_asks == 0 && counts == before;
            if settled || Instant::now() > deadline {
                return Ok((counts, settled));
            }
            before = counts;
            std::thread::sleep(LOOK_AGAIN * 3);
        }
    }

    /// Ends the load, waits for the last message and puts all ledgers together, also those of
    /// nodes that were killed. Within each of `periods` a key must have one owner.
    pub fn close_books(&mut self, periods: &[Period]) -> Result<Books> {
        self.stop_driving()?;
        let (counts, settled) = self.await_settled()?;
        let report = self.collect()?;
        let mut received = Vec::new();
        for node in &self.nodes {
            for worker in 0..self.plan.workers as u16 {
                let path = ledger_path(&self.ledgers, node.number, worker);
                let attempt = format!("read the ledger of {}", node.name);
                let record = ReceivedRecord::read(&path).attempting(&attempt)?;
                received.push(Received { owner: Owner { node: node.number, worker }, record });
            }
        }
        Ok(settle(&report.sent, &received, &counts, settled, periods))
    }
}

/// The driver's number; nodes count from 0.
const DRIVER_NUMBER: u32 = 1_000_000;

fn spawn(
    plan: &ClusterPlan,
    number: u32,
    seeds: Vec<SocketAddr>,
    ledgers: &Path,
    serves: bool,
) -> Result<NodeHandle> {
    let name = if serves { format!("node-{number}") } else { "driver".to_owned() };
    let workers = if serves { plan.workers } else { 1 };
    let cores: Vec<usize> = if serves {
        let first = number as usize * workers;
        (first..first + workers).map(|at| plan.node_cores[at % plan.node_cores.len()]).collect()
    } else {
        vec![plan.driver_core]
    };
    let log = plan.log_folder.join(format!("{name}.log"));
    let (helper, bind) = match &plan.network {
        None => (
            SpawnPlan::helper(&name, [NODE_COMMAND]),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        ),
        Some(network) => network.place(&name, number, serves)?,
    };
    let mut unique = cores.clone();
    unique.sort_unstable();
    unique.dedup();
    let mut process = helper.on_cores(&unique).log_to(log).spawn()?;
    let mut settings = plan.settings.clone();
    if plan.network.is_some() {
        settings.push(("secret".to_owned(), "a secret for measurements only".to_owned()));
    }
    let start = StartPlan {
        node: number,
        name: name.clone(),
        bind,
        seeds,
        workers,
        cores: if unique.len() == workers { cores } else { Vec::new() },
        spin_us: plan.spin_us,
        settings,
        serves,
        sender: (!serves).then_some(0),
        keys: plan.keys,
        senders: 4,
        ledger_folder: ledgers.to_owned(),
    };
    let started: Started = process.call(&NodeCommand::Start(Box::new(start)), PATIENCE)?;
    Ok(NodeHandle { number, name, address: started.address, alive: true, process })
}

/// What ledger folders are called, followed by the coordinating process's id.
const LEDGER_PREFIX: &str = "keyway-loadgen-";

/// Removes the ledgers of runs that were killed outright.
fn remove_stale(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(LEDGER_PREFIX).and_then(|rest| rest.split('-').next());
        let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another run may be removing it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A new folder for ledgers on a memory file system, removed with the second value.
fn ledger_folder() -> Result<(PathBuf, Cleanup)> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    remove_stale(&parent);
    let folder = tempfile::Builder::new()
        .prefix(&format!("{LEDGER_PREFIX}{}-", std::process::id()))
        .tempdir_in(&parent)
        .attempting(&format!("make a folder in {}", parent.display()))?
        .keep();
    let remove = folder.clone();
    let cleanup = Cleanup::new(move || {
        // Nothing can be done about a failure at the end.
        let _ = std::fs::remove_dir_all(remove);
    });
    Ok((folder, cleanup))
}
