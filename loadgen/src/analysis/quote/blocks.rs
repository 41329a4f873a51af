//! The text of each block. Every figure comes from a run's `summary.json` or `report.json`; a void
//! run gives its reason instead of its figures.

use std::fmt::Write as _;
use std::path::Path;

use super::{BLOCKS, Run};
use crate::analysis::report::Unit;
use crate::analysis::table::{count, duration, percent, ratio};
use crate::error::{Failure, Result};
use crate::summary::Event;

/// The text of one block.
pub(super) fn text(root: &Path, name: &str) -> Result<String> {
    match name {
        "quick" => quick(&Run::newest(root, "quick")?),
        "scenarios" => scenarios(root),
        "churn" => churn(&Run::newest(root, "churn")?),
        _ => Err(Failure::new(
            format!("write the block `{name}`"),
            format!("there is none of that name; there are: {}", BLOCKS.join(", ")),
        )),
    }
}

fn quick(run: &Run) -> Result<String> {
    let mut out = format!("{}\n\n", setting(run));
    if let Some(void) = void_line(run) {
        return Ok(out + &void);
    }
    out += "| what | measured | each round | of the machine's limit |\n|---|---|---|---|\n";
    let oneway = run.part(run.summary.oneway.as_ref(), "oneway")?;
    for row in quick_rows(run)? {
        out += &row.text(run)?;
    }
    let calls = *run.part(oneway.syscalls_per_msg.as_ref(), "oneway.syscalls_per_msg")?;
    let allocations = *run.part(oneway.allocs_per_msg.as_ref(), "oneway.allocs_per_msg")?;
    let _ = writeln!(out, "| system calls per one-way message | 1 in {:.0} | | |", 1.0 / calls);
    let _ = writeln!(out, "| heap allocations per one-way message | {allocations:.5} | | |");
    let _ = writeln!(
        out,
        "\nRates are medians of the rounds, latencies those of all rounds' histograms merged. From \
         {}, the rounds from {}, the spinning asks from {}.",
        run.link("`summary.json`", "summary.json"),
        run.link("`report.json`", "report.json"),
        run.link("`histograms.hlog`", "histograms.hlog"),
    );
    Ok(out)
}

fn quick_rows(run: &Run) -> Result<[QuickRow; 7]> {
    let floor = run.part(run.summary.floor.as_ref(), "floor")?;
    let oneway = run.part(run.summary.oneway.as_ref(), "oneway")?;
    let ask = run.part(run.summary.ask.as_ref(), "ask")?;
    let ask64 = run.part(run.summary.ask64.as_ref(), "ask64")?;
    let spinning = run.latency("ask_spin")?;
    let ns = |value: Option<u64>| value.map(|ns| ns as f64);
    let (bare, blocking, spin) =
        ("a loop that only writes and reads frames", "a blocking echo", "a spinning echo");
    Ok([
        QuickRow {
            what: "one-way keyed messages per CPU-second of both processes",
            value: oneway.msgs_per_cpu_s,
            rounds: "one-way per CPU-second",
            limit: floor.oneway_msgs_per_cpu_s,
            limit_name: bare,
        },
        QuickRow {
            what: "the same per second",
            value: oneway.msgs_per_s,
            rounds: "one-way per second",
            limit: floor.oneway_msgs_per_s,
            limit_name: bare,
        },
        QuickRow {
            what: "ask round trip, workers that sleep, p50",
            value: ns(ask.p50_ns),
            rounds: "ask p50, sleeping",
            limit: ns(floor.echo_rtt_p50_ns),
            limit_name: blocking,
        },
        QuickRow {
            what: "the same, p99",
            value: ns(ask.p99_ns),
            rounds: "ask p99, sleeping",
            limit: ns(floor.echo_rtt_p99_ns),
            limit_name: blocking,
        },
        QuickRow {
            what: "ask round trip, workers that spin, p50",
            value: ns(spinning.p50_ns),
            rounds: "ask p50, spinning",
            limit: ns(floor.echo_spin_rtt_p50_ns),
            limit_name: spin,
        },
        QuickRow {
            what: "the same, p99",
            value: ns(spinning.p99_ns),
            rounds: "ask p99, spinning",
            limit: ns(floor.echo_spin_rtt_p99_ns),
            limit_name: spin,
        },
        QuickRow {
            what: "asks per CPU-second with 64 in flight",
            value: ask64.per_cpu_s,
            rounds: "64 asks per CPU-second",
            limit: floor.echo64_per_cpu_s,
            limit_name: "an echo with 64 in flight",
        },
    ])
}

