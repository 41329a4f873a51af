//! `loadgen latency`: one-way latency over open-loop loads from light to past saturation, and the
//! round trip of a single ask beside F1.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::shared::pair::{PairRounds, Variant, cluster_round};
use super::shared::run::Run;
use crate::analysis::histogram::{Percentiles, latency_histogram, merge};
use crate::analysis::ledger::Period;
use crate::analysis::plots::LoadPoint;
use crate::analysis::report::{Plot, Report};
use crate::analysis::rounds::{Figure, Round, interleave};
use crate::analysis::schedule::Arrivals;
use crate::analysis::table::{Table, count, duration as time, percent, ratio as ratio_text};
use crate::cli::Flags;
use crate::cluster::Cluster;
use crate::cluster::clock::now_ns;
use crate::cluster::measure::{PacedRun, paced};
use crate::driver::Paced;
use crate::error::Result;
use crate::floors::FloorKind;
use crate::progress::Progress;
use crate::summary::{Floor, Setting};

const DEFAULT_ROUNDS: u32 = 5;
/// Of each load, over all rounds.
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(200);
/// The loads, as shares of the run's own saturation.
const SHARES: [f64; 14] =
    [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95, 1.2];
/// Of single asks, with the floors between them.
const ASKS: [Variant; 5] = [
    Variant::Floor(FloorKind::EchoRtt),
    Variant::Ask,
    Variant::Floor(FloorKind::EchoSpinRtt),
    Variant::AskSpin,
    Variant::ThreadAsk,
];
/// Messages that are due more densely than this come in bursts with this gap: a schedule finer
/// than the scheduler of a busy machine cannot be kept by anybody.
const DENSEST_GAP_NS: u64 = 1_000_000;

/// What was asked; written as `plan.toml`.
#[derive(Debug, Serialize)]
struct Asked {
    command: &'static str,
    driver_core: usize,
    node_cores: Vec<usize>,
    payload_bytes: u32,
    nodes: u32,
    keys: u32,
    seed: u64,
    rounds: u32,
    duration_ms_per_round: u64,
    saturation_per_s: f64,
    loads: Vec<Load>,
}

/// One load of the curve.
#[derive(Debug, Clone, Copy, Serialize)]
struct Load {
    share_of_saturation: f64,
    arrivals: Arrivals,
}

/// One round of one load.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    load: usize,
    round: u32,
    run: PacedRun,
}

/// What is to be measured.
struct Plan {
    payload_bytes: u32,
    nodes: u32,
    rounds: u32,
    /// Of one round of one load.
    duration: Duration,
    /// Instead of the saturation that is measured.
    saturation_per_s: Option<f64>,
}

/// Measures, prints the table and writes the files.
pub fn run(flags: &Flags) -> Result<()> {
    Run::ignore("latency, whose nodes have one worker", &[("--cores", flags.cores.is_some())]);
    let plan = Plan::of(flags)?;
    let mut run = Run::begin("latency", flags)?;
    let progress = plan.progress(run.quiet);
    let saturation = saturation(&mut run, &plan, &progress)?;
    let loads = plan.loads(saturation);
    let found = curve(&mut run, &plan, &loads, &progress)?;
    let Plan { payload_bytes, rounds, duration, .. } = plan;
    let pair = PairRounds::measure(&mut run, &ASKS, payload_bytes, rounds, duration, &progress)?;
    drop(progress);

    let mut table = plan.table(&run);
    let mut points = Vec::new();
    let mut voids = Vec::new();
    for (index, load) in loads.iter().enumerate() {
        let row = Row::of(*load, found.iter().filter(|one| one.load == index).collect());
        table.row(row.cells());
        voids.extend(row.voids_the_run());
        run.keep(&format!("load_{}", load.share_of_saturation), &row.histogram);
        points.push(row.point());
    }
    run.void_some(&voids, loads.len());
    let floor = pair.floors.summary();
    let notes = notes(&pair, &floor);
    table.note(format!(
        "saturation {}; asks, one in flight, of F1 in the same mode:",
        saturation.map_or("-".to_owned(), |figure| figure.describe(count))
    ));
    for note in &notes {
        table.note(note.clone());
    }
    print!("{table}");
    run.write("table.txt", &table.to_string())?;

    run.write_json("rounds.json", &found)?;
    run.write_json("asks.json", &pair)?;
    run.keep("ask", &pair.latency(Variant::Ask));
    run.keep("ask_spin", &pair.latency(Variant::AskSpin));
    let mut summary = run.summary(plan.setting());
    summary.ask = Some(pair.ask(Variant::Ask, &floor));
    summary.floor = Some(floor);
    let saturation_per_s = plan.saturation_per_s(saturation);
    let report = Report {
        plots: plots(points, saturation_per_s),
        rounds: pair.round_sets(),
        notes,
        ..plan.report(&run)
    };
    run.finish(&plan.asked(&run, saturation_per_s, loads), &summary, report)?;
    run.verdict()
}

