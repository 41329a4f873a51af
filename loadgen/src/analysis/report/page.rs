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
body{margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--ground);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.15rem;margin:2rem 0 .5rem}
.setting,.note{color:var(--soft);margin:.25rem 0 1rem}
.void{border:2px solid var(--bad);color:var(--bad);border-radius:.5rem;padding:.75rem 1rem;
font-weight:600;margin:1rem 0}
.bad{color:var(--bad);font-weight:600}
.good{color:var(--good);font-weight:600}
.scroll{overflow-x:auto;margin:.5rem 0}
table{overflow-wrap:normal;border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--edge);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;min-width:5rem}
@media(max-width:40rem){table{font-size:.8rem}th,td{padding:.25rem .35rem}th{white-space:normal}}
thead th{color:var(--soft);font-weight:600}
figure{margin:1.25rem 0;padding:.5rem;background:var(--card);border-radius:.5rem;overflow-x:auto}
svg{display:block;width:100%;min-width:34rem;height:auto;color:var(--ink)}
svg .paper{fill:none}
figcaption{font-size:.85rem;color:var(--soft)}
a{color:inherit}
ul{padding-left:1.2rem}
";

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
    accounting(&mut html, report, summary);
    cluster(&mut html, summary);
    for (file, svg) in pictures {
        let file = escape(file);
        html.put(&format!(
            "<figure>{svg}<figcaption><a href=\"{file}\">{file}</a></figcaption></figure>\n"
        ));
    }
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

fn accounting(html: &mut Html, report: &Report, summary: &Summary) {
    let mut parts: Vec<(String, Accounting)> = Vec::new();
    parts.extend(summary.accounting.clone().map(|whole| ("whole run".to_owned(), whole)));
    for named in &report.audits {
        parts.push((named.name.clone(), named.audit.accounting()));
    }
    for pattern in summary.patterns.iter().flatten() {
        parts.extend(pattern.accounting.clone().map(|part| (pattern.name.clone(), part)));
    }
    let rows: Vec<Vec<String>> = parts
        .iter()
        .map(|(name, part)| {
            let fault = |count: u64| match count {
                0 => "0".to_owned(),
                count => format!("<span class=\"bad\">{count}</span>"),
            };
            vec![
                escape(name),
                part.sent.to_string(),
                part.delivered.to_string(),
                part.refused.to_string(),
                part.dead.to_string(),
                part.unknown.to_string(),
                if part.balanced {
                    "<span class=\"good\">yes</span>".to_owned()
                } else {
                    "<span class=\"bad\">NO</span>".to_owned()
                },
                fault(part.duplicated),
                fault(part.reordered),
                fault(part.misrouted),
            ]
        })
        .collect();
    html.table(
        "Accounting: sent = delivered + refused + dead + unknown",
        &[
            "part",
            "sent",
            "delivered",
            "refused",
            "dead",
            "unknown",
            "balanced",
            "duplicated",
            "reordered",
            "misrouted",
        ],
        &rows,
    );
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
        let mut text =
            format!("<h2>{}</h2>\n<div class=\"scroll\"><table>\n<thead><tr>", escape(heading));
        for cell in head {
            write!(text, "<th>{}</th>", escape(cell)).expect("a String takes every write");
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            text.push_str("<tr>");
            for cell in row {
                write!(text, "<td>{cell}</td>").expect("a String takes every write");
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</tbody>\n</table></div>\n");
        self.put(&text);
    }
}
