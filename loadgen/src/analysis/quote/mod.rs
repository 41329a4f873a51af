//! Figures of committed runs, written into documents between markers.
//!
//! A block begins with a line `<!-- figures:NAME -->` and ends with a line `<!-- /figures -->`;
//! what stands between is made from the files of the newest run in `results/` and from nothing
//! else. [`rewrite`] puts it there, and a test holds the documents equal to what it gives.

mod blocks;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::histogram::{self, Percentiles};
use super::report::{Report, RoundSet};
use super::rounds::Figure;
use crate::error::{Attempt, Failure, Result};
use crate::summary::Summary;

const BEGIN: &str = "<!-- figures:";
const BEGIN_END: &str = " -->";
const END: &str = "<!-- /figures -->";

/// The documents that may quote figures, from the root of the tree.
pub const DOCUMENTS: [&str; 4] =
    ["README.md", "docs/ARCHITECTURE.md", "docs/PROTOCOL.md", "docs/TESTING.md"];

/// The names that a block can have.
pub const BLOCKS: [&str; 3] = ["quick", "scenarios", "churn"];

/// The files of one run that is quoted.
pub(crate) struct Run {
    /// The name of its folder in `results`.
    pub(crate) folder: String,
    path: PathBuf,
    pub(crate) summary: Summary,
    pub(crate) report: Report,
    pub(crate) plan: toml::Table,
}

impl Run {
    /// The newest run of this scenario in `results`; their names begin with their dates.
    pub(crate) fn newest(root: &Path, scenario: &str) -> Result<Self> {
        let results = root.join("results");
        let attempt = format!("find a run of `{scenario}` in {}", results.display());
        let mut found: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(&results).attempting(&attempt)? {
            let name = entry.attempting(&attempt)?.file_name();
            found.extend(
                name.into_string()
                    .ok()
                    .filter(|name| name.rsplit_once('-').is_some_and(|(_, plan)| plan == scenario)),
            );
        }
        let folder = found.into_iter().max().ok_or_else(|| {
            Failure::new(attempt, "there is none")
                .hint("run it with --out, and keep its folder as results/<date>-<commit>-<plan>")
        })?;
        let path = results.join(&folder);
        let plan = path.join("plan.toml");
        let attempt = format!("read {}", plan.display());
        let text = std::fs::read_to_string(&plan).attempting(&attempt)?;
        Ok(Self {
            summary: read_json(&path.join("summary.json"))?,
            report: read_json(&path.join("report.json"))?,
            plan: text.parse().attempting(&attempt)?,
            folder,
            path,
        })
    }

    /// A link to one of its files.
    pub(crate) fn link(&self, text: &str, file: &str) -> String {
        format!("[{text}](results/{}/{file})", self.folder)
    }

    /// The median of a figure and its rounds, if there are enough of them to quote it.
    pub(crate) fn rounds(&self, name: &str) -> Result<(&RoundSet, Figure)> {
        let attempt = format!("quote {name:?} of {}", self.folder);
        let sets = &self.report.rounds;
        let set = sets.iter().find(|set| set.name == name).ok_or_else(|| {
            Failure::new(&*attempt, "its report.json has no rounds of that name")
                .hint("leave the figure out")
        })?;
        match Figure::of(&set.rounds) {
            Some(figure) if figure.is_quotable() => Ok((set, figure)),
            _ => Err(Failure::new(attempt, "it has too few rounds to be quoted")),
        }
    }

    /// A distribution of the run, all its rounds merged.
    pub(crate) fn latency(&self, tag: &str) -> Result<Percentiles> {
        let attempt = format!("quote the histogram `{tag}` of {}", self.folder);
        let records =
            histogram::read_log(&self.path.join("histograms.hlog")).attempting(&attempt)?;
        let tagged: Vec<_> = records.iter().filter(|record| record.tag == tag).collect();
        if tagged.is_empty() {
            return Err(Failure::new(attempt, "histograms.hlog has none of that tag"));
        }
        Ok(Percentiles::of(&histogram::merge(tagged.iter().map(|record| &record.histogram))))
    }

