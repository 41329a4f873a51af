//! Runs many simulated clusters and says which seeds break an invariant.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use keyway::sim::newer::Heard;
use keyway::sim::{Result, Scenario, Summary, report, simulate, simulate_flapping};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulate Keyway clusters under faults, and check that what must hold holds.
///
/// Each seed is one simulation: a cluster with applications that send messages, on a fake clock
/// and a fake network. The seed decides which faults come (loss, delay, resets, crashes, restarts,
/// pauses, partitions, joins, leaves), how strong they are, and everything else. In the last 15
/// simulated seconds all faults end, and the cluster must agree and work again within 10 of them.
///
/// Equal arguments give equal runs on any machine. Exits with 1 if a seed broke an invariant, and
/// prints the command that replays it.
#[derive(Parser)]
#[command(name = "keyway-sim", version)]
struct Arguments {
    /// How many seeds to run, one after the other, beginning with --seed.
    #[arg(long, default_value_t = 100)]
    seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Nodes from the start; when a seed draws mass joins, up to as many come on top.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=200))]
    nodes: u16,

    /// Workers of each node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,

    /// Simulated seconds of each seed, of which the last 15 are without faults.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(20..=86_400))]
    seconds: u64,

    /// In place of all other faults, cut one member off and mend it, ten times; --seconds does not
    /// count. Replay such a seed with this as well.
    #[arg(long)]
    flapping: bool,

    /// Threads to run seeds on; 0 takes one per core. Has no influence on results.
    #[arg(long, default_value_t = 0)]
    threads: usize,

    /// Write a summary as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Print every event of every seed, and run on one thread. For one seed at a time.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scenario = Scenario {
        seed: arguments.seed,
        nodes: arguments.nodes,
        workers: arguments.workers,
        seconds: arguments.seconds,
        print: arguments.trace,
    };
    let began = Instant::now();
    let results = run(&scenario, &arguments);
    let wall = began.elapsed();
    let summary = Summary::new(&scenario, &results, wall);
    print_results(&scenario, &results, &summary);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&summary).expect("a summary is plain data");
        if let Err(error) = std::fs::write(path, text + "\n") {
            eprintln!("cannot write the summary to {}: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    if summary.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all seeds; the results come in the order of the seeds, whoever ran them.
fn run(scenario: &Scenario, arguments: &Arguments) -> Vec<Result> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match arguments.threads {
        _ if arguments.trace => 1,
        0 => cores,
        threads => threads,
    };
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    let progress = Progress::new(arguments.seeds, scenario.seconds);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        return;
                    }
                    let seed = scenario.seed.wrapping_add(number);
                    let run = if arguments.flapping { simulate_flapping } else { simulate };
                    let result = run(Scenario { seed, ..*scenario });
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

fn print_results(scenario: &Scenario, results: &[Result], summary: &Summary) {
    for result in results {
        if let Some(violation) = &result.violation {
            println!("seed {}: {}", result.seed, violation.invariant);
            println!("  seen after {:?}: {}", result.simulated, violation.seen);
            let replay = report::replay(&Scenario { seed: result.seed, ..*scenario });
            println!("  replay: {replay}");
        }
    }
    let times =
        [("views agreed after the healing", results.iter().filter_map(|one| one.views_agreed))];
    for (what, times) in times {
        print_quantiles(what, report::quantiles(times));
    }
    let flows = report::quantiles(results.iter().filter_map(|one| one.traffic_flows));
    print_quantiles("every routee answered every node", flows);
    let sum = |of: fn(&Result) -> u64| results.iter().map(of).sum::<u64>();
    println!(
        "{} routees withdrawn, {} watchers told; {} messages came too late, {} asks were told why",
        sum(|result| result.withdrawals),
        sum(|result| result.withdrawals_told),
        sum(|result| result.sent_late),
        sum(|result| result.told_unknown),
    );
    println!(
        "{} words of loads learned, {} times fresh; {} questions answered, {} told as lost; {} \
         letters said, {} maybe lost",
        sum(|result| result.load_words),
        sum(|result| result.loads_fresh),
        sum(|result| result.load_answers),
        sum(|result| result.load_losses),
        sum(|result| result.letters),
        sum(|result| result.letters_lost),
    );
    println!(
        "{} routers ended with their last holder, {} were asked for again; {} times a limit was \
         kept as members changed",
        sum(|result| result.routers_ended),
        sum(|result| result.routers_shared),
        sum(|result| result.limits_moved),
    );
    println!(
        "{} times a path was served on some workers only: {} tables and {} messages went there, \
         {} watchers of others were told",
        sum(|result| result.placed_on_some),
        sum(|result| result.placed_tables),
        sum(|result| result.placed_handled),
        sum(|result| result.not_served_told),
    );
    let unknown = |of: fn(&Heard) -> u64| results.iter().map(|one| of(&one.unknown)).sum::<u64>();
    println!(
        "of newer members: {} datagrams, {} letters, {} frames, {} reasons, {} refusals",
        unknown(|of| of.datagrams),
        unknown(|of| of.letters),
        unknown(|of| of.frames),
        unknown(|of| of.reasons),
        unknown(|of| of.refusals),
    );
    let events: u64 = results.iter().map(|one| one.events).sum();
    let handled: u64 = results.iter().map(|one| one.handled).sum();
    println!(
        "{} seeds, {} violations, {:.0} s simulated in {:.1} s ({:.0} per second), {events} \
         events, {handled} messages, trace {}",
        summary.seeds,
        summary.violations,
        summary.simulated_s,
        summary.wall_s,
        summary.simulated_s / summary.wall_s.max(1e-9),
        summary.trace_hash,
    );
}

fn print_quantiles(what: &str, quantiles: Option<[Duration; 3]>) {
    if let Some([p50, p99, max]) = quantiles.map(|times| times.map(|time| time.as_millis())) {
        println!("{what}: p50 {p50} ms, p99 {p99} ms, max {max} ms");
    }
}

/// A line on the terminal that says how far it is, once it takes longer than a moment.
struct Progress {
    seeds: u64,
    seconds: u64,
    began: Instant,
    shown: bool,
    last: Mutex<Instant>,
}

impl Progress {
    fn new(seeds: u64, seconds: u64) -> Self {
        let began = Instant::now();
        let shown = std::io::stderr().is_terminal();
        Self { seeds, seconds, began, shown, last: Mutex::new(began) }
    }

    fn show(&self, done: u64, failed: usize) {
        let elapsed = self.began.elapsed();
        if !self.shown || elapsed < Duration::from_secs(2) {
            return;
        }
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() < Duration::from_millis(200) && done < self.seeds {
            return;
        }
        *last = Instant::now();
        let width = 30;
        let full = (done * width / self.seeds.max(1)) as usize;
        let bar = "#".repeat(full) + &".".repeat(width as usize - full);
        let speed = (done * self.seconds) as f64 / elapsed.as_secs_f64();
        let seeds = self.seeds;
        // A terminal that cannot be written to needs no progress.
        let _ = write!(
            std::io::stderr(),
            "\r[{bar}] {done}/{seeds} seeds, {failed} failed, {speed:.0} simulated s per s "
        );
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
