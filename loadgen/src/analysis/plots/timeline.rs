//! Throughput and latency over time, with a mark for each event.

use super::axes::{Axis, Panel, Scale};
use super::canvas::{self, Align, Canvas, INK, Pen, Type, text_width};
use super::{Caption, Header, LEFT, Mark, RIGHT, WIDTH, stretches};
use crate::analysis::table;
use crate::analysis::timeline::{BUCKET_NS, Bucket, Timeline};

/// Draws delivered messages per second as an area above and p99 with the maximum below; buckets
/// with refused, dead or unknown messages are marked between them.
pub fn timeline(caption: &Caption, timeline: &Timeline) -> String {
    let p99_pen = Pen::new(canvas::VERMILION, 1.8);
    let max_pen = Pen::new(canvas::PURPLE, 1.2).faint(0.8);
    let faults = |bucket: &Bucket| bucket.refused + bucket.dead + bucket.unknown;
    let all_faults: u64 = timeline.buckets.iter().map(faults).sum();
    let legend = vec![
        (Mark::Area(canvas::BLUE), "delivered".to_owned()),
        (Mark::Line(p99_pen), "p99".to_owned()),
        (Mark::Line(max_pen), "max".to_owned()),
        (
            Mark::Dot(canvas::ORANGE),
            format!(
                "100 ms with refused, dead or unknown ({} in all)",
                table::count(all_faults as f64)
            ),
        ),
    ];
    let header = Header::new(caption, legend);
    let width_s = BUCKET_NS as f64 / 1e9;
    let end_s = (timeline.buckets.len() as f64 * width_s).max(width_s);

    let x = Scale::Linear { low: 0.0, high: end_s };
    let across = |at_s: f64| LEFT + x.share(at_s) * (WIDTH - RIGHT - LEFT);
    let labels = place_labels(timeline, across);
    let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);
    let top = header.height() + 6.0 + 16.0 * rows as f64;
    let (upper, gap, lower) = (190.0, 34.0, 170.0);
    let height = top + upper + gap + lower + 54.0;

    let rate = |bucket: &Bucket| bucket.delivered as f64 / width_s;
    let above = Panel {
        left: LEFT,
        right: WIDTH - RIGHT,
        top,
        bottom: top + upper,
        x,
        y: Scale::from_zero(timeline.buckets.iter().map(rate)),
    };
    let latencies = || timeline.buckets.iter().flat_map(|bucket| [bucket.p99_ns, bucket.max_ns]);
    let below = Panel {
        top: top + upper + gap,
        bottom: top + upper + gap + lower,
        y: Scale::log_around(latencies().flatten().map(|ns| ns as f64)),
        ..above
    };

    canvas::draw(WIDTH, height, &caption.title, |canvas| {
        header.draw(canvas, &caption.title);
        let seconds = |value: f64| format!("{}", (value * 1_000.0).round() / 1_000.0);
        above.frame(canvas, None, &Axis { name: "messages/s", label: &table::count }, None);
        below.frame(
            canvas,
            Some(&Axis { name: "time (s)", label: &seconds }),
            &Axis { name: "latency", label: &table::duration },
            None,
        );
        draw_rates(canvas, &above, timeline, rate);
        for (index, bucket) in timeline.buckets.iter().enumerate() {
            if faults(bucket) > 0 {
                let (across, _) = above.at((index as f64 + 0.5) * width_s, 0.0);
                canvas.dot((across, above.bottom + 15.0), 3.0, canvas::ORANGE, true);
            }
        }
        draw_latency(canvas, &below, timeline, |bucket| bucket.max_ns, max_pen);
        draw_latency(canvas, &below, timeline, |bucket| bucket.p99_ns, p99_pen);
        for label in labels {
            let pen = Pen::new(INK, 1.3).dashed().faint(0.75);
            let y = above.top - 10.0 - 16.0 * (rows - 1 - label.row) as f64;
            canvas.line(&[(label.across, y + 7.0), (label.across, below.bottom)], pen);
            canvas.text((label.left, y), &label.text, Type::new(12.0, Align::Start).bold());
        }
    })
}

fn draw_rates(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    timeline: &Timeline,
    rate: impl Fn(&Bucket) -> f64,
) {
    let width_s = BUCKET_NS as f64 / 1e9;
    // Steps, because a bucket is a sum over its whole width.
    let edge: Vec<_> = timeline
        .buckets
        .iter()
        .enumerate()
        .flat_map(|(index, bucket)| {
            let from = index as f64 * width_s;
            [panel.at(from, rate(bucket)), panel.at(from + width_s, rate(bucket))]
        })
        .collect();
    if let (Some(first), Some(last)) = (edge.first(), edge.last()) {
        let mut shape = edge.clone();
        shape.push((last.0, panel.bottom));
        shape.push((first.0, panel.bottom));
        canvas.area(&shape, canvas::BLUE, 0.35);
        canvas.line(&edge, Pen::new(canvas::BLUE, 1.4));
    }
}

/// A line, with gaps where there is no figure.
fn draw_latency(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    timeline: &Timeline,
    of: fn(&Bucket) -> Option<u64>,
    pen: Pen,
) {
    let width_s = BUCKET_NS as f64 / 1e9;
    let middle = |index: usize| (index as f64 + 0.5) * width_s;
    let line = timeline
        .buckets
        .iter()
        .enumerate()
        .map(|(index, bucket)| of(bucket).map(|ns| panel.at(middle(index), ns as f64)));
    for stretch in stretches(line) {
        if let [only] = stretch[..] {
            canvas.dot(only, 2.0, pen.color, true);
        }
        canvas.line(&stretch, pen);
    }
}

struct Label {
    text: String,
    across: f64,
    left: f64,
    row: usize,
}

/// Gives each event's label a row in which it touches no other; the first row is the highest.
fn place_labels(timeline: &Timeline, across: impl Fn(f64) -> f64) -> Vec<Label> {
    let mut row_free_from: Vec<f64> = Vec::new();
    timeline
        .events
        .iter()
        .map(|event| {
            let across = across(event.at_us as f64 / 1e6);
            let width = text_width(&event.kind, 12.0);
            // Beside its line, so that the lines of earlier labels above never cross it.
            let right_of_line = across + 4.0;
            let left = if right_of_line + width > WIDTH - 4.0 {
                (across - 4.0 - width).max(4.0)
            } else {
                right_of_line
            };
            let row = (0..row_free_from.len())
                .find(|&row| {
                    row_free_from[row] <= left
                        && row_free_from[row + 1..].iter().all(|free| *free <= across)
                })
                .unwrap_or_else(|| {
                    row_free_from.push(0.0);
                    row_free_from.len() - 1
                });
            row_free_from[row] = left + width + 6.0;
            Label { text: event.kind.clone(), across, left, row }
        })
        .collect()
}
