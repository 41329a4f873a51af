//! `loadgen floors`: the machine's own limits, as a table and as files.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyway::wire::HEADER_BYTES;
use serde::Serialize;

use crate::analysis::histogram::{LogRecord, write_hgrm, write_log};
use crate::cli::Flags;
use crate::error::{Attempt, Result};
use crate::floors::{FloorKind, FloorPlan, FloorRounds, Spread};
use crate::machine::{MachineCard, resolve_cores};
use crate::output::make_run_folder;
use crate::progress::Progress;
use crate::summary::{Setting, Summary};

const DEFAULT_PAYLOAD_BYTES: u32 = 64;
const DEFAULT_ROUNDS: u32 = 5;
/// Of each floor, over all rounds.
const DEFAULT_DURATION: Duration = Duration::from_secs(3);
/// Rounds with more than this share of stolen time are marked.
const MARKED_STEAL_SHARE: f64 = 0.02;
/// With more than this share in other hands the machine was not idle.
const BUSY_FOREIGN_SHARE: f64 = 0.05;

/// What was asked; written as `plan.toml`.
#[derive(Debug, Serialize)]
struct Asked {
    command: &'static str,
    cores: [usize; 2],
    payload_bytes: u32,
    frame_bytes: usize,
    rounds: u32,
    duration_ms_per_round: u64,
    warm_up_ms_per_round: u64,
    order_seed: u64,
}

/// Measures all floors, prints the table and writes the files.
pub fn run(flags: &Flags) -> Result<()> {
    for (flag, given) in [
        ("--nodes", flags.nodes.is_some()),
        ("--cores", flags.cores.is_some()),
        ("--rate", flags.rate.is_some()),
        ("--keys", flags.keys.is_some()),
    ] {
        if given {
            eprintln!("note: {flag} has no meaning for floors: each is two ends on one core each");
        }
    }
    let payload_bytes = flags.size.unwrap_or(DEFAULT_PAYLOAD_BYTES);
    let rounds = flags.rounds.unwrap_or(DEFAULT_ROUNDS);
    let cores = resolve_cores(flags.pin.as_ref().map(|list| &list.0[..]), 2)?;
    let plan = FloorPlan {
        cores: (cores[0], cores[1]),
        frame_bytes: payload_bytes as usize + HEADER_BYTES,
        duration: flags.duration.unwrap_or(DEFAULT_DURATION) / rounds,
    };
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = flags.seed.unwrap_or(since_epoch.as_secs());
    let card = MachineCard::take()?;

    let floors = measure(&plan, rounds, seed, flags.quiet)?;

    let folder = make_run_folder(flags.out.as_deref(), &card.commit, "floors")?;
    let summary = Summary {
        commit: card.commit.clone(),
        void: card.void(),
        setting: Setting { nodes: 0, cores_per_node: 1, payload_bytes, processes: 2, pinned: true },
        floor: Some(floors.summary()),
        ..Summary::default()
    };
    let asked = Asked {
        command: "floors",
        cores: [plan.cores.0, plan.cores.1],
        payload_bytes,
        frame_bytes: plan.padded_frame_bytes(),
        rounds,
        duration_ms_per_round: plan.duration.as_millis() as u64,
        warm_up_ms_per_round: plan.warm_up().as_millis() as u64,
        order_seed: seed,
    };
    write_files(&folder, &asked, &card, &summary, &floors, since_epoch)?;
    if let Some(path) = &flags.json {
        summary.write(path)?;
    }

    print!("{}", table(&asked, &card, &summary, &floors));
    println!("raw data    {}", folder.display());
    if let Some(path) = &flags.json {
        println!("summary     {}", path.display());
    }
    Ok(())
}

fn measure(plan: &FloorPlan, rounds: u32, seed: u64, quiet: bool) -> Result<FloorRounds> {
    let steps = rounds * FloorKind::ALL.len() as u32;
    let progress = Progress::new(u64::from(steps), (plan.warm_up() + plan.duration) * steps, quiet);
    let mut floors = FloorRounds::default();
    for round in 1..=rounds {
        progress.phase(&format!("floors, round {round} of {rounds}"));
        let mut begun = false;
        floors.measure_round(round, seed, &FloorKind::ALL, plan, |kind| {
            if std::mem::replace(&mut begun, true) {
                progress.done();
            }
            progress.step(kind.label());
        })?;
        progress.done();
    }
    Ok(floors)
}

fn write_files(
    folder: &Path,
    asked: &Asked,
    card: &MachineCard,
    summary: &Summary,
    floors: &FloorRounds,
    began: Duration,
) -> Result<()> {
    let attempt = format!("write the raw data to {}", folder.display());
    let plan = toml::to_string_pretty(asked).attempting(&attempt)?;
    std::fs::write(folder.join("plan.toml"), plan).attempting(&attempt)?;
    card.write(folder)?;
    summary.write(&folder.join("summary.json"))?;
    let rounds = serde_json::to_string_pretty(floors).attempting(&attempt)?;
    std::fs::write(folder.join("rounds.json"), rounds).attempting(&attempt)?;

    let mut records = Vec::new();
    for (kind, name) in [
        (FloorKind::EchoRtt, "echo_rtt"),
        (FloorKind::EchoSpinRtt, "echo_spin_rtt"),
        (FloorKind::Wake, "wake"),
        (FloorKind::Hiccup, "hiccup"),
    ] {
        let Some(histogram) = floors.histogram(kind) else { continue };
        let file = File::create(folder.join(format!("{name}.hgrm"))).attempting(&attempt)?;
        write_hgrm(&mut BufWriter::new(file), &histogram).attempting(&attempt)?;
        let length = floors.of(kind).map(|found| found.window().wall_ns).sum();
        records.push(LogRecord {
            tag: name.to_owned(),
            start: Duration::ZERO,
            length: Duration::from_nanos(length),
            histogram,
        });
    }
    write_log(&folder.join("histograms.hlog"), began, &records).attempting(&attempt)
}