impl Plan {
    fn of(flags: &Flags) -> Result<Self> {
        let rounds = flags.rounds.unwrap_or(DEFAULT_ROUNDS);
        Ok(Self {
            payload_bytes: Run::payload_bytes(flags)?,
            nodes: flags.nodes.unwrap_or(1).max(1),
            rounds,
            duration: flags.duration.unwrap_or(DEFAULT_DURATION) / rounds,
            saturation_per_s: flags.rate,
        })
    }

    fn progress(&self, quiet: bool) -> Progress {
        let steps = (1 + SHARES.len() as u32 + ASKS.len() as u32) * self.rounds;
        let each = self.duration + Duration::from_millis(600);
        Progress::new(u64::from(steps), each * steps, quiet)
    }

    fn saturation_per_s(&self, measured: Option<Figure>) -> f64 {
        self.saturation_per_s.unwrap_or_else(|| measured.map_or(1.0, |figure| figure.median))
    }

    fn loads(&self, saturation: Option<Figure>) -> Vec<Load> {
        let saturation_per_s = self.saturation_per_s(saturation);
        let load = |share: f64| Load {
            share_of_saturation: share,
            arrivals: arrivals(saturation_per_s * share),
        };
        SHARES.into_iter().map(load).collect()
    }

    fn setting(&self) -> Setting {
        Setting {
            nodes: self.nodes,
            cores_per_node: 1,
            payload_bytes: self.payload_bytes,
            processes: self.nodes + 1,
            pinned: true,
        }
    }

    fn asked(&self, run: &Run, saturation_per_s: f64, loads: Vec<Load>) -> Asked {
        Asked {
            command: run.command,
            driver_core: run.driver_core,
            node_cores: run.node_cores.clone(),
            payload_bytes: self.payload_bytes,
            nodes: self.nodes,
            keys: run.keys,
            seed: run.seed,
            rounds: self.rounds,
            duration_ms_per_round: self.duration.as_millis() as u64,
            saturation_per_s,
            loads,
        }
    }

    /// The table, with no rows yet.
    fn table(&self, run: &Run) -> Table {
        let Self { payload_bytes, nodes, .. } = self;
        Table::new(
            format!(
                "Latency of keyed one-way messages from their due times: {payload_bytes}-byte \
                 payload, a driver on core {}, {nodes} nodes on cores {:?}, loopback, open loop, \
                 {} keys",
                run.driver_core, run.node_cores, run.keys
            ),
            ["of saturation", "offered/s", "delivered/s", "p50", "p99", "p99.9", "max", "arrivals"],
        )
    }

    /// The page, with no figures yet.
    fn report(&self, run: &Run) -> Report {
        let Self { payload_bytes, nodes, .. } = self;
        Report {
            title: "Latency over load".to_owned(),
            setting: format!(
                "{payload_bytes}-byte payload, driver pinned to core {}, {nodes} nodes on cores \
                 {:?}, sleeping workers, one hop, loopback, open loop: constant rate, from {} \
                 messages/s on in bursts each {}, no batching beyond that; {}",
                run.driver_core,
                run.node_cores,
                count(1e9 / DENSEST_GAP_NS as f64),
                time(DENSEST_GAP_NS as f64),
                run.machine_line(),
            ),
            ..Report::default()
        }
    }
}

