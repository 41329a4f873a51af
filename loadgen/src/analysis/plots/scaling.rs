//! Throughput over node counts, with the fitted Universal Scalability Law.

use serde::{Deserialize, Serialize};

use super::axes::{Axis, Panel, Scale};
use super::canvas::{self, Align, Canvas, INK, Pen, Type};
use super::{Caption, Header, LEFT, Mark, RIGHT, WIDTH};
use crate::analysis::table;
use crate::analysis::usl::Fit;

/// One measurement; several rounds at one node count are several of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleSample {
    /// Nodes.
    pub nodes: u32,
    /// Delivered messages per second of wall time.
    pub msgs_per_s: f64,
    /// Delivered messages per CPU-second of all processes.
    pub msgs_per_cpu_s: f64,
}

/// What the scaling plot shows.
#[derive(Clone, Debug)]
pub struct ScalePlot<'a> {
    /// The measurements.
    pub samples: &'a [ScaleSample],
    /// The law fitted to `nodes * msgs_per_cpu_s`: the throughput of nodes that each had a core
    /// of their own.
    pub fit: Option<&'a Fit>,
    /// Cores of the machine; beyond them, wall time measures the scheduler.
    pub cores: u32,
}

/// Draws throughput per CPU-second above, with the law, and wall throughput below.
pub fn scaling(caption: &Caption, plot: &ScalePlot<'_>) -> String {
    let most_nodes = plot.samples.iter().map(|sample| sample.nodes).max().unwrap_or(1).max(2);
    let outnumbered = most_nodes > plot.cores;
    let fit_pen = Pen::new(canvas::VERMILION, 2.0);
    let mut legend = vec![(Mark::Dot(canvas::BLUE), "measured round".to_owned())];
    let mut caption = caption.clone();
    if let Some(fit) = plot.fit {
        legend.push((Mark::Line(fit_pen), "Universal Scalability Law, per node".to_owned()));
        caption.setting += &law_text(fit);
    }
    if outnumbered {
        legend.push((Mark::Area(INK), format!("more nodes than the {} cores", plot.cores)));
    }
    let header = Header::new(&caption, legend);
    let top = header.height() + 6.0;
    let (upper, gap, lower) = (230.0, 30.0, 150.0);
    let height = top + upper + gap + lower + 54.0;

    // Nodes are whole: half a step of room on either side, and one tick for each count.
    let x = Scale::Linear { low: 0.5, high: f64::from(most_nodes) + 0.5 };
    let mut counts: Vec<f64> = plot.samples.iter().map(|sample| f64::from(sample.nodes)).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    let alone = plot.fit.map(|fit| fit.law.at(1.0));
    let per_cpu = plot.samples.iter().map(|sample| sample.msgs_per_cpu_s).chain(alone);
    let above = Panel {
        left: LEFT,
        right: WIDTH - RIGHT,
        top,
        bottom: top + upper,
        x,
        y: Scale::from_zero(per_cpu),
    };
    let below = Panel {
        top: top + upper + gap,
        bottom: top + upper + gap + lower,
        y: Scale::from_zero(plot.samples.iter().map(|sample| sample.msgs_per_s)),
        ..above
    };

    canvas::draw(WIDTH, height, &caption.title, |canvas| {
        header.draw(canvas, &caption.title);
        if outnumbered {
            for panel in [&above, &below] {
                let (across, _) = panel.at(f64::from(plot.cores) + 0.5, 0.0);
                canvas.rect((across, panel.top), (panel.right, panel.bottom), INK, 0.07);
            }
        }
        above.frame(
            canvas,
            None,
            &Axis { name: "msgs per CPU-second", label: &table::count },
            Some(&counts),
        );
        below.frame(
            canvas,
            Some(&Axis { name: "nodes", label: &table::count }),
            &Axis { name: "msgs/s (wall)", label: &table::count },
            Some(&counts),
        );
        if let Some(fit) = plot.fit {
            draw_law(canvas, &above, fit, most_nodes, fit_pen);
        }
        for sample in plot.samples {
            let nodes = f64::from(sample.nodes);
            canvas.dot(above.at(nodes, sample.msgs_per_cpu_s), 4.0, canvas::BLUE, true);
            canvas.dot(below.at(nodes, sample.msgs_per_s), 4.0, canvas::BLUE, true);
        }
        if let Some(peak) = plot.fit.and_then(|fit| fit.law.peak_nodes()) {
            let note = format!("the law's throughput peaks at {peak:.1} nodes");
            let at = (above.right - 8.0, above.top + 10.0);
            canvas.text(at, &note, Type::new(12.0, Align::End));
        }
    })
}

fn law_text(fit: &Fit) -> String {
    format!(
        " - USL of nodes x msgs per CPU-s: lambda {} ({} to {}), sigma {:.4} ({:.4} to {:.4}), \
         kappa {:.5} ({:.5} to {:.5}), 95 % confidence, r2 {:.3}",
        table::count(fit.law.lambda),
        table::count(fit.lambda.low),
        table::count(fit.lambda.high),
        fit.law.sigma,
        fit.sigma.low,
        fit.sigma.high,
        fit.law.kappa,
        fit.kappa.low,
        fit.kappa.high,
        fit.r_squared,
    )
}

/// What one of so many nodes brings, by the law.
fn draw_law(canvas: &mut Canvas<'_>, panel: &Panel, fit: &Fit, most_nodes: u32, pen: Pen) {
    let steps = 200;
    let nodes =
        |step: u32| 1.0 + f64::from(step) / f64::from(steps) * (f64::from(most_nodes) - 1.0);
    let points = (0..=steps).map(nodes).map(|nodes| panel.at(nodes, fit.law.at(nodes) / nodes));
    canvas.line(&points.collect::<Vec<_>>(), pen);
}
