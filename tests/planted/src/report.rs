//! How far it is, and what came of it.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::mistakes::{Mistake, Noticer};
use crate::trial::Verdict;

/// One tried mistake; a line of the table, and of what `--json` writes.
#[derive(Debug, serde::Serialize)]
pub struct Row<'a> {
    layer: &'static str,
    mistake: &'a str,
    what: &'a str,
    /// Who had to: `simulator`, or a test.
    asked: String,
    noticed: bool,
    /// It had no end in time, and is not known to.
    hangs: bool,
    /// By what, or what had no end.
    by: Option<String>,
    /// How many seeds the simulator ran until then.
    seeds: Option<u64>,
    seconds: f64,
}

impl<'a> Row<'a> {
    /// What came of this mistake after this time.
    pub fn new(mistake: &'a Mistake, verdict: Verdict, took: Duration) -> Self {
        let asked = match mistake.noticer() {
            Noticer::Simulator { flapping: false } => "simulator".to_owned(),
            Noticer::Simulator { flapping: true } => "simulator, flapping".to_owned(),
            Noticer::Test { target, filter } => format!("{target} {filter}"),
        };
        let hangs = matches!(verdict, Verdict::Hangs { .. });
        let (by, seeds) = match verdict {
            Verdict::Unnoticed => (None, None),
            Verdict::Noticed { by, seeds } => (Some(by), seeds),
            Verdict::Hangs { what, seeds } => (Some(format!("hangs: {what}")), seeds),
        };
        Self {
            layer: mistake.layer,
            mistake: &mistake.name,
            what: &mistake.what,
            asked,
            noticed: by.is_some() && (!hangs || mistake.hangs),
            hangs: hangs && !mistake.hangs,
            by,
            seeds,
            seconds: took.as_secs_f64(),
        }
    }

    /// Whether somebody noticed it.
    pub fn is_noticed(&self) -> bool {
        self.noticed
    }

    /// Whether nobody can say: it had no end in time, and should have had one.
    pub fn hangs(&self) -> bool {
        self.hangs
    }

    /// What came of it, in a line.
    pub fn line(&self) -> String {
        match (&self.by, self.seeds) {
            (None, _) => format!("{}: UNNOTICED by {}", self.mistake, self.asked),
            (Some(by), _) if self.hangs => format!("{}: UNDECIDED: it {by}", self.mistake),
            (Some(by), None) => format!("{}: {by}", self.mistake),
            (Some(by), Some(seeds)) => format!("{}: {by} (seeds: {seeds})", self.mistake),
        }
    }
}

/// How many were noticed and how many not, in a line.
pub fn sum(rows: &[Row]) -> String {
    let hang = rows.iter().filter(|row| row.hangs()).count();
    let unnoticed = rows.iter().filter(|row| !row.is_noticed()).count() - hang;
    let hangs = match hang {
        0 => String::new(),
        _ => format!(", {hang} undecided: they hang; try them again where nothing else runs"),
    };
    format!("{} mistakes planted, {unnoticed} unnoticed{hangs}", rows.len())
}

/// All rows as a table of a document.
pub fn table(rows: &[Row]) -> String {
    let mut table = "| layer | mistake | what is wrong | noticed by | seeds |\n".to_owned();
    table += "|---|---|---|---|---|\n";
    for row in rows {
        let by = row.by.as_deref().map_or_else(|| "NOBODY".to_owned(), |by| by.replace('|', "/"));
        let seeds = row.seeds.map_or_else(String::new, |seeds| seeds.to_string());
        let Row { layer, mistake, what, .. } = row;
        table += &format!("| {layer} | `{mistake}` | {what} | {by} | {seeds} |\n");
    }
    table
}

/// A line that says how far it is: on a terminal one that changes, elsewhere one for each mistake.
pub struct Progress {
    most: usize,
    done: usize,
    changes: bool,
}

impl Progress {
    /// For so many.
    pub fn new(most: usize) -> Self {
        Self { most, done: 0, changes: std::io::stderr().is_terminal() }
    }

    /// This one is tried now.
    pub fn begins(&self, name: &str) {
        if self.changes {
            let width = 30;
            let full = self.done * width / self.most.max(1);
            let bar = "#".repeat(full) + &".".repeat(width - full);
            // A terminal that cannot be written to needs no progress.
            let _ =
                write!(std::io::stderr(), "\r\x1b[K[{bar}] {}/{} {name} ", self.done, self.most);
        }
    }

    /// And has ended so.
    pub fn ended(&mut self, row: &Row) {
        self.done += 1;
        if self.changes && row.is_noticed() {
            return;
        }
        let begin = if self.changes { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stderr(), "{begin}{}/{} {}", self.done, self.most, row.line());
    }

    /// Nothing more comes.
    pub fn clear(&self) {
        if self.changes {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