/// A figure with its rounds and its limit.
struct QuickRow {
    what: &'static str,
    value: Option<f64>,
    /// Its rounds' name in the report.
    rounds: &'static str,
    limit: Option<f64>,
    limit_name: &'static str,
}

impl QuickRow {
    fn text(&self, run: &Run) -> Result<String> {
        let (set, figure) = run.rounds(self.rounds)?;
        let value = *run.part(self.value.as_ref(), self.what)?;
        let limit = *run.part(self.limit.as_ref(), self.limit_name)?;
        let show = |value: f64| match set.unit {
            Unit::Ns => duration(value),
            Unit::Count => count(value),
            Unit::Ratio => ratio(value),
        };
        Ok(format!(
            "| {} | {} | {} to {}, {} rounds | {} of {} ({}) |\n",
            self.what,
            show(value),
            show(figure.min),
            show(figure.max),
            figure.rounds,
            ratio(value / limit),
            self.limit_name,
            show(limit),
        ))
    }
}

/// The other scenarios with their headline each.
fn scenarios(root: &Path) -> Result<String> {
    let mut out = "| run | headline |\n|---|---|\n".to_owned();
    for (scenario, what, headline) in [
        ("throughput", "payload sizes and connections", throughput as fn(&Run) -> Result<String>),
        ("scale", "node counts", scale),
        ("latency", "loads", latency),
    ] {
        let run = Run::newest(root, scenario)?;
        let link = run.link(&format!("`{scenario}`"), "summary.json");
        let headline = match void_line(&run) {
            Some(void) => void.replace('\n', " ").replace('|', "\\|"),
            None => headline(&run)?,
        };
        let _ = writeln!(out, "| {link}: over {what} | {} |", headline.trim());
    }
    Ok(out)
}

fn throughput(run: &Run) -> Result<String> {
    let oneway = run.part(run.summary.oneway.as_ref(), "oneway")?;
    let per_cpu = *run.part(oneway.msgs_per_cpu_s.as_ref(), "oneway.msgs_per_cpu_s")?;
    let of_floor = *run.part(oneway.ratio_to_floor_cpu.as_ref(), "oneway.ratio_to_floor_cpu")?;
    Ok(format!(
        "{} one-way messages of {} bytes per CPU-second, {} of the bare loop",
        count(per_cpu),
        run.summary.setting.payload_bytes,
        ratio(of_floor)
    ))
}

fn scale(run: &Run) -> Result<String> {
    let points = run.part(run.summary.scale.as_ref(), "scale")?;
    let mut parts = Vec::new();
    for point in points {
        let per_cpu = *run.part(point.msgs_per_cpu_s.as_ref(), "scale[..].msgs_per_cpu_s")?;
        parts.push(format!("{}: {}", point.nodes, count(per_cpu)));
    }
    Ok(format!("one-way messages per CPU-second by nodes: {}", parts.join(", ")))
}

fn latency(run: &Run) -> Result<String> {
    let ask = run.part(run.summary.ask.as_ref(), "ask")?;
    let p50 = *run.part(ask.p50_ns.as_ref(), "ask.p50_ns")?;
    let p99 = *run.part(ask.p99_ns.as_ref(), "ask.p99_ns")?;
    Ok(format!("ask, one in flight: p50 {}, p99 {}", duration(p50 as f64), duration(p99 as f64)))
}

