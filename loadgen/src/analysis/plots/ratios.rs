//! How far each figure is from the machine's floor.

use super::axes::{Panel, Scale};
use super::canvas::{self, Align, INK, Pen, Type, text_width};
use super::{Caption, Header, Mark, RIGHT, WIDTH};
use crate::analysis::table;

/// One figure and its floor.
#[derive(Clone, Debug)]
pub struct RatioBar {
    /// What it is, as `ask p50`.
    pub name: String,
    /// The figure divided by its floor.
    pub ratio: f64,
    /// Whether a larger ratio is better (rates) or worse (latencies).
    pub more_is_better: bool,
    /// The two values as text, as `38.0 us / 16.0 us`.
    pub values: String,
}

const ROW: f64 = 38.0;

/// Draws a bar from the floor (1) to each ratio on a logarithmic scale: the longer the bar, the
/// further from what the machine can do.
pub fn ratio_bars(caption: &Caption, bars: &[RatioBar]) -> String {
    let bars: Vec<&RatioBar> =
        bars.iter().filter(|bar| bar.ratio.is_finite() && bar.ratio > 0.0).collect();
    let mut legend = Vec::new();
    if bars.iter().any(|bar| bar.more_is_better) {
        legend.push((Mark::Area(canvas::BLUE), "rate: more is better".to_owned()));
    }
    if bars.iter().any(|bar| !bar.more_is_better) {
        legend.push((Mark::Area(canvas::VERMILION), "latency: less is better".to_owned()));
    }
    legend.push((Mark::Line(Pen::new(INK, 2.0)), "1 = the machine's floor".to_owned()));
    let header = Header::new(caption, legend);
    let top = header.height();
    let bottom = top + ROW * bars.len().max(1) as f64 + 8.0;
    let names =
        bars.iter().map(|bar| text_width(&bar.name, 13.0).max(text_width(&bar.values, 11.0)));
    let left = (names.fold(60.0, f64::max) + 24.0).min(WIDTH / 2.0);

    let x = Scale::log_around(
        bars.iter()
            .flat_map(|bar| {
                // Room for the number beside the bar, on either side.
                [bar.ratio, bar.ratio * if bar.ratio < 1.0 { 0.55 } else { 1.8 }]
            })
            .chain([0.5, 2.0]),
    );
    let panel = Panel {
        left,
        right: WIDTH - RIGHT,
        top,
        bottom,
        x,
        y: Scale::Linear { low: 0.0, high: 1.0 },
    };
    canvas::draw(WIDTH, bottom + 50.0, &caption.title, |canvas| {
        header.draw(canvas, &caption.title);
        let grid = Pen::new(INK, 1.0).faint(0.13);
        let mut free_from = f64::MIN;
        for tick in panel.x.ticks(9) {
            let (across, _) = panel.at(tick, 0.0);
            canvas.line(&[(across, panel.top), (across, panel.bottom)], grid);
            // Ticks are 1 or 3 times a power of ten; their own digits are enough.
            let label = format!("{}", (tick * 1e9).round() / 1e9);
            let half = text_width(&label, 12.0) / 2.0;
            if across - half >= free_from {
                canvas.text((across, panel.bottom + 13.0), &label, Type::new(12.0, Align::Middle));
                free_from = across + half + 6.0;
            }
        }
        let middle = f64::midpoint(panel.left, panel.right);
        let name = "figure / floor (logarithmic)";
        canvas.text((middle, panel.bottom + 33.0), name, Type::new(12.0, Align::Middle));
        let (floor, _) = panel.at(1.0, 0.0);
        for (row, bar) in bars.iter().enumerate() {
            let y = panel.top + ROW * (row as f64 + 0.5) + 4.0;
            canvas.text((16.0, y - 8.0), &bar.name, Type::new(13.0, Align::Start));
            canvas.text((16.0, y + 8.0), &bar.values, Type::new(11.0, Align::Start));
            let color = if bar.more_is_better { canvas::BLUE } else { canvas::VERMILION };
            let (end, _) = panel.at(bar.ratio, 0.0);
            canvas.rect((floor, y - 9.0), (end, y + 9.0), color, 0.75);
            let (at, align) =
                if end < floor { (end - 6.0, Align::End) } else { (end + 6.0, Align::Start) };
            canvas.text((at, y), &table::ratio(bar.ratio), Type::new(13.0, align).bold());
        }
        canvas.line(&[(floor, panel.top), (floor, panel.bottom)], Pen::new(INK, 2.0));
    })
}
