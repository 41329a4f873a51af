//! A cluster under a steady open-loop load while things happen to it.

mod judge;

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use self::judge::{calm_periods, is_open, judge};
use super::run::Run;
use crate::analysis::histogram::Percentiles;
use crate::analysis::schedule::Arrivals;
use crate::analysis::table::{Table, count, duration, percent};
use crate::analysis::timeline::{EventMark, Timeline};
use crate::cluster::clock::now_ns;
use crate::cluster::netns::Network;
use crate::cluster::protocol::{CountsRecord, NodeCommand, ViewChange};
use crate::cluster::{Cluster, ClusterPlan};
use crate::driver::{LoadPlan, Paced};
use crate::error::Result;
use crate::machine::Window;
use crate::progress::Progress;
use crate::summary::Event;

/// From the order to begin until the first message is due.
const LEAD_TIME: Duration = Duration::from_millis(100);
/// How long a change may take to be in all tables before the run goes on without.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// Messages of this time may be on their way to their acknowledgement in quiet times.
const IN_FLIGHT: Duration = Duration::from_millis(60);
/// After that: until the last message that was sent by an old table has been handled.
const AFTERMATH: Duration = Duration::from_millis(200);
/// How long an ask waits: longer than a hiccup, shorter than a fault.
const ASK_TIMEOUT_MS: u64 = 1_000;

/// Something that happens to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// One more node joins.
    Join,
    /// The newest node leaves gracefully.
    Leave,
    /// The second node's process is killed.
    Kill,
    /// The newest node's process is stopped for this long, then continued.
    Pause {
        /// In milliseconds.
        ms: u64,
    },
    /// The newest node's network is cut for this long, then healed.
    Cut {
        /// In milliseconds.
        ms: u64,
    },
}

/// The plan of a story.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StoryPlan {
    /// Nodes at the beginning.
    pub(crate) nodes: u32,
    /// Workers of each.
    pub(crate) workers: usize,
    pub(crate) payload_bytes: u32,
    pub(crate) tells_per_s: f64,
    pub(crate) asks_per_s: f64,
    /// In this order.
    pub(crate) acts: Vec<Act>,
    /// Undisturbed time before each act.
    pub(crate) calm_ms: u64,
    /// From the last act to the end of the load.
    pub(crate) coda_ms: u64,
    /// How long the cluster is watched without load first.
    pub(crate) idle_ms: u64,
}

impl StoryPlan {
    /// About how long it takes.
    pub(crate) fn expected(&self) -> Duration {
        let acts: u64 = self
            .acts
            .iter()
            .map(|act| match act {
                Act::Pause { ms } | Act::Cut { ms } => ms + 4_000,
                Act::Kill => 2_500,
                Act::Join | Act::Leave => 1_500,
            })
            .sum();
        let calm = self.calm_ms * self.acts.len() as u64;
        Duration::from_millis(acts + calm + self.idle_ms + self.coda_ms + 2_000)
    }

    /// The load lasts as long as the story, whose length nobody knows yet: it is planned for
    /// longer and ended when the story is over.
    fn load(&self, start_ns: u64, seed: u64) -> Paced {
        let longest = self.expected() + CHANGE_LIMIT * 2 * self.acts.len() as u32;
        Paced {
            payload_bytes: self.payload_bytes,
            tells: Some(steady(self.tells_per_s)),
            asks: Some(steady(self.asks_per_s)),
            start_ns,
            duration_ns: longest.as_nanos() as u64,
            warm_up_ends_ns: start_ns + 300_000_000,
            seed,
            ask_timeout_ms: ASK_TIMEOUT_MS,
            log_asks: true,
        }
    }

