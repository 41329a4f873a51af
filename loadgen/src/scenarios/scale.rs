//! `loadgen scale`: throughput over node counts, with the Universal Scalability Law fitted to it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::latency::arrivals;
use super::shared::pair::ratio;
use super::shared::run::Run;
use crate::analysis::histogram::{latency_histogram, merge, quantile};
use crate::analysis::ledger::Period;
use crate::analysis::plots::ScaleSample;
use crate::analysis::report::{Plot, Report, RoundSet, Unit};
use crate::analysis::rounds::{Figure, Round, interleave};
use crate::analysis::table::{Table, count, duration as time, ratio as ratio_text};
use crate::analysis::usl::{self, Confidence, Point};
use crate::cli::Flags;
use crate::cluster::Cluster;
use crate::cluster::clock::now_ns;
use crate::cluster::measure::{Of, PacedRun, Rate, paced, rate};
use crate::driver::{LoadPlan, Paced};
use crate::error::Result;
use crate::floors::oneway::{self, OnewayFloor};
use crate::progress::Progress;
use crate::summary::{Floor, ScalePoint, Setting};

const NODE_COUNTS: [u32; 6] = [1, 2, 3, 4, 6, 8];
const DEFAULT_ROUNDS: u32 = 5;
/// Of each node count, over all rounds.
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(300);
/// The load at which latency is taken: the same at every node count.
const DEFAULT_PACED_PER_S: f64 = 20_000.0;
/// Bootstrap rounds behind the confidence of the law, and their seed: as the page has them.
const RESAMPLES: usize = 1_000;
const FIT_SEED: u64 = 1;

/// What was asked; written as `plan.toml`.
#[derive(Debug, Serialize)]
struct Asked {
    command: &'static str,
    driver_core: usize,
    node_cores: Vec<usize>,
    payload_bytes: u32,
    node_counts: Vec<u32>,
    workers_per_node: usize,
    keys: u32,
    seed: u64,
    rounds: u32,
    duration_ms_per_round: u64,
    paced_msgs_per_s: f64,
}

/// What is to be measured.
struct Plan {
    payload_bytes: u32,
    workers: usize,
    rounds: u32,
    /// Of one round at one node count, for the rate and for the latency each.
    duration: Duration,
    paced_per_s: f64,
    node_counts: Vec<u32>,
}

/// One round at one node count.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    nodes: u32,
    round: u32,
    rate: Rate,
    paced: PacedRun,
}

/// Measures, prints the table and writes the files.
pub fn run(flags: &Flags) -> Result<()> {
    let plan = Plan::of(flags)?;
    let mut run = Run::begin("scale", flags)?;
    let (found, floors) = measure(&mut run, &plan)?;
    run.void_some(&voids(&found), found.len());

    let rows: Vec<Row> = plan.node_counts.iter().map(|nodes| Row::of(*nodes, &found)).collect();
    for row in &rows {
        run.keep(&format!("nodes_{}", row.nodes), &row.latency);
    }
    let scale: Vec<ScalePoint> = rows.iter().map(Row::point).collect();
    let floor = floor(&floors);
    let samples: Vec<ScaleSample> = found.iter().map(sample).collect();
    let mut notes = vec![format!(
        "latency: tells from their due times at {}/s, open loop",
        count(plan.paced_per_s)
    )];
    notes.push(law(&samples));
    notes.extend(floor_note(&scale[0], &floor));

    let mut table = plan.table(&run);
    for row in &rows {
        table.row(row.cells());
    }
    for note in &notes {
        table.note(note.clone());
    }
    print!("{table}");
    run.write("table.txt", &table.to_string())?;

    let mut summary = run.summary(plan.setting(&run));
    summary.floor = Some(floor);
    summary.scale = Some(scale);
    run.write_json("rounds.json", &found)?;
    notes.insert(0, plan.headline(&run));
    let report = Report {
        plots: plan.plots(samples, cores(&run)),
        rounds: rows.into_iter().map(Row::round_set).collect(),
        notes,
        ..plan.report(&run)
    };
    run.finish(&plan.asked(&run), &summary, report)?;
    run.verdict()
}

impl Plan {
    fn of(flags: &Flags) -> Result<Self> {
        let rounds = flags.rounds.unwrap_or(DEFAULT_ROUNDS);
        // `--nodes` is the largest count; there are always enough of them for a law.
        let more = flags.nodes.filter(|most| *most > NODE_COUNTS[5]);
        Ok(Self {
            payload_bytes: Run::payload_bytes(flags)?,
            workers: flags.cores.unwrap_or(1).max(1) as usize,
            rounds,
            duration: flags.duration.unwrap_or(DEFAULT_DURATION) / rounds,
            paced_per_s: flags.rate.unwrap_or(DEFAULT_PACED_PER_S),
            node_counts: NODE_COUNTS.into_iter().chain(more).collect(),
        })
    }

    fn progress(&self, quiet: bool) -> Progress {
        let steps = (self.node_counts.len() as u32 + 1) * self.rounds;
        let each = self.duration * 2 + Duration::from_millis(2_000);
        Progress::new(u64::from(steps), each * steps, quiet)
    }