fn churn(run: &Run) -> Result<String> {
    let mut out = format!("{}\n\n", setting(run));
    if let Some(void) = void_line(run) {
        return Ok(out + &void);
    }
    out += "| event | gap | noticed by all | keys that moved (fair share) | unknown |\n\
            |---|---|---|---|---|\n";
    let events = run.part(run.summary.events.as_ref(), "events")?;
    for event in events {
        out += &event_row(event);
    }
    out += "\n";
    out += &account(run)?;
    let idle = "an idle node uses of one core";
    if let Some(note) = run.report.notes.iter().find(|note| note.starts_with(idle)) {
        let _ = write!(out, " Before the load, {note} (each node).");
    }
    let _ = writeln!(
        out,
        " From {} and {}.",
        run.link("`summary.json`", "summary.json"),
        run.link("`report.json`", "report.json"),
    );
    Ok(out)
}

fn event_row(event: &Event) -> String {
    let what = match event.kind.as_str() {
        "join" => "a node joins",
        "leave" => "a node leaves",
        "kill" => "kill -9",
        "pause" => "SIGSTOP",
        "continue" => "SIGCONT",
        "cut" => "a cable is cut",
        "heal" => "it is mended",
        other => other,
    };
    let none = || "-".to_owned();
    let time = |ms: Option<f64>| ms.map_or_else(none, |ms| duration(ms * 1e6));
    let share = |share: Option<f64>| share.map_or_else(none, percent);
    format!(
        "| {what} | {} | {} | {} ({}) | {} |\n",
        time(event.gap_ms),
        time(event.detected_ms),
        share(event.moved_keys_share),
        share(event.fair_share),
        event.unknown.map_or_else(none, |count| count.to_string()),
    )
}

/// What became of all messages, and what the words mean where they could be misread.
fn account(run: &Run) -> Result<String> {
    let sum = run.part(run.summary.accounting.as_ref(), "accounting")?;
    let audits = || run.report.audits.iter().map(|named| &named.audit);
    let sign =
        if sum.delivered + sum.refused + sum.dead + sum.unknown == sum.sent { "=" } else { "!=" };
    let mut out = format!(
        "As the receivers' own ledgers have it, {} sent {sign} {} delivered + {} refused + {} dead \
         + {} unknown; {} handled twice, {} out of order at one routee.",
        sum.sent, sum.delivered, sum.refused, sum.dead, sum.unknown, sum.duplicated, sum.reordered,
    );
    let handled: u64 = audits().map(|audit| audit.unknown_but_delivered).sum();
    if handled > 0 {
        let _ = write!(
            out,
            " The senders counted {handled} of the delivered ones as unknown, since their link was \
             lost before they were acknowledged: they had been handled, and a sender cannot know \
             that."
        );
    }
    let all: u64 = audits().map(|audit| audit.reordered).sum();
    match all.saturating_sub(sum.reordered) {
        0 => {}
        overtaken => {
            let _ = write!(
                out,
                " {overtaken} messages overtook an earlier one of their key while the key changed \
                 its owner: order is kept between a sender and one routee, not across two."
            );
        }
    }
    Ok(out)
}

/// What was set up, as the run's own report words it.
fn setting(run: &Run) -> String {
    let keys = run.plan.get("keys").and_then(toml::Value::as_integer);
    let keys = keys.map_or_else(String::new, |keys| format!(", {keys} keys"));
    let text = &run.report.setting;
    let keys = if text.contains(" keys") { String::new() } else { keys };
    format!("{text}{keys}.")
}

/// Why nothing of the run is quoted, if so.
fn void_line(run: &Run) -> Option<String> {
    run.summary.void.as_ref().map(|reason| format!("void, so nothing of it is quoted: {reason}\n"))
}
