//! `loadgen latency`: one-way latency over open-loop loads from light to past saturation, and the
//! round trip of a single ask beside F1.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::pair::{PairRounds, Variant, cluster_round};
use super::run::Run;
use crate::analysis::histogram::{Percentiles, latency_histogram, merge};
use crate::analysis::ledger::Period;
use crate::analysis::plots::LoadPoint;
use crate::analysis::report::{Plot, Report};
use crate::analysis::rounds::{Figure, Round, interleave};
use crate::analysis::schedule::Arrivals;
use crate::analysis::table::{Table, count, duration as time, percent};
use crate::cli::Flags;
use crate::cluster::Cluster;
use crate::cluster::clock::now_ns;
use crate::cluster::measure::{PacedRun, paced};
use crate::driver::Paced;
use crate::error::Result;
use crate::floors::FloorKind;
use crate::progress::Progress;
use crate::summary::Setting;

const DEFAULT_ROUNDS: u32 = 5;
/// Of each load, over all rounds.
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(200);
/// The loads, as shares of the run's own saturation.
const SHARES: [f64; 14] =
    [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95, 1.2];
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

/// Measures, prints the table and writes the files.
pub fn run(flags: &Flags) -> Result<()> {
    Run::ignore("latency, whose nodes have one worker", &[("--cores", flags.cores.is_some())]);
    let payload_bytes = Run::payload_bytes(flags)?;
    let nodes = flags.nodes.unwrap_or(1).max(1);
    let rounds = flags.rounds.unwrap_or(DEFAULT_ROUNDS);
    let duration = flags.duration.unwrap_or(DEFAULT_DURATION) / rounds;
    let mut run = Run::begin("latency", flags)?;
    let asks = [
        Variant::Floor(FloorKind::EchoRtt),
        Variant::Ask,
        Variant::Floor(FloorKind::EchoSpinRtt),
        Variant::AskSpin,
        Variant::ThreadAsk,
    ];
    let steps = (1 + SHARES.len() as u32 + asks.len() as u32) * rounds;
    let progress =
        Progress::new(u64::from(steps), (duration + Duration::from_millis(600)) * steps, run.quiet);

    let mut saturation = Vec::new();
    for round in 1..=rounds {
        progress.phase(&format!("saturation, round {round} of {rounds}"));
        let one =
            cluster_round(&mut run, Variant::Oneway, nodes, round, payload_bytes, duration, false)?;
        run.weather(&one.rate.window);
        let steal_share = one.rate.window.steal_share;
        saturation.push(Round { value: one.rate.per_s, steal_share });
        progress.done();
    }
    let saturation_per_s = match flags.rate {
        Some(rate) => rate,
        None => Figure::of(&saturation).map_or(1.0, |figure| figure.median),
    };
    let loads: Vec<Load> = SHARES
        .iter()
        .map(|share| Load {
            share_of_saturation: *share,
            arrivals: arrivals(saturation_per_s * share),
        })
        .collect();

    let mut found: Vec<Measured> = Vec::new();
    let mut cluster: Option<(u32, u64, Cluster)> = None;
    for turn in interleave(loads.len(), rounds as usize, run.seed) {
        let round = turn.round as u32 + 1;
        // The processes are new in every round.
        if cluster.as_ref().is_none_or(|(of, ..)| *of != round) {
            close(&mut run, cluster.take())?;
            let fresh = Cluster::start(run.cluster(nodes, 1, 0))?;
            cluster = Some((round, now_ns(), fresh));
        }
        let Some((_, _, cluster)) = &mut cluster else { continue };
        let load = loads[turn.variant];
        progress.phase(&format!(
            "round {round} of {rounds}: {} of saturation",
            percent(load.share_of_saturation)
        ));
        let plan = Paced {
            payload_bytes,
            tells: Some(load.arrivals),
            asks: None,
            start_ns: 0,
            duration_ns: (WARM_UP + duration).as_nanos() as u64,
            warm_up_ends_ns: 0,
            seed: run.seed ^ u64::from(round),
            ask_timeout_ms: 1_000,
            log_asks: false,
        };
        let (paced, _) = paced(cluster, plan, WARM_UP)?;
        run.weather(&paced.window);
        found.push(Measured { load: turn.variant, round, run: paced });
        progress.done();
    }
    close(&mut run, cluster.take())?;
    let pair = PairRounds::measure(&mut run, &asks, payload_bytes, rounds, duration, &progress)?;
    drop(progress);

    let mut table = Table::new(
        format!(
            "Latency of keyed one-way messages from their due times: {payload_bytes}-byte payload, \
             a driver on core {}, {nodes} nodes on cores {:?}, loopback, open loop, {} keys",
            run.driver_core, run.node_cores, run.keys
        ),
        ["of saturation", "offered/s", "delivered/s", "p50", "p99", "p99.9", "max", "arrivals"],
    );
    let mut points = Vec::new();
    let mut voids = Vec::new();
    for (index, load) in loads.iter().enumerate() {
        let rounds: Vec<&Measured> = found.iter().filter(|one| one.load == index).collect();
        let histogram = merged(&rounds);
        let delivered: Vec<Round> = rounds
            .iter()
            .map(|one| Round {
                value: one.run.handled_per_s,
                steal_share: one.run.window.steal_share,
            })
            .collect();
        let delivered = Figure::of(&delivered).map_or(0.0, |figure| figure.median);
        let latency = Percentiles::of(&histogram);
        let void = rounds.iter().find_map(|one| one.run.void.clone());
        let ns = |value: Option<u64>| value.map_or("-".to_owned(), |ns| time(ns as f64));
        let mark = if void.is_some() { " void" } else { "" };
        table.row([
            format!("{}{mark}", percent(load.share_of_saturation)),
            count(load.arrivals.msgs_per_s()),
            count(delivered),
            ns(latency.p50_ns),
            ns(latency.p99_ns),
            ns(latency.p999_ns),
            time(latency.max_ns as f64),
            match load.arrivals {
                Arrivals::Bursts { size, gap_ns } => {
                    format!("{size} each {}", time(gap_ns as f64))
                }
                Arrivals::Constant { .. } => "constant".to_owned(),
                Arrivals::Poisson { .. } => "poisson".to_owned(),
            },
        ]);
        if let (Some(reason), true) = (&void, load.share_of_saturation <= 0.81) {
            // Past the limit the generator cannot keep up either; below it, it has to.
            let share = percent(load.share_of_saturation);
            voids.push((format!("at {share} of saturation"), reason.clone()));
        }
        run.keep(&format!("load_{}", load.share_of_saturation), &histogram);
        points.push(LoadPoint {
            offered_per_s: load.arrivals.msgs_per_s(),
            delivered_per_s: delivered,
            latency,
            void: void.is_some(),
        });
    }
    run.void_some(&voids, loads.len());
    let floor = pair.floors.summary();
    table.note(format!(
        "saturation {}; asks, one in flight, of F1 in the same mode:",
        Figure::of(&saturation).map_or("-".to_owned(), |figure| figure.describe(count))
    ));
    let mut lines = vec![
        "latency runs from the due time to the handler, over all rounds; at the loads that come \
         in bursts it includes the waiting for the burst's first messages"
            .to_owned(),
    ];
    for (name, variant) in [
        ("from a sleeping worker", Variant::Ask),
        ("from a spinning worker", Variant::AskSpin),
        ("from a thread through a sleeping worker", Variant::ThreadAsk),
    ] {
        let ask = pair.ask(variant, &floor);
        let ns = |value: Option<u64>| value.map_or("-".to_owned(), |ns| time(ns as f64));
        let ratio =
            |value: Option<f64>| value.map_or("-".to_owned(), crate::analysis::table::ratio);
        lines.push(format!(
            "ask {name}: p50 {} ({} of F1), p99 {} ({}), p99.9 {}, max {}",
            ns(ask.p50_ns),
            ratio(ask.ratio_to_floor_p50),
            ns(ask.p99_ns),
            ratio(ask.ratio_to_floor_p99),
            ns(ask.p999_ns),
            ns(ask.max_ns),
        ));
    }
    for line in &lines {
        table.note(line.clone());
    }
    print!("{table}");
    run.write("table.txt", &table.to_string())?;

    run.write_json("rounds.json", &found)?;
    run.write_json("asks.json", &pair)?;
    run.keep("ask", &pair.latency(Variant::Ask));
    run.keep("ask_spin", &pair.latency(Variant::AskSpin));
    let mut summary = run.summary(Setting {
        nodes,
        cores_per_node: 1,
        payload_bytes,
        processes: nodes + 1,
        pinned: true,
    });
    summary.ask = Some(pair.ask(Variant::Ask, &floor));
    summary.floor = Some(floor);
    let report = Report {
        title: "Latency over load".to_owned(),
        setting: format!(
            "{payload_bytes}-byte payload, driver pinned to core {}, {nodes} nodes on cores {:?}, \
             sleeping workers, one hop, loopback, open loop: constant rate, from {} messages/s on \
             in bursts each {}, no batching beyond that; {}",
            run.driver_core,
            run.node_cores,
            count(1e9 / DENSEST_GAP_NS as f64),
            time(DENSEST_GAP_NS as f64),
            run.machine_line(),
        ),
        plots: vec![
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
        ],
        rounds: pair.round_sets(),
        notes: lines,
        ..Report::default()
    };
    let asked = Asked {
        command: run.command,
        driver_core: run.driver_core,
        node_cores: run.node_cores.clone(),
        payload_bytes,
        nodes,
        keys: run.keys,
        seed: run.seed,
        rounds,
        duration_ms_per_round: duration.as_millis() as u64,
        saturation_per_s,
        loads,
    };
    run.finish(&asked, &summary, report)?;
    run.verdict()
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

fn merged(rounds: &[&Measured]) -> Histogram<u64> {
    if rounds.is_empty() {
        return latency_histogram();
    }
    merge(rounds.iter().map(|one| &one.run.latency))
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
