//! Whether a mistake is noticed.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::bounded::{self, Ended};
use crate::edits::VARIABLE;
use crate::mistakes::{Mistake, Noticer};
use crate::tree::{Places, Programs};

/// How long one seed may take, on a machine that does much else.
const SEED_LIMIT: Duration = Duration::from_secs(5);
/// How long a program may take beyond its seeds.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long tests may take.
const TEST_LIMIT: Duration = Duration::from_secs(120);
/// From one start to the next.
const APART: u64 = 1_000_000;

/// What came of a mistake, or of no mistake at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All went as if nothing were wrong.
    Unnoticed,
    /// Something failed.
    Noticed {
        /// An invariant, a test's name, or a panic's words.
        by: String,
        /// How many seeds the simulator ran until then: the middle of several starts.
        seeds: Option<u64>,
    },
    /// It had no end in time. That may be the mistake's doing, or the machine's, which does much else:
    /// it notices a mistake only where the list says that it hangs.
    Hangs {
        /// What had how long.
        what: String,
        /// How many seeds the simulator ran until then.
        seeds: Option<u64>,
    },
}

/// How to try.
pub struct Trials<'a> {
    /// Where things are.
    pub places: &'a Places,
    /// What runs.
    pub programs: &'a Programs,
    /// The simulator's most seeds for each start.
    pub seeds: u64,
    /// From how many first seeds it begins anew.
    pub starts: u64,
}

impl Trials<'_> {
    /// Tries one.
    pub fn try_mistake(&self, mistake: &Mistake) -> Result<Verdict, String> {
        match mistake.noticer() {
            Noticer::Simulator { flapping } => self.simulate(Some(&mistake.name), flapping),
            Noticer::Test { target, filter } => self.test(Some(&mistake.name), target, filter),
        }
    }

    /// Runs the simulator from each start until something fails.
    pub fn simulate(&self, name: Option<&str>, flapping: bool) -> Result<Verdict, String> {
        let mut noticed = Vec::new();
        for start in 0..self.starts.max(1) {
            match self.simulate_from(1 + start * APART, name, flapping)? {
                Verdict::Unnoticed if noticed.is_empty() => return Ok(Verdict::Unnoticed),
                // Not from this start: it counts with all its seeds.
                Verdict::Unnoticed => noticed.push((self.seeds, String::new())),
                Verdict::Noticed { by, seeds } => noticed.push((seeds.unwrap_or(0), by)),
                hangs @ Verdict::Hangs { .. } => return Ok(hangs),
            }
        }
        let by = noticed[0].1.clone();
        noticed.sort();
        Ok(Verdict::Noticed { by, seeds: Some(noticed[(noticed.len() - 1) / 2].0) })
    }

    /// A few seeds first, then more at a time: most mistakes show at once.
    fn simulate_from(
        &self,
        first: u64,
        name: Option<&str>,
        flapping: bool,
    ) -> Result<Verdict, String> {
        let mut done = 0;
        while done < self.seeds {
            let some = done.clamp(1, 50).min(self.seeds - done);
            let summary = self.scratch("summary.json");
            let mut command = Command::new(&self.programs.simulator);
            command.args(["--nodes", "5", "--workers", "2", "--seconds", "60"]);
            command.args(["--seed", &(first + done).to_string(), "--seeds", &some.to_string()]);
            command.arg("--json").arg(&summary);
            if flapping {
                command.arg("--flapping");
            }
            let limit = START_LIMIT + SEED_LIMIT * some as u32;
            let ended = self.run(command, name, limit)?;
            let noticed = |by, seeds| Ok(Verdict::Noticed { by, seeds: Some(seeds) });
            match ended.status.map(|status| status.code()) {
                None => {
                    let what = format!(
                        "seeds {} to {}: no end after {limit:?}",
                        first + done,
                        first + done + some - 1
                    );
                    return Ok(Verdict::Hangs { what, seeds: Some(done + some) });
                }
                Some(Some(0)) => done += some,
                Some(Some(1)) => {
                    let (seed, invariant) = first_failure(&summary)?;
                    return noticed(invariant, seed + 1 - first);
                }
                Some(Some(2)) => return Err(format!("the simulator refused:\n{}", ended.output)),
                Some(_) => return noticed(panic_of(&ended.output), done + some),
            }
        }
        Ok(Verdict::Unnoticed)
    }

    /// Runs the tests of a target whose names contain this.
    pub fn test(&self, name: Option<&str>, target: &str, filter: &str) -> Result<Verdict, String> {
        let program = self.programs.tests.get(target);
        let program = program.ok_or_else(|| format!("cargo built no test target '{target}'"))?;
        let mut command = Command::new(program);
        command.arg(filter).current_dir(&self.places.tree);
        let ended = self.run(command, name, TEST_LIMIT)?;
        if ended.output.contains("\nrunning 0 tests\n") {
            return Err(format!("no test of '{target}' has '{filter}' in its name"));
        }
        let by = match ended.status {
            None => {
                let what = format!("{target} {filter}: no end after {TEST_LIMIT:?}");
                return Ok(Verdict::Hangs { what, seeds: None });
            }
            Some(status) if status.success() => return Ok(Verdict::Unnoticed),
            Some(_) => failed_tests(&ended.output).unwrap_or_else(|| panic_of(&ended.output)),
        };
        Ok(Verdict::Noticed { by, seeds: None })
    }

    fn run(
        &self,
        mut command: Command,
        name: Option<&str>,
        limit: Duration,
    ) -> Result<Ended, String> {
        command.env_remove(VARIABLE);
        if let Some(name) = name {
            command.env(VARIABLE, name);
        }
        bounded::run(&mut command, limit, &self.scratch("output.txt"))
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.places.target.join(name)
    }
}

/// The first seed that failed, and its invariant, by the simulator's summary.
fn first_failure(summary: &PathBuf) -> Result<(u64, String), String> {
    let unreadable = |why: String| format!("cannot read {}: {why}", summary.display());
    let text = std::fs::read_to_string(summary).map_err(|error| unreadable(error.to_string()))?;
    let summary: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let failure = &summary["failures"][0];
    match (failure["seed"].as_u64(), failure["invariant"].as_str()) {
        (Some(seed), Some(invariant)) => Ok((seed, invariant.to_owned())),
        _ => Err(unreadable("it names no failure".to_owned())),
    }
}

/// The names of failed tests, as the harness lists them.
fn failed_tests(output: &str) -> Option<String> {
    let failed: Vec<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .collect();
    (!failed.is_empty()).then(|| failed.join(", "))
}

/// What a program said when it panicked.
fn panic_of(output: &str) -> String {
    let mut lines = output.lines().skip_while(|line| !line.contains("panicked at "));
    let place = lines.next().and_then(|line| line.split_once("panicked at "));
    match (place, lines.next()) {
        (Some((_, place)), Some(words)) => format!("panics: {words} ({place})"),
        _ => "ends with an error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_test_harness_says() {
        let output = "\nrunning 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\nfailures:\n";
        assert_eq!(failed_tests(output), Some("a::c".to_owned()));
        assert_eq!(failed_tests("\nrunning 1 test\ntest a::b ... ok\n"), None);
    }

    #[test]
    fn reads_a_panic() {
        let output = "one\nthread 'main' (12) panicked at src/a.rs:3:5:\nno such thing\nnote\n";
        assert_eq!(panic_of(output), "panics: no such thing (src/a.rs:3:5:)");
        assert_eq!(panic_of("Segmentation fault\n"), "ends with an error");
    }
}
