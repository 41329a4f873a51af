//! Drawing primitives over the SVG backend: coordinates in pixels with fractions, colours that
//! follow the page, and text that needs no font of its own.

use plotters::prelude::{DrawingBackend, FontDesc, FontFamily, RGBColor, SVGBackend, ShapeStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, FontTransform, TextStyle};

/// The backend takes whole numbers only; this many of them make a pixel.
const UNITS: f64 = 8.0;

/// Text, axes and grid: becomes the page's text colour.
pub const INK: RGBColor = RGBColor(0x1b, 0x1b, 0x1f);
/// The ground: white in a file, transparent in a page.
const PAPER: RGBColor = RGBColor(0xfe, 0xfe, 0xfd);

// From the palette of Okabe and Ito (2008), which stays distinct for all common colour
// deficiencies; its black and yellow are left out because they vanish on dark or light ground.
/// Main series.
pub const BLUE: RGBColor = RGBColor(0x00, 0x7f, 0xc4);
/// What deserves attention.
pub const VERMILION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
/// Third series.
pub const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
/// Fourth series.
pub const PURPLE: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
/// Fifth series.
pub const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
/// Sixth series.
pub const SKY: RGBColor = RGBColor(0x56, 0xb4, 0xe9);

/// The colours of several series, in order.
pub const SERIES: [RGBColor; 6] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY];

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Pen {
    /// Colour.
    pub color: RGBColor,
    /// 0 to 1.
    pub opacity: f64,
    /// Width in pixels.
    pub width: f64,
    /// Lengths of dash and gap; `None` for a solid line.
    pub dash: Option<(f64, f64)>,
}

impl Pen {
    /// A solid line.
    pub fn new(color: RGBColor, width: f64) -> Self {
        Self { color, opacity: 1.0, width, dash: None }
    }

    /// The same, dashed.
    pub fn dashed(self) -> Self {
        Self { dash: Some((6.0, 4.0)), ..self }
    }

    /// The same, partly transparent.
    pub fn faint(self, opacity: f64) -> Self {
        Self { opacity, ..self }
    }

    fn style(self, filled: bool) -> ShapeStyle {
        ShapeStyle {
            color: self.color.mix(self.opacity),
            filled,
            stroke_width: (self.width * UNITS).round() as u32,
        }
    }
}

/// How a text is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Type {
    /// Height in pixels.
    pub size: f64,
    /// Relation to its point.
    pub align: Align,
    /// Colour.
    pub color: RGBColor,
    /// Heavy.
    pub bold: bool,
    /// Read from below upwards.
    pub upwards: bool,
}

impl Type {
    /// Plain text in ink.
    pub fn new(size: f64, align: Align) -> Self {
        Self { size, align, color: INK, bold: false, upwards: false }
    }

    /// The same, heavy.
    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The same in another colour.
    pub fn color(self, color: RGBColor) -> Self {
        Self { color, ..self }
    }
}

/// How wide a text will be at most, near enough for placing it: the fonts of browsers differ.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// Draws one picture and returns it as SVG text. `label` is read out where pictures are not seen.
pub fn draw(width: f64, height: f64, label: &str, picture: impl FnOnce(&mut Canvas<'_>)) -> String {
    let mut text = String::new();
    {
        let size = ((width * UNITS) as u32, (height * UNITS) as u32);
        let mut canvas = Canvas { backend: SVGBackend::with_string(&mut text, size) };
        canvas.rect((0.0, 0.0), (width, height), PAPER, 1.0);
        picture(&mut canvas);
        canvas.backend.present().expect("a String takes every write");
    }
    // The backend knows neither page colours nor labels.
    let hex = |color: RGBColor| format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
    let head_end = text.find('>').map_or(0, |end| end + 1);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {} {}\" color=\"{}\" role=\"img\">\n<title>{}</title>\n{}",
        width * UNITS,
        height * UNITS,
        hex(INK),
        escape(label),
        text[head_end..]
            .replace(&format!("\"{}\"", hex(INK)), "\"currentColor\"")
            .replace(
                &format!("fill=\"{}\"", hex(PAPER)),
                &format!("class=\"paper\" fill=\"{}\"", hex(PAPER)),
            )
            .trim_start(),
    )
}

/// Makes a text safe to stand in XML or HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters are not allowed in XML at all.
            c if c.is_control() && c != '\n' && c != '\t' => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// What is drawn on.
pub struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

fn units((x, y): (f64, f64)) -> (i32, i32) {
    ((x * UNITS).round() as i32, (y * UNITS).round() as i32)
}

impl Canvas<'_> {
    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], pen: Pen) {
        let Some((dash, gap)) = pen.dash else {
            let points: Vec<_> = points.iter().copied().map(units).collect();
            self.backend.draw_path(points, &pen.style(false)).expect("a String takes every write");
            return;
        };
        let solid = Pen { dash: None, ..pen };
        // How far into the current dash or gap the line has come.
        let (mut drawing, mut left) = (true, dash);
        let mut stroke = Vec::new();
        for pair in points.windows(2) {
            let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
            let length = (to_x - x).hypot(to_y - y);
            let mut done = 0.0;
            while done < length {
                let step = left.min(length - done);
                let at =
                    |done: f64| (x + (to_x - x) * done / length, y + (to_y - y) * done / length);
                if drawing {
                    if stroke.is_empty() {
                        stroke.push(at(done));
                    }
                    stroke.push(at(done + step));
                }
                done += step;
                left -= step;
                if left <= 0.0 {
                    if drawing {
                        self.line(&std::mem::take(&mut stroke), solid);
                    }
                    drawing = !drawing;
                    left = if drawing { dash } else { gap };
                }
            }
        }
        if stroke.len() > 1 {
            self.line(&stroke, solid);
        }
    }

    /// A filled shape.
    pub fn area(&mut self, points: &[(f64, f64)], color: RGBColor, opacity: f64) {
        let points: Vec<_> = points.iter().copied().map(units).collect();
        self.backend.fill_polygon(points, &color.mix(opacity)).expect("a String takes every write");
    }

    /// A filled rectangle.
    pub fn rect(&mut self, a: (f64, f64), b: (f64, f64), color: RGBColor, opacity: f64) {
        let upper_left = units((a.0.min(b.0), a.1.min(b.1)));
        let lower_right = units((a.0.max(b.0), a.1.max(b.1)));
        self.backend
            .draw_rect(upper_left, lower_right, &color.mix(opacity), true)
            .expect("a String takes every write");
    }

    /// A dot, filled or as a ring.
    pub fn dot(&mut self, at: (f64, f64), radius: f64, color: RGBColor, filled: bool) {
        let pen = Pen::new(color, 1.6);
        self.backend
            .draw_circle(units(at), (radius * UNITS) as u32, &pen.style(filled), filled)
            .expect("a String takes every write");
    }

    /// A text; its point is at half its height.
    pub fn text(&mut self, at: (f64, f64), text: &str, kind: Type) {
        let horizontal = match kind.align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        // The backend divides sizes by 1.24.
        let font = FontDesc::new(
            FontFamily::Name("system-ui, 'DejaVu Sans', sans-serif"),
            kind.size * UNITS * 1.24,
            if kind.bold { FontStyle::Bold } else { FontStyle::Normal },
        );
        let font = if kind.upwards { font.transform(FontTransform::Rotate270) } else { font };
        let style =
            TextStyle::from(font).color(&kind.color).pos(Pos::new(horizontal, VPos::Center));
        self.backend.draw_text(text, &style, units(at)).expect("a String takes every write");
    }
}
