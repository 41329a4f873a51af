//! Two pinned processes, a driver and one node, in rounds that take turns with the floors.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::run::Run;
use crate::analysis::histogram::{self, latency_histogram, merge, quantile};
use crate::analysis::ledger::Period;
use crate::analysis::report::{RoundSet, Unit};
use crate::analysis::rounds::{Figure, Round, interleave};
use crate::analysis::table::{Table, count, duration, percent, ratio as ratio_text};
use crate::cluster::measure::{Of, Rate, rate};
use crate::cluster::{Cluster, clock::now_ns};
use crate::driver::LoadPlan;
use crate::error::Result;
use crate::floors::{FloorKind, FloorRounds, Measured, Round as FloorRound, figures};
use crate::progress::Progress;
use crate::summary::{Ask, Ask64, Floor, Oneway};

/// With this a worker never sleeps during one round trip, as the spinning floor does not.
pub(crate) const SPIN_US: u64 = 1_000;
/// Run before each measured time and thrown away.
const WARM_UP: Duration = Duration::from_millis(200);

/// One thing that a round of the pair measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Variant {
    /// A floor.
    Floor(FloorKind),
    /// Keyed tells at saturation, against F2.
    Oneway,
    /// One ask in flight between workers that sleep, against F1 that blocks.
    Ask,
    /// One ask in flight between workers that spin, against F1 that spins.
    AskSpin,
    /// 64 asks in flight, against F7.
    Ask64,
    /// Keyed tells in batches from an application's thread.
    ThreadOneway,
    /// One ask after another from an application's thread.
    ThreadAsk,
}

impl Variant {
    /// All that `quick` compares, each beside its floor.
    pub(crate) const ALL: [Self; 8] = [
        Self::Floor(FloorKind::Oneway),
        Self::Oneway,
        Self::Floor(FloorKind::EchoRtt),
        Self::Ask,
        Self::Floor(FloorKind::EchoSpinRtt),
        Self::AskSpin,
        Self::Floor(FloorKind::Echo64),
        Self::Ask64,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Floor(kind) => kind.label(),
            Self::Oneway => "keyed one-way tells",
            Self::Ask => "asks, one in flight",
            Self::AskSpin => "asks, one in flight, spinning",
            Self::Ask64 => "asks, 64 in flight",
            Self::ThreadOneway => "keyed one-way tells, from a thread",
            Self::ThreadAsk => "asks, one after another, from a thread",
        }
    }
}

/// One measurement of the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PairRound {
    /// From 1.
    pub(crate) round: u32,
    pub(crate) variant: Variant,
    pub(crate) rate: Rate,
    /// Round trips, where they were timed.
    #[serde(with = "histogram::text")]
    pub(crate) latency: Histogram<u64>,
}

/// All rounds of the pair, with the floors between them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PairRounds {
    pub(crate) floors: FloorRounds,
    pub(crate) rounds: Vec<PairRound>,
    /// Counted in a round of its own, which is not timed; with the reason why not, if not.
    pub(crate) syscalls_per_msg: Option<f64>,
    pub(crate) syscalls_note: Option<String>,
}

impl PairRounds {
    /// Measures `variants` in `rounds` shuffled rounds.
    pub(crate) fn measure(
        run: &mut Run,
        variants: &[Variant],
        payload_bytes: u32,
        rounds: u32,
        duration: Duration,
        progress: &Progress,
    ) -> Result<Self> {
        let mut all = Self::default();
        let floor_plan = run.floor_plan(payload_bytes, duration);
        for turn in interleave(variants.len(), rounds as usize, run.seed) {
            let (variant, round) = (variants[turn.variant], turn.round as u32 + 1);
            progress.phase(&format!("round {round} of {rounds}: {}", variant.label()));
            match variant {
                Variant::Floor(kind) => {
                    let measured = kind.measure(&floor_plan)?;
                    run.weather(measured.window());
                    all.floors.rounds.push(FloorRound { round, measured });
                }
                _ => {
                    let one =
                        cluster_round(run, variant, 1, round, payload_bytes, duration, false)?;
                    run.weather(&one.rate.window);
                    all.rounds.push(one);
                }
            }
            progress.done();
        }
        Ok(all)
    }

