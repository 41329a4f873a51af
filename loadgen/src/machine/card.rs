//! The machine card: what a reader must know about the box before reading a number from it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{StatSnapshot, SyscallCounter, allowed_cores};
use crate::error::{Attempt, Result};

/// The contents of `machine.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineCard {
    /// The processor's name for itself.
    pub cpu_model: String,
    /// Cores that this process may use.
    pub cores: Vec<usize>,
    /// Whether a hypervisor is underneath.
    pub virtual_machine: bool,
    /// Kernel name, release and build.
    pub kernel: String,
    /// Memory in all.
    pub memory_bytes: u64,
    /// Frequency governor of the first core, where the machine shows one.
    pub governor: Option<String>,
    /// What the kernel reads the time from.
    pub clock_source: Option<String>,
    /// The compiler that built this program.
    pub rustc: String,
    /// `release` or `debug`.
    pub build: String,
    /// The commit, with `-dirty` when the tree has changes, or `unknown`.
    pub commit: String,
    /// Load averages over 1, 5 and 15 minutes, at the time of the card.
    pub load_average: [f64; 3],
    /// Share of all cores' time that the hypervisor took since boot, 0 to 1.
    pub steal_share_since_boot: f64,
    /// `tracepoint`, or why system calls cannot be counted here.
    pub syscall_counting: String,
}

impl MachineCard {
    /// Describes this machine now.
    pub fn take() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").attempting("read /proc/cpuinfo")?;
        let meminfo = fs::read_to_string("/proc/meminfo").attempting("read /proc/meminfo")?;
        let syscall_counting = match SyscallCounter::attach(std::process::id()) {
            Ok(_) => "tracepoint".to_owned(),
            Err(failure) => failure.to_string(),
        };
        Ok(Self {
            cpu_model: line_value(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: allowed_cores()?,
            virtual_machine: line_value(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: kernel(),
            memory_bytes: line_value(&meminfo, "MemTotal")
                .and_then(|value| value.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            governor: first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock_source: first_line(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            ),
            rustc: env!("LOADGEN_RUSTC_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            commit: commit(),
            load_average: load_average(),
            steal_share_since_boot: StatSnapshot::take()?.total.steal_share(),
            syscall_counting,
        })
    }

    /// Writes the card as `machine.json` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join("machine.json");
        let attempt = format!("write {}", path.display());
        let mut text = serde_json::to_string_pretty(self).attempting(&attempt)?;
        text.push('\n');
        fs::write(&path, text).attempting(&attempt)
    }

    /// Why figures from this program must not be quoted at all, if so.
    pub fn void(&self) -> Option<String> {
        (self.build == "debug").then(|| "built without optimisation: use --release".to_owned())
    }
}

/// The value of the first `name : value` line.
fn line_value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

fn kernel() -> String {
    ["ostype", "osrelease", "version"]
        .iter()
        .filter_map(|part| first_line(&format!("/proc/sys/kernel/{part}")))
        .collect::<Vec<_>>()
        .join(" ")
}

fn load_average() -> [f64; 3] {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split(' ').map_while(|word| word.parse().ok());
    [(); 3].map(|()| numbers.next().unwrap_or(0.0))
}

/// The commit of the folder that this program runs in, as git tells it.
fn commit() -> String {
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // Results are written while measuring; they do not change what is measured.
    match git(&["status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/results"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}-dirty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_describes_a_machine() {
        let card = MachineCard::take().expect("reads");
        assert!(!card.cores.is_empty());
        assert!(card.memory_bytes > 1 << 20, "{}", card.memory_bytes);
        assert!(card.kernel.starts_with("Linux "), "{}", card.kernel);
        assert!(card.rustc.starts_with("rustc 1."), "{}", card.rustc);
        assert_eq!(card.void().is_some(), cfg!(debug_assertions));
        let folder = tempfile::tempdir().expect("a folder");
        card.write(folder.path()).expect("writes");
        let text = fs::read_to_string(folder.path().join("machine.json")).expect("reads");
        assert_eq!(serde_json::from_str::<MachineCard>(&text).expect("parses"), card);
    }

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: Fast One\n";
        assert_eq!(line_value(text, "model name"), Some("Fast One"));
        assert_eq!(line_value(text, "model"), Some("17"));
        assert_eq!(line_value(text, "absent"), None);
    }
}
