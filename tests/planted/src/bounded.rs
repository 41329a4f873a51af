//! Runs a program for a limited time.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How a program ended, and all it wrote.
pub struct Ended {
    /// `None` when it had to be ended.
    pub status: Option<ExitStatus>,
    /// What it wrote to both outputs.
    pub output: String,
}

/// Runs it to its end, or ends it after this time, and in any case what it has started and left
/// behind: tests start nodes as processes. What it writes goes through a file, since a full pipe would
/// hold it up.
pub fn run(command: &mut Command, limit: Duration, output: &Path) -> Result<Ended, String> {
    let program = command.get_program().to_owned();
    let started = |error| format!("cannot run {}: {error}", program.display());
    let file = File::create(output)
        .map_err(|error| format!("cannot create {}: {error}", output.display()))?;
    let also = file.try_clone().map_err(started)?;
    let child = command.stdin(Stdio::null()).stdout(file).stderr(also).process_group(0).spawn();
    let mut group = Group(child.map_err(started)?);
    let until = Instant::now() + limit;
    let status = loop {
        match group.0.try_wait().map_err(started)? {
            Some(status) => break Some(status),
            None if Instant::now() >= until => break None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    drop(group);
    let output =
        fs::read(output).map_err(|error| format!("cannot read {}: {error}", output.display()))?;
    Ok(Ended { status, output: String::from_utf8_lossy(&output).into_owned() })
}

/// A program and all that it starts. They end with this.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever of them has ended already needs no end.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ended {
        let name = format!("keyway-planted-{}-{}", std::process::id(), script.len());
        let path = std::env::temp_dir().join(name);
        let ended = run(Command::new("sh").args(["-c", script]), limit, &path).unwrap();
        fs::remove_file(path).unwrap();
        ended
    }

    #[test]
    fn tells_how_it_ended_and_what_it_wrote() {
        let ended = shell("echo one; echo two >&2; exit 3", Duration::from_secs(60));
        assert_eq!(ended.status.and_then(|status| status.code()), Some(3));
        assert_eq!(ended.output, "one\ntwo\n");
    }

    #[test]
    fn ends_what_goes_on_for_ever() {
        let ended = shell("echo begun; exec sleep 1000", Duration::from_millis(300));
        assert!(ended.status.is_none());
    }

    /// Whether a process with this number runs.
    fn runs(process: &str) -> bool {
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = state.rsplit_once(") ").map_or("", |(_, state)| state);
        !state.is_empty() && !state.starts_with(['Z', 'X'])
    }

    #[test]
    fn nothing_that_it_started_outlives_it() {
        let (quick, long) = (Duration::from_secs(2), Duration::from_secs(60));
        for (script, limit) in
            [("sleep 1000 & echo $!; wait", quick), ("sleep 1001 & echo $!; exit 1", long)]
        {
            let ended = shell(script, limit);
            assert_eq!(ended.status.is_none(), limit == quick);
            let child = ended.output.trim();
            let until = Instant::now() + long;
            while runs(child) {
                assert!(Instant::now() < until, "{script}: {child} runs on");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
