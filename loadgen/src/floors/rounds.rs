//! All floors in interleaved rounds, and what is quoted from them.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{FloorPlan, Waiting, bulk, echo_rtt, echo64, hiccup, oneway, spsc, wake};
use crate::analysis::histogram::{merge, quantile};
use crate::error::Result;
use crate::machine::WindowReport;
use crate::summary::Floor;

/// One thing that a round measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FloorKind {
    /// F1, both ends blocking.
    EchoRtt,
    /// F1, both ends spinning.
    EchoSpinRtt,
    /// F2.
    Oneway,
    /// F3.
    Spsc,
    /// F4.
    Wake,
    /// F5.
    Hiccup,
    /// F6.
    Bulk,
    /// F7.
    Echo64,
}

impl FloorKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::EchoRtt,
        Self::EchoSpinRtt,
        Self::Oneway,
        Self::Spsc,
        Self::Wake,
        Self::Hiccup,
        Self::Bulk,
        Self::Echo64,
    ];

    /// What it is called while it runs.
    pub fn label(self) -> &'static str {
        match self {
            Self::EchoRtt => "F1 echo round trip, blocking",
            Self::EchoSpinRtt => "F1 echo round trip, spinning",
            Self::Oneway => "F2 one-way frames",
            Self::Spsc => "F3 ring between cores",
            Self::Wake => "F4 wake between cores",
            Self::Hiccup => "F5 hiccups",
            Self::Bulk => "F6 bulk bytes",
            Self::Echo64 => "F7 echo, 64 in flight",
        }
    }

    /// Measures it once.
    pub fn measure(self, plan: &FloorPlan) -> Result<Measured> {
        Ok(match self {
            Self::EchoRtt => Measured::EchoRtt(echo_rtt::run(plan, Waiting::Blocking)?),
            Self::EchoSpinRtt => Measured::EchoSpinRtt(echo_rtt::run(plan, Waiting::Spinning)?),
            Self::Oneway => Measured::Oneway(oneway::run(plan)?),
            Self::Spsc => Measured::Spsc(spsc::run(plan)?),
            Self::Wake => Measured::Wake(wake::run(plan)?),
            Self::Hiccup => Measured::Hiccup(hiccup::run(plan)?),
            Self::Bulk => Measured::Bulk(bulk::run(plan)?),
            Self::Echo64 => Measured::Echo64(echo64::run(plan)?),
        })
    }
}

/// What one measurement found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the result of the kind of the same name")]
pub enum Measured {
    EchoRtt(echo_rtt::EchoRttFloor),
    EchoSpinRtt(echo_rtt::EchoRttFloor),
    Oneway(oneway::OnewayFloor),
    Spsc(spsc::SpscFloor),
    Wake(wake::WakeFloor),
    Hiccup(hiccup::HiccupFloor),
    Bulk(bulk::BulkFloor),
    Echo64(echo64::Echo64Floor),
}

impl Measured {
    /// Which kind of floor this is.
    pub fn kind(&self) -> FloorKind {
        match self {
            Self::EchoRtt(_) => FloorKind::EchoRtt,
            Self::EchoSpinRtt(_) => FloorKind::EchoSpinRtt,
            Self::Oneway(_) => FloorKind::Oneway,
            Self::Spsc(_) => FloorKind::Spsc,
            Self::Wake(_) => FloorKind::Wake,
            Self::Hiccup(_) => FloorKind::Hiccup,
            Self::Bulk(_) => FloorKind::Bulk,
            Self::Echo64(_) => FloorKind::Echo64,
        }
    }

    /// The measured stretch of time.
    pub fn window(&self) -> &WindowReport {
        match self {
            Self::EchoRtt(floor) | Self::EchoSpinRtt(floor) => &floor.window,
            Self::Oneway(floor) => &floor.window,
            Self::Spsc(floor) => &floor.window,
            Self::Wake(floor) => &floor.window,
            Self::Hiccup(floor) => &floor.window,
            Self::Bulk(floor) => &floor.window,
            Self::Echo64(floor) => &floor.window,
        }
    }

    /// The latencies, for the kinds that have some.
    pub fn histogram(&self) -> Option<&Histogram<u64>> {
        match self {
            Self::EchoRtt(floor) | Self::EchoSpinRtt(floor) => Some(&floor.histogram),
            Self::Wake(floor) => Some(&floor.histogram),
            Self::Hiccup(floor) => Some(&floor.histogram),
            Self::Oneway(_) | Self::Spsc(_) | Self::Bulk(_) | Self::Echo64(_) => None,
        }
    }
}

