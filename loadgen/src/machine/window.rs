//! One measured stretch of time: what the measured processes used, and who disturbed them.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{ContextSwitches, StatSnapshot, context_switches, process_cpu_ns};
use crate::error::Result;

/// An open window; [`Window::close`] turns it into a report.
///
/// Opening and closing read `/proc` and cost some 100 us: they belong around the measured
/// loop, not into it. The clock is read last when opening and first when closing, so that
/// this cost is outside of `wall_ns`.
#[derive(Debug)]
pub struct Window {
    stat: StatSnapshot,
    processes: Vec<(u32, ContextSwitches, u64)>,
    opened: Instant,
}

/// What a process used within a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Process id.
    pub pid: u32,
    /// CPU time of all threads, user and system.
    pub cpu_ns: u64,
    /// Context switches of all threads.
    pub switches: ContextSwitches,
}

/// A closed window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowReport {
    /// Length of the window.
    pub wall_ns: u64,
    /// The processes, in the order in which they were given.
    pub processes: Vec<ProcessUsage>,
    /// Share of all cores' time that the hypervisor took, 0 to 1.
    pub steal_share: f64,
    /// Share of all cores' time that processes outside of the window used, 0 to 1.
    ///
    /// This is the tell-tale of a machine that is not otherwise idle. It rests on the kernel's
    /// 10 ms samples.
    pub foreign_share: f64,
}

impl Window {
    /// Opens a window over the given processes.
    pub fn open(pids: &[u32]) -> Result<Self> {
        let stat = StatSnapshot::take()?;
        let mut processes = Vec::with_capacity(pids.len());
        for pid in pids {
            processes.push((*pid, context_switches(*pid)?, 0));
        }
        for (pid, _, cpu_ns) in &mut processes {
            *cpu_ns = process_cpu_ns(*pid)?;
        }
        Ok(Self { stat, processes, opened: Instant::now() })
    }

    /// When the window was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Closes the window; all of its processes must still be there.
    pub fn close(self) -> Result<WindowReport> {
        let wall_ns = self.opened.elapsed().as_nanos() as u64;
        let mut processes = Vec::with_capacity(self.processes.len());
        for (pid, _, cpu_before) in &self.processes {
            let cpu_ns = process_cpu_ns(*pid)?.saturating_sub(*cpu_before);
            processes.push(ProcessUsage { pid: *pid, cpu_ns, ..ProcessUsage::default() });
        }
        for (usage, (pid, before, _)) in processes.iter_mut().zip(&self.processes) {
            usage.switches = context_switches(*pid)?.since(*before);
        }
        let spent = StatSnapshot::take()?.total.since(self.stat.total);
        let cores = self.stat.per_core.len().max(1);
        let own_share = processes.iter().map(|usage| usage.cpu_ns).sum::<u64>() as f64
            / (wall_ns.max(1) as f64 * cores as f64);
        Ok(WindowReport {
            wall_ns,
            processes,
            steal_share: spent.steal_share(),
            foreign_share: (spent.busy_share() - own_share).max(0.0),
        })
    }
}

impl WindowReport {
    /// CPU time of all processes together.
    pub fn cpu_ns(&self) -> u64 {
        self.processes.iter().map(|usage| usage.cpu_ns).sum()
    }

    /// Context switches of all processes together.
    pub fn switches(&self) -> ContextSwitches {
        self.processes.iter().fold(ContextSwitches::default(), |sum, usage| ContextSwitches {
            voluntary: sum.voluntary + usage.switches.voluntary,
            involuntary: sum.involuntary + usage.switches.involuntary,
        })
    }

    /// `count` per second of wall time.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.wall_ns.max(1) as f64
    }

    /// `count` per CPU-second of all processes together.
    pub fn per_cpu_second(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.cpu_ns().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_busy_thread_is_seen_and_foreign_time_stays_a_share() {
        let pid = std::process::id();
        let window = Window::open(&[pid]).expect("opens");
        let opened = window.opened();
        while crate::machine::thread_cpu_ns() < 30_000_000 {
            assert!(opened.elapsed() < Duration::from_secs(30), "no CPU time was counted");
        }
        let report = window.close().expect("closes");
        assert_eq!(report.processes.len(), 1);
        assert!(report.cpu_ns() > 0 && report.wall_ns > 0);
        assert!((0.0..=1.0).contains(&report.foreign_share));
        assert!((0.0..=1.0).contains(&report.steal_share));
    }

    #[test]
    fn rates_are_over_the_right_time() {
        let usage = |cpu_ns| ProcessUsage { pid: 1, cpu_ns, ..ProcessUsage::default() };
        let report = WindowReport {
            wall_ns: 2_000_000_000,
            processes: vec![usage(1_000_000_000), usage(3_000_000_000)],
            ..WindowReport::default()
        };
        assert!((report.per_second(100) - 50.0).abs() < 1e-9);
        assert!((report.per_cpu_second(100) - 25.0).abs() < 1e-9);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Window::open(&[u32::MAX]).is_err());
    }
}
