//! `loadgen throughput`: keyed one-way messages at saturation, by payload size and by how many
//! connections they are spread over, each beside the floor for its frame size.

use std::time::Duration;

use serde::Serialize;

use super::pair::{Variant, cluster_round, ratio};
use super::run::Run;
use crate::analysis::report::{Plot, Report, RoundSet, Unit};
use crate::analysis::rounds::{Figure, Round, interleave};
use crate::analysis::table::{Table, count, percent, ratio as ratio_text};
use crate::cli::Flags;
use crate::cluster::measure::Rate;
use crate::cluster::message::SIZES;
use crate::error::Result;
use crate::floors::oneway::{self, OnewayFloor};
use crate::progress::Progress;
use crate::summary::{Floor, Oneway, Setting};

const DEFAULT_ROUNDS: u32 = 5;
/// Of each measurement, over all rounds.
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
/// Connections beyond the first, with the smallest payload.
const MORE_CONNECTIONS: [u32; 2] = [2, 4];

/// What one row of the table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Case {
    payload_bytes: u32,
    /// One from the driver to each node, which is a process of its own.
    connections: u32,
    /// Made in batches by an application's thread instead of on a worker.
    from_thread: bool,
}

impl Case {
    fn variant(self) -> Variant {
        if self.from_thread { Variant::ThreadOneway } else { Variant::Oneway }
    }
}

/// What was asked; written as `plan.toml`.
#[derive(Debug, Serialize)]
struct Asked {
    command: &'static str,
    driver_core: usize,
    node_cores: Vec<usize>,
    keys: u32,
    seed: u64,
    rounds: u32,
    duration_ms_per_round: u64,
    cases: Vec<Case>,
}

/// One round of one case, with its floor.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    case: Case,
    round: u32,
    rate: Option<Rate>,
    floor: Option<OnewayFloor>,
}

/// Measures, prints the table and writes the files.
pub fn run(flags: &Flags) -> Result<()> {
    Run::ignore(
        "throughput, which is at saturation with one worker per node",
        &[("--rate", flags.rate.is_some()), ("--cores", flags.cores.is_some())],
    );
    let rounds = flags.rounds.unwrap_or(DEFAULT_ROUNDS);
    let duration = flags.duration.unwrap_or(DEFAULT_DURATION) / rounds;
    let sizes = match flags.size {
        Some(_) => vec![Run::payload_bytes(flags)?],
        None => SIZES.to_vec(),
    };
    let mut cases: Vec<Case> = sizes
        .iter()
        .map(|bytes| Case { payload_bytes: *bytes, connections: 1, from_thread: false })
        .collect();
    let more = match flags.nodes {
        Some(nodes) => vec![nodes],
        None => MORE_CONNECTIONS.to_vec(),
    };
    for connections in more.into_iter().filter(|connections| *connections > 1) {
        cases.push(Case { payload_bytes: sizes[0], connections, from_thread: false });
    }
    if sizes.contains(&64) {
        cases.push(Case { payload_bytes: 64, connections: 1, from_thread: true });
    }
    let mut run = Run::begin("throughput", flags)?;

    let steps = (cases.len() as u32) * (2 * rounds + 1);
    let each = duration + Duration::from_millis(700);
    let progress = Progress::new(u64::from(steps), each * steps, run.quiet);
    let mut found: Vec<Measured> = Vec::new();
    // Every second variant is the floor of the case before it.
    for turn in interleave(cases.len() * 2, rounds as usize, run.seed) {
        let (case, round) = (cases[turn.variant / 2], turn.round as u32 + 1);
        let Case { payload_bytes, connections, .. } = case;
        let mut one = Measured { case, round, rate: None, floor: None };
        if turn.variant % 2 == 0 {
            progress.phase(&format!(
                "round {round} of {rounds}: {payload_bytes} bytes, {connections} connections"
            ));
            let measured = cluster_round(
                &mut run,
                case.variant(),
                connections,
                round,
                payload_bytes,
                duration,
                false,
            )?;
            run.weather(&measured.rate.window);
            one.rate = Some(measured.rate);
        } else {
            progress.phase(&format!("round {round} of {rounds}: F2 for {payload_bytes} bytes"));
            let floor = oneway::run(&run.floor_plan(payload_bytes, duration))?;
            run.weather(&floor.window);
            one.floor = Some(floor);
        }
        found.push(one);
        progress.done();
    }
    let mut syscalls: Vec<Option<f64>> = vec![None; cases.len()];
    let mut notes = vec![
        "per CPU-second: of the driver and all nodes together; the floor: of both its ends"
            .to_owned(),
    ];
    if run.card.syscall_counting == "tracepoint" {
        for (case, calls) in cases.iter().zip(&mut syscalls) {
            progress.phase("system calls, in rounds that are not timed");
            let Case { payload_bytes, connections, .. } = *case;
            let variant = case.variant();
            let one =
                cluster_round(&mut run, variant, connections, 0, payload_bytes, duration, true)?;
            *calls = one.rate.syscalls_per_msg;
            progress.done();
        }
    } else {
        notes.push(format!("system calls were not counted: {}", run.card.syscall_counting));
    }
    drop(progress);

    let mut table = Table::new(
        format!(
            "Keyed one-way messages at saturation: a driver on core {}, nodes on cores {:?}, \
             loopback, {} keys",
            run.driver_core, run.node_cores, run.keys
        ),
        [
            "bytes x connections",
            "per s",
            "per CPU-s",
            "range over the rounds",
            "F2 per CPU-s",
            "of F2",
            "driver, nodes CPU",
            "calls/msg",
            "allocs/msg",
        ],
    );
    let mut sets = Vec::new();
    for (case, calls) in cases.iter().zip(&syscalls) {
        let row = Row::of(case, &found);
        let source = if case.from_thread { ", from a thread" } else { "" };
        let name = format!("{} x {}{source}", case.payload_bytes, case.connections);
        let text = |figure: Option<Figure>, unit: fn(f64) -> String| {
            figure.map_or("-".to_owned(), |figure| unit(figure.median))
        };
        let ratio = ratio(median(row.per_cpu_s), median(row.floor_per_cpu_s));
        table.row([
            name.clone(),
            text(row.per_s, count),
            text(row.per_cpu_s, count),
            row.per_cpu_s.map_or("-".to_owned(), |figure| {
                format!("{} .. {} of {}", count(figure.min), count(figure.max), figure.rounds)
            }),
            text(row.floor_per_cpu_s, count),
            ratio.map_or("-".to_owned(), ratio_text),
            format!("{}, {}", text(row.driver_cpu, percent), text(row.nodes_cpu, percent)),
            calls.map_or("-".to_owned(), |calls| format!("1/{:.0}", 1.0 / calls)),
            text(row.allocs, |value| format!("{value:.5}")),
        ]);
        let values = |value: fn(&Rate) -> f64| rates(case, &found, value);
        let rounds = values(|rate| rate.per_cpu_s);
        sets.push(RoundSet { name: format!("{name}, per CPU-s"), unit: Unit::Count, rounds });
    }
    for note in &notes {
        table.note(note.clone());
    }
    print!("{table}");
    run.write("table.txt", &table.to_string())?;

    let first = Row::of(&cases[0], &found);
    let mut summary = run.summary(Setting {
        nodes: 1,
        cores_per_node: 1,
        payload_bytes: cases[0].payload_bytes,
        processes: 2,
        pinned: true,
    });
    let floor = Floor {
        oneway_msgs_per_s: median(first.floor_per_s),
        oneway_msgs_per_cpu_s: median(first.floor_per_cpu_s),
        ..Floor::default()
    };
    summary.oneway = Some(Oneway {
        msgs_per_s: median(first.per_s),
        msgs_per_cpu_s: median(first.per_cpu_s),
        ratio_to_floor: ratio(median(first.per_s), floor.oneway_msgs_per_s),
        ratio_to_floor_cpu: ratio(median(first.per_cpu_s), floor.oneway_msgs_per_cpu_s),
        syscalls_per_msg: syscalls[0],
        allocs_per_msg: median(first.allocs),
    });
    summary.floor = Some(floor);
    run.write_json("rounds.json", &found)?;
    let report = Report {
        title: "Throughput at saturation".to_owned(),
        setting: format!(
            "headline: {}-byte payload, driver and one node pinned to cores {} and {}, one hop, \
             loopback, no batching by the sender, closed loop; {}",
            cases[0].payload_bytes,
            run.driver_core,
            run.node_cores[0],
            run.machine_line(),
        ),
        plots: vec![Plot::Ratios { title: "Against F2".to_owned() }],
        rounds: sets,
        notes,
        ..Report::default()
    };
    let asked = Asked {
        command: run.command,
        driver_core: run.driver_core,
        node_cores: run.node_cores.clone(),
        keys: run.keys,
        seed: run.seed,
        rounds,
        duration_ms_per_round: duration.as_millis() as u64,
        cases,
    };
    run.finish(&asked, &summary, report)?;
    run.verdict()
}