fn plots(points: Vec<LoadPoint>, saturation_per_s: f64) -> Vec<Plot> {
    vec![
        Plot::Load {
            title: "One-way latency from the due time".to_owned(),
            points,
            saturation_per_s: Some(saturation_per_s),
            floor_p50_ns: None,
        },
        Plot::Percentiles {
            title: "One-way latency at 50 % and 80 % of saturation, and one ask in flight"
                .to_owned(),
            curves: vec![
                Run::curve("tells at 50 %", "load_0.5"),
                Run::curve("tells at 80 %", "load_0.8"),
                Run::curve("asks, sleeping", "ask"),
                Run::curve("asks, spinning", "ask_spin"),
            ],
        },
        Plot::Ratios { title: "Asks against F1".to_owned() },
    ]
}

/// What the cluster takes when it is given as much as it takes.
fn saturation(run: &mut Run, plan: &Plan, progress: &Progress) -> Result<Option<Figure>> {
    let Plan { payload_bytes, nodes, rounds, duration, .. } = *plan;
    let mut found = Vec::new();
    for round in 1..=rounds {
        progress.phase(&format!("saturation, round {round} of {rounds}"));
        let one =
            cluster_round(run, Variant::Oneway, nodes, round, payload_bytes, duration, false)?;
        run.weather(&one.rate.window);
        found.push(one.rate.round(|rate| rate.per_s));
        progress.done();
    }
    Ok(Figure::of(&found))
}

/// All rounds of all loads.
fn curve(run: &mut Run, plan: &Plan, loads: &[Load], progress: &Progress) -> Result<Vec<Measured>> {
    let rounds = plan.rounds;
    let mut found = Vec::new();
    let mut cluster: Option<(u32, u64, Cluster)> = None;
    for turn in interleave(loads.len(), rounds as usize, run.seed) {
        let round = turn.round as u32 + 1;
        // The processes are new in every round.
        if cluster.as_ref().is_none_or(|(of, ..)| *of != round) {
            close(run, cluster.take())?;
            let fresh = Cluster::start(run.cluster(plan.nodes, 1, 0))?;
            cluster = Some((round, now_ns(), fresh));
        }
        let Some((_, _, cluster)) = &mut cluster else { continue };
        let load = loads[turn.variant];
        progress.phase(&format!(
            "round {round} of {rounds}: {} of saturation",
            percent(load.share_of_saturation)
        ));
        let seed = run.seed ^ u64::from(round);
        let tells = Paced::tells(plan.payload_bytes, load.arrivals, WARM_UP + plan.duration, seed);
        let (paced, _) = paced(cluster, tells, WARM_UP)?;
        run.weather(&paced.window);
        found.push(Measured { load: turn.variant, round, run: paced });
        progress.done();
    }
    close(run, cluster.take())?;
    Ok(found)
}

/// The figures of one load.
struct Row {
    load: Load,
    delivered_per_s: f64,
    histogram: Histogram<u64>,
    void: Option<String>,
}

impl Row {
    fn of(load: Load, rounds: Vec<&Measured>) -> Self {
        let delivered = |one: &&Measured| Round {
            value: one.run.handled_per_s,
            steal_share: one.run.window.steal_share,
        };
        let delivered: Vec<Round> = rounds.iter().map(delivered).collect();
        let histogram = match rounds.is_empty() {
            true => latency_histogram(),
            false => merge(rounds.iter().map(|one| &one.run.latency)),
        };
        Self {
            load,
            delivered_per_s: Figure::of(&delivered).map_or(0.0, |figure| figure.median),
            histogram,
            void: rounds.iter().find_map(|one| one.run.void.clone()),
        }
    }

