//! The page: one file that opens from disk without a network, on a phone and on a dark screen.

use std::fmt::Write as _;

use serde_json::Value;

use super::figures::figures;
use super::{Report, RoundSet, Unit};
use crate::analysis::plots::escape;
use crate::analysis::rounds::Figure;
use crate::analysis::table::{count, duration, percent, ratio};
use crate::summary::{Accounting, Summary};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1b1f;--ground:#fefefd;--soft:#5d6068;--edge:#d5d7dc;
--card:#f5f6f8;--bad:#b3261e;--good:#1a7f4b}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8ea;--ground:#16171b;--soft:#a3a7b0;
--edge:#393c44;--card:#1e2026;--bad:#ff8a80;--good:#6fd39d}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:78rem;color:var(--ink);background:var(--ground);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.15rem;margin:2rem 0 .5rem}
.setting,.note{color:var(--soft);margin:.25rem 0 1rem}
.void{border:2px solid var(--bad);color:var(--bad);border-radius:.5rem;padding:.75rem 1rem;
font-weight:600;margin:1rem 0}
.bad{color:var(--bad);font-weight:600}
.good{color:var(--good);font-weight:600}
.scroll{overflow-x:auto;margin:.5rem 0}
summary{cursor:pointer;color:var(--soft);margin:.5rem 0}
table{overflow-wrap:normal;border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--edge);text-align:right;vertical-align:baseline}
td{white-space:nowrap}
td.long{white-space:normal;min-width:16rem}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;min-width:5rem}
@media(max-width:48rem){
table,tbody,tr,td,td.long,td:first-child{display:block;width:100%;min-width:0}
thead{display:none}
tr{border-bottom:1px solid var(--edge);padding:.4rem 0}
td,td.long{display:flow-root;border:0;padding:.1rem 0;white-space:normal;overflow-wrap:anywhere}
td::before{content:attr(data-label);float:left;max-width:45%;margin-right:1rem;color:var(--soft);
text-align:left;overflow-wrap:normal}
td:first-child{font-weight:600}
td:first-child::before{content:none}
}
thead th{color:var(--soft);font-weight:600}
figure{margin:1.25rem 0;padding:.5rem;background:var(--card);border-radius:.5rem}
svg{display:block;width:100%;height:auto;color:var(--ink)}
svg .paper{fill:none}
figcaption{font-size:.85rem;color:var(--soft)}
a{color:inherit}
ul{padding-left:1.2rem}
";

/// A longer cell is broken into lines.
const LONG_CELL_BYTES: usize = 60;

/// Renders the page. `pictures` are file names with their SVG; `files` are linked.
pub fn page(
    report: &Report,
    summary: &Summary,
    machine: Option<&Value>,
    pictures: &[(String, String)],
    files: &[String],
) -> String {
    let mut html = Html::default();
    html.put(&format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{}{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{}</h1>\n",
        if summary.void.is_some() { "VOID: " } else { "" },
        escape(&report.title),
        escape(&report.title),
    ));
    html.put(&format!("<p class=\"setting\">{}</p>\n", escape(&setting(report, summary))));
    if let Some(reason) = &summary.void {
        html.put(&format!(
            "<p class=\"void\" role=\"alert\">This run is void and proves nothing: {}</p>\n",
            escape(reason)
        ));
    }

    let rows: Vec<Vec<String>> = figures(summary)
        .into_iter()
        .map(|row| {
            let ratio = row.ratio.map_or_else(|| "-".to_owned(), ratio);
            let floor = if row.floor.is_empty() { "-".to_owned() } else { row.floor };
            vec![escape(&row.name), escape(&row.value), escape(&floor), ratio]
        })
        .collect();
    html.table("Figures", &["figure", "value", "floor", "value / floor"], &rows);
    cluster(&mut html, summary);
    for (file, svg) in pictures {
        let file = escape(file);
        html.put(&format!(
            "<figure>{svg}<figcaption><a href=\"{file}\">{file}</a></figcaption></figure>\n"
        ));
    }
    accounting(&mut html, report, summary);
    rounds(&mut html, &report.rounds);
    if !report.notes.is_empty() {
        html.put("<h2>Notes</h2>\n");
        for note in &report.notes {
            html.put(&format!("<p class=\"note\">{}</p>\n", escape(note)));
        }
    }
    if let Some(Value::Object(machine)) = machine {
        let rows: Vec<Vec<String>> = machine
            .iter()
            .map(|(key, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                vec![escape(key), escape(&value)]
            })
            .collect();
        html.table("Machine", &["property", "value"], &rows);
    }
    html.put("<h2>Raw files</h2>\n<ul>\n");
    for file in files {
        let file = escape(file);
        html.put(&format!("<li><a href=\"{file}\">{file}</a></li>\n"));
    }
    html.put("</ul>\n</body>\n</html>\n");
    html.text
}

