//! How all cores together spent their time, and what the hypervisor took away.

use crate::error::{Attempt, Failure, Result};

/// Clock ticks spent by all cores since boot; one tick is 10 ms.
///
/// The kernel samples these, so that a share over less than a second is rough: with two
/// cores and 500 ms, one tick is one per cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreTimes {
    /// In programs, the kernel, and interrupts.
    pub busy: u64,
    /// With nothing to do, or waiting for a disk.
    pub idle: u64,
    /// Ready to run, but the hypervisor ran something else.
    pub steal: u64,
}

impl CoreTimes {
    /// What was spent since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            idle: self.idle.saturating_sub(earlier.idle),
            steal: self.steal.saturating_sub(earlier.steal),
        }
    }

    /// Share of the cores' time that the hypervisor took, 0 to 1.
    pub fn steal_share(self) -> f64 {
        self.share(self.steal)
    }

    /// Share of the cores' time that was spent working, 0 to 1.
    pub fn busy_share(self) -> f64 {
        self.share(self.busy)
    }

    fn share(self, part: u64) -> f64 {
        let total = self.busy + self.idle + self.steal;
        if total == 0 { 0.0 } else { part as f64 / total as f64 }
    }
}

/// `/proc/stat` at one instant.
#[derive(Debug, Clone, Default)]
pub struct StatSnapshot {
    /// All cores together.
    pub total: CoreTimes,
    /// Each online core, by number.
    pub per_core: Vec<(usize, CoreTimes)>,
}

impl StatSnapshot {
    /// Takes a snapshot now.
    pub fn take() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").attempting("read /proc/stat")?;
        Self::parse(&text)
            .ok_or_else(|| Failure::new("read /proc/stat", "its form is not the expected one"))
    }

    /// The times of `core`, when it is online.
    pub fn core(&self, core: usize) -> Option<CoreTimes> {
        self.per_core.iter().find(|(number, _)| *number == core).map(|(_, times)| *times)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut snapshot = Self::default();
        let mut seen_total = false;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("cpu") else { continue };
            let (name, numbers) = rest.split_once(' ')?;
            let numbers: Vec<u64> = numbers
                .split_ascii_whitespace()
                .map(str::parse)
                .collect::<std::result::Result<_, _>>()
                .ok()?;
            // user nice system idle iowait irq softirq steal; guest time is inside user.
            let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = numbers[..] else {
                return None;
            };
            let times = CoreTimes {
                busy: user + nice + system + irq + softirq,
                idle: idle + iowait,
                steal,
            };
            if name.is_empty() {
                snapshot.total = times;
                seen_total = true;
            } else {
                snapshot.per_core.push((name.parse().ok()?, times));
            }
        }
        seen_total.then_some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "cpu  10 20 30 400 50 6 7 8 0 0\n\
                          cpu0 5 10 15 200 25 3 3 4 0 0\n\
                          cpu3 5 10 15 200 25 3 4 4 0 0\n\
                          intr 12345 0\nctxt 99\n";

    #[test]
    fn the_columns_are_told_apart() {
        let snapshot = StatSnapshot::parse(SAMPLE).expect("parses");
        assert_eq!(snapshot.total, CoreTimes { busy: 73, idle: 450, steal: 8 });
        assert_eq!(snapshot.core(3), Some(CoreTimes { busy: 37, idle: 225, steal: 4 }));
        assert_eq!(snapshot.core(1), None);
    }

    #[test]
    fn shares_are_of_the_difference() {
        let earlier = CoreTimes { busy: 100, idle: 100, steal: 100 };
        let later = CoreTimes { busy: 150, idle: 140, steal: 110 };
        let spent = later.since(earlier);
        assert!((spent.steal_share() - 0.1).abs() < 1e-9);
        assert!((spent.busy_share() - 0.5).abs() < 1e-9);
        assert_eq!(earlier.since(later), CoreTimes::default());
        assert!(CoreTimes::default().steal_share().abs() < f64::EPSILON);
    }

    #[test]
    fn foreign_forms_are_refused_and_the_real_one_is_read() {
        assert!(StatSnapshot::parse("cpu  1 2 3\n").is_none());
        assert!(StatSnapshot::parse("cpu  a b c d e f g h\n").is_none());
        assert!(StatSnapshot::parse("").is_none());
        let real = StatSnapshot::take().expect("reads");
        assert!(real.total.busy > 0 && !real.per_core.is_empty());
    }
}