fn median(figure: Option<Figure>) -> Option<f64> {
    figure.map(|figure| figure.median)
}

fn rates(case: &Case, found: &[Measured], value: fn(&Rate) -> f64) -> Vec<Round> {
    let rates = found.iter().filter(|one| one.case == *case).filter_map(|one| one.rate.as_ref());
    let round = |rate: &Rate| Round { value: value(rate), steal_share: rate.window.steal_share };
    rates.map(round).collect()
}

/// The figures of one case.
struct Row {
    per_s: Option<Figure>,
    per_cpu_s: Option<Figure>,
    driver_cpu: Option<Figure>,
    nodes_cpu: Option<Figure>,
    allocs: Option<Figure>,
    floor_per_s: Option<Figure>,
    floor_per_cpu_s: Option<Figure>,
}

impl Row {
    fn of(case: &Case, found: &[Measured]) -> Self {
        let rate = |value| Figure::of(&rates(case, found, value));
        let floor = |value: fn(&OnewayFloor) -> f64| {
            let floors = found.iter().filter(|one| one.case == *case);
            let floors = floors.filter_map(|one| one.floor.as_ref());
            let round = |floor: &OnewayFloor| Round {
                value: value(floor),
                steal_share: floor.window.steal_share,
            };
            Figure::of(&floors.map(round).collect::<Vec<_>>())
        };
        Self {
            per_s: rate(|rate| rate.per_s),
            per_cpu_s: rate(|rate| rate.per_cpu_s),
            driver_cpu: rate(|rate| rate.cpu_shares[0]),
            nodes_cpu: rate(|rate| rate.cpu_shares[1..].iter().sum()),
            allocs: rate(|rate| rate.allocs_per_msg),
            floor_per_s: floor(|floor| floor.msgs_per_s),
            floor_per_cpu_s: floor(|floor| floor.msgs_per_cpu_s),
        }
    }
}
