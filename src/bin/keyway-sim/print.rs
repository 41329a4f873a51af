//! What came of the seeds, in words.

use std::io::Write;

use keyway::sim::forgery::{Forged, Forgery};
use keyway::sim::newer::Heard;
use keyway::sim::report::Times;
use keyway::sim::shrink::Smallest;
use keyway::sim::{Result, Scenario, Summary, report};

/// As `println!`; but whoever closes the other end of the pipe has read enough.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

fn failures(results: &[Result]) {
    for result in results {
        if let Some(violation) = &result.violation {
            say!("seed {}: {}", result.scenario.seed, violation.invariant);
            say!("  seen after {:?}: {}", result.simulated, violation.seen);
            say!("  replay: {}", report::replay(&result.scenario));
        }
    }
}

/// All results, for a person to read.
pub fn results(results: &[Result], summary: &Summary) {
    failures(results);
    print_times("views agreed after what went wrong was over", summary.views_agreed);
    print_times("every routee answered every node", summary.traffic_flows);
    let sum = |of: fn(&Result) -> u64| results.iter().map(of).sum::<u64>();
    say!(
        "fates: {} refused, {} delivered, {} dead, {} unknown, {} attempts handled, {} broadcasts, \
         {} ends of asks; {} times all that was under way was found",
        sum(|result| result.fates.refused),
        sum(|result| result.fates.delivered),
        sum(|result| result.fates.dead),
        sum(|result| result.fates.unknown),
        sum(|result| result.fates.attempts),
        sum(|result| result.fates.broadcasts),
        sum(|result| result.fates.told),
        sum(|result| result.fates.found),
    );
    say!(
        "{} routees withdrawn; {} messages came too late, {} asks were told why",
        sum(|result| result.withdrawals),
        sum(|result| result.sent_late),
        sum(|result| result.told_unknown),
    );
    say!(
        "{} words of loads learned, {} times fresh; {} questions answered, {} told as lost; {} \
         letters said, {} maybe lost",
        sum(|result| result.load_words),
        sum(|result| result.loads_fresh),
        sum(|result| result.load_answers),
        sum(|result| result.load_losses),
        sum(|result| result.letters),
        sum(|result| result.letters_lost),
    );
    say!(
        "{} routers ended with their last holder, {} were asked for again; {} times a limit was \
         kept as members changed",
        sum(|result| result.routers_ended),
        sum(|result| result.routers_shared),
        sum(|result| result.limits_moved),
    );
    say!(
        "{} times a path was served on some workers only: {} tables and {} messages went there",
        sum(|result| result.placed_on_some),
        sum(|result| result.placed_tables),
        sum(|result| result.placed_handled),
    );
    let unknown = |of: fn(&Heard) -> u64| results.iter().map(|one| of(&one.unknown)).sum::<u64>();
    say!(
        "of newer members: {} datagrams, {} letters, {} frames, {} reasons, {} refusals",
        unknown(|of| of.datagrams),
        unknown(|of| of.letters),
        unknown(|of| of.frames),
        unknown(|of| of.reasons),
        unknown(|of| of.refusals),
    );
    forged(results);
    exercised(summary);
    if let Some(too_slow) = &summary.too_slow {
        say!("{too_slow}");
    }
    let events: u64 = results.iter().map(|one| one.events).sum();
    let handled: u64 = results.iter().map(|one| one.handled).sum();
    say!(
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

/// What somebody who is no node has tried in vain.
fn forged(results: &[Result]) {
    for (place, how) in Forgery::ALL.iter().enumerate() {
        let sum = |of: fn(&Forged) -> &[u64; 7]| {
            results.iter().map(|one| of(&one.forged)[place]).sum::<u64>()
        };
        say!(
            "forged ({how:?}): {} datagrams, {} handshakes that a stranger began, {} that it \
             answered",
            sum(|of| &of.datagrams),
            sum(|of| &of.dialed),
            sum(|of| &of.answered),
        );
    }
}

/// How often each invariant was exercised; those that never were are named once more.
fn exercised(summary: &Summary) {
    say!("times that each invariant could have been broken:");
    for (invariant, times) in &summary.checks {
        say!("{times:>12}  {invariant}");
    }
    for invariant in summary.unexercised() {
        say!("these seeds say nothing about «{invariant}»: it was never exercised");
    }
}

fn print_times(what: &str, times: Option<Times>) {
    if let Some(Times { p50_ms, p99_ms, max_ms }) = times {
        say!("{what}: p50 {p50_ms} ms, p99 {p99_ms} ms, max {max_ms} ms");
    }
}

/// What is left of a seed that failed.
pub fn smallest(smallest: &Smallest) {
    let Smallest { scenario, violation, tried } = smallest;
    let Scenario { seed, nodes, workers, seconds, without, .. } = scenario;
    say!("after {tried} runs: seed {seed}, {nodes} nodes of {workers} workers, {seconds} s");
    let without = without.to_string();
    say!("  without: {}", if without.is_empty() { "nothing" } else { &without });
    say!("  {}: {}", violation.invariant, violation.seen);
    say!("  its story: {}", report::replay(scenario));
}

/// Where fresh seeds begin.
pub fn first(seed: u64) {
    say!("the first fresh seed is {seed}");
}

/// No seed failed.
pub fn nothing_to_shrink() {
    say!("no seed failed: there is nothing to shrink");
}

/// A seed is made small.
pub fn shrinks(seed: u64) {
    say!("shrinking seed {seed}, which takes up to some hundred runs ..");
}
