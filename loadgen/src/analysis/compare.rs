//! Two summaries side by side, with a word on which differences mean anything.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::table::{self, Table};
use crate::error::{Attempt, Failure, Result};

/// Below this factor between single runs a difference is noise.
pub const NOISE: f64 = 1.2;

/// From this factor on a difference between single runs is beyond the machine's noise.
pub const CLEAR: f64 = 1.3;

/// One figure of both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its place in the summary, as `ask.p50_ns` or `scale[3].msgs_per_s`.
    pub figure: String,
    /// In the first run; absent if not measured.
    pub a: Option<f64>,
    /// In the second run.
    pub b: Option<f64>,
    /// What the difference means.
    pub verdict: Verdict,
}

impl Row {
    /// The second divided by the first, if both are there and the first is not 0.
    pub fn ratio(&self) -> Option<f64> {
        match (self.a, self.b) {
            (Some(a), Some(b)) if a != 0.0 => Some(b / a),
            _ => None,
        }
    }
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to judge: equal, missing on one side, or a figure without good and bad.
    None,
    /// Within 20 %: single runs differ that much by themselves.
    Noise,
    /// 20 to 30 %: only repeated rounds can tell.
    Doubtful,
    /// The second run is better by more than 30 %.
    Better,
    /// The second run is worse by more than 30 %.
    Worse,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Noise => "within noise",
            Self::Doubtful => "doubtful: repeat",
            Self::Better => "B better",
            Self::Worse => "B worse",
        }
    }
}

/// A comparison of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Names of the runs: commit, else file.
    pub names: [String; 2],
    /// Why the comparison is to be read with care: void runs, different settings.
    pub warnings: Vec<String>,
    /// Every figure that at least one run holds.
    pub rows: Vec<Row>,
}

/// Compares two `summary.json` files.
pub fn compare_files(a: &Path, b: &Path) -> Result<Comparison> {
    let read = |path: &Path| -> Result<Value> {
        let attempt = format!("read the summary {}", path.display());
        let text = std::fs::read_to_string(path).attempting(&attempt)?;
        let value: Value = serde_json::from_str(&text).attempting(&attempt)?;
        if value.is_object() {
            Ok(value)
        } else {
            Err(Failure::new(attempt, "it is no JSON object")
                .hint("give a summary.json or a file written with --json"))
        }
    };
    let name = |path: &Path, value: &Value| {
        let commit = value.get("commit").and_then(Value::as_str).filter(|name| !name.is_empty());
        commit.map_or_else(|| path.display().to_string(), str::to_owned)
    };
    let (value_a, value_b) = (read(a)?, read(b)?);
    let mut names = [name(a, &value_a), name(b, &value_b)];
    if names[0] == names[1] {
        names = [a, b].map(|path| path.display().to_string());
    }
    Ok(compare(names, &value_a, &value_b))
}

/// Compares two summaries. Works on whatever keys they hold, so that a summary of an older
/// version can still be compared.
pub fn compare(names: [String; 2], a: &Value, b: &Value) -> Comparison {
    let mut warnings = Vec::new();
    for (name, value) in names.iter().zip([a, b]) {
        if let Some(reason) = value.get("void").and_then(Value::as_str) {
            warnings.push(format!("VOID: {name}: {reason}"));
        }
    }
    let setting = |value: &Value| value.get("setting").cloned().unwrap_or(Value::Null);
    let (setting_a, setting_b) = (leaves(&setting(a)), leaves(&setting(b)));
    for (key, left) in &setting_a {
        match setting_b.get(key) {
            Some(right) if right != left => {
                warnings.push(format!("different settings: {key} is {left} in A, {right} in B"));
            }
            Some(_) => {}
            None => warnings.push(format!("different settings: {key} is {left} in A, unset in B")),
        }
    }

    let (leaves_a, leaves_b) = (leaves(a), leaves(b));
    let number = |leaves: &BTreeMap<String, Value>, key: &String| match leaves.get(key) {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::Bool(truth)) => Some(f64::from(u8::from(*truth))),
        _ => None,
    };
    let mut keys: Vec<&String> = leaves_a.keys().chain(leaves_b.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let rows = keys
        .into_iter()
        .filter(|key| !key.starts_with("setting."))
        .filter_map(|key| {
            let (a, b) = (number(&leaves_a, key), number(&leaves_b, key));
            (a.is_some() || b.is_some()).then(|| Row {
                figure: key.clone(),
                a,
                b,
                verdict: judge(key, a, b),
            })
        })
        .collect();
    Comparison { names, warnings, rows }
}

