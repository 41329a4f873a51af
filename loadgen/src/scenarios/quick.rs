//! `loadgen quick`: everything that matters in under a minute, with the same checks as the rest.

use std::time::Duration;

use serde::Serialize;

use super::shared::pair::{PairRounds, Variant};
use super::shared::run::Run;
use super::shared::story::{Act, StoryPlan, play};
use crate::analysis::report::{Plot, Report, RunFolder};
use crate::analysis::table::count;
use crate::cli::Flags;
use crate::error::Result;
use crate::floors::{FloorKind, Round as FloorRound};
use crate::progress::Progress;
use crate::summary::Setting;

const PAYLOAD_BYTES: u32 = 64;

/// How long each part takes.
#[derive(Debug, Clone, Copy, Serialize)]
struct Pace {
    rounds: u32,
    measured_ms: u64,
    once_ms: u64,
}

/// What was asked; written as `plan.toml`.
#[derive(Debug, Serialize)]
struct Asked {
    command: &'static str,
    driver_core: usize,
    node_cores: Vec<usize>,
    keys: u32,
    seed: u64,
    pace: Pace,
    story: StoryPlan,
}

/// Measures, prints the table and writes the files.
pub fn run(flags: &Flags, smoke: bool) -> Result<()> {
    let pace = Pace::of(flags, smoke);
    let mut run = Run::begin("quick", flags)?;
    let steps = Variant::ALL.len() as u64 * u64::from(pace.rounds) + 8;
    let progress = Progress::new(steps, Duration::from_secs(40), run.quiet);
    let pair = measure(&mut run, pace, &progress)?;
    let story = story(flags, smoke);
    let told = play(&mut run, &story, None, &progress)?;
    drop(progress);

    let floor = pair.floors.summary();
    let mut summary = run.summary(Setting {
        nodes: story.nodes,
        cores_per_node: 1,
        payload_bytes: PAYLOAD_BYTES,
        processes: story.nodes + 1,
        pinned: true,
    });
    summary.oneway = Some(pair.oneway(&floor));
    summary.ask = Some(pair.ask(Variant::Ask, &floor));
    summary.ask64 = Some(pair.ask64(&floor));
    summary.floor = Some(floor);
    summary.events = Some(told.events.clone());
    run.write_json("rounds.json", &pair)?;
    run.keep("ask", &pair.latency(Variant::Ask));
    run.keep("ask_spin", &pair.latency(Variant::AskSpin));
    run.keep("cluster_ask", &told.ask_latency);
    if let Some(floor) = pair.floors.histogram(FloorKind::EchoRtt) {
        run.keep("floor_echo", &floor);
    }
    RunFolder::new(&run.folder).write_timeline(&told.timeline)?;

    let tables = format!("{}\n{}", pair.table(&run, PAYLOAD_BYTES), told.table(&story));
    print!("{tables}");
    run.write("table.txt", &tables)?;
    let report = Report {
        rounds: pair.round_sets(),
        notes: told.notes(),
        ..report(&run, &story, told.network)
    };
    let asked = Asked {
        command: run.command,
        driver_core: run.driver_core,
        node_cores: run.node_cores.clone(),
        keys: run.keys,
        seed: run.seed,
        pace,
        story,
    };
    run.finish(&asked, &summary, report)?;
    run.verdict()
}

impl Pace {
    fn of(flags: &Flags, smoke: bool) -> Self {
        if smoke {
            return Self { rounds: 1, measured_ms: 400, once_ms: 150 };
        }
        let rounds = flags.rounds.unwrap_or(5);
        Self { rounds, measured_ms: 2_000 / u64::from(rounds.max(1)), once_ms: 300 }
    }
}

/// The pair beside its floors, the floors that nothing is compared with, and the system calls.
fn measure(run: &mut Run, pace: Pace, progress: &Progress) -> Result<PairRounds> {
    let measured = Duration::from_millis(pace.measured_ms);
    let once = Duration::from_millis(pace.once_ms);
    let variants = &Variant::ALL;
    let mut pair =
        PairRounds::measure(run, variants, PAYLOAD_BYTES, pace.rounds, measured, progress)?;
    progress.phase("the floors that nothing is compared with");
    let floor_plan = run.floor_plan(PAYLOAD_BYTES, once);
    for kind in [FloorKind::Spsc, FloorKind::Wake, FloorKind::Hiccup, FloorKind::Bulk] {
        progress.step(kind.label());
        let measured = kind.measure(&floor_plan)?;
        pair.floors.rounds.push(FloorRound { round: 1, measured });
        progress.done();
    }
    progress.phase("system calls, in a round that is not timed");
    pair.count_syscalls(run, PAYLOAD_BYTES, measured)?;
    progress.done();
    Ok(pair)
}

fn story(flags: &Flags, smoke: bool) -> StoryPlan {
    StoryPlan {
        nodes: 3,
        workers: 1,
        payload_bytes: PAYLOAD_BYTES,
        tells_per_s: flags.rate.unwrap_or(5_000.0),
        asks_per_s: 2_000.0,
        acts: vec![Act::Join, Act::Kill],
        calm_ms: if smoke { 500 } else { 1_500 },
        coda_ms: 1_000,
        idle_ms: if smoke { 500 } else { 2_000 },
    }
}

/// The page, with no rounds and notes yet.
fn report(run: &Run, story: &StoryPlan, network: &str) -> Report {
    Report {
        title: "Quick look".to_owned(),
        setting: format!(
            "{PAYLOAD_BYTES}-byte payload; figures with a floor: driver and one node, one worker \
             each, pinned to cores {} and {}, loopback, one hop, no batching by the sender; \
             events: {} nodes and a driver, {} tells/s and {} asks/s, open loop, {network}; {}",
            run.driver_core,
            run.node_cores[0],
            story.nodes,
            count(story.tells_per_s),
            count(story.asks_per_s),
            run.machine_line(),
        ),
        plots: vec![
            Plot::Ratios { title: "Against the machine's floors".to_owned() },
            Plot::Percentiles {
                title: "Asks, one in flight".to_owned(),
                curves: vec![
                    Run::curve("ask, sleeping workers", "ask"),
                    Run::curve("ask, spinning workers", "ask_spin"),
                    Run::curve("floor: echo, blocking", "floor_echo"),
                ],
            },
            Plot::Timeline { title: "Asks while a node joins and one is killed".to_owned() },
        ],
        ..Report::default()
    }
}
