//! What came of many simulations.

use std::time::Duration;

use super::invariants::Violation;
use super::invariants::exercised::Exercised;
use super::scenario::{Course, Scenario};
use super::world::Result;

/// One seed that showed something that must not be.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Failure {
    /// Which seed.
    pub seed: u64,
    /// Which invariant did not hold.
    pub invariant: &'static str,
    /// The command that shows it again.
    pub replay: String,
}

/// Over so many seeds and more, one in a hundred says something.
const MANY: usize = 100;
/// Within this views agree in all but one of a hundred seeds.
const AGREED_P99: Duration = Duration::from_secs(1);

/// How long something took, over all seeds that came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Times {
    /// The middle.
    pub p50_ms: u64,
    /// What all but one of a hundred took at most.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

impl From<[Duration; 3]> for Times {
    fn from(times: [Duration; 3]) -> Self {
        let [p50_ms, p99_ms, max_ms] = times.map(|time| time.as_millis() as u64);
        Self { p50_ms, p99_ms, max_ms }
    }
}

/// All results together; what `--json` writes.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Summary {
    /// How many seeds were run.
    pub seeds: u64,
    /// How many of them failed.
    pub violations: u64,
    /// Which.
    pub failures: Vec<Failure>,
    /// Over all seeds in order: equal for equal arguments on any machine.
    pub trace_hash: String,
    /// Simulated time of all seeds.
    pub simulated_s: f64,
    /// How long it took.
    pub wall_s: f64,
    /// How long it took until all views were equal and right, from the end of what went wrong.
    pub views_agreed: Option<Times>,
    /// How long it took from the healing until every routee had answered every node.
    pub traffic_flows: Option<Times>,
    /// Why the seeds together are not good enough, although none of them has to be the reason.
    pub too_slow: Option<String>,
    /// How often each invariant was held against something that could have broken it.
    pub checks: Exercised,
}

/// The command that replays a seed, and tells it as a story.
pub fn replay(scenario: &Scenario) -> String {
    let Scenario { seed, nodes, workers, seconds, course, without, .. } = scenario;
    let course = match course {
        Course::Drawn => "",
        Course::Flapping => " --flapping",
        Course::Deaf => " --deaf",
        Course::Crowded => " --crowded",
    };
    let without = match without.to_string() {
        none if none.is_empty() => none,
        some => format!(" --without {some}"),
    };
    format!(
        "cargo run --release --bin keyway-sim -- --seed {seed} --seeds 1 --nodes {nodes} \
         --workers {workers} --seconds {seconds}{course}{without} --story"
    )
}

impl Summary {
    /// Puts the results together, which are in the order of their seeds.
    pub fn new(results: &[Result], wall: Duration) -> Self {
        let mut hash = 0x6b65_7977_6179_u64;
        let mut simulated = Duration::ZERO;
        let mut failures = Vec::new();
        let mut checks = Exercised::new();
        for result in results {
            for (invariant, times) in &result.checks {
                *checks.entry(invariant).or_default() += times;
            }
            hash = (hash ^ result.trace_hash).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
            simulated += result.simulated;
            if let Some(Violation { invariant, .. }) = result.violation {
                let replay = replay(&result.scenario);
                failures.push(Failure { seed: result.scenario.seed, invariant, replay });
            }
        }
        Self {
            seeds: results.len() as u64,
            violations: failures.len() as u64,
            failures,
            trace_hash: format!("{hash:016x}"),
            simulated_s: simulated.as_secs_f64(),
            wall_s: wall.as_secs_f64(),
            views_agreed: quantiles(results.iter().filter_map(|it| it.views_agreed))
                .map(Times::from),
            traffic_flows: quantiles(results.iter().filter_map(|it| it.traffic_flows))
                .map(Times::from),
            too_slow: too_slow(results),
            checks,
        }
    }

    /// Whether all that must hold does.
    pub fn is_good(&self) -> bool {
        self.violations == 0 && self.too_slow.is_none()
    }

    /// The invariants that no seed says anything about.
    pub fn unexercised(&self) -> impl Iterator<Item = &'static str> {
        self.checks.iter().filter(|(_, times)| **times == 0).map(|(invariant, _)| *invariant)
    }
}

/// Whether views agreed too late in more than one of a hundred seeds, in words.
fn too_slow(results: &[Result]) -> Option<String> {
    let agreed = results.iter().filter_map(|it| Some((it.views_agreed?, &it.scenario)));
    let (took, slowest) = agreed.clone().max_by_key(|(took, _)| *took)?;
    let late = agreed.clone().filter(|(took, _)| *took > AGREED_P99).count();
    let seeds = agreed.count();
    (seeds >= MANY && late > by_chance(seeds)).then(|| {
        format!(
            "views agreed too late: in {late} of {seeds} seeds it took more than {AGREED_P99:?}, \
             which one in a hundred may; the slowest is seed {} with {took:?}: {}",
            slowest.seed,
            replay(slowest)
        )
    })
}

/// How many of so many seeds it may be of which one in a hundred is so: three deviations more than
/// that.
fn by_chance(seeds: usize) -> usize {
    let expected = seeds as f64 / 100.0;
    (expected + 3.0 * expected.sqrt()) as usize
}

/// The middle, the 99th of a hundred, and the largest of some times; `None` without any.
fn quantiles(times: impl Iterator<Item = Duration>) -> Option<[Duration; 3]> {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    let last = times.len().checked_sub(1)?;
    Some([times[last / 2], times[last * 99 / 100], times[last]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_goes_the_same_course() {
        let replay = |course| replay(&Scenario { seed: 7, course, ..Scenario::default() });
        assert!(replay(Course::Flapping).ends_with("--seconds 60 --flapping --story"));
        assert!(
            replay(Course::Deaf).contains("--seed 7 --seeds 1")
                && !replay(Course::Drawn).contains("deaf")
        );
        assert!(replay(Course::Deaf).ends_with(" --deaf --story"));
    }

    #[test]
    fn a_few_seeds_may_have_bad_luck_and_many_may_not() {
        assert_eq!([100, 300, 20_000].map(by_chance), [4, 8, 242]);
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times = (1..=100).rev().map(Duration::from_millis);
        let [p50, p99, max] = quantiles(times).unwrap();
        assert_eq!([p50, p99, max].map(|time| time.as_millis()), [50, 99, 100]);
        assert_eq!(quantiles(std::iter::empty()), None);
    }
}