/// The setting as the report words it, with what the summary knows and it may have left out.
fn setting(report: &Report, summary: &Summary) -> String {
    let known = &summary.setting;
    let mut text = report.setting.clone();
    let mut add = |wanted: bool, part: String| {
        if wanted {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&part);
        }
    };
    add(
        report.setting.is_empty(),
        format!(
            "{} B payload, {} nodes x {} cores, {} processes, {}",
            known.payload_bytes,
            known.nodes,
            known.cores_per_node,
            known.processes,
            if known.pinned { "pinned" } else { "not pinned" }
        ),
    );
    add(!report.setting.contains(&summary.commit), format!("commit {}", summary.commit));
    text
}

const ACCOUNT_HEAD: [&str; 12] = [
    "part",
    "sent",
    "delivered",
    "refused",
    "dead",
    "unknown",
    "unknown, yet handled",
    "balanced",
    "duplicated",
    "reordered",
    "overtaken",
    "misrouted",
];

/// What the columns of [`ACCOUNT_HEAD`] mean that do not explain themselves.
const ACCOUNT_NOTE: &str = "unknown: written to a link that was lost before it was acknowledged, \
     and in no receiver's ledger. What a receiver's ledger has is delivered, and stands under \
     \"unknown, yet handled\" too: its sender cannot know it. An event's unknown is both together. \
     reordered: out of order at one routee, which must not happen. overtaken: handled by a key's \
     new owner before the old one had handled an earlier message of the key.";

/// One row of the accounting.
struct AccountRow<'a> {
    name: &'a str,
    sum: &'a Accounting,
    unknown_but_delivered: Option<u64>,
    overtaken: Option<u64>,
}

impl AccountRow<'_> {
    fn cells(&self) -> Vec<String> {
        let Self { name, sum, .. } = self;
        let fault = |count: u64| match count {
            0 => "0".to_owned(),
            count => format!("<span class=\"bad\">{count}</span>"),
        };
        let known = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        vec![
            escape(name),
            sum.sent.to_string(),
            sum.delivered.to_string(),
            sum.refused.to_string(),
            sum.dead.to_string(),
            sum.unknown.to_string(),
            known(self.unknown_but_delivered),
            if sum.balanced {
                "<span class=\"good\">yes</span>".to_owned()
            } else {
                "<span class=\"bad\">NO</span>".to_owned()
            },
            fault(sum.duplicated),
            fault(sum.reordered),
            known(self.overtaken),
            fault(sum.misrouted),
        ]
    }
}

