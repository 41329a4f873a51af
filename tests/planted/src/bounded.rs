//! Runs a program for a limited time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How a program ended, and all it wrote.
pub struct Ended {
    /// `None` when it had to be ended.
    pub status: Option<ExitStatus>,
    /// What it wrote to both outputs.
    pub output: String,
}

/// Runs it to its end, or ends it after this time. What it writes goes through a file, since a full
/// pipe would hold it up.
pub fn run(command: &mut Command, limit: Duration, output: &Path) -> Result<Ended, String> {
    let program = command.get_program().to_owned();
    let started = |error| format!("cannot run {}: {error}", program.display());
    let file = File::create(output)
        .map_err(|error| format!("cannot create {}: {error}", output.display()))?;
    let also = file.try_clone().map_err(started)?;
    let mut child =
        command.stdin(Stdio::null()).stdout(file).stderr(also).spawn().map_err(started)?;
    let until = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(started)? {
            Some(status) => break Some(status),
            None if Instant::now() >= until => {
                child.kill().and_then(|()| child.wait()).map_err(started)?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let output =
        fs::read(output).map_err(|error| format!("cannot read {}: {error}", output.display()))?;
    Ok(Ended { status, output: String::from_utf8_lossy(&output).into_owned() })
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
}
