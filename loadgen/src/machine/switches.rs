//! Context switches of a process, over all its threads.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Failure, Result};

/// How often threads gave up a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextSwitches {
    /// They waited for something.
    pub voluntary: u64,
    /// Something else was given the core.
    pub involuntary: u64,
}

impl ContextSwitches {
    /// The switches since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }
}

/// The switches of all threads of `pid` that live now.
///
/// A thread's counts leave with it, so that a window should begin and end while the same
/// threads are there, as it does in a thread-per-core program.
pub fn context_switches(pid: u32) -> Result<ContextSwitches> {
    let attempt = format!("count the context switches of process {pid}");
    let mut sum = ContextSwitches::default();
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|cause| Failure::new(&*attempt, cause).hint("the process may have ended"))?;
    for thread in threads {
        let path = thread.attempting(&attempt)?.path().join("status");
        // A thread that ended since the listing has nothing to add.
        let Ok(text) = fs::read_to_string(path) else { continue };
        sum.voluntary += field(&text, "voluntary_ctxt_switches:").unwrap_or(0);
        sum.involuntary += field(&text, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sum)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sleeping_is_a_voluntary_switch() {
        let pid = std::process::id();
        let before = context_switches(pid).expect("counts");
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Other tests' threads may end meanwhile and take their counts along, so that only
        // this thread's own are asserted on.
        let own = fs::read_to_string("/proc/thread-self/status").expect("reads");
        assert!(field(&own, "voluntary_ctxt_switches:").expect("the field") >= 20);
        assert!(context_switches(pid).expect("counts").voluntary >= 20);
        assert_eq!(before.since(before), ContextSwitches::default());
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let failure = context_switches(u32::MAX).expect_err("no such process");
        assert!(failure.to_string().contains("may have ended"), "{failure}");
    }
}
