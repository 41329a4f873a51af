//! Tells the build which commit it is of. Only in release builds, which are those that run somewhere:
//! a debug build would have to be made anew with every commit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = if release { packaged(&root).or_else(|| checked_out(&root)) } else { None };
    println!("cargo::rustc-env=KEYWAY_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// What `cargo package` has noted.
fn packaged(root: &Path) -> Option<String> {
    let note = fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = note.split_once("\"sha1\"")?;
    Some(rest.split('"').nth(1)?.chars().take(12).collect())
}

/// What git says, if this is the root of a repository: another one around it is not meant.
fn checked_out(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != fs::canonicalize(root).ok()? {
        return None;
    }
    // It has a line more with each commit and each change of branch. A file that is not there would
    // have every build made anew.
    let moves = root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if moves.exists() {
        println!("cargo::rerun-if-changed={}", moves.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