    /// Counts system calls in a round that is not timed.
    pub(crate) fn count_syscalls(
        &mut self,
        run: &mut Run,
        payload_bytes: u32,
        duration: Duration,
    ) -> Result<()> {
        if run.card.syscall_counting != "tracepoint" {
            self.syscalls_note = Some(run.card.syscall_counting.clone());
            return Ok(());
        }
        let one = cluster_round(run, Variant::Oneway, 1, 0, payload_bytes, duration, true)?;
        self.syscalls_per_msg = one.rate.syscalls_per_msg;
        Ok(())
    }

    fn of(&self, variant: Variant) -> impl Iterator<Item = &PairRound> {
        self.rounds.iter().filter(move |round| round.variant == variant)
    }

    /// A figure over the rounds of one variant.
    pub(crate) fn figure(
        &self,
        variant: Variant,
        value: impl Fn(&PairRound) -> f64,
    ) -> Option<Figure> {
        let rounds: Vec<Round> = self
            .of(variant)
            .map(|round| Round { value: value(round), steal_share: round.rate.window.steal_share })
            .collect();
        Figure::of(&rounds)
    }

    /// A figure over the rounds of one floor.
    pub(crate) fn floor(&self, value: impl Fn(&Measured) -> Option<f64>) -> Option<Figure> {
        let rounds: Vec<Round> = self
            .floors
            .rounds
            .iter()
            .filter_map(|round| {
                let steal_share = round.measured.window().steal_share;
                Some(Round { value: value(&round.measured)?, steal_share })
            })
            .collect();
        Figure::of(&rounds)
    }

    /// All round trips of one variant.
    pub(crate) fn latency(&self, variant: Variant) -> Histogram<u64> {
        let parts: Vec<_> = self.of(variant).map(|round| &round.latency).collect();
        if parts.is_empty() { latency_histogram() } else { merge(parts) }
    }

    /// The one-way part of a summary.
    pub(crate) fn oneway(&self, floor: &Floor) -> Oneway {
        let median = |value: fn(&PairRound) -> f64| {
            self.figure(Variant::Oneway, value).map(|figure| figure.median)
        };
        let per_s = median(|round| round.rate.per_s);
        let per_cpu_s = median(|round| round.rate.per_cpu_s);
        Oneway {
            msgs_per_s: per_s,
            msgs_per_cpu_s: per_cpu_s,
            ratio_to_floor: ratio(per_s, floor.oneway_msgs_per_s),
            ratio_to_floor_cpu: ratio(per_cpu_s, floor.oneway_msgs_per_cpu_s),
            syscalls_per_msg: self.syscalls_per_msg,
            allocs_per_msg: median(|round| round.rate.allocs_per_msg),
        }
    }

    /// The part of a summary about asks with one in flight, against F1 in the same mode.
    pub(crate) fn ask(&self, variant: Variant, floor: &Floor) -> Ask {
        let latency = self.latency(variant);
        let (p50, p99) = (quantile(&latency, 0.5), quantile(&latency, 0.99));
        let (floor_p50, floor_p99) = match variant {
            Variant::AskSpin => (floor.echo_spin_rtt_p50_ns, floor.echo_spin_rtt_p99_ns),
            _ => (floor.echo_rtt_p50_ns, floor.echo_rtt_p99_ns),
        };
        let as_f64 = |value: Option<u64>| value.map(|value| value as f64);
        Ask {
            p50_ns: p50,
            p99_ns: p99,
            p999_ns: quantile(&latency, 0.999),
            max_ns: (!latency.is_empty()).then(|| latency.max()),
            ratio_to_floor_p50: ratio(as_f64(p50), as_f64(floor_p50)),
            ratio_to_floor_p99: ratio(as_f64(p99), as_f64(floor_p99)),
        }
    }

    /// The part of a summary about asks with 64 in flight.
    pub(crate) fn ask64(&self, floor: &Floor) -> Ask64 {
        let median = |value: fn(&PairRound) -> f64| {
            self.figure(Variant::Ask64, value).map(|figure| figure.median)
        };
        let per_cpu_s = median(|round| round.rate.per_cpu_s);
        Ask64 {
            per_s: median(|round| round.rate.per_s),
            per_cpu_s,
            ratio_to_floor_cpu: ratio(per_cpu_s, floor.echo64_per_cpu_s),
        }
    }