    fn usual_in_flight(&self) -> u64 {
        ((self.tells_per_s + self.asks_per_s) * IN_FLIGHT.as_secs_f64()) as u64 + 64
    }
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
struct Happened {
    kind: &'static str,
    node: u32,
    at_ns: u64,
    /// Usable nodes before.
    nodes_before: usize,
    /// Until every table was equal and full; `None` when it was not in time.
    equal_tables_ms: Option<f64>,
    /// Until no more messages were on their way than usual: a link that was cut off stands still
    /// for a while after the tables are equal again.
    flowing_ms: Option<f64>,
    /// When the next thing happened, or the load ended.
    until_ns: u64,
    /// When the cluster was calm again.
    calm_from_ns: u64,
    unknown_before: u64,
    unknown: u64,
    /// What the driver and every live node had noticed when it was over.
    noticed: Vec<(String, Vec<ViewChange>)>,
}

/// What is known afterwards.
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
    /// By event: until all tables were equal.
    pub(crate) equal_tables_ms: Vec<Option<f64>>,
    /// By event: until messages flowed as usual.
    pub(crate) flowing_ms: Vec<Option<f64>>,
    pub(crate) timeline: Timeline,
    /// From the due time, of asks.
    pub(crate) ask_latency: Histogram<u64>,
    /// CPU share of each idle node.
    pub(crate) idle_shares: Vec<f64>,
    /// Loopback, or the network of namespaces.
    pub(crate) network: &'static str,
}

/// Plays a story. With `network` every node lives in a namespace of its own.
pub(crate) fn play(
    run: &mut Run,
    plan: &StoryPlan,
    network: Option<Network>,
    progress: &Progress,
) -> Result<Story> {
    let by = if network.is_some() { "network namespaces" } else { "loopback" };
    progress.phase(&format!("{} nodes and a driver, {by}: idle", plan.nodes));
    let cluster_plan =
        ClusterPlan { network: network.clone(), ..run.cluster(plan.nodes, plan.workers, 0) };
    let mut cluster = Cluster::start(cluster_plan)?;
    let idle_shares = watch_idle(&mut cluster, Duration::from_millis(plan.idle_ms))?;
    progress.done();

    let start_ns = now_ns() + LEAD_TIME.as_nanos() as u64;
    cluster.drive(LoadPlan::Paced(plan.load(start_ns, run.seed)))?;
    std::thread::sleep(LEAD_TIME);
    let window = Window::open(&[cluster.driver.pid()])?;
    let usual_in_flight = plan.usual_in_flight();
    let mut stage = Stage { cluster, network, progress, usual_in_flight, happened: Vec::new() };
    for act in &plan.acts {
        std::thread::sleep(Duration::from_millis(plan.calm_ms));
        stage.perform(*act)?;
    }
    std::thread::sleep(Duration::from_millis(plan.coda_ms));
    let end_ns = now_ns();
    run.weather(&window.close()?);

    let Stage { mut cluster, mut happened, .. } = stage;
    cluster.stop_driving()?;
    let (counts, _) = cluster.await_settled()?;
    bound(&mut happened, end_ns, counts.unknown);
    let report = cluster.collect()?;
    let books = run.close("cluster", &mut cluster, &calm_periods(start_ns, end_ns, &happened))?;
    if let Some(reason) = &report.lag_void {
        run.voids.push(format!("cluster: {reason}"));
    }
    run.write_json("events.json", &happened)?;
    run.write_json("asks.json", &report.asks)?;

    let mark = |event: &Happened| EventMark::new(event.kind, event.at_ns.saturating_sub(start_ns));
    let marks = happened.iter().map(mark).collect();
    let timeline = Timeline::merge(&report.timeline.into_iter().collect::<Vec<_>>(), marks)?;
    let lost = Some(books.audit.unaccounted);
    let judged = |event| Event { lost, ..judge(event, start_ns, &report.asks) };
    Ok(Story {
        events: happened.iter().map(judged).collect(),
        equal_tables_ms: happened.iter().map(|event| event.equal_tables_ms).collect(),
        flowing_ms: happened.iter().map(|event| event.flowing_ms).collect(),
        timeline,
        ask_latency: report.ask_latency,
        idle_shares,
        network: by,
    })
}

/// Each event lasts until the next, or until the load ended, and so does what is its doing.
fn bound(happened: &mut [Happened], end_ns: u64, unknown_at_end: u64) {
    let (mut until_ns, mut unknown_then) = (end_ns, unknown_at_end);
    for event in happened.iter_mut().rev() {
        event.until_ns = until_ns;
        event.unknown = unknown_then - event.unknown_before;
        (until_ns, unknown_then) = (event.at_ns, event.unknown_before);
    }
}