    fn most_nodes(&self) -> u32 {
        self.node_counts.iter().copied().max().unwrap_or(0)
    }

    /// Whether some cores run more than one worker, the driver's among them.
    fn outnumbers(&self, cores: u32) -> bool {
        self.node_counts.iter().any(|nodes| nodes * self.workers as u32 + 1 > cores)
    }

    /// What has to be known before any figure is read.
    fn headline(&self, run: &Run) -> String {
        let cores = cores(run);
        if !self.outnumbers(cores) {
            return format!("every node has cores of its own ({cores} cores)");
        }
        format!(
            "NODES OUTNUMBER CORES: up to {} nodes and a driver share {cores} cores, so that \
             wall-clock scaling measures the scheduler; look at the figures per CPU-second",
            self.most_nodes()
        )
    }

    fn setting(&self, run: &Run) -> Setting {
        Setting {
            nodes: self.most_nodes(),
            cores_per_node: self.workers as u32,
            payload_bytes: self.payload_bytes,
            processes: self.most_nodes() + 1,
            pinned: !self.outnumbers(cores(run)),
        }
    }

    fn asked(&self, run: &Run) -> Asked {
        Asked {
            command: run.command,
            driver_core: run.driver_core,
            node_cores: run.node_cores.clone(),
            payload_bytes: self.payload_bytes,
            node_counts: self.node_counts.clone(),
            workers_per_node: self.workers,
            keys: run.keys,
            seed: run.seed,
            rounds: self.rounds,
            duration_ms_per_round: self.duration.as_millis() as u64,
            paced_msgs_per_s: self.paced_per_s,
        }
    }

    /// The table, with no rows yet.
    fn table(&self, run: &Run) -> Table {
        let Self { payload_bytes, workers, .. } = self;
        Table::new(
            format!(
                "{}\nKeyed one-way messages at saturation over node counts: {payload_bytes}-byte \
                 payload, driver on core {}, nodes of {workers} workers on cores {:?}, loopback, \
                 {} keys",
                self.headline(run),
                run.driver_core,
                run.node_cores,
                run.keys
            ),
            ["nodes", "per s", "per CPU-s", "range over the rounds", "p99 at the same load"],
        )
    }

    /// The page, with no figures yet.
    fn report(&self, run: &Run) -> Report {
        let Self { payload_bytes, workers, .. } = self;
        let outnumbered = self.outnumbers(cores(run));
        Report {
            title: format!("Scaling{}", if outnumbered { " (nodes outnumber cores)" } else { "" }),
            setting: format!(
                "{}; {payload_bytes}-byte payload, driver pinned to core {}, nodes of \
                 {workers} workers on cores {:?}, one hop, loopback, closed loop, no batching by \
                 the sender; {}",
                self.headline(run),
                run.driver_core,
                run.node_cores,
                run.machine_line(),
            ),
            ..Report::default()
        }
    }

    fn plots(&self, samples: Vec<ScaleSample>, cores: u32) -> Vec<Plot> {
        let curve = |nodes: &u32| Run::curve(&format!("{nodes} nodes"), &format!("nodes_{nodes}"));
        vec![
            Plot::Scaling { title: "Throughput over nodes".to_owned(), samples, cores },
            Plot::Percentiles {
                title: "One-way latency at the same load".to_owned(),
                curves: self.node_counts.iter().map(curve).collect(),
            },
        ]
    }
}

fn cores(run: &Run) -> u32 {
    run.card.cores.len() as u32
}

/// All rounds at all node counts, with F2 among them, beside which one node is to be seen.
fn measure(run: &mut Run, plan: &Plan) -> Result<(Vec<Measured>, Vec<OnewayFloor>)> {
    let progress = plan.progress(run.quiet);
    let (mut found, mut floors) = (Vec::new(), Vec::new());
    let rounds = plan.rounds;
    // The last variant is F2.
    for turn in interleave(plan.node_counts.len() + 1, rounds as usize, run.seed) {
        let round = turn.round as u32 + 1;
        if let Some(nodes) = plan.node_counts.get(turn.variant) {
            progress.phase(&format!("round {round} of {rounds}: {nodes} nodes"));
            found.push(measure_nodes(run, plan, *nodes, round)?);
        } else {
            progress.phase(&format!("round {round} of {rounds}: F2 one-way frames"));
            let floor = oneway::run(&run.floor_plan(plan.payload_bytes, plan.duration))?;
            run.weather(&floor.window);
            floors.push(floor);
        }
        progress.done();
    }
    Ok((found, floors))
}

/// The rate at saturation and the latency at a load of a fresh cluster.
fn measure_nodes(run: &mut Run, plan: &Plan, nodes: u32, round: u32) -> Result<Measured> {
    let payload_bytes = plan.payload_bytes;
    let mut cluster = Cluster::start(run.cluster(nodes, plan.workers, 0))?;
    let from_ns = now_ns();
    let load = LoadPlan::Saturate { payload_bytes };
    let (rate, _) = rate(&mut cluster, load, Of::Handled, WARM_UP, plan.duration, false)?;
    run.weather(&rate.window);
    let seed = run.seed ^ u64::from(round);
    let load =
        Paced::tells(payload_bytes, arrivals(plan.paced_per_s), WARM_UP + plan.duration, seed);
    let (paced, _) = paced(&mut cluster, load, WARM_UP)?;
    let period = Period { from_ns, until_ns: now_ns() };
    run.close(&format!("{nodes} nodes, round {round}"), &mut cluster, &[period])?;
    Ok(Measured { nodes, round, rate, paced })
}

