//! `loadgen throughput`: keyed one-way messages at saturation, by payload size and by how many
//! connections they are spread over, each beside the floor for its frame size.

use std::time::Duration;

use serde::Serialize;

use super::shared::pair::{Variant, cluster_round, ratio};
use super::shared::run::Run;
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

    fn name(self) -> String {
        let source = if self.from_thread { ", from a thread" } else { "" };
        format!("{} x {}{source}", self.payload_bytes, self.connections)
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

/// What is to be measured.
struct Plan {
    rounds: u32,
    /// Of one round of one case.
    duration: Duration,
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
    let plan = Plan::of(flags)?;
    let mut run = Run::begin("throughput", flags)?;
    let progress = plan.progress(run.quiet);
    let found = measure(&mut run, &plan, &progress)?;
    let syscalls = count_syscalls(&mut run, &plan, &progress)?;
    drop(progress);

    let rows: Vec<Row> = plan.cases.iter().map(|case| Row::of(*case, &found)).collect();
    let mut table = table(&run);
    for (row, calls) in rows.iter().zip(&syscalls) {
        table.row(row.cells(*calls));
    }
    let notes = notes(&run);
    for note in &notes {
        table.note(note.clone());
    }
    print!("{table}");
    run.write("table.txt", &table.to_string())?;

    let first = &plan.cases[0];
    let mut summary = run.summary(Setting {
        nodes: 1,
        cores_per_node: 1,
        payload_bytes: first.payload_bytes,
        processes: 2,
        pinned: true,
    });
    summary.oneway = Some(rows[0].oneway(syscalls[0]));
    summary.floor = Some(rows[0].floor());
    run.write_json("rounds.json", &found)?;
    let report = Report {
        title: "Throughput at saturation".to_owned(),
        setting: format!(
            "headline: {}-byte payload, driver and one node pinned to cores {} and {}, one hop, \
             loopback, no batching by the sender, closed loop; {}",
            first.payload_bytes,
            run.driver_core,
            run.node_cores[0],
            run.machine_line(),
        ),
        plots: vec![Plot::Ratios { title: "Against F2".to_owned() }],
        rounds: rows.into_iter().map(Row::round_set).collect(),
        notes,
        ..Report::default()
    };
    run.finish(&plan.asked(&run), &summary, report)?;
    run.verdict()
}

impl Plan {
    fn of(flags: &Flags) -> Result<Self> {
        let rounds = flags.rounds.unwrap_or(DEFAULT_ROUNDS);
        let sizes = match flags.size {
            Some(_) => vec![Run::payload_bytes(flags)?],
            None => SIZES.to_vec(),
        };
        let more = match flags.nodes {
            Some(nodes) => vec![nodes],
            None => MORE_CONNECTIONS.to_vec(),
        };
        let case =
            |payload_bytes, connections| Case { payload_bytes, connections, from_thread: false };
        let mut cases: Vec<Case> = sizes.iter().map(|bytes| case(*bytes, 1)).collect();
        let more = more.into_iter().filter(|connections| *connections > 1);
        cases.extend(more.map(|connections| case(sizes[0], connections)));
        if sizes.contains(&64) {
            cases.push(Case { from_thread: true, ..case(64, 1) });
        }
        let duration = flags.duration.unwrap_or(DEFAULT_DURATION) / rounds;
        Ok(Self { rounds, duration, cases })
    }

    fn progress(&self, quiet: bool) -> Progress {
        let steps = (self.cases.len() as u32) * (2 * self.rounds + 1);
        let each = self.duration + Duration::from_millis(700);
        Progress::new(u64::from(steps), each * steps, quiet)
    }

    fn asked(&self, run: &Run) -> Asked {
        Asked {
            command: run.command,
            driver_core: run.driver_core,
            node_cores: run.node_cores.clone(),
            keys: run.keys,
            seed: run.seed,
            rounds: self.rounds,
            duration_ms_per_round: self.duration.as_millis() as u64,
            cases: self.cases.clone(),
        }
    }
}

/// All rounds of all cases, with the floor of each.
fn measure(run: &mut Run, plan: &Plan, progress: &Progress) -> Result<Vec<Measured>> {
    let Plan { rounds, duration, cases } = plan;
    let mut found = Vec::new();
    // Every second variant is the floor of the case before it.
    for turn in interleave(cases.len() * 2, *rounds as usize, run.seed) {
        let (case, round) = (cases[turn.variant / 2], turn.round as u32 + 1);
        let Case { payload_bytes: bytes, connections, .. } = case;
        let mut one = Measured { case, round, rate: None, floor: None };
        if turn.variant % 2 == 0 {
            progress.phase(&format!(
                "round {round} of {rounds}: {bytes} bytes, {connections} connections"
            ));
            let variant = case.variant();
            let measured =
                cluster_round(run, variant, connections, round, bytes, *duration, false)?;
            run.weather(&measured.rate.window);
            one.rate = Some(measured.rate);
        } else {
            progress.phase(&format!("round {round} of {rounds}: F2 for {bytes} bytes"));
            let floor = oneway::run(&run.floor_plan(bytes, *duration))?;
            run.weather(&floor.window);
            one.floor = Some(floor);
        }
        found.push(one);
        progress.done();
    }
    Ok(found)
}

fn counts_syscalls(run: &Run) -> bool {
    run.card.syscall_counting == "tracepoint"
}

/// System calls per message of each case, where this machine lets them be counted.
fn count_syscalls(run: &mut Run, plan: &Plan, progress: &Progress) -> Result<Vec<Option<f64>>> {
    if !counts_syscalls(run) {
        return Ok(vec![None; plan.cases.len()]);
    }
    let mut calls = Vec::new();
    for case in &plan.cases {
        progress.phase("system calls, in rounds that are not timed");
        let Case { payload_bytes, connections, .. } = *case;
        let variant = case.variant();
        let one = cluster_round(run, variant, connections, 0, payload_bytes, plan.duration, true)?;
        calls.push(one.rate.syscalls_per_msg);
        progress.done();
    }
    Ok(calls)
}

fn notes(run: &Run) -> Vec<String> {
    let mut notes = vec![
        "per CPU-second: of the driver and all nodes together; the floor: of both its ends"
            .to_owned(),
    ];
    if !counts_syscalls(run) {
        notes.push(format!("system calls were not counted: {}", run.card.syscall_counting));
    }
    notes
}

/// The table, with no rows yet.
fn table(run: &Run) -> Table {
    Table::new(
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
    )
}

fn median(figure: Option<Figure>) -> Option<f64> {
    figure.map(|figure| figure.median)
}

/// The figures of one case.
struct Row {
    name: String,
    per_s: Option<Figure>,
    per_cpu_s: Option<Figure>,
    per_cpu_s_rounds: Vec<Round>,
    driver_cpu: Option<Figure>,
    nodes_cpu: Option<Figure>,
    allocs: Option<Figure>,
    floor_per_s: Option<Figure>,
    floor_per_cpu_s: Option<Figure>,
}

impl Row {
    fn of(case: Case, found: &[Measured]) -> Self {
        let here: Vec<&Measured> = found.iter().filter(|one| one.case == case).collect();
        let rates = |value: fn(&Rate) -> f64| -> Vec<Round> {
            here.iter().filter_map(|one| one.rate.as_ref()).map(|rate| rate.round(value)).collect()
        };
        let floor = |value: fn(&OnewayFloor) -> f64| {
            let floors = here.iter().filter_map(|one| one.floor.as_ref());
            Figure::of(&floors.map(|floor| floor.round(value)).collect::<Vec<_>>())
        };
        let rate = |value| Figure::of(&rates(value));
        let per_cpu_s_rounds = rates(|rate| rate.per_cpu_s);
        Self {
            name: case.name(),
            per_s: rate(|rate| rate.per_s),
            per_cpu_s: Figure::of(&per_cpu_s_rounds),
            per_cpu_s_rounds,
            driver_cpu: rate(|rate| rate.cpu_shares[0]),
            nodes_cpu: rate(|rate| rate.cpu_shares[1..].iter().sum()),
            allocs: rate(|rate| rate.allocs_per_msg),
            floor_per_s: floor(|floor| floor.msgs_per_s),
            floor_per_cpu_s: floor(|floor| floor.msgs_per_cpu_s),
        }
    }

    fn cells(&self, syscalls_per_msg: Option<f64>) -> [String; 9] {
        let text = |figure: Option<Figure>, unit: fn(f64) -> String| {
            figure.map_or("-".to_owned(), |figure| unit(figure.median))
        };
        let of_floor = ratio(median(self.per_cpu_s), median(self.floor_per_cpu_s));
        [
            self.name.clone(),
            text(self.per_s, count),
            text(self.per_cpu_s, count),
            self.per_cpu_s.map_or("-".to_owned(), |figure| figure.range(count)),
            text(self.floor_per_cpu_s, count),
            of_floor.map_or("-".to_owned(), ratio_text),
            format!("{}, {}", text(self.driver_cpu, percent), text(self.nodes_cpu, percent)),
            syscalls_per_msg.map_or("-".to_owned(), |calls| format!("1/{:.0}", 1.0 / calls)),
            text(self.allocs, |value| format!("{value:.5}")),
        ]
    }

    fn floor(&self) -> Floor {
        Floor {
            oneway_msgs_per_s: median(self.floor_per_s),
            oneway_msgs_per_cpu_s: median(self.floor_per_cpu_s),
            ..Floor::default()
        }
    }

    fn oneway(&self, syscalls_per_msg: Option<f64>) -> Oneway {
        Oneway {
            msgs_per_s: median(self.per_s),
            msgs_per_cpu_s: median(self.per_cpu_s),
            ratio_to_floor: ratio(median(self.per_s), median(self.floor_per_s)),
            ratio_to_floor_cpu: ratio(median(self.per_cpu_s), median(self.floor_per_cpu_s)),
            syscalls_per_msg,
            allocs_per_msg: median(self.allocs),
        }
    }

    fn round_set(self) -> RoundSet {
        let name = format!("{}, per CPU-s", self.name);
        RoundSet { name, unit: Unit::Count, rounds: self.per_cpu_s_rounds }
    }
}
