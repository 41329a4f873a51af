//! `loadgen churn`: everything that can happen to a cluster, under a steady open-loop load.

use std::time::Duration;

use serde::Serialize;

use super::shared::run::Run;
use super::shared::story::{Act, StoryPlan, play};
use crate::analysis::report::{Plot, Report, RunFolder};
use crate::analysis::table::count;
use crate::cli::Flags;
use crate::cluster::netns::Network;
use crate::error::Result;
use crate::progress::Progress;
use crate::summary::Setting;

const DEFAULT_NODES: u32 = 3;
const DEFAULT_TELLS_PER_S: f64 = 5_000.0;
const ASKS_PER_S: f64 = 2_000.0;

/// What was asked; written as `plan.toml`.
#[derive(Debug, Serialize)]
struct Asked {
    command: &'static str,
    driver_core: usize,
    node_cores: Vec<usize>,
    keys: u32,
    seed: u64,
    network: &'static str,
    story: StoryPlan,
}

/// Measures, prints the table and writes the files.
pub fn run(flags: &Flags) -> Result<()> {
    Run::ignore("churn", &[("--rounds", flags.rounds.is_some())]);
    let payload_bytes = Run::payload_bytes(flags)?;
    let mut run = Run::begin("churn", flags)?;
    let mut notes = Vec::new();
    let network = Network::new();
    if let Err(why) = &network {
        notes.push(format!("no link was cut: {why}"));
    }
    let network = network.ok();
    let story = story(flags, payload_bytes, network.is_some());
    let progress = Progress::new(story.acts.len() as u64 + 1, story.expected(), run.quiet);
    let told = play(&mut run, &story, network, &progress)?;
    drop(progress);

    let mut summary = run.summary(Setting {
        nodes: story.nodes,
        cores_per_node: story.workers as u32,
        payload_bytes,
        processes: story.nodes + 1,
        pinned: true,
    });
    summary.events = Some(told.events.clone());
    run.keep("ask", &told.ask_latency);
    RunFolder::new(&run.folder).write_timeline(&told.timeline)?;
    let mut table = told.table(&story);
    for note in &notes {
        table.note(note.clone());
    }
    print!("{table}");
    run.write("table.txt", &table.to_string())?;
    notes.extend(told.notes());
    let report = Report { notes, ..report(&run, &story, told.network) };
    let asked = Asked {
        command: run.command,
        driver_core: run.driver_core,
        node_cores: run.node_cores.clone(),
        keys: run.keys,
        seed: run.seed,
        network: told.network,
        story,
    };
    run.finish(&asked, &summary, report)?;
    run.verdict()
}

fn story(flags: &Flags, payload_bytes: u32, can_cut: bool) -> StoryPlan {
    let mut acts = vec![Act::Join, Act::Leave, Act::Kill, Act::Join, Act::Pause { ms: 4_000 }];
    acts.extend(can_cut.then_some(Act::Cut { ms: 5_000 }));
    StoryPlan {
        nodes: flags.nodes.unwrap_or(DEFAULT_NODES).max(2),
        workers: flags.cores.unwrap_or(1).max(1) as usize,
        payload_bytes,
        tells_per_s: flags.rate.unwrap_or(DEFAULT_TELLS_PER_S),
        asks_per_s: ASKS_PER_S,
        // `--duration` is the calm before each of them.
        calm_ms: flags.duration.unwrap_or(Duration::from_secs(3)).as_millis() as u64,
        acts,
        coda_ms: 8_000,
        idle_ms: 5_000,
    }
}

/// The page, without notes.
fn report(run: &Run, story: &StoryPlan, network: &str) -> Report {
    Report {
        title: "Churn: what happens to a cluster under load".to_owned(),
        setting: format!(
            "{}-byte payload, {} nodes of {} workers and a driver, processes of their \
             own; driver alone on core {}, nodes on cores {:?}; {} tells/s and {} asks/s, open \
             loop, a burst every 2 ms, {} keys; {network}; {}",
            story.payload_bytes,
            story.nodes,
            story.workers,
            run.driver_core,
            run.node_cores,
            count(story.tells_per_s),
            count(story.asks_per_s),
            run.keys,
            run.machine_line(),
        ),
        plots: vec![
            Plot::Timeline { title: "Asks over time".to_owned() },
            Plot::Percentiles {
                title: "Asks from their due times, over all events".to_owned(),
                curves: vec![Run::curve("ask", "ask")],
            },
        ],
        ..Report::default()
    }
}
