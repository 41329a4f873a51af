//! The figures of a summary, each with its floor and the ratio to it.

use crate::analysis::plots::RatioBar;
use crate::analysis::table::{self, Table};
use crate::summary::Summary;

/// One figure for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct FigureRow {
    /// What it is.
    pub name: String,
    /// The value with its unit.
    pub value: String,
    /// The floor with its unit and name; empty if the figure has none or it was not measured.
    pub floor: String,
    /// The figure divided by its floor.
    pub ratio: Option<f64>,
    /// Whether more is better.
    pub more_is_better: bool,
}

impl FigureRow {
    /// The row as a bar, if it has a ratio.
    pub fn bar(&self) -> Option<RatioBar> {
        self.ratio.map(|ratio| RatioBar {
            name: self.name.clone(),
            ratio,
            more_is_better: self.more_is_better,
            values: format!("{} / {}", self.value, self.floor),
        })
    }
}

/// Every figure that the summary holds.
pub fn figures(summary: &Summary) -> Vec<FigureRow> {
    let mut rows = Vec::new();
    let rate = |value: f64| format!("{}/s", table::count(value));
    let per_cpu = |value: f64| format!("{} per CPU-s", table::count(value));
    let floor = summary.floor.clone().unwrap_or_default();
    let ns = |value: Option<u64>| value.map(|ns| ns as f64);
    let time = table::duration;
    let count = |value: f64| table::ratio(value);

    type Show<'a> = &'a dyn Fn(f64) -> String;
    let mut add = |name: &str,
                   value: Option<f64>,
                   show: Show<'_>,
                   floor: Option<(f64, &str)>,
                   more_is_better: bool| {
        let Some(value) = value else { return };
        rows.push(FigureRow {
            name: name.to_owned(),
            value: show(value),
            floor: floor
                .map_or_else(String::new, |(floor, name)| format!("{} ({name})", show(floor))),
            ratio: floor.filter(|(floor, _)| *floor > 0.0).map(|(floor, _)| value / floor),
            more_is_better,
        });
    };
    let named = |value: Option<f64>, name: &'static str| value.map(|value| (value, name));

    if let Some(oneway) = &summary.oneway {
        let f2 = named(floor.oneway_msgs_per_cpu_s, "F2");
        add("one-way, per CPU-second", oneway.msgs_per_cpu_s, &per_cpu, f2, true);
        let f2 = named(floor.oneway_msgs_per_s, "F2");
        add("one-way, wall", oneway.msgs_per_s, &rate, f2, true);
        add("one-way, system calls per message", oneway.syscalls_per_msg, &count, None, false);
        add("one-way, allocations per message", oneway.allocs_per_msg, &count, None, false);
    }
    if let Some(ask) = &summary.ask {
        let f1 = named(ns(floor.echo_rtt_p50_ns), "F1");
        add("ask, 1 in flight, p50", ns(ask.p50_ns), &time, f1, false);
        let f1 = named(ns(floor.echo_rtt_p99_ns), "F1");
        add("ask, 1 in flight, p99", ns(ask.p99_ns), &time, f1, false);
        add("ask, 1 in flight, p99.9", ns(ask.p999_ns), &time, None, false);
        add("ask, 1 in flight, max", ns(ask.max_ns), &time, None, false);
    }
    if let Some(ask64) = &summary.ask64 {
        let f7 = named(floor.echo64_per_cpu_s, "F7");
        add("ask, 64 in flight, per CPU-second", ask64.per_cpu_s, &per_cpu, f7, true);
        add("ask, 64 in flight, wall", ask64.per_s, &rate, None, true);
    }
    if summary.floor.is_some() {
        add("F1 echo round trip, p50", ns(floor.echo_rtt_p50_ns), &time, None, false);
        add("F1 echo round trip, p99", ns(floor.echo_rtt_p99_ns), &time, None, false);
        add("F1 spinning, p50", ns(floor.echo_spin_rtt_p50_ns), &time, None, false);
        add("F1 spinning, p99", ns(floor.echo_spin_rtt_p99_ns), &time, None, false);
        add("F2 one-way frames, per CPU-second", floor.oneway_msgs_per_cpu_s, &per_cpu, None, true);
        add("F2 one-way frames, wall", floor.oneway_msgs_per_s, &rate, None, true);
        add("F3 ring between two cores", floor.spsc_msgs_per_s, &rate, None, true);
        add("F4 eventfd wake, p50", ns(floor.wake_p50_ns), &time, None, false);
        add("F5 hiccup, p99", ns(floor.hiccup_p99_ns), &time, None, false);
        add("F5 hiccup, max", ns(floor.hiccup_max_ns), &time, None, false);
        let bytes = |value: f64| format!("{}B/s", table::count(value));
        add("F6 bulk bytes", floor.bulk_bytes_per_s, &bytes, None, true);
        add("F7 echo, 64 in flight, per CPU-second", floor.echo64_per_cpu_s, &per_cpu, None, true);
    }
    rows
}

/// The figures as a table for a terminal.
pub fn figure_table(summary: &Summary) -> Table {
    let setting = &summary.setting;
    let title = format!(
        "{} B, {} nodes x {} cores, {} processes, {}, commit {}",
        setting.payload_bytes,
        setting.nodes,
        setting.cores_per_node,
        setting.processes,
        if setting.pinned { "pinned" } else { "not pinned" },
        summary.commit,
    );
    let mut table = Table::new(title, ["figure", "value", "floor", "ratio"]);
    for row in figures(summary) {
        let ratio = row.ratio.map_or_else(String::new, table::ratio);
        table.row([row.name, row.value, row.floor, ratio]);
    }
    if let Some(sum) = &summary.accounting {
        table.note(format!(
            "sent {} {} delivered {} + refused {} + dead {} + unknown {}; duplicated {}, reordered \
             {}, misrouted {}",
            sum.sent,
            if sum.balanced { "=" } else { "!=" },
            sum.delivered,
            sum.refused,
            sum.dead,
            sum.unknown,
            sum.duplicated,
            sum.reordered,
            sum.misrouted,
        ));
    }
    if let Some(reason) = &summary.void {
        table.note(format!("VOID: {reason}"));
    }
    table
}
