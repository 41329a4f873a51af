//! Makes a failing seed small: fewer nodes, less time, fewer kinds of faults, as long as the same
//! invariant breaks. What is left is short enough to be read as a story.

use super::invariants::Violation;
use super::scenario::Scenario;

/// The least that a scenario can have: of nodes, workers, and seconds.
const LEAST: (u16, u16, u64) = (2, 1, 20);

/// With each smaller scenario so many seeds are tried from the failing one on: what is drawn after
/// something that was left out is another draw.
const SEEDS: u64 = 6;

/// A scenario that fails, and of which nothing more can be taken away.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// Which.
    pub scenario: Scenario,
    /// What it shows.
    pub violation: Violation,
    /// How many were tried.
    pub tried: u64,
}

/// Takes away from a failing scenario what it does not need. `run` runs one, and gives what it
/// showed.
pub fn shrink(
    scenario: Scenario,
    violation: Violation,
    mut run: impl FnMut(&Scenario) -> Option<Violation>,
) -> Smallest {
    let mut smallest = Smallest { scenario, violation, tried: 0 };
    'smaller: loop {
        for smaller in smaller(&smallest.scenario) {
            for later in 0..SEEDS {
                let seed = smaller.seed.wrapping_add(later);
                let scenario = Scenario { seed, ..smaller };
                smallest.tried += 1;
                let shown = run(&scenario);
                let same = shown.filter(|it| it.invariant == smallest.violation.invariant);
                if let Some(violation) = same {
                    smallest = Smallest { scenario, violation, ..smallest };
                    continue 'smaller;
                }
            }
        }
        return smallest;
    }
}

/// Each of these is smaller; the smallest first.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let scenario = *scenario;
    let (nodes, workers, seconds) = LEAST;
    let mut all = Vec::new();
    all.extend((nodes..scenario.nodes).map(|nodes| Scenario { nodes, ..scenario }));
    all.extend((workers..scenario.workers).map(|workers| Scenario { workers, ..scenario }));
    all.extend(scenario.without.one_more().map(|without| Scenario { without, ..scenario }));
    let halves = [seconds, scenario.seconds / 4, scenario.seconds / 2, scenario.seconds * 3 / 4];
    let shorter = halves.into_iter().filter(|less| (seconds..scenario.seconds).contains(less));
    all.extend(shorter.map(|seconds| Scenario { seconds, ..scenario }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(invariant: &'static str) -> Violation {
        Violation { invariant, seen: String::new() }
    }

    fn large() -> Scenario {
        Scenario { seed: 40, nodes: 9, workers: 3, seconds: 60, ..Scenario::default() }
    }

    #[test]
    fn only_what_it_needs_is_left() {
        let smallest = shrink(large(), violation("order"), |it| {
            // It takes four nodes, and crashes; and an even seed.
            let crashes = !it.without.to_string().contains("crash");
            (it.nodes >= 4 && crashes && it.seed.is_multiple_of(2)).then(|| violation("order"))
        });
        let Scenario { seed, nodes, workers, seconds, without, .. } = smallest.scenario;
        assert_eq!((nodes, workers, seconds, seed % 2), (4, 1, 20, 0));
        let without = without.to_string();
        assert!(without.starts_with("pause,partition,") && without.ends_with("weather,load"));
    }

    #[test]
    fn another_fault_is_not_the_same() {
        let smallest = shrink(large(), violation("order"), |it| {
            Some(violation(if it.nodes < 9 { "counts" } else { "order" }))
        });
        assert_eq!((smallest.scenario.nodes, smallest.violation.invariant), (9, "order"));
    }

    #[test]
    fn what_needs_everything_stays_as_it_was() {
        let smallest = shrink(large(), violation("order"), |_| None);
        let Scenario { seed, nodes, seconds, .. } = smallest.scenario;
        assert_eq!((seed, nodes, seconds), (40, 9, 60));
        assert!(smallest.tried < 300, "{}", smallest.tried);
    }
}
