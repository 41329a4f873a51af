//! Simulated clusters under faults: many seeds, the seeds that once failed, and that equal seeds
//! give equal runs.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyway::sim::invariants::fates::Seen;
use keyway::sim::invariants::{deaf, detection, flapping, flows, healing, watches};
use keyway::sim::newer::Heard;
use keyway::sim::plan::Plan;
use keyway::sim::{Course, Result, Scenario, Summary, report, simulate};

fn scenario(seed: u64) -> Scenario {
    Scenario { seed, nodes: 5, workers: 2, seconds: 22, ..Scenario::default() }
}

/// Runs them on two threads; the results come in the order of the scenarios.
fn run(scenarios: &[Scenario]) -> Vec<Result> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = simulate(*scenario);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|result| scenarios.iter().position(|one| one.seed == result.scenario.seed));
    results
}

fn assert_all_hold(scenarios: &[Scenario]) -> Vec<Result> {
    let mut failures = String::new();
    let results = run(scenarios);
    for (scenario, result) in scenarios.iter().zip(&results) {
        if let Some(violation) = &result.violation {
            failures += &format!(
                "\nseed {}: {}: {}\n  {}",
                scenario.seed,
                violation.invariant,
                violation.seen,
                report::replay(&result.scenario)
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
    results
}

#[test]
fn two_hundred_seeds_hold() {
    let scenarios: Vec<Scenario> = (1..=200).map(scenario).collect();
    let results = assert_all_hold(&scenarios);
    // Members fell silent and came back in most of them, and no table was made for it.
    let masked = results.iter().filter(|result| result.masked >= 6).count();
    assert!(masked > 50, "only in {masked} seeds did a mask change");
    let (jobs, lines) = (
        results.iter().map(|result| result.tables_wanted).sum::<u64>(),
        results.iter().map(|result| result.later_lines).sum::<u64>(),
    );
    println!("tables were asked for {jobs} times, {lines} lines came after others of their kind");
    assert!(jobs > 10_000 && lines > 1_000);
    // Flows vanished and were found dead, windows stayed shut for long and cost no link.
    let sum = |of: fn(&keyway::sim::Result) -> u64| results.iter().map(of).sum::<u64>();
    let noticed = sum(|result| result.flows_noticed);
    let (dead, shut) = (sum(|result| result.dead_flows), sum(|result| result.shut_kept));
    println!("{noticed} dead flows noticed in time, {dead} given up, {shut} shut windows kept");
    assert!(noticed > 100 && dead > 100 && shut > 100);
    // Paths were withdrawn, their watchers heard of it, and who was late was told so.
    let withdrawn = sum(|result| result.withdrawals);
    let told = sum(|result| result.checks[watches::WITHDRAWN]);
    let (late, unknown) = (sum(|result| result.sent_late), sum(|result| result.told_unknown));
    println!(
        "{withdrawn} routees withdrawn, {told} watchers told; {late} messages came too late, \
         {unknown} asks were told why"
    );
    // Paths were served on some workers of their nodes, and messages went there.
    let (some, tables) = (sum(|result| result.placed_on_some), sum(|result| result.placed_tables));
    let (handled, told_not) =
        (sum(|result| result.placed_handled), sum(|it| it.checks[watches::NOT_SERVED]));
    println!(
        "{some} times a path was served on some workers only: {tables} tables and {handled} \
         messages went there, {told_not} watchers of others were told"
    );
    assert!(some > 500 && tables > 10_000 && handled > 10_000 && told_not > 100);
    // Routers came and went, also those with limits.
    let (ended, shared) = (sum(|result| result.routers_ended), sum(|it| it.routers_shared));
    let limits = sum(|result| result.limits_moved);
    let routing = sum(|result| result.routers_told);
    println!(
        "{ended} routers ended, {shared} were asked for again, {routing} were told to route, {limits} \
         limits were kept"
    );
    assert!(ended > 1_000 && shared > 100 && routing > 1_000 && limits > 100);
    assert!(withdrawn > 1_000 && told > 40 && late > 40 && unknown > 5);
    // Loads were spread and asked for, and channels lost some of the questions.
    let (words, fresh) = (sum(|result| result.load_words), sum(|result| result.loads_fresh));
    let (answers, losses) = (sum(|result| result.load_answers), sum(|result| result.load_losses));
    let (letters, lost) = (sum(|result| result.letters), sum(|result| result.letters_lost));
    println!(
        "{words} words of loads learned, {fresh} times fresh; {answers} questions answered, \
         {losses} told as lost; {letters} letters said, {lost} maybe lost"
    );
    assert!(words > 10_000 && fresh > 100_000 && answers > 10_000);
    assert!(losses > 100 && letters > 20_000 && lost > 100);
    let forgotten = sum(|result| result.forgotten);
    println!("{forgotten} times somebody was gone, and nothing was kept of it");
    assert!(forgotten > 100);
    assert_fates(&results);
    assert_newer(&results);
    let summary = Summary::new(&results, Duration::ZERO);
    assert_eq!(summary.too_slow, None);
    let missing: Vec<_> = summary.unexercised().collect();
    // These take longer than the faults of such short seeds.
    assert_eq!(missing, [detection::SOON, flows::STALLED], "{:?}", summary.checks);
}

fn assert_fates(results: &[Result]) {
    // Messages of every fate came to their ends, and what was told of them was true.
    type Ends = fn(&Seen) -> u64;
    let ends: [(&str, Ends); 8] = [
        ("refused", |seen| seen.refused),
        ("delivered", |seen| seen.delivered),
        ("dead", |seen| seen.dead),
        ("unknown", |seen| seen.unknown),
        ("attempts handled", |seen| seen.attempts),
        ("broadcasts", |seen| seen.broadcasts),
        ("ends of asks", |seen| seen.told),
        ("times found", |seen| seen.found),
    ];
    for (what, of) in ends {
        let count = results.iter().map(|result| of(&result.fates)).sum::<u64>();
        println!("{count} {what}");
        assert!(count > 1_000, "{count} {what}");
    }
}

fn assert_newer(results: &[Result]) {
    type Way = fn(&Heard) -> u64;
    let sum = |of: fn(&Result) -> u64| results.iter().map(of).sum::<u64>();
    // Newer members said what others do not know, on every way, and it cost nothing.
    let newer = results.iter().filter(|result| result.unknown.total() > 0).count();
    let unknown = sum(|result| result.unknown.total());
    println!("{unknown} unknown things of newer members skipped in {newer} seeds");
    assert!(newer >= 20 && unknown > 2_000);
    // A reason comes where an ask fails, which is seldom.
    let ways: [(Way, u64); 5] = [
        (|heard| heard.datagrams, 20),
        (|heard| heard.letters, 20),
        (|heard| heard.frames, 20),
        (|heard| heard.reasons, 3),
        (|heard| heard.refusals, 20),
    ];
    for (of, least) in ways {
        assert!(results.iter().map(|result| of(&result.unknown)).sum::<u64>() > least);
    }
}

#[test]
fn a_long_message_that_does_not_end_costs_its_link() {
    let longer = (1..).map(|seed| Scenario { seconds: 60, ..scenario(seed) });
    let let_wait = longer.filter(|longer| Plan::draw(longer).lets_wait);
    let scenarios: Vec<Scenario> = let_wait.take(3).collect();
    let results = assert_all_hold(&scenarios);
    let checks = Summary::new(&results, Duration::ZERO).checks;
    assert!(checks[flows::STALLED] >= 5, "{checks:?}");
}

#[test]
fn what_was_fixed_stays_fixed() {
    let scenarios: Vec<Scenario> = include_str!("regressions/seeds.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut number = || -> u64 {
                let word = words.next().unwrap_or_else(|| panic!("{line}: four numbers, please"));
                word.parse().unwrap_or_else(|error| panic!("{line}: {word}: {error}"))
            };
            let (seed, nodes, workers) = (number(), number() as u16, number() as u16);
            Scenario { seed, nodes, workers, seconds: number(), ..Scenario::default() }
        })
        .collect();
    assert!(!scenarios.is_empty(), "there are seeds that once failed");
    assert_all_hold(&scenarios);
}

#[test]
fn a_flapping_member_is_damped() {
    let course = Course::Flapping;
    let scenarios: Vec<Scenario> =
        (1..=30).map(|seed| Scenario { course, ..scenario(seed) }).collect();
    let results = assert_all_hold(&scenarios);
    let damped = results.iter().filter(|result| result.damped >= 4).count();
    assert!(damped > 25, "only in {damped} seeds did all others see it damped");
    let checks = Summary::new(&results, Duration::ZERO).checks;
    assert!(checks[flapping::NAME] >= 100, "{checks:?}");
}

#[test]
fn one_that_hears_next_to_nothing_takes_no_keys_from_others() {
    let course = Course::Deaf;
    let scenarios: Vec<Scenario> =
        (1..=8).map(|seed| Scenario { seconds: 40, course, ..scenario(seed) }).collect();
    let results = assert_all_hold(&scenarios);
    let checks = Summary::new(&results, Duration::ZERO).checks;
    assert!(checks[deaf::NAME] >= 30, "{checks:?}");
}

#[test]
fn many_nodes_on_two_processors_raise_no_false_alarm() {
    let (course, workers, seconds) = (Course::Crowded, 1, 20);
    let crowded = |seed| Scenario { course, nodes: 20, workers, seconds, ..scenario(seed) };
    let scenarios: Vec<Scenario> = (1..=4).map(crowded).collect();
    assert_all_hold(&scenarios);
}

#[test]
fn equal_seeds_run_equally() {
    for seed in [3, 20, 47] {
        let (once, again) = (simulate(scenario(seed)), simulate(scenario(seed)));
        assert_eq!(once.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!((once.events, once.handled), (again.events, again.handled), "seed {seed}");
        assert!(once.events > 1_000 && once.handled > 10, "seed {seed} did nothing: {once:?}");
    }
    assert_ne!(simulate(scenario(3)).trace_hash, simulate(scenario(4)).trace_hash);
}

#[test]
fn a_report_says_how_often_each_invariant_was_exercised() {
    let file = std::env::temp_dir().join(format!("keyway-sim-{}.json", std::process::id()));
    let run = Command::new(env!("CARGO_BIN_EXE_keyway-sim"))
        .args(["--seeds", "1", "--nodes", "3", "--seconds", "20", "--without", "flow"])
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&written).unwrap();
    let checks = summary["checks"].as_object().unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    assert!(checks[healing::NAME].as_u64().unwrap() > 0, "{checks:?}");
    // One seed cannot show all, and says which.
    assert_eq!(checks[flows::STALLED], 0);
    for (invariant, times) in checks {
        assert!(told.contains(&format!("{times:>12}  {invariant}\n")), "{invariant}: {told}");
        let named = told.contains(&format!("say nothing about «{invariant}»"));
        assert_eq!(named, *times == 0, "{invariant}: {told}");
    }
}
