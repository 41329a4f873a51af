//! The plots of a report, as SVG text: one function for each kind, data in, picture out.
//!
//! Each states its setting below the title, has units on its axes, keeps series apart by marker
//! or dash as well as by a colour-blind-safe colour, and renders without any font file. On a page,
//! text takes the page's colour, so that a dark page has a dark plot.

mod axes;
mod canvas;
mod load;
mod percentiles;
mod ratios;
mod scaling;
mod timeline;

use plotters::style::RGBColor;

pub use canvas::escape;
pub use load::{LoadPoint, latency_vs_load};
pub use percentiles::percentiles;
pub use ratios::{RatioBar, ratio_bars};
pub use scaling::{ScalePlot, ScaleSample, scaling};
pub use timeline::timeline;

use canvas::{Align, Canvas, Pen, Type, text_width};

/// The width of every plot in pixels.
const WIDTH: f64 = 760.0;
/// Room for the labels of the vertical axis.
const LEFT: f64 = 92.0;
/// Room at the right edge.
const RIGHT: f64 = 22.0;

/// What every plot says above its picture.
#[derive(Clone, Debug, Default)]
pub struct Caption {
    /// What is shown.
    pub title: String,
    /// Under which setting: message size, processes, hops, network, window, batching, pinning,
    /// commit, machine.
    pub setting: String,
    /// A reason in red, if the run is void.
    pub void: Option<String>,
}

/// How a series is shown in the legend.
#[derive(Clone, Copy)]
enum Mark {
    Line(Pen),
    LineWithDots(Pen),
    Dot(RGBColor),
    Ring(RGBColor),
    Area(RGBColor),
}

/// Texts and legend above the picture.
struct Header {
    setting: Vec<String>,
    void: Vec<String>,
    legend: Vec<(Mark, String)>,
    legend_rows: usize,
}

impl Header {
    fn new(caption: &Caption, legend: Vec<(Mark, String)>) -> Self {
        let room = WIDTH - 32.0;
        let mut header = Self {
            setting: wrap(&caption.setting, room, 12.0),
            void: caption
                .void
                .as_ref()
                .map(|reason| wrap(&format!("VOID: {reason}"), room, 12.0))
                .unwrap_or_default(),
            legend,
            legend_rows: 0,
        };
        header.legend_rows = header.place_legend().last().map_or(0, |(_, row)| row + 1);
        header
    }

    /// Left edge and row of each entry.
    fn place_legend(&self) -> Vec<(f64, usize)> {
        let (mut left, mut row) = (16.0, 0);
        self.legend
            .iter()
            .map(|(_, name)| {
                let width = 34.0 + text_width(name, 12.0) + 16.0;
                if left > 16.0 && left + width > WIDTH - 8.0 {
                    (left, row) = (16.0, row + 1);
                }
                let place = (left, row);
                left += width;
                place
            })
            .collect()
    }

    fn height(&self) -> f64 {
        38.0 + 17.0 * (self.setting.len() + self.void.len()) as f64
            + 20.0 * self.legend_rows as f64
            + 8.0
    }

    fn draw(&self, canvas: &mut Canvas<'_>, title: &str) {
        let mut size: f64 = 17.0;
        while text_width(title, size) > WIDTH - 32.0 && size > 11.0 {
            size -= 0.5;
        }
        canvas.text((16.0, 22.0), title, Type::new(size, Align::Start).bold());
        let mut y = 44.0;
        for line in &self.setting {
            canvas.text((16.0, y), line, Type::new(12.0, Align::Start));
            y += 17.0;
        }
        for line in &self.void {
            let kind = Type::new(12.0, Align::Start).bold().color(canvas::VERMILION);
            canvas.text((16.0, y), line, kind);
            y += 17.0;
        }
        for ((mark, name), (left, row)) in self.legend.iter().zip(self.place_legend()) {
            let y = y + 3.0 + 20.0 * row as f64;
            let middle = (left + 13.0, y);
            match *mark {
                Mark::Line(pen) => canvas.line(&[(left, y), (left + 26.0, y)], pen),
                Mark::LineWithDots(pen) => {
                    canvas.line(&[(left, y), (left + 26.0, y)], pen);
                    canvas.dot(middle, 3.5, pen.color, true);
                }
                Mark::Dot(color) => canvas.dot(middle, 4.0, color, true),
                Mark::Ring(color) => canvas.dot(middle, 4.0, color, false),
                Mark::Area(color) => {
                    canvas.rect((left, y - 5.0), (left + 26.0, y + 5.0), color, 0.35);
                }
            }
            canvas.text((left + 32.0, y), name, Type::new(12.0, Align::Start));
        }
    }
}

/// Breaks a text into lines of at most this width, between words.
fn wrap(text: &str, room: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(word, size) + size < room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The runs of a series between its holes.
fn stretches(points: impl IntoIterator<Item = Option<(f64, f64)>>) -> Vec<Vec<(f64, f64)>> {
    let mut stretches = vec![Vec::new()];
    for point in points {
        match point {
            Some(point) => stretches.last_mut().expect("never empty").push(point),
            None => stretches.push(Vec::new()),
        }
    }
    stretches.retain(|stretch| !stretch.is_empty());
    stretches
}

#[cfg(test)]
mod tests;