/// The table that is printed.
fn table(asked: &Asked, card: &MachineCard, summary: &Summary, floors: &FloorRounds) -> String {
    use crate::floors::figures;

    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |line: String| _ = writeln!(text, "{}", line.trim_end());
    if let Some(reason) = &summary.void {
        line(format!("VOID: {reason}"));
    }
    line(format!(
        "Floors: what stripped programs reach on this machine. {}-byte payload, {}-byte frames, \
         loopback.",
        asked.payload_bytes, asked.frame_bytes
    ));
    line(format!(
        "{}, cores {} and {} pinned, {}, commit {}",
        card.cpu_model,
        asked.cores[0],
        asked.cores[1],
        kernel_release(card),
        card.commit
    ));
    line(String::new());
    line(format!(
        "{:<46} {:>12}   {}",
        "",
        "value",
        format_args!("lowest .. highest of {} rounds", asked.rounds)
    ));
    let mut row = |name: &str, spread: Option<Spread>, show: fn(f64) -> String| {
        line(match spread {
            Some(Spread { value, lowest, highest }) => {
                format!("{name:<46} {:>12}   {} .. {}", show(value), show(lowest), show(highest))
            }
            None => format!("{name:<46} {:>12}   too few samples: measure longer", "-"),
        });
    };
    use FloorKind::{EchoRtt, EchoSpinRtt, Hiccup, Wake};
    row("F1 echo round trip, blocking in epoll     p50", floors.latency(EchoRtt, 0.5), nanos);
    row("                                          p99", floors.latency(EchoRtt, 0.99), nanos);
    row("F1 echo round trip, spinning on poll(0)   p50", floors.latency(EchoSpinRtt, 0.5), nanos);
    row("                                          p99", floors.latency(EchoSpinRtt, 0.99), nanos);
    row("F2 one-way frames           per s", floors.rate(figures::oneway_msgs_per_s), count);
    row(
        "                            per CPU-s",
        floors.rate(figures::oneway_msgs_per_cpu_s),
        count,
    );
    row("F3 ring between two cores   per s", floors.rate(figures::spsc_msgs_per_s), count);
    row("F4 eventfd wake on another core           p50", floors.latency(Wake, 0.5), nanos);
    row("F5 hiccup, longest gap in each 100 us     p99", floors.latency(Hiccup, 0.99), nanos);
    row("                                          max", floors.longest(Hiccup), nanos);
    row("F6 bulk bytes               per s", floors.rate(figures::bulk_bytes_per_s), bytes);
    row("F7 echo, 64 in flight       per CPU-s", floors.rate(figures::echo64_per_cpu_s), count);
    line(String::new());
    for remark in remarks(floors) {
        line(remark);
    }
    text
}

/// How far the machine was disturbed.
fn remarks(floors: &FloorRounds) -> Vec<String> {
    let windows: Vec<_> = floors.rounds.iter().map(|round| round.measured.window()).collect();
    let measured = windows.len();
    let marked = windows.iter().filter(|window| window.steal_share > MARKED_STEAL_SHARE).count();
    let highest = windows.iter().map(|window| window.steal_share).fold(0.0, f64::max);
    let mut remarks = vec![format!(
        "stolen by the hypervisor: at most {:.1} %; above 2 % in {marked} of {measured} measurements",
        highest * 100.0
    )];
    let foreign =
        windows.iter().map(|window| window.foreign_share).sum::<f64>() / measured.max(1) as f64;
    if foreign > BUSY_FOREIGN_SHARE {
        remarks.push(format!(
            "NOISY: other processes used {:.0} % of the machine; repeat this on an idle one",
            foreign * 100.0
        ));
    } else {
        remarks.push(format!("used by other processes: {:.1} % of the machine", foreign * 100.0));
    }
    remarks
}

fn kernel_release(card: &MachineCard) -> String {
    card.kernel.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn nanos(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0} ns"),
        1e3..1e6 => format!("{:.2} us", value / 1e3),
        _ => format!("{:.2} ms", value / 1e6),
    }
}

fn count(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0}"),
        1e3..1e6 => format!("{:.1} k", value / 1e3),
        _ => format!("{:.2} M", value / 1e6),
    }
}

fn bytes(value: f64) -> String {
    format!("{:.2} GB", value / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_their_units() {
        assert_eq!(nanos(950.0), "950 ns");
        assert_eq!(nanos(16_120.0), "16.12 us");
        assert_eq!(nanos(2_500_000.0), "2.50 ms");
        assert_eq!(count(12.0), "12");
        assert_eq!(count(449_000.0), "449.0 k");
        assert_eq!(count(33_000_000.0), "33.00 M");
        assert_eq!(bytes(5.5e9), "5.50 GB");
    }
}