impl Story {
    /// The table of events that is printed.
    pub(crate) fn table(&self, plan: &StoryPlan) -> Table {
        let mut table = Table::new(
            format!(
                "{} nodes and a driver, {}, open loop: {} tells/s and {} asks/s",
                plan.nodes,
                self.network,
                count(plan.tells_per_s),
                count(plan.asks_per_s)
            ),
            [
                "event",
                "at",
                "gap",
                "noticed by all",
                "equal tables",
                "flow as usual",
                "keys moved",
                "fair",
                "lost",
                "unknown",
            ],
        );
        let time = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| duration(ms * 1e6));
        let share = |share: Option<f64>| share.map_or("-".to_owned(), percent);
        let number = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        let times = self.equal_tables_ms.iter().zip(&self.flowing_ms);
        for (event, (equal, flowing)) in self.events.iter().zip(times) {
            table.row([
                event.kind.clone(),
                time(Some(event.at_ms)),
                time(event.gap_ms),
                time(event.detected_ms),
                time(*equal),
                time(*flowing),
                share(event.moved_keys_share),
                share(event.fair_share),
                number(event.lost),
                number(event.unknown),
            ]);
        }
        for note in self.notes() {
            table.note(note);
        }
        table
    }

    /// What belongs to the figures.
    pub(crate) fn notes(&self) -> Vec<String> {
        let asks = Percentiles::of(&self.ask_latency);
        let time = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| duration(ns as f64));
        let idle: Vec<String> = self.idle_shares.iter().map(|share| percent(*share)).collect();
        vec![
            "gap: when a node goes, until the first of its keys is answered elsewhere; when it \
             comes, the longest silence of the keys that move to it"
                .to_owned(),
            "noticed: by the driver and every live node; a heal when all have the full table again"
                .to_owned(),
            "unknown: written to a link that was lost before it was acknowledged, handled or not; \
             lost: without any account"
                .to_owned(),
            format!(
                "asks from their due times, over all events: p50 {}, p99 {}, max {}",
                time(asks.p50_ns),
                time(asks.p99_ns),
                duration(asks.max_ns as f64)
            ),
            format!("an idle node uses of one core: {}", idle.join(", ")),
        ]
    }
}

/// The CPU share of each node when nothing is sent.
fn watch_idle(cluster: &mut Cluster, duration: Duration) -> Result<Vec<f64>> {
    // What starting up left to do is not idling.
    std::thread::sleep(Duration::from_millis(200));
    let pids: Vec<u32> = cluster.alive().map(|node| node.pid()).collect();
    let window = Window::open(&pids)?;
    std::thread::sleep(duration);
    let window = window.close()?;
    let share = |cpu_ns: u64| cpu_ns as f64 / window.wall_ns.max(1) as f64;
    Ok(window.processes.iter().map(|process| share(process.cpu_ns)).collect())
}

/// A cluster under load, and what has happened to it so far.
struct Stage<'a> {
    cluster: Cluster,
    network: Option<Network>,
    progress: &'a Progress,
    /// As many messages are on their way when nothing happens.
    usual_in_flight: u64,
    happened: Vec<Happened>,
}

