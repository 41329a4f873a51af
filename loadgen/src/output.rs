//! The folder of a run: `results/local/<date>-<commit>-<plan>/`, or where `--out` says.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Attempt, Failure, Result};

/// Where runs go that nobody asked to keep; ignored by git.
const LOCAL_RESULTS: &str = "results/local";

/// Makes the folder of a run. Without `out`, one that did not exist before.
pub fn make_run_folder(out: Option<&Path>, commit: &str, plan: &str) -> Result<PathBuf> {
    if let Some(folder) = out {
        let attempt = format!("make the folder {}", folder.display());
        std::fs::create_dir_all(folder).attempting(&attempt)?;
        return Ok(folder.to_owned());
    }
    let attempt = format!("make a folder in {LOCAL_RESULTS}");
    let hint = "choose another with --out";
    let parent = Path::new(LOCAL_RESULTS);
    std::fs::create_dir_all(parent).map_err(|cause| Failure::new(&*attempt, cause).hint(hint))?;
    let name = format!("{}-{commit}-{plan}", today());
    for number in 1..1_000 {
        let folder = match number {
            1 => parent.join(&name),
            _ => parent.join(format!("{name}-{number}")),
        };
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(Failure::new(attempt, cause).hint(hint)),
        }
    }
    Err(Failure::new(attempt, format!("{name} has been used 999 times today")).hint(hint))
}

/// Today's date in UTC, as `2026-01-31`.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil_date(since.as_secs() / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil_date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_the_edges() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(58), (1970, 2, 28));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(11_017), (2000, 3, 1));
        assert_eq!(civil_date(20_453), (2025, 12, 31));
        assert_eq!(civil_date(20_454), (2026, 1, 1));
    }

    #[test]
    fn a_wished_folder_is_made_with_its_parents() {
        let folder = tempfile::tempdir().expect("a folder");
        let wished = folder.path().join("a/b");
        assert_eq!(make_run_folder(Some(&wished), "c", "p").expect("makes"), wished);
        assert!(wished.is_dir());
        assert!(make_run_folder(Some(&wished), "c", "p").is_ok(), "a second run may use it");
    }
}