/// Which latencies are void, each with its reason.
fn voids(found: &[Measured]) -> Vec<(String, String)> {
    let void = |one: &Measured| {
        let at = format!("latency at {} nodes in round {}", one.nodes, one.round);
        Some((at, one.paced.void.clone()?))
    };
    found.iter().filter_map(void).collect()
}

/// The figures of one node count.
struct Row {
    nodes: u32,
    per_s: Option<Figure>,
    per_cpu_s: Option<Figure>,
    per_cpu_s_rounds: Vec<Round>,
    latency: Histogram<u64>,
}

impl Row {
    fn of(nodes: u32, found: &[Measured]) -> Self {
        let here: Vec<&Measured> = found.iter().filter(|one| one.nodes == nodes).collect();
        let rounds = |value: fn(&Rate) -> f64| -> Vec<Round> {
            here.iter().map(|one| one.rate.round(value)).collect()
        };
        let per_cpu_s_rounds = rounds(|rate| rate.per_cpu_s);
        let latency = match here.is_empty() {
            true => latency_histogram(),
            false => merge(here.iter().map(|one| &one.paced.latency)),
        };
        Self {
            nodes,
            per_s: Figure::of(&rounds(|rate| rate.per_s)),
            per_cpu_s: Figure::of(&per_cpu_s_rounds),
            per_cpu_s_rounds,
            latency,
        }
    }

    fn p99_ns(&self) -> Option<u64> {
        quantile(&self.latency, 0.99)
    }

    fn cells(&self) -> [String; 5] {
        let text =
            |figure: Option<Figure>| figure.map_or("-".to_owned(), |figure| count(figure.median));
        [
            self.nodes.to_string(),
            text(self.per_s),
            text(self.per_cpu_s),
            self.per_cpu_s.map_or("-".to_owned(), |figure| figure.range(count)),
            self.p99_ns().map_or("-".to_owned(), |ns| time(ns as f64)),
        ]
    }

    fn point(&self) -> ScalePoint {
        ScalePoint {
            nodes: self.nodes,
            msgs_per_s: self.per_s.map(|figure| figure.median),
            msgs_per_cpu_s: self.per_cpu_s.map(|figure| figure.median),
            p99_ns: self.p99_ns(),
        }
    }

    fn round_set(self) -> RoundSet {
        let name = format!("{} nodes, per CPU-s", self.nodes);
        RoundSet { name, unit: Unit::Count, rounds: self.per_cpu_s_rounds }
    }
}

fn sample(one: &Measured) -> ScaleSample {
    ScaleSample { nodes: one.nodes, msgs_per_s: one.rate.per_s, msgs_per_cpu_s: one.rate.per_cpu_s }
}

/// The law that fits the samples, or why none does.
fn law(samples: &[ScaleSample]) -> String {
    let point = |sample: &ScaleSample| Point {
        nodes: f64::from(sample.nodes),
        throughput: f64::from(sample.nodes) * sample.msgs_per_cpu_s,
    };
    let points: Vec<Point> = samples.iter().map(point).collect();
    let fit = match usl::fit(&points, RESAMPLES, FIT_SEED) {
        Ok(fit) => fit,
        Err(reason) => return reason,
    };
    let range = |confidence: Confidence| {
        format!("95 %: {} .. {}", ratio_text(confidence.low), ratio_text(confidence.high))
    };
    format!(
        "Universal Scalability Law over nodes x throughput per CPU-second: one node {}, \
         contention {} ({}), crosstalk {} ({}), R2 {:.3}",
        count(fit.law.lambda),
        ratio_text(fit.law.sigma),
        range(fit.sigma),
        ratio_text(fit.law.kappa),
        range(fit.kappa),
        fit.r_squared
    )
}

fn floor(floors: &[OnewayFloor]) -> Floor {
    let median = |value: fn(&OnewayFloor) -> f64| {
        let rounds: Vec<Round> = floors.iter().map(|floor| floor.round(value)).collect();
        Figure::of(&rounds).map(|figure| figure.median)
    };
    Floor {
        oneway_msgs_per_s: median(|floor| floor.msgs_per_s),
        oneway_msgs_per_cpu_s: median(|floor| floor.msgs_per_cpu_s),
        ..Floor::default()
    }
}

/// How near one node comes to F2.
fn floor_note(one_node: &ScalePoint, floor: &Floor) -> Option<String> {
    let of_floor = ratio(one_node.msgs_per_cpu_s, floor.oneway_msgs_per_cpu_s)?;
    Some(format!(
        "F2 {} per CPU-second: one node reaches {} of it",
        count(floor.oneway_msgs_per_cpu_s?),
        ratio_text(of_floor)
    ))
}
