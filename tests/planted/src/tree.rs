//! The copy of the repository that mistakes are planted in, and what is built of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where everything of this program is written.
pub struct Places {
    /// The repository.
    pub root: PathBuf,
    /// The copy.
    pub tree: PathBuf,
    /// What cargo builds of it.
    pub target: PathBuf,
}

impl Places {
    /// Under this repository's `target`.
    pub fn of(root: &Path) -> Self {
        let planted = root.join("target/planted");
        Self { root: root.to_owned(), tree: planted.join("tree"), target: planted.join("target") }
    }

    /// Makes the copy equal to what stands in the repository, but for edited files. What is equal
    /// already keeps its time, so that cargo builds only what has changed.
    pub fn copy(&self, edited: &BTreeMap<String, String>) -> Result<(), String> {
        let mut kept = BTreeSet::new();
        let files = repository_files(&self.root)?;
        for file in files.iter().chain(edited.keys()) {
            if !kept.insert(self.tree.join(file)) {
                continue;
            }
            let content = match edited.get(file) {
                Some(text) => text.clone().into_bytes(),
                // Removed, and not yet for git.
                None if !self.root.join(file).exists() => continue,
                None => fs::read(self.root.join(file))
                    .map_err(|error| format!("cannot read {file}: {error}"))?,
            };
            write_if_other(&self.tree.join(file), &content)?;
        }
        remove_others(&self.tree, &kept)
    }

    /// Builds the simulator and the tests of these targets: one build, whatever is on in it.
    pub fn build(&self, targets: &BTreeSet<&str>) -> Result<Programs, String> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["test", "--release", "--package", "keyway", "--no-run"]);
        command.arg("--message-format=json-render-diagnostics").arg("--lib");
        // Cargo builds the binaries for any test of `tests/`, the simulator among them.
        let simulator_comes_with = "sizes";
        for target in
            targets.iter().filter(|target| **target != "lib").chain([&simulator_comes_with])
        {
            command.args(["--test", target]);
        }
        // As tests are compiled: mistakes may trip over an assertion. Linking is most of the time.
        command.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
        command.env("CARGO_PROFILE_RELEASE_LTO", "off");
        command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        command.env("CARGO_TARGET_DIR", &self.target).current_dir(&self.tree);
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot start cargo to build the copy: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "the copy in {} does not build with the mistakes in it: mend their `put`",
                self.tree.display()
            ));
        }
        Programs::found_in(&String::from_utf8_lossy(&output.stdout))
    }
}

/// What was built.
pub struct Programs {
    /// `keyway-sim`.
    pub simulator: PathBuf,
    /// By test target.
    pub tests: BTreeMap<String, PathBuf>,
}

impl Programs {
    /// From what cargo says of each program, a line of JSON each.
    fn found_in(messages: &str) -> Result<Self, String> {
        let (mut simulator, mut tests) = (None, BTreeMap::new());
        for line in messages.lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let Some(program) = message["executable"].as_str() else { continue };
            let target = &message["target"];
            let name = target["name"].as_str().unwrap_or_default();
            match target["kind"][0].as_str() {
                Some("bin") if name == "keyway-sim" => simulator = Some(program.into()),
                Some("lib") => drop(tests.insert("lib".to_owned(), program.into())),
                Some("test") => drop(tests.insert(name.to_owned(), program.into())),
                _ => {}
            }
        }
        let simulator = simulator.ok_or("cargo built no keyway-sim")?;
        Ok(Self { simulator, tests })
    }
}

/// What git knows, and what is new and not ignored.
fn repository_files(root: &Path) -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot start git to list the repository's files: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cannot list the repository's files: {}", why.trim()));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

fn write_if_other(path: &Path, content: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let folder = path.parent().expect("a file stands in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, content))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<(), String> {
    let read = |error| format!("cannot read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path)
                .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
    }
    Ok(())
}