/// One measurement and its place in the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// What was measured.
    pub measured: Measured,
}

/// Every measurement of a run, in the order in which they were made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FloorRounds {
    /// The measurements.
    pub rounds: Vec<Round>,
}

/// A figure over rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The quoted value: the median of rates, or the percentile of the merged histogram.
    pub value: f64,
    /// The lowest of the rounds.
    pub lowest: f64,
    /// The highest of the rounds.
    pub highest: f64,
}

impl FloorRounds {
    /// Measures `kinds` once each, as round number `round`, in an order drawn from `seed`.
    ///
    /// `before` is told what comes next.
    pub fn measure_round(
        &mut self,
        round: u32,
        seed: u64,
        kinds: &[FloorKind],
        plan: &FloorPlan,
        mut before: impl FnMut(FloorKind),
    ) -> Result<()> {
        for kind in shuffled(kinds, seed ^ u64::from(round)) {
            before(kind);
            self.rounds.push(Round { round, measured: kind.measure(plan)? });
        }
        Ok(())
    }

    /// The measurements of one kind.
    pub fn of(&self, kind: FloorKind) -> impl Iterator<Item = &Measured> {
        self.rounds.iter().map(|round| &round.measured).filter(move |found| found.kind() == kind)
    }

    /// All latencies of one kind; `None` when it was not measured or has none.
    pub fn histogram(&self, kind: FloorKind) -> Option<Histogram<u64>> {
        let parts: Vec<_> = self.of(kind).filter_map(Measured::histogram).collect();
        (!parts.is_empty()).then(|| merge(parts))
    }

    /// A percentile of the merged latencies of one kind, with the range of the rounds' own.
    ///
    /// `None` when too few samples lie beyond it.
    pub fn latency(&self, kind: FloorKind, at: f64) -> Option<Spread> {
        let value = quantile(&self.histogram(kind)?, at)? as f64;
        let each = self.of(kind).filter_map(|found| Some(found.histogram()?.value_at_quantile(at)));
        let (lowest, highest) = range(each.map(|value| value as f64))?;
        Some(Spread { value, lowest, highest })
    }

    /// The longest latency of one kind, with the range of the rounds' own.
    pub fn longest(&self, kind: FloorKind) -> Option<Spread> {
        let each = self.of(kind).filter_map(|found| Some(found.histogram()?.max() as f64));
        let (lowest, highest) = range(each)?;
        Some(Spread { value: highest, lowest, highest })
    }

    /// The median over rounds of a rate that `figure` takes from the measurements that have it.
    pub fn rate(&self, figure: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        let mut values: Vec<f64> =
            self.rounds.iter().filter_map(|round| figure(&round.measured)).collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let value = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Spread { value, lowest, highest })
    }

    /// The floors as the summary has them; what was not measured stays `None`.
    pub fn summary(&self) -> Floor {
        let at = |kind, at| self.latency(kind, at).map(|spread| spread.value as u64);
        let rate = |figure: fn(&Measured) -> Option<f64>| self.rate(figure).map(|rate| rate.value);
        Floor {
            echo_rtt_p50_ns: at(FloorKind::EchoRtt, 0.5),
            echo_rtt_p99_ns: at(FloorKind::EchoRtt, 0.99),
            echo_spin_rtt_p50_ns: at(FloorKind::EchoSpinRtt, 0.5),
            echo_spin_rtt_p99_ns: at(FloorKind::EchoSpinRtt, 0.99),
            oneway_msgs_per_s: rate(figures::oneway_msgs_per_s),
            oneway_msgs_per_cpu_s: rate(figures::oneway_msgs_per_cpu_s),
            spsc_msgs_per_s: rate(figures::spsc_msgs_per_s),
            wake_p50_ns: at(FloorKind::Wake, 0.5),
            hiccup_p99_ns: at(FloorKind::Hiccup, 0.99),
            hiccup_max_ns: self.longest(FloorKind::Hiccup).map(|spread| spread.value as u64),
            bulk_bytes_per_s: rate(figures::bulk_bytes_per_s),
            echo64_per_cpu_s: rate(figures::echo64_per_cpu_s),
        }
    }
}

/// The rates that are quoted, for [`FloorRounds::rate`].
pub(crate) mod figures {
    use super::Measured;

