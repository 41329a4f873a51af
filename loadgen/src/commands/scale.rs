//! `loadgen scale`: throughput over node counts, with the Universal Scalability Law fitted to it.

use std::time::Duration;

use serde::Serialize;

use super::latency::arrivals;
use super::pair::ratio;
use super::run::Run;
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
use crate::floors::oneway;
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
    let payload_bytes = Run::payload_bytes(flags)?;
    let workers = flags.cores.unwrap_or(1).max(1) as usize;
    let rounds = flags.rounds.unwrap_or(DEFAULT_ROUNDS);
    let duration = flags.duration.unwrap_or(DEFAULT_DURATION) / rounds;
    let paced_per_s = flags.rate.unwrap_or(DEFAULT_PACED_PER_S);
    // `--nodes` is the largest count; there are always enough of them for a law.
    let node_counts: Vec<u32> = match flags.nodes {
        Some(most) if most > NODE_COUNTS[5] => NODE_COUNTS.iter().copied().chain([most]).collect(),
        _ => NODE_COUNTS.to_vec(),
    };
    let mut run = Run::begin("scale", flags)?;
    let steps = (node_counts.len() as u32 + 1) * rounds;
    let progress = Progress::new(
        u64::from(steps),
        (duration * 2 + Duration::from_millis(2_000)) * steps,
        run.quiet,
    );
    let mut found: Vec<Measured> = Vec::new();
    let mut floors = Vec::new();
    let mut voids = Vec::new();
    // The last variant is F2, beside which one node is to be seen.
    for turn in interleave(node_counts.len() + 1, rounds as usize, run.seed) {
        let round = turn.round as u32 + 1;
        let Some(nodes) = node_counts.get(turn.variant).copied() else {
            progress.phase(&format!("round {round} of {rounds}: F2 one-way frames"));
            let floor = oneway::run(&run.floor_plan(payload_bytes, duration))?;
            run.weather(&floor.window);
            floors.push(floor);
            progress.done();
            continue;
        };
        progress.phase(&format!("round {round} of {rounds}: {nodes} nodes"));
        let mut cluster = Cluster::start(run.cluster(nodes, workers, 0))?;
        let from_ns = now_ns();
        let plan = LoadPlan::Saturate { payload_bytes };
        let (rate, _) = rate(&mut cluster, plan, Of::Handled, WARM_UP, duration, false)?;
        run.weather(&rate.window);
        let plan = Paced {
            payload_bytes,
            tells: Some(arrivals(paced_per_s)),
            asks: None,
            start_ns: 0,
            duration_ns: (WARM_UP + duration).as_nanos() as u64,
            warm_up_ends_ns: 0,
            seed: run.seed ^ u64::from(round),
            ask_timeout_ms: 1_000,
            log_asks: false,
        };
        let (paced, _) = paced(&mut cluster, plan, WARM_UP)?;
        if let Some(reason) = &paced.void {
            voids.push((format!("latency at {nodes} nodes in round {round}"), reason.clone()));
        }
        let period = Period { from_ns, until_ns: now_ns() };
        run.close(&format!("{nodes} nodes, round {round}"), &mut cluster, &[period])?;
        found.push(Measured { nodes, round, rate, paced });
        progress.done();
    }
    drop(progress);
    run.void_some(&voids, found.len());

    let cores = run.card.cores.len() as u32;
    let outnumbered = node_counts.iter().any(|nodes| nodes * workers as u32 + 1 > cores);
    let headline = if outnumbered {
        format!(
            "NODES OUTNUMBER CORES: up to {} nodes and a driver share {cores} cores, so that \
             wall-clock scaling measures the scheduler; look at the figures per CPU-second",
            node_counts.iter().max().unwrap_or(&0)
        )
    } else {
        format!("every node has cores of its own ({cores} cores)")
    };
    let mut table = Table::new(
        format!(
            "{headline}\nKeyed one-way messages at saturation over node counts: {payload_bytes}-byte \
             payload, driver on core {}, nodes of {workers} workers on cores {:?}, loopback, {} keys",
            run.driver_core, run.node_cores, run.keys
        ),
        ["nodes", "per s", "per CPU-s", "range over the rounds", "p99 at the same load"],
    );
    let mut scale = Vec::new();
    let mut sets = Vec::new();
    for nodes in &node_counts {
        let here: Vec<&Measured> = found.iter().filter(|one| one.nodes == *nodes).collect();
        let rounds = |value: fn(&Rate) -> f64| -> Vec<Round> {
            let round = |one: &&Measured| Round {
                value: value(&one.rate),
                steal_share: one.rate.window.steal_share,
            };
            here.iter().map(round).collect()
        };
        let (per_s, per_cpu_s) = (rounds(|rate| rate.per_s), rounds(|rate| rate.per_cpu_s));
        let latency = match here.is_empty() {
            true => latency_histogram(),
            false => merge(here.iter().map(|one| &one.paced.latency)),
        };
        run.keep(&format!("nodes_{nodes}"), &latency);
        let p99_ns = quantile(&latency, 0.99);
        let (wall, cpu) = (Figure::of(&per_s), Figure::of(&per_cpu_s));
        let text =
            |figure: Option<Figure>| figure.map_or("-".to_owned(), |figure| count(figure.median));
        table.row([
            nodes.to_string(),
            text(wall),
            text(cpu),
            cpu.map_or("-".to_owned(), |figure| {
                format!("{} .. {} of {}", count(figure.min), count(figure.max), figure.rounds)
            }),
            p99_ns.map_or("-".to_owned(), |ns| time(ns as f64)),
        ]);
        scale.push(ScalePoint {
            nodes: *nodes,
            msgs_per_s: wall.map(|figure| figure.median),
            msgs_per_cpu_s: cpu.map(|figure| figure.median),
            p99_ns,
        });
        let name = format!("{nodes} nodes, per CPU-s");
        sets.push(RoundSet { name, unit: Unit::Count, rounds: per_cpu_s });
    }

    let samples: Vec<ScaleSample> = found
        .iter()
        .map(|one| ScaleSample {
            nodes: one.nodes,
            msgs_per_s: one.rate.per_s,
            msgs_per_cpu_s: one.rate.per_cpu_s,
        })
        .collect();
    let points: Vec<Point> = samples
        .iter()
        .map(|sample| Point {
            nodes: f64::from(sample.nodes),
            throughput: f64::from(sample.nodes) * sample.msgs_per_cpu_s,
        })
        .collect();
    let mut notes = vec![
        headline.clone(),
        format!("latency: tells from their due times at {}/s, open loop", count(paced_per_s)),
    ];
    match usl::fit(&points, RESAMPLES, FIT_SEED) {
        Ok(fit) => {
            let range = |confidence: Confidence| {
                format!("95 %: {} .. {}", ratio_text(confidence.low), ratio_text(confidence.high))
            };
            notes.push(format!(
                "Universal Scalability Law over nodes x throughput per CPU-second: one node {}, \
                 contention {} ({}), crosstalk {} ({}), R2 {:.3}",
                count(fit.law.lambda),
                ratio_text(fit.law.sigma),
                range(fit.sigma),
                ratio_text(fit.law.kappa),
                range(fit.kappa),
                fit.r_squared
            ));
        }
        Err(reason) => notes.push(reason),
    }
    let floor_rounds = |value: fn(&oneway::OnewayFloor) -> f64| -> Option<f64> {
        let round = |floor: &oneway::OnewayFloor| Round {
            value: value(floor),
            steal_share: floor.window.steal_share,
        };
        Figure::of(&floors.iter().map(round).collect::<Vec<_>>()).map(|figure| figure.median)
    };
    let floor = Floor {
        oneway_msgs_per_s: floor_rounds(|floor| floor.msgs_per_s),
        oneway_msgs_per_cpu_s: floor_rounds(|floor| floor.msgs_per_cpu_s),
        ..Floor::default()
    };
    let of_floor = ratio(scale[0].msgs_per_cpu_s, floor.oneway_msgs_per_cpu_s);
    if let (Some(floor), Some(ratio)) = (floor.oneway_msgs_per_cpu_s, of_floor) {
        notes.push(format!(
            "F2 {} per CPU-second: one node reaches {} of it",
            count(floor),
            ratio_text(ratio)
        ));
    }
    for note in &notes[1..] {
        table.note(note.clone());
    }
    print!("{table}");
    run.write("table.txt", &table.to_string())?;

    let mut summary = run.summary(Setting {
        nodes: *node_counts.iter().max().unwrap_or(&0),
        cores_per_node: workers as u32,
        payload_bytes,
        processes: node_counts.iter().max().unwrap_or(&0) + 1,
        pinned: !outnumbered,
    });
    summary.floor = Some(floor);
    summary.scale = Some(scale);
    run.write_json("rounds.json", &found)?;
    let report = Report {
        title: format!("Scaling{}", if outnumbered { " (nodes outnumber cores)" } else { "" }),
        setting: format!(
            "{headline}; {payload_bytes}-byte payload, driver pinned to core {}, nodes of \
             {workers} workers on cores {:?}, one hop, loopback, closed loop, no batching by the \
             sender; {}",
            run.driver_core,
            run.node_cores,
            run.machine_line(),
        ),
        plots: vec![
            Plot::Scaling { title: "Throughput over nodes".to_owned(), samples, cores },
            Plot::Percentiles {
                title: "One-way latency at the same load".to_owned(),
                curves: node_counts
                    .iter()
                    .map(|nodes| Run::curve(&format!("{nodes} nodes"), &format!("nodes_{nodes}")))
                    .collect(),
            },
        ],
        rounds: sets,
        notes,
        ..Report::default()
    };
    let asked = Asked {
        command: run.command,
        driver_core: run.driver_core,
        node_cores: run.node_cores.clone(),
        payload_bytes,
        node_counts,
        workers_per_node: workers,
        keys: run.keys,
        seed: run.seed,
        rounds,
        duration_ms_per_round: duration.as_millis() as u64,
        paced_msgs_per_s: paced_per_s,
    };
    run.finish(&asked, &summary, report)?;
    run.verdict()
}
