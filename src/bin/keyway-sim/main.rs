//! Runs many simulated clusters and says which seeds break an invariant.

mod print;
mod progress;
mod seeds;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use keyway::sim::shrink::shrink;
use keyway::sim::without::Without;
use keyway::sim::{Course, Print, Result, Scenario, Summary, simulate};

use self::progress::{Goal, Progress};
use self::seeds::{Nodes, fresh_seed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulate Keyway clusters under faults, and check that what must hold holds.
///
/// Each seed is one simulation: a cluster with applications that send messages, on a fake clock
/// and a fake network. The seed decides which faults come (loss, delay, resets, crashes, restarts,
/// pauses, partitions, joins, leaves), how strong they are, and everything else. In the last 15
/// simulated seconds all faults end, and the cluster must agree and work again within 10 of them; over
/// a hundred seeds and more it must agree within 1 s in all but one of a hundred.
///
/// Equal arguments give equal runs on any machine, but for --fresh and --minutes. Exits with 1 if a
/// seed broke an invariant, or they agreed too late, and prints the command that replays it.
#[derive(Parser)]
#[command(name = "keyway-sim", version)]
struct Arguments {
    /// How many seeds to run, one after the other, beginning with --seed.
    #[arg(long, default_value_t = 100)]
    seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Take the first seed from the commit that is checked out and from the day, so that each day
    /// and each commit run others. It is printed.
    #[arg(long, conflicts_with = "seed")]
    fresh: bool,

    /// Go on with further seeds for so many minutes, however many those are.
    #[arg(long, value_name = "M", conflicts_with = "seeds",
          value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: Option<u64>,

    /// Nodes from the start, 1 to 200, or a range such as 3-9, of which each seed has its own
    /// number; when a seed draws mass joins, up to as many come on top.
    #[arg(long, default_value = "5")]
    nodes: Nodes,

    /// Workers of each node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,

    /// Simulated seconds of each seed, of which the last 15 are without faults.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(20..=86_400))]
    seconds: u64,

    /// What to leave out of what the seeds draw, such as crash,weather: see what fails without it
    /// too. A wrong word is answered with all that there are.
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    without: Without,

    /// In place of all other faults, cut one member off and mend it, ten times; --seconds does not
    /// count. Replay such a seed with this as well.
    #[arg(long)]
    flapping: bool,

    /// In place of all other faults, have one member hear next to nothing. Replay such a seed with
    /// this as well.
    #[arg(long, conflicts_with = "flapping")]
    deaf: bool,

    /// In place of all faults, have all processes share two processors on which work takes time, as
    /// with --nodes 50. Replay such a seed with this as well.
    #[arg(long, conflicts_with_all = ["flapping", "deaf"])]
    crowded: bool,

    /// Make the first seed that fails small: with fewer nodes and kinds of faults, and less time, as
    /// long as the same invariant breaks. Prints what is left, and the command that tells it.
    #[arg(long, conflicts_with_all = ["flapping", "deaf", "crowded"])]
    shrink: bool,

    /// Threads to run seeds on; 0 takes one per core. Has no influence on results.
    #[arg(long, default_value_t = 0)]
    threads: usize,

    /// Write a summary as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Tell what happens in each seed, on one thread: faults, lives, what members see. For one seed
    /// at a time.
    #[arg(long)]
    story: bool,

    /// As --story, with every single event.
    #[arg(long)]
    trace: bool,
}

impl Arguments {
    fn print(&self) -> Print {
        match (self.trace, self.story) {
            (true, _) => Print::Events,
            (false, true) => Print::Story,
            (false, false) => Print::Nothing,
        }
    }

    fn goal(&self) -> Goal {
        match self.minutes {
            Some(minutes) => Goal::Until(Duration::from_secs(60 * minutes)),
            None => Goal::Seeds(self.seeds),
        }
    }

    fn course(&self) -> Course {
        match (self.flapping, self.deaf, self.crowded) {
            (true, ..) => Course::Flapping,
            (_, true, _) => Course::Deaf,
            (.., true) => Course::Crowded,
            _ => Course::Drawn,
        }
    }

    /// The scenario of one seed.
    fn scenario(&self, seed: u64) -> Scenario {
        Scenario {
            seed,
            nodes: self.nodes.of(seed),
            workers: self.workers,
            seconds: self.seconds,
            course: self.course(),
            without: self.without,
            print: self.print(),
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.fresh {
        arguments.seed = fresh_seed();
        print::first(arguments.seed);
    }
    let began = Instant::now();
    let results = run(&arguments);
    let summary = Summary::new(&results, began.elapsed());
    print::results(&results, &summary);
    if arguments.shrink {
        shrink_first(&results);
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&summary).expect("a summary is plain data");
        if let Err(error) = std::fs::write(path, text + "\n") {
            eprintln!("cannot write the summary to {}: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all seeds; the results come in the order of the seeds, whoever ran them.
fn run(arguments: &Arguments) -> Vec<Result> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match arguments.threads {
        _ if arguments.print() != Print::Nothing => 1,
        0 => cores,
        threads => threads,
    };
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    let progress = Progress::new(arguments.goal(), arguments.seconds);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if progress.is_reached(number) {
                        return;
                    }
                    let seed = arguments.seed.wrapping_add(number);
                    let result = simulate(arguments.scenario(seed));
                    let mut results = results.lock().expect("no thread panics while it holds it");
                    results.push((number, result));
                    let done = results.len() as u64;
                    let failed = results.iter().filter(|(_, one)| one.violation.is_some()).count();
                    drop(results);
                    progress.show(done, failed);
                }
            });
        }
    });
    progress.clear();
    let mut results = results.into_inner().expect("all threads have ended");
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Makes the first failing seed small.
fn shrink_first(results: &[Result]) {
    let Some((result, violation)) =
        results.iter().find_map(|result| Some((result, result.violation.clone()?)))
    else {
        return print::nothing_to_shrink();
    };
    let scenario = Scenario { print: Print::Nothing, ..result.scenario };
    print::shrinks(scenario.seed);
    let smallest = shrink(scenario, violation, |scenario| simulate(*scenario).violation);
    print::smallest(&smallest);
}