    pub(crate) fn oneway_msgs_per_s(found: &Measured) -> Option<f64> {
        if let Measured::Oneway(floor) = found { Some(floor.msgs_per_s) } else { None }
    }

    pub(crate) fn oneway_msgs_per_cpu_s(found: &Measured) -> Option<f64> {
        if let Measured::Oneway(floor) = found { Some(floor.msgs_per_cpu_s) } else { None }
    }

    pub(crate) fn spsc_msgs_per_s(found: &Measured) -> Option<f64> {
        if let Measured::Spsc(floor) = found { Some(floor.msgs_per_s) } else { None }
    }

    pub(crate) fn bulk_bytes_per_s(found: &Measured) -> Option<f64> {
        if let Measured::Bulk(floor) = found { Some(floor.bytes_per_s) } else { None }
    }

    pub(crate) fn echo64_per_cpu_s(found: &Measured) -> Option<f64> {
        if let Measured::Echo64(floor) = found { Some(floor.per_cpu_s) } else { None }
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (lowest, highest) = range.unwrap_or((value, value));
        Some((value.min(lowest), value.max(highest)))
    })
}

/// Fisher-Yates, drawing from splitmix64.
fn shuffled<T: Copy>(items: &[T], seed: u64) -> Vec<T> {
    let mut items = items.to_vec();
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^= drawn >> 31;
        items.swap(last, (drawn % (last as u64 + 1)) as usize);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::histogram::latency_histogram;

    fn oneway(msgs_per_s: f64) -> Measured {
        Measured::Oneway(oneway::OnewayFloor {
            msgs: 1,
            msgs_per_s,
            msgs_per_cpu_s: msgs_per_s / 2.0,
            window: WindowReport::default(),
        })
    }

    fn echo(latency_ns: u64, count: u64) -> Measured {
        let mut histogram = latency_histogram();
        histogram.record_n(latency_ns, count).expect("in bounds");
        Measured::EchoRtt(echo_rtt::EchoRttFloor {
            waiting: Waiting::Blocking,
            histogram,
            window: WindowReport::default(),
        })
    }

    fn rounds(found: Vec<Measured>) -> FloorRounds {
        let rounds = found.into_iter().map(|measured| Round { round: 1, measured }).collect();
        FloorRounds { rounds }
    }

    #[test]
    fn rates_are_medians_with_their_range() {
        let odd = rounds(vec![oneway(30.0), oneway(10.0), oneway(20.0)]);
        let spread = odd.rate(figures::oneway_msgs_per_s).expect("measured");
        assert_eq!(spread, Spread { value: 20.0, lowest: 10.0, highest: 30.0 });
        let even = rounds(vec![oneway(10.0), oneway(20.0)]);
        assert_eq!(even.summary().oneway_msgs_per_s, Some(15.0));
        assert_eq!(even.summary().oneway_msgs_per_cpu_s, Some(7.5));
        assert_eq!(even.summary().spsc_msgs_per_s, None);
    }

    #[test]
    fn percentiles_are_of_the_merged_histogram() {
        // The mean of the two medians would be 1,500; the merged median is 1,000.
        let found = rounds(vec![echo(1_000, 20_000), echo(2_000, 10_000)]);
        let spread = found.latency(FloorKind::EchoRtt, 0.5).expect("enough samples");
        assert_eq!(spread.value as u64, 1_000);
        assert_eq!((spread.lowest as u64, spread.highest as u64), (1_000, 2_000));
        assert_eq!(found.summary().echo_rtt_p99_ns, Some(2_000));
    }

    #[test]
    fn too_few_samples_give_no_percentile() {
        let found = rounds(vec![echo(1_000, 5_000)]);
        assert_eq!(found.summary().echo_rtt_p50_ns, Some(1_000));
        assert_eq!(found.summary().echo_rtt_p99_ns, None);
    }

    #[test]
    fn the_order_changes_from_round_to_round_and_repeats_with_the_seed() {
        let orders: Vec<_> = (0..20_u64).map(|seed| shuffled(&FloorKind::ALL, seed)).collect();
        assert!(orders.iter().any(|order| *order != orders[0]));
        assert_eq!(shuffled(&FloorKind::ALL, 7), orders[7]);
        for mut order in orders {
            order.sort_by_key(|kind| FloorKind::ALL.iter().position(|other| other == kind));
            assert_eq!(order, FloorKind::ALL);
        }
    }
}
