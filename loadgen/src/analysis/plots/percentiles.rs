//! Whole latency distributions: value over 1 / (1 - p), the way HdrHistogram plots them.

use hdrhistogram::Histogram;

use super::axes::{Axis, Panel, Scale};
use super::canvas::{self, Pen, SERIES};
use super::{Caption, Header, LEFT, Mark, RIGHT, WIDTH};
use crate::analysis::histogram::SAMPLES_BEYOND;
use crate::analysis::table;

/// Draws distributions. Each is a solid line as far as 100 samples lie beyond, then a faint one
/// up to its maximum, which is marked with a dot: that part is shown, not quoted.
pub fn percentiles(caption: &Caption, series: &[(String, &Histogram<u64>)]) -> String {
    let series: Vec<_> = series.iter().filter(|(_, histogram)| !histogram.is_empty()).collect();
    let legend = series
        .iter()
        .enumerate()
        .map(|(index, (name, histogram))| {
            let text = format!("{name} ({} samples)", table::count(histogram.len() as f64));
            (Mark::Line(pen(index)), text)
        })
        .chain([(Mark::Dot(canvas::INK), "maximum".to_owned())])
        .collect();
    let header = Header::new(caption, legend);
    let top = header.height();
    let height = top + 350.0;

    let samples = series.iter().map(|(_, histogram)| histogram.len()).max().unwrap_or(0);
    // The maximum of n samples stands at p = 1 - 1 / n.
    let x = Scale::Log { low: 1.0, high: (samples as f64).max(1_000.0) * 1.3 };
    let y =
        Scale::log_around(series.iter().flat_map(|(_, histogram)| {
            [histogram.min().max(1) as f64, histogram.max().max(1) as f64]
        }));
    let panel = Panel { left: LEFT, right: WIDTH - RIGHT, top, bottom: height - 54.0, x, y };

    canvas::draw(WIDTH, height, &caption.title, |canvas| {
        header.draw(canvas, &caption.title);
        let nines: Vec<f64> = std::iter::once(1.0)
            .chain([2.0])
            .chain((1..12).map(|nines| 10_f64.powi(nines)))
            .take_while(|inverse| *inverse <= samples as f64 * 1.3 || *inverse <= 1_000.0)
            .collect();
        panel.frame(
            canvas,
            Some(&Axis { name: "percentile, at 1 / (1 - p)", label: &percent }),
            &Axis { name: "latency from the due time", label: &table::duration },
            Some(&nines),
        );
        for (index, (_, histogram)) in series.iter().enumerate() {
            let count = histogram.len() as f64;
            let last = 1.0 - 1.0 / count;
            let quoted = (1.0 - SAMPLES_BEYOND as f64 / count).max(0.0);
            let (mut solid, mut faint) = (Vec::new(), Vec::new());
            for step in histogram.iter_quantiles(12) {
                let quantile = step.quantile_iterated_to().min(last);
                let value = step.value_iterated_to().min(histogram.max());
                let at = panel.at(1.0 / (1.0 - quantile), value as f64);
                if quantile <= quoted {
                    solid.push(at);
                } else {
                    if faint.is_empty() {
                        faint.extend(solid.last());
                    }
                    faint.push(at);
                }
            }
            canvas.line(&solid, pen(index));
            canvas.line(&faint, Pen { dash: None, ..pen(index) }.faint(0.45));
            canvas.dot(panel.at(count, histogram.max() as f64), 4.0, pen(index).color, true);
        }
    })
}

/// Colours repeat after six series, dashed from then on.
fn pen(index: usize) -> Pen {
    let pen = Pen::new(SERIES[index % SERIES.len()], 2.2);
    if index < SERIES.len() { pen } else { pen.dashed() }
}

/// The percentile that stands at 1 / (1 - p).
fn percent(inverse: f64) -> String {
    if inverse <= 1.0 {
        return "0 %".to_owned();
    }
    // Two nines before the point, the others behind it.
    let decimals = (inverse.log10().round() as usize).saturating_sub(2);
    format!("{:.decimals$} %", 100.0 * (1.0 - 1.0 / inverse))
}
