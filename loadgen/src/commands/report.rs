//! `loadgen report DIR`: the plots and the page of a finished run, again from its raw files.

use std::path::Path;

use crate::analysis::report::rebuild;
use crate::error::Result;

/// Draws everything again and tells where the page is.
pub fn run(folder: &Path) -> Result<()> {
    println!("report      {}", rebuild(folder)?.display());
    Ok(())
}