fn accounting(html: &mut Html, report: &Report, summary: &Summary) {
    let heading = "Accounting: sent = delivered + refused + dead + unknown";
    let audits = || report.audits.iter().map(|named| &named.audit);
    // An audit takes all routees together, so that it counts both kinds of disorder. The summary
    // knows how many of them were within one routee.
    let in_one_routee = summary.accounting.as_ref().map_or(0, |whole| whole.reordered);
    let all_overtaken =
        audits().map(|audit| audit.reordered).sum::<u64>().checked_sub(in_one_routee);
    if let Some(whole) = &summary.accounting {
        let row = AccountRow {
            name: "whole run",
            sum: whole,
            unknown_but_delivered: Some(audits().map(|audit| audit.unknown_but_delivered).sum()),
            overtaken: all_overtaken,
        };
        html.table(heading, &ACCOUNT_HEAD, &[row.cells()]);
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for named in &report.audits {
        let mut sum = named.audit.accounting();
        let overtaken = (in_one_routee == 0).then(|| std::mem::take(&mut sum.reordered));
        let unknown_but_delivered = Some(named.audit.unknown_but_delivered);
        let row = AccountRow { name: &named.name, sum: &sum, unknown_but_delivered, overtaken };
        rows.push(row.cells());
    }
    for pattern in summary.patterns.iter().flatten() {
        let Some(sum) = &pattern.accounting else { continue };
        let name = &pattern.name;
        let row = AccountRow { name, sum, unknown_but_delivered: None, overtaken: None };
        rows.push(row.cells());
    }
    if !rows.is_empty() {
        html.put(&format!("<details><summary>Its parts ({})</summary>\n", rows.len()));
        html.bare_table(&ACCOUNT_HEAD, &rows);
        html.put("</details>\n");
    }
    if summary.accounting.is_some() || !rows.is_empty() {
        html.put(&format!("<p class=\"note\">{}</p>\n", escape(ACCOUNT_NOTE)));
    }
    missing(html, report);
}

/// What did not arrive, and why an audit must not be quoted.
fn missing(html: &mut Html, report: &Report) {
    for named in &report.audits {
        let audit = &named.audit;
        let name = escape(&named.name);
        if let Some(reason) = audit.void_reason() {
            html.put(&format!("<p class=\"bad\">{name}: {}</p>\n", escape(&reason)));
        }
        if audit.missing > 0 {
            let mut ranges: Vec<String> = audit
                .lost
                .iter()
                .take(20)
                .map(|lost| {
                    format!(
                        "sender {} key {}: {} to {}",
                        lost.sender, lost.key, lost.first, lost.last
                    )
                })
                .collect();
            if audit.lost.len() > ranges.len() {
                ranges.push("...".to_owned());
            }
            html.put(&format!(
                "<p class=\"note\">{name}: {} messages did not arrive ({})</p>\n",
                audit.missing,
                escape(&ranges.join("; "))
            ));
        }
    }
}

fn cluster(html: &mut Html, summary: &Summary) {
    let none = || "-".to_owned();
    let ms = |value: Option<f64>| value.map_or_else(none, |ms| duration(ms * 1e6));
    let share = |value: Option<f64>| value.map_or_else(none, percent);
    let number = |value: Option<u64>| value.map_or_else(none, |value| value.to_string());
    let rate = |value: Option<f64>| value.map_or_else(none, count);
    let time = |value: Option<u64>| value.map_or_else(none, |ns| duration(ns as f64));

    let events: Vec<Vec<String>> = summary
        .events
        .iter()
        .flatten()
        .map(|event| {
            vec![
                escape(&event.kind),
                duration(event.at_ms * 1e6),
                ms(event.gap_ms),
                ms(event.detected_ms),
                share(event.moved_keys_share),
                share(event.fair_share),
                number(event.lost),
                number(event.unknown),
            ]
        })
        .collect();
    html.table(
        "Events",
        &["event", "at", "gap", "detected after", "keys moved", "fair share", "lost", "unknown"],
        &events,
    );
    let points: Vec<Vec<String>> = summary
        .scale
        .iter()
        .flatten()
        .map(|point| {
            vec![
                point.nodes.to_string(),
                rate(point.msgs_per_cpu_s),
                rate(point.msgs_per_s),
                time(point.p99_ns),
            ]
        })
        .collect();
    html.table("Scaling", &["nodes", "msgs per CPU-second", "msgs/s (wall)", "p99"], &points);
    let patterns: Vec<Vec<String>> = summary
        .patterns
        .iter()
        .flatten()
        .map(|pattern| {
            vec![
                escape(&pattern.name),
                rate(pattern.msgs_per_s),
                time(pattern.p50_ns),
                time(pattern.p99_ns),
            ]
        })
        .collect();
    html.table("Patterns", &["pattern", "msgs/s", "p50", "p99"], &patterns);
}

fn rounds(html: &mut Html, sets: &[RoundSet]) {
    let show = |unit: Unit, value: f64| match unit {
        Unit::Ns => duration(value),
        Unit::Count => count(value),
        Unit::Ratio => ratio(value),
    };
    let rows: Vec<Vec<String>> = sets
        .iter()
        .filter_map(|set| {
            let figure = Figure::of(&set.rounds)?;
            let each: Vec<String> = set
                .rounds
                .iter()
                .map(|round| {
                    let steal = percent(round.steal_share);
                    let text = format!("{} [{steal}]", show(set.unit, round.value));
                    if round.is_marked() {
                        format!("<span class=\"bad\">{text}</span>")
                    } else {
                        text
                    }
                })
                .collect();
            let few = if figure.is_quotable() { "" } else { " (too few to quote)" };
            Some(vec![
                escape(&set.name),
                show(set.unit, figure.median),
                format!("{} to {}", show(set.unit, figure.min), show(set.unit, figure.max)),
                format!("{}{few}", figure.rounds),
                each.join(", "),
            ])
        })
        .collect();
    html.table(
        "Rounds, interleaved",
        &["figure", "median", "range", "rounds", "each round [steal; red above 2 %]"],
        &rows,
    );
}

#[derive(Default)]
struct Html {
    text: String,
}

impl Html {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// A table under a heading; nothing if there are no rows. Cells are HTML already.
    fn table(&mut self, heading: &str, head: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        self.put(&format!("<h2>{}</h2>\n", escape(heading)));
        self.bare_table(head, rows);
    }

    /// Each cell carries its column's name: a narrow screen shows a row as a list of both.
    fn bare_table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let head: Vec<String> = head.iter().map(|cell| escape(cell)).collect();
        let mut text = "<div class=\"scroll\"><table>\n<thead><tr>".to_owned();
        for cell in &head {
            write!(text, "<th>{cell}</th>").expect("a String takes every write");
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            text.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let label = head.get(index).map_or("", String::as_str);
                let class = if cell.len() > LONG_CELL_BYTES { " class=\"long\"" } else { "" };
                write!(text, "<td{class} data-label=\"{label}\">{cell}</td>")
                    .expect("a String takes every write");
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</tbody>\n</table></div>\n");
        self.put(&text);
    }
}