impl Stage<'_> {
    fn perform(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Join => self.join()?,
            Act::Leave => self.leave()?,
            Act::Kill => self.kill()?,
            Act::Pause { ms } => self.pause(ms)?,
            Act::Cut { ms } => match self.network.clone() {
                Some(network) => self.cut(&network, ms)?,
                None => return Ok(()),
            },
        }
        self.progress.done();
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        self.progress.phase("a node joins");
        self.note("join", |cluster| {
            let at_ns = now_ns();
            Ok((cluster.join()?, at_ns))
        })
    }

    fn leave(&mut self) -> Result<()> {
        self.progress.phase("a node leaves");
        let (node, progress) = (newest(&self.cluster), self.progress);
        self.note("leave", |cluster| {
            let at_ns = now_ns();
            if !cluster.leave(node)? {
                progress.note("the leaving node was not drained in time");
            }
            Ok((node, at_ns))
        })
    }

    fn kill(&mut self) -> Result<()> {
        self.progress.phase("a node is killed with kill -9");
        let node = self.cluster.nodes.iter().filter(|node| node.alive).nth(1);
        let node = node.map_or(0, |node| node.number);
        self.note("kill", |cluster| Ok((node, cluster.kill(node)?)))?;
        // The default policy leaves it to the operator to remove it for good.
        let name = self.cluster.nodes[node as usize].name.clone();
        if let Some(survivor) = self.cluster.alive().next() {
            survivor.call::<()>(&NodeCommand::Down { name })?;
        }
        Ok(())
    }

    fn pause(&mut self, ms: u64) -> Result<()> {
        self.progress.phase("a node's process is stopped, and continued");
        let node = newest(&self.cluster);
        self.note("pause", |cluster| Ok((node, cluster.pause(node, true)?)))?;
        self.sleep_since_event(ms);
        self.note("continue", |cluster| Ok((node, cluster.pause(node, false)?)))
    }

    fn cut(&mut self, network: &Network, ms: u64) -> Result<()> {
        self.progress.phase("a node's network is cut, and healed");
        let node = newest(&self.cluster);
        let set = |cluster: &mut Cluster, cut: bool| {
            let at_ns = now_ns();
            network.cut(node, cut)?;
            cluster.nodes[node as usize].alive = !cut;
            Ok((node, at_ns))
        };
        self.note("cut", |cluster| set(cluster, true))?;
        self.sleep_since_event(ms);
        self.note("heal", |cluster| set(cluster, false))
    }

    /// Sleeps until so long after the last event.
    fn sleep_since_event(&self, ms: u64) {
        let at_ns = self.happened.last().map_or(0, |event| event.at_ns) + ms * 1_000_000;
        std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
    }

    /// Lets something happen and waits until all tables are as they should be then.
    fn note(
        &mut self,
        kind: &'static str,
        act: impl FnOnce(&mut Cluster) -> Result<(u32, u64)>,
    ) -> Result<()> {
        let cluster = &mut self.cluster;
        let nodes_before = cluster.alive_count();
        let counts: CountsRecord = cluster.driver.call(&NodeCommand::Counts)?;
        let (node, at_ns) = act(cluster)?;
        let equal = cluster.await_full_tables(CHANGE_LIMIT).is_ok();
        let now = now_ns();
        let noticed = cluster.view_changes()?;
        // While a node is stopped or cut off, what was sent to it stays on its way.
        let flowing = is_open(kind) || await_flow(cluster, self.usual_in_flight)?;
        let flowing_ns = now_ns();
        self.happened.push(Happened {
            kind,
            node,
            at_ns,
            nodes_before,
            equal_tables_ms: equal.then(|| (now - at_ns) as f64 / 1e6),
            until_ns: 0,
            flowing_ms: (flowing && !is_open(kind)).then(|| (flowing_ns - at_ns) as f64 / 1e6),
            calm_from_ns: flowing_ns + AFTERMATH.as_nanos() as u64,
            unknown_before: counts.unknown,
            unknown: 0,
            noticed,
        });
        Ok(())
    }
}

/// The live node that came last.
fn newest(cluster: &Cluster) -> u32 {
    cluster.nodes.iter().rev().find(|node| node.alive).map_or(0, |node| node.number)
}

/// Waits until no more messages than these are on their way.
fn await_flow(cluster: &mut Cluster, usual_in_flight: u64) -> Result<bool> {
    let began = Instant::now();
    while began.elapsed() < CHANGE_LIMIT {
        let counts: CountsRecord = cluster.driver.call(&NodeCommand::Counts)?;
        if counts.in_flight <= usual_in_flight {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

/// Time between due times. Driver and nodes together are more processes than a small machine has
/// cores: a denser plan would be late by the scheduler's doing alone.
const GAP_NS: u64 = 2_000_000;

/// A steady load as small bursts, or one by one where the rate is lower than that of the bursts.
fn steady(msgs_per_s: f64) -> Arrivals {
    let size = (msgs_per_s * GAP_NS as f64 / 1e9).round() as u32;
    if size < 2 {
        return Arrivals::Constant { msgs_per_s };
    }
    Arrivals::Bursts { size, gap_ns: GAP_NS }
}
