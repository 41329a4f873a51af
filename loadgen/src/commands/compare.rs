//! `loadgen compare A B`: two runs beside each other.

use std::path::{Path, PathBuf};

use crate::analysis::compare::compare_files;
use crate::error::Result;

/// Prints the comparison of two summaries, each given as its file or its run's folder.
pub fn run(a: &Path, b: &Path) -> Result<()> {
    let comparison = compare_files(&summary_of(a), &summary_of(b))?;
    print!("{}", comparison.table());
    Ok(())
}

fn summary_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("summary.json") } else { path.to_owned() }
}
