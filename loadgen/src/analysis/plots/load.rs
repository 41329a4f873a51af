//! Latency over offered load: the curve that tells how near to its limit a system stays fast.

use serde::{Deserialize, Serialize};

use super::axes::{Axis, Panel, Scale};
use super::canvas::{self, Align, Canvas, INK, Pen, Type, text_width};
use super::{Caption, Header, LEFT, Mark, RIGHT, WIDTH, stretches};
use crate::analysis::histogram::Percentiles;
use crate::analysis::table;

/// Fewer loads than this are a few points, not a curve.
const LOADS_OF_A_CURVE: usize = 10;

/// Below this share of what was due, a load is past saturation.
const KEPT_UP: f64 = 0.95;

/// One load of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// Messages per second that were due.
    pub offered_per_s: f64,
    /// Messages per second that were delivered.
    pub delivered_per_s: f64,
    /// Latency from the due time.
    pub latency: Percentiles,
    /// Whether the run at this load was void; drawn as a ring.
    pub void: bool,
}

/// One percentile of several.
type Of = fn(&Percentiles) -> Option<u64>;

/// Draws latency percentiles over offered load, both axes logarithmic if the loads span more than
/// a factor of 20. `saturation_per_s` is marked, with its 50 % and 80 %; `floor_p50_ns` is drawn
/// as the machine's limit.
pub fn latency_vs_load(
    caption: &Caption,
    points: &[LoadPoint],
    saturation_per_s: Option<f64>,
    floor_p50_ns: Option<u64>,
) -> String {
    let mut points = points.to_vec();
    points.sort_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s));
    let series: [(&str, Of, Pen); 4] = [
        ("p50", |p| p.p50_ns, Pen::new(canvas::BLUE, 2.2)),
        ("p99", |p| p.p99_ns, Pen::new(canvas::VERMILION, 2.2)),
        ("p99.9", |p| p.p999_ns, Pen::new(canvas::GREEN, 2.2)),
        ("max", |p| (p.samples > 0).then_some(p.max_ns), Pen::new(canvas::PURPLE, 1.6).dashed()),
    ];
    let mut legend: Vec<(Mark, String)> = series
        .iter()
        .filter(|(_, of, _)| points.iter().any(|point| of(&point.latency).is_some()))
        .map(|(name, _, pen)| (Mark::LineWithDots(*pen), (*name).to_owned()))
        .collect();
    let floor_pen = Pen::new(INK, 1.4).dashed();
    if let Some(floor) = floor_p50_ns {
        let text = format!("floor: echo p50, {}", table::duration(floor as f64));
        legend.push((Mark::Line(floor_pen), text));
    }
    if points.iter().any(|point| point.void) {
        legend.push((Mark::Ring(INK), "void run".to_owned()));
    }
    let overload_per_s = points
        .iter()
        .find(|point| point.delivered_per_s < KEPT_UP * point.offered_per_s)
        .map(|point| point.offered_per_s);
    if overload_per_s.is_some() {
        legend.push((Mark::Area(INK), "delivered below 95 % of offered".to_owned()));
    }
    let mut caption = caption.clone();
    if points.len() < LOADS_OF_A_CURVE {
        caption.setting += &format!(" - ONLY {} LOADS, a curve needs 10", points.len());
    }
    let header = Header::new(&caption, legend);
    // Below the legend, a line for the marks of saturation.
    let top = header.height() + if saturation_per_s.is_some() { 20.0 } else { 4.0 };
    let height = top + 350.0;

    let loads = || points.iter().map(|point| point.offered_per_s).chain(saturation_per_s);
    let (low, high) =
        loads().fold((f64::MAX, 0.0_f64), |(low, high), load| (low.min(load), high.max(load)));
    let x = if high > 20.0 * low { Scale::log_around(loads()) } else { Scale::from_zero(loads()) };
    let values =
        points.iter().flat_map(|point| series.iter().filter_map(|(_, of, _)| of(&point.latency)));
    let y = Scale::log_around(values.chain(floor_p50_ns).map(|ns| ns as f64));
    let panel = Panel { left: LEFT, right: WIDTH - RIGHT, top, bottom: height - 54.0, x, y };

    canvas::draw(WIDTH, height, &caption.title, |canvas| {
        header.draw(canvas, &caption.title);
        if let Some(overload) = overload_per_s {
            let (across, _) = panel.at(overload, 0.0);
            canvas.rect((across, panel.top), (panel.right, panel.bottom), INK, 0.07);
        }
        panel.frame(
            canvas,
            Some(&Axis { name: "offered load (messages/s)", label: &table::count }),
            &Axis { name: "latency from the due time", label: &table::duration },
            None,
        );
        if let Some(floor) = floor_p50_ns {
            let (_, height) = panel.at(0.0, floor as f64);
            canvas.line(&[(panel.left, height), (panel.right, height)], floor_pen);
        }
        if let Some(saturation) = saturation_per_s {
            draw_saturation(canvas, &panel, saturation);
        }
        for (_, of, pen) in &series {
            draw_percentile(canvas, &panel, &points, *of, *pen);
        }
    })
}

/// Lines at the saturation and at the shares of it that are quoted.
fn draw_saturation(canvas: &mut Canvas<'_>, panel: &Panel, saturation_per_s: f64) {
    let mut free_until = f64::MAX;
    // From the right, so that the saturation itself is always named.
    for (share, name) in [(1.0, "saturation"), (0.8, "80 %"), (0.5, "50 %")] {
        let (across, _) = panel.at(saturation_per_s * share, 0.0);
        let pen = Pen::new(INK, 1.2).dashed().faint(0.6);
        canvas.line(&[(across, panel.top), (across, panel.bottom)], pen);
        let half = text_width(name, 11.0) / 2.0;
        let middle = across.min(WIDTH - 6.0 - half);
        if middle + half < free_until {
            canvas.text((middle, panel.top - 9.0), name, Type::new(11.0, Align::Middle));
            free_until = middle - half - 6.0;
        }
    }
}

/// A line with a dot for each load, with gaps where too few samples give no figure.
fn draw_percentile(canvas: &mut Canvas<'_>, panel: &Panel, points: &[LoadPoint], of: Of, pen: Pen) {
    let line = points
        .iter()
        .map(|point| of(&point.latency).map(|ns| panel.at(point.offered_per_s, ns as f64)));
    for stretch in stretches(line) {
        canvas.line(&stretch, pen);
    }
    for point in points {
        if let Some(ns) = of(&point.latency) {
            let at = panel.at(point.offered_per_s, ns as f64);
            canvas.dot(at, 3.5, pen.color, !point.void);
        }
    }
}