    fn cells(&self) -> [String; 8] {
        let latency = Percentiles::of(&self.histogram);
        let mark = if self.void.is_some() { " void" } else { "" };
        [
            format!("{}{mark}", percent(self.load.share_of_saturation)),
            count(self.load.arrivals.msgs_per_s()),
            count(self.delivered_per_s),
            ns_text(latency.p50_ns),
            ns_text(latency.p99_ns),
            ns_text(latency.p999_ns),
            time(latency.max_ns as f64),
            match self.load.arrivals {
                Arrivals::Bursts { size, gap_ns } => format!("{size} each {}", time(gap_ns as f64)),
                Arrivals::Constant { .. } => "constant".to_owned(),
                Arrivals::Poisson { .. } => "poisson".to_owned(),
            },
        ]
    }

    /// Past the limit the generator cannot keep up either; below it, it has to.
    fn voids_the_run(&self) -> Option<(String, String)> {
        let share = self.load.share_of_saturation;
        let reason = self.void.clone().filter(|_| share <= 0.81)?;
        Some((format!("at {} of saturation", percent(share)), reason))
    }

    fn point(&self) -> LoadPoint {
        LoadPoint {
            offered_per_s: self.load.arrivals.msgs_per_s(),
            delivered_per_s: self.delivered_per_s,
            latency: Percentiles::of(&self.histogram),
            void: self.void.is_some(),
        }
    }
}

fn ns_text(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |ns| time(ns as f64))
}

/// What belongs to the curve, and the asks.
fn notes(pair: &PairRounds, floor: &Floor) -> Vec<String> {
    let mut notes = vec![
        "latency runs from the due time to the handler, over all rounds; at the loads that come \
         in bursts it includes the waiting for the burst's first messages"
            .to_owned(),
    ];
    for (name, variant) in [
        ("from a sleeping worker", Variant::Ask),
        ("from a spinning worker", Variant::AskSpin),
        ("from a thread through a sleeping worker", Variant::ThreadAsk),
    ] {
        let ask = pair.ask(variant, floor);
        let ratio = |value: Option<f64>| value.map_or("-".to_owned(), ratio_text);
        notes.push(format!(
            "ask {name}: p50 {} ({} of F1), p99 {} ({}), p99.9 {}, max {}",
            ns_text(ask.p50_ns),
            ratio(ask.ratio_to_floor_p50),
            ns_text(ask.p99_ns),
            ratio(ask.ratio_to_floor_p99),
            ns_text(ask.p999_ns),
            ns_text(ask.max_ns),
        ));
    }
    notes
}

/// A constant rate, in bursts where its gap would be too small.
pub(super) fn arrivals(msgs_per_s: f64) -> Arrivals {
    let size = msgs_per_s * DENSEST_GAP_NS as f64 / 1e9;
    if size <= 1.0 {
        return Arrivals::Constant { msgs_per_s: msgs_per_s.max(1.0) };
    }
    let size = size.round().max(2.0);
    Arrivals::Bursts { size: size as u32, gap_ns: (size * 1e9 / msgs_per_s) as u64 }
}

fn close(run: &mut Run, cluster: Option<(u32, u64, Cluster)>) -> Result<()> {
    let Some((round, from_ns, mut cluster)) = cluster else { return Ok(()) };
    let period = Period { from_ns, until_ns: now_ns() };
    run.close(&format!("curve, round {round}"), &mut cluster, &[period]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_loads_come_in_bursts_of_the_same_rate() {
        assert_eq!(arrivals(1_000.0), Arrivals::Constant { msgs_per_s: 1_000.0 });
        for rate in [6_000.0, 7_499.0, 123_456.0, 5e6] {
            let burst = arrivals(rate);
            assert!(matches!(burst, Arrivals::Bursts { .. }));
            assert!((burst.msgs_per_s() / rate - 1.0).abs() < 1e-3, "{rate}: {burst:?}");
            assert!(burst.mean_gap_ns() >= DENSEST_GAP_NS as f64 * 0.8);
        }
    }
}