/// Every leaf under its path. Elements of lists are named by what identifies them, so that the
/// kill of one run is compared with the kill of the other.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, leaves);
                }
            }
            Value::Array(elements) => {
                let mut used: BTreeMap<String, u32> = BTreeMap::new();
                for (index, element) in elements.iter().enumerate() {
                    let name = ["name", "kind", "nodes"]
                        .iter()
                        .find_map(|key| element.get(key))
                        .map_or_else(
                            || index.to_string(),
                            |name| name.as_str().map_or_else(|| name.to_string(), str::to_owned),
                        );
                    let times = used.entry(name.clone()).or_default();
                    *times += 1;
                    let name = if *times > 1 { format!("{name} {times}") } else { name };
                    walk(&format!("{path}[{name}]"), element, leaves);
                }
            }
            Value::Null => {}
            leaf => {
                leaves.insert(path.to_owned(), leaf.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", value, &mut found);
    found
}

/// The last part of a path, which holds the unit.
fn key_of(figure: &str) -> &str {
    figure.rsplit('.').next().unwrap_or(figure)
}

/// Whether more is better; `None` for figures that are neither.
fn more_is_better(figure: &str) -> Option<bool> {
    let key = key_of(figure);
    let latency = key.contains("p50") || key.contains("p99") || key.ends_with("_ns");
    if latency || key.ends_with("_ms") && key != "at_ms" || key.ends_with("_per_msg") {
        Some(false)
    } else if key.contains("per_s") || key.contains("per_cpu_s") || key.contains("ratio_to_floor") {
        Some(true)
    } else if ["duplicated", "reordered", "misrouted", "lost"].contains(&key) {
        Some(false)
    } else if key == "balanced" {
        Some(true)
    } else {
        None
    }
}

fn judge(figure: &str, a: Option<f64>, b: Option<f64>) -> Verdict {
    let (Some(a), Some(b), Some(more_is_better)) = (a, b, more_is_better(figure)) else {
        return Verdict::None;
    };
    if a == b {
        return Verdict::None;
    }
    let better = if (b > a) == more_is_better { Verdict::Better } else { Verdict::Worse };
    // Exact counts have no noise, and nothing is not a factor away from something.
    let exact = ["duplicated", "reordered", "misrouted", "lost", "balanced"];
    if exact.contains(&key_of(figure)) || a <= 0.0 || b <= 0.0 {
        return better;
    }
    match (b / a).max(a / b) {
        factor if factor < NOISE => Verdict::Noise,
        factor if factor < CLEAR => Verdict::Doubtful,
        _ => better,
    }
}

/// A value with the unit that its key names.
fn show(figure: &str, value: f64) -> String {
    let key = key_of(figure);
    if key == "balanced" {
        if value == 1.0 { "yes" } else { "no" }.to_owned()
    } else if key.ends_with("_ns") {
        table::duration(value)
    } else if key.ends_with("_ms") {
        table::duration(value * 1e6)
    } else if key.ends_with("_share") {
        table::percent(value)
    } else if key.contains("ratio") || key.ends_with("_per_msg") {
        table::ratio(value)
    } else {
        table::count(value)
    }
}

impl Comparison {
    /// The comparison as a table for a terminal.
    pub fn table(&self) -> Table {
        let title = format!("A = {}, B = {}", self.names[0], self.names[1]);
        let mut table = Table::new(title, ["figure", "A", "B", "B / A", "note"]);
        for row in &self.rows {
            let value = |value: Option<f64>| {
                value.map_or_else(|| "-".to_owned(), |value| show(&row.figure, value))
            };
            table.row([
                row.figure.clone(),
                value(row.a),
                value(row.b),
                row.ratio().map_or_else(|| "-".to_owned(), table::ratio),
                row.verdict.text().to_owned(),
            ]);
        }
        for warning in &self.warnings {
            table.note(warning.clone());
        }
        table.note("single runs on a shared machine differ by 20 to 30 % without any cause");
        table
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(a: &Value, b: &Value) -> BTreeMap<String, Row> {
        compare(["a".to_owned(), "b".to_owned()], a, b)
            .rows
            .into_iter()
            .map(|row| (row.figure.clone(), row))
            .collect()
    }

    #[test]
    fn small_differences_are_called_noise() {
        let a = json!({"ask": {"p50_ns": 1000, "p99_ns": 1000, "max_ns": 1000},
                       "oneway": {"msgs_per_s": 1000.0, "syscalls_per_msg": 1.0}});
        let b = json!({"ask": {"p50_ns": 1190, "p99_ns": 1250, "max_ns": 1310},
                       "oneway": {"msgs_per_s": 2000.0, "syscalls_per_msg": 0.5}});
        let rows = rows(&a, &b);
        assert_eq!(rows["ask.p50_ns"].verdict, Verdict::Noise);
        assert_eq!(rows["ask.p99_ns"].verdict, Verdict::Doubtful);
        assert_eq!(rows["ask.max_ns"].verdict, Verdict::Worse);
        assert_eq!(rows["oneway.msgs_per_s"].verdict, Verdict::Better);
        assert_eq!(rows["oneway.syscalls_per_msg"].verdict, Verdict::Better);
        assert_eq!(rows["oneway.msgs_per_s"].ratio(), Some(2.0));
    }

    #[test]
    fn exact_counts_have_no_noise() {
        let a = json!({"accounting": {"sent": 100, "duplicated": 10, "balanced": true}});
        let b = json!({"accounting": {"sent": 500, "duplicated": 11, "balanced": false}});
        let rows = rows(&a, &b);
        assert_eq!(rows["accounting.duplicated"].verdict, Verdict::Worse);
        assert_eq!(rows["accounting.balanced"].verdict, Verdict::Worse);
        assert_eq!(rows["accounting.sent"].verdict, Verdict::None);
    }

    #[test]
    fn lists_are_matched_by_what_names_them() {
        let a = json!({"events": [{"kind": "join", "gap_ms": 5.0}, {"kind": "kill", "gap_ms": 50.0},
                                  {"kind": "kill", "gap_ms": 60.0}],
                       "scale": [{"nodes": 2, "msgs_per_s": 10.0}]});
        let b = json!({"events": [{"kind": "kill", "gap_ms": 55.0}],
                       "scale": [{"nodes": 1, "msgs_per_s": 9.0}, {"nodes": 2, "msgs_per_s": 30.0}]});
        let rows = rows(&a, &b);
        assert_eq!(
            (rows["events[kill].gap_ms"].a, rows["events[kill].gap_ms"].b),
            (Some(50.0), Some(55.0))
        );
        assert_eq!(rows["events[kill 2].gap_ms"].b, None);
        assert_eq!(rows["events[kill 2].gap_ms"].ratio(), None);
        assert_eq!(rows["scale[2].msgs_per_s"].ratio(), Some(3.0));
    }

    #[test]
    fn void_runs_and_other_settings_are_warned_of() {
        let a = json!({"void": "generator too slow", "setting": {"nodes": 3, "pinned": true}});
        let b = json!({"void": null, "setting": {"nodes": 4, "pinned": true}});
        let comparison = compare(["old".to_owned(), "new".to_owned()], &a, &b);
        assert_eq!(
            comparison.warnings,
            ["VOID: old: generator too slow", "different settings: nodes is 3 in A, 4 in B"]
        );
        assert!(comparison.rows.is_empty());
        assert!(comparison.table().to_string().contains("VOID: old"));
    }

    #[test]
    fn files_are_compared_and_named_by_commit() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let a = write("a.json", r#"{"commit": "aaa", "ask": {"p50_ns": 16000, "p999_ns": null}}"#);
        let b = write("b.json", r#"{"commit": "bbb", "ask": {"p50_ns": 38000, "p999_ns": 90000}}"#);
        let text = compare_files(&a, &b).unwrap().table().to_string();
        assert!(text.starts_with("A = aaa, B = bbb\n"), "{text}");
        let row = text.lines().find(|line| line.contains("ask.p50_ns")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["ask.p50_ns", "16.0", "us", "38.0", "us", "2.38", "B", "worse"]);
        let same = compare_files(&a, &a).unwrap();
        assert!(same.names[0].ends_with("a.json"));
        let list = write("list.json", "[]");
        assert!(compare_files(&a, &list).unwrap_err().to_string().contains("--json"));
        let broken = write("broken.json", "{");
        assert!(compare_files(&broken, &a).is_err());
        assert!(compare_files(&folder.path().join("none.json"), &a).is_err());
    }
}