    /// The table that is printed.
    pub(crate) fn table(&self, run: &Run, payload_bytes: u32) -> Table {
        let floor = self.floors.summary();
        let mut table = Table::new(
            format!(
                "Two pinned processes, driver on core {}, node on core {}, {payload_bytes}-byte \
             payload, loopback, {} keys",
                run.driver_core, run.node_cores[0], run.keys
            ),
            ["", "keyway", "floor", "ratio", "aim", "range over the rounds"],
        );
        let oneway = self.oneway(&floor);
        for row in self.oneway_rows(&oneway, &floor) {
            table.row(row);
        }
        let (sleeping, spinning) = (
            [floor.echo_rtt_p50_ns, floor.echo_rtt_p99_ns],
            [floor.echo_spin_rtt_p50_ns, floor.echo_spin_rtt_p99_ns],
        );
        for row in self.ask_rows("ask, sleeping", Variant::Ask, sleeping, &floor) {
            table.row(row);
        }
        for row in self.ask_rows("ask, spinning", Variant::AskSpin, spinning, &floor) {
            table.row(row);
        }
        table.row(self.ask64_row(&floor));
        for row in cost_rows(&oneway) {
            table.row(row);
        }
        for note in self.notes() {
            table.note(note);
        }
        table
    }

    fn oneway_rows(&self, oneway: &Oneway, floor: &Floor) -> [[String; 6]; 2] {
        [
            [
                "one-way per CPU-s, of F2".to_owned(),
                text(oneway.msgs_per_cpu_s, count),
                text(floor.oneway_msgs_per_cpu_s, count),
                text(oneway.ratio_to_floor_cpu, ratio_text),
                "0.35 / 0.5".into(),
                range(self.figure(Variant::Oneway, |round| round.rate.per_cpu_s), count),
            ],
            [
                "one-way per s, of F2".to_owned(),
                text(oneway.msgs_per_s, count),
                text(floor.oneway_msgs_per_s, count),
                text(oneway.ratio_to_floor, ratio_text),
                String::new(),
                range(self.figure(Variant::Oneway, |round| round.rate.per_s), count),
            ],
        ]
    }

    /// The median and the p99 of single asks, each beside its floor.
    fn ask_rows(
        &self,
        name: &str,
        variant: Variant,
        floors_ns: [Option<u64>; 2],
        floor: &Floor,
    ) -> [[String; 6]; 2] {
        let ask = self.ask(variant, floor);
        let row = |at: f64, label: &str, value: Option<u64>, floor: Option<u64>, aim: &str| {
            let (value, floor) = (value.map(|ns| ns as f64), floor.map(|ns| ns as f64));
            [
                format!("{name} {label}, of F1"),
                text(value, duration),
                text(floor, duration),
                text(ratio(value, floor), ratio_text),
                aim.into(),
                range(
                    self.figure(variant, |round| round.latency.value_at_quantile(at) as f64),
                    duration,
                ),
            ]
        };
        [
            row(0.5, "p50", ask.p50_ns, floors_ns[0], "1.5 / 1.2"),
            row(0.99, "p99", ask.p99_ns, floors_ns[1], "2 / 1.3"),
        ]
    }

    fn ask64_row(&self, floor: &Floor) -> [String; 6] {
        let ask64 = self.ask64(floor);
        [
            "64 asks per CPU-s, of F7".to_owned(),
            text(ask64.per_cpu_s, count),
            text(floor.echo64_per_cpu_s, count),
            text(ask64.ratio_to_floor_cpu, ratio_text),
            "0.3 / 0.6".into(),
            range(self.figure(Variant::Ask64, |round| round.rate.per_cpu_s), count),
        ]
    }