    /// A part of the summary, which must be there.
    pub(crate) fn part<'a, T>(&self, part: Option<&'a T>, name: &str) -> Result<&'a T> {
        part.ok_or_else(|| {
            Failure::new(
                format!("quote `{name}` of {}", self.folder),
                "it was not measured: its summary.json has null there",
            )
            .hint("leave the figure out")
        })
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let attempt = format!("read {}", path.display());
    let text = std::fs::read_to_string(path).attempting(&attempt)?;
    serde_json::from_str(&text).attempting(&attempt)
}

/// A document, as it is and as the files say that it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it is.
    pub path: PathBuf,
    /// Its text now.
    pub found: String,
    /// Its text with every block made anew.
    pub wanted: String,
}

impl Document {
    /// The first line that is not as it should be: its number from 1, what stands there, and what
    /// should.
    pub fn first_difference(&self) -> Option<(usize, &str, &str)> {
        let (mut found, mut wanted) = (self.found.lines(), self.wanted.lines());
        for number in 1.. {
            match (found.next(), wanted.next()) {
                (None, None) => return None,
                (a, b) if a == b => {}
                (a, b) => return Some((number, a.unwrap_or_default(), b.unwrap_or_default())),
            }
        }
        None
    }
}

/// Every document of the tree at `root` that quotes figures.
///
/// # Errors
/// When a file is missing or cannot be read, a marker is wrong, or a figure that is quoted has no
/// row in its file.
pub fn documents(root: &Path) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for name in DOCUMENTS {
        let path = root.join(name);
        let attempt = format!("read {}", path.display());
        let found = std::fs::read_to_string(&path)
            .map_err(|cause| Failure::new(&*attempt, cause).hint("start at the tree's root"))?;
        if found.contains(BEGIN) {
            let wanted = rewrite(&found, |block| blocks::text(root, block))
                .attempting(&format!("write the figures into {}", path.display()))?;
            documents.push(Document { path, found, wanted });
        }
    }
    Ok(documents)
}

/// Puts the text of each block between its markers.
///
/// # Errors
/// When a block has no end, begins within another, or has no text.
pub fn rewrite(text: &str, block: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut open: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let begins =
            bare.strip_prefix(BEGIN).map(|rest| rest.strip_suffix(BEGIN_END).unwrap_or(rest));
        match (open, begins) {
            (None, None) if bare == END => {
                return Err(Failure::new(format!("end a block with {END}"), "none has begun"));
            }
            (None, None) => out.push_str(line),
            (None, Some(name)) => {
                out.push_str(line);
                out.push_str(block(name)?.trim_end());
                out.push('\n');
                open = Some(name);
            }
            (Some(name), Some(_)) => {
                let attempt = format!("find the end of block `{name}`");
                return Err(Failure::new(attempt, "another begins first"));
            }
            (Some(_), None) if bare == END => {
                out.push_str(line);
                open = None;
            }
            (Some(_), None) => {}
        }
    }
    match open {
        Some(name) => Err(Failure::new(
            format!("find the end of block `{name}`"),
            format!("there is no {END} after it"),
        )),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(name: &str) -> Result<String> {
        Ok(name.to_uppercase())
    }

    #[test]
    fn only_what_stands_between_markers_changes() {
        let text = "a\n<!-- figures:x -->\nold\n\nolder\n<!-- /figures -->\nb\n";
        let expected = "a\n<!-- figures:x -->\nX\n<!-- /figures -->\nb\n";
        assert_eq!(rewrite(text, upper).unwrap(), expected);
        assert_eq!(rewrite(expected, upper).unwrap(), expected, "it is stable");
        assert_eq!(rewrite("a\nb", upper).unwrap(), "a\nb");
    }

    #[test]
    fn wrong_markers_are_named() {
        for (text, why) in [
            ("<!-- figures:x -->\n", "find the end of block `x`"),
            ("<!-- figures:x -->\n<!-- figures:y -->\n<!-- /figures -->\n", "another begins"),
            ("<!-- /figures -->\n", "none has begun"),
        ] {
            let error = rewrite(text, upper).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_first_difference_is_told_with_its_line() {
        let of = |found: &str, wanted: &str| Document {
            path: PathBuf::new(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        };
        assert_eq!(of("a\nb\n", "a\nb\n").first_difference(), None);
        assert_eq!(of("a\nb\n", "a\nc\n").first_difference(), Some((2, "b", "c")));
        assert_eq!(of("a\n", "a\nc\n").first_difference(), Some((2, "", "c")));
    }
}