    /// What belongs to the table.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let driver = self.figure(Variant::Oneway, |round| round.rate.cpu_shares[0]);
        let node = self.figure(Variant::Oneway, |round| {
            round.rate.cpu_shares.get(1).copied().unwrap_or_default()
        });
        if let (Some(driver), Some(node)) = (driver, node) {
            notes.push(format!(
                "one-way: the driver used {} of its core, the node {}",
                percent(driver.median),
                percent(node.median)
            ));
        }
        if let Some(oneway) = self.floor(figures::oneway_msgs_per_cpu_s) {
            notes.push(format!("F2 ranged from {} to {}", count(oneway.min), count(oneway.max)));
        }
        if let Some(note) = &self.syscalls_note {
            notes.push(format!("system calls were not counted: {note}"));
        }
        notes
    }

    /// The rounds behind each figure.
    pub(crate) fn round_sets(&self) -> Vec<RoundSet> {
        let mut sets = Vec::new();
        let mut add = |name: &str, variant, unit, value: &dyn Fn(&PairRound) -> f64| {
            let rounds: Vec<Round> = self
                .of(variant)
                .map(|round| Round {
                    value: value(round),
                    steal_share: round.rate.window.steal_share,
                })
                .collect();
            if !rounds.is_empty() {
                sets.push(RoundSet { name: name.to_owned(), unit, rounds });
            }
        };
        let p50 = |round: &PairRound| round.latency.value_at_quantile(0.5) as f64;
        let p99 = |round: &PairRound| round.latency.value_at_quantile(0.99) as f64;
        let per_cpu_s = |round: &PairRound| round.rate.per_cpu_s;
        add("one-way per CPU-second", Variant::Oneway, Unit::Count, &per_cpu_s);
        add("one-way per second", Variant::Oneway, Unit::Count, &|round| round.rate.per_s);
        add("ask p50, sleeping", Variant::Ask, Unit::Ns, &p50);
        add("ask p99, sleeping", Variant::Ask, Unit::Ns, &p99);
        add("ask p50, spinning", Variant::AskSpin, Unit::Ns, &p50);
        add("ask p99, spinning", Variant::AskSpin, Unit::Ns, &p99);
        add("64 asks per CPU-second", Variant::Ask64, Unit::Count, &per_cpu_s);
        sets
    }
}

/// What a message costs besides time.
fn cost_rows(oneway: &Oneway) -> [[String; 5]; 2] {
    [
        [
            "system calls per message".to_owned(),
            text(oneway.syscalls_per_msg, |value| format!("1/{:.0}", 1.0 / value)),
            String::new(),
            String::new(),
            "1/32 / 1/256".into(),
        ],
        [
            "allocations per message".to_owned(),
            text(oneway.allocs_per_msg, |value| format!("{value:.5}")),
            String::new(),
            String::new(),
            "0".into(),
        ],
    ]
}

fn text(value: Option<f64>, unit: fn(f64) -> String) -> String {
    value.map_or("-".to_owned(), unit)
}

fn range(figure: Option<Figure>, unit: fn(f64) -> String) -> String {
    figure.map_or("-".to_owned(), |figure| figure.range(unit))
}

/// One value as a multiple of another.
pub(crate) fn ratio(value: Option<f64>, floor: Option<f64>) -> Option<f64> {
    Some(value? / floor.filter(|floor| *floor > 0.0)?)
}

/// One measurement of a fresh cluster of so many nodes.
pub(crate) fn cluster_round(
    run: &mut Run,
    variant: Variant,
    nodes: u32,
    round: u32,
    payload_bytes: u32,
    duration: Duration,
    count_calls: bool,
) -> Result<PairRound> {
    let spin_us = if variant == Variant::AskSpin { SPIN_US } else { 0 };
    let mut cluster = Cluster::start(run.cluster(nodes, 1, spin_us))?;
    let began_ns = now_ns();
    let warm_up_ends_ns = began_ns + WARM_UP.as_nanos() as u64;
    let (plan, of) = match variant {
        Variant::Oneway | Variant::Floor(_) => (LoadPlan::Saturate { payload_bytes }, Of::Handled),
        Variant::Ask | Variant::AskSpin => {
            (LoadPlan::Window { in_flight: 1, timed: true, warm_up_ends_ns }, Of::Answered)
        }
        Variant::ThreadOneway => {
            (LoadPlan::FromThread { asks: false, warm_up_ends_ns }, Of::Handled)
        }
        Variant::ThreadAsk => (LoadPlan::FromThread { asks: true, warm_up_ends_ns }, Of::Answered),
        Variant::Ask64 => {
            (LoadPlan::Window { in_flight: 64, timed: false, warm_up_ends_ns }, Of::Answered)
        }
    };
    let (rate, report) = rate(&mut cluster, plan, of, WARM_UP, duration, count_calls)?;
    let period = Period { from_ns: began_ns, until_ns: now_ns() };
    run.close(variant.label(), &mut cluster, &[period])?;
    Ok(PairRound { round, variant, rate, latency: report.ask_latency })
}
