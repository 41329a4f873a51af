//! Scales, ticks and the frame around a panel.

use super::canvas::{Align, Canvas, INK, Pen, Type, text_width};

/// Size of tick labels.
pub const SMALL: f64 = 12.0;

/// How values become positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Equal steps.
    Linear {
        /// Lowest value.
        low: f64,
        /// Highest value.
        high: f64,
    },
    /// Equal factors; both ends above 0.
    Log {
        /// Lowest value.
        low: f64,
        /// Highest value.
        high: f64,
    },
}

impl Scale {
    /// From 0 to a round number above the values.
    pub fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let highest = finite(values).fold(0.0, f64::max);
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = round_step(highest / 8.0);
        Self::Linear { low: 0.0, high: (highest * 1.04 / step).ceil() * step }
    }

    /// Around the values, with the ends at 1, 2 or 5 times a power of ten.
    pub fn log_around(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = finite(values)
            .filter(|value| *value > 0.0)
            .fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high == 0.0 {
            return Self::Log { low: 1.0, high: 10.0 };
        }
        let below = |value: f64| {
            let power = 10_f64.powf(value.log10().floor());
            [5.0, 2.0, 1.0]
                .into_iter()
                .map(|digit| digit * power)
                .find(|round| *round <= value * (1.0 + 1e-9))
                .unwrap_or(power)
        };
        let above = |value: f64| {
            let power = 10_f64.powf(value.log10().floor());
            [1.0, 2.0, 5.0]
                .into_iter()
                .map(|digit| digit * power)
                .find(|round| *round >= value * (1.0 - 1e-9))
                .unwrap_or(power * 10.0)
        };
        let (low, mut high) = (below(low), above(high));
        if high <= low {
            high = low * 10.0;
        }
        Self::Log { low, high }
    }

    /// Where a value lies, 0 at the low end and 1 at the high end; values outside are held there.
    pub fn share(&self, value: f64) -> f64 {
        let share = match *self {
            Self::Linear { low, high } => (value - low) / (high - low),
            Self::Log { low, high } => (value.max(low * 1e-9) / low).ln() / (high / low).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Round values to label, at most about `most` of them.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let most = most.max(2);
        match *self {
            Self::Linear { low, high } => {
                let step = round_step((high - low) / most as f64);
                let first = (low / step).ceil() as i64;
                let last = (high / step + 1e-9).floor() as i64;
                (first..=last).map(|index| index as f64 * step).collect()
            }
            Self::Log { low, high } => {
                let decades = |digits: &[f64], every: i32| -> Vec<f64> {
                    let from = low.log10().floor() as i32;
                    let until = high.log10().ceil() as i32;
                    (from..=until)
                        .filter(|power| power.rem_euclid(every) == 0)
                        .flat_map(|power| digits.iter().map(move |d| d * 10_f64.powi(power)))
                        .filter(|v| *v >= low * (1.0 - 1e-9) && *v <= high * (1.0 + 1e-9))
                        .collect()
                };
                let fine = [
                    decades(&[1.0, 2.0, 5.0], 1),
                    decades(&[1.0, 3.0], 1),
                    decades(&[1.0], 1),
                    decades(&[1.0], 2),
                ];
                let fits = |ticks: &&Vec<f64>| ticks.len() <= most && ticks.len() >= 2;
                let chosen = fine.iter().find(fits).unwrap_or(&fine[3]);
                if chosen.len() >= 2 { chosen.clone() } else { vec![low, high] }
            }
        }
    }
}

fn finite(values: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
    values.into_iter().filter(|value| value.is_finite())
}

/// The next larger of 1, 2 and 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-12).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(power * 10.0)
}

/// A panel: the area of the data and its scales.
pub struct Panel {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
    /// Horizontal scale.
    pub x: Scale,
    /// Vertical scale.
    pub y: Scale,
}

/// How an axis is labelled.
pub struct Axis<'a> {
    /// What it shows, with the unit.
    pub name: &'a str,
    /// A value as text.
    pub label: &'a dyn Fn(f64) -> String,
}

impl Panel {
    /// The point of a value pair.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * (self.bottom - self.top),
        )
    }

    /// Draws grid, ticks and names. `x_ticks` replaces the round values if given.
    pub fn frame(
        &self,
        canvas: &mut Canvas<'_>,
        x: Option<&Axis<'_>>,
        y: &Axis<'_>,
        x_ticks: Option<&[f64]>,
    ) {
        let grid = Pen::new(INK, 1.0).faint(0.13);
        let rows = ((self.bottom - self.top) / 34.0) as usize;
        for tick in self.y.ticks(rows) {
            let (_, height) = self.at(0.0, tick);
            canvas.line(&[(self.left, height), (self.right, height)], grid);
            let kind = Type::new(SMALL, Align::End);
            canvas.text((self.left - 7.0, height), &(y.label)(tick), kind);
        }
        let name = Type { upwards: true, ..Type::new(SMALL, Align::Middle) };
        canvas.text((17.0, f64::midpoint(self.top, self.bottom)), y.name, name);

        let columns = ((self.right - self.left) / 80.0) as usize;
        let round = self.x.ticks(columns);
        let mut free_from = f64::MIN;
        for &tick in x_ticks.unwrap_or(&round) {
            let (across, _) = self.at(tick, 0.0);
            canvas.line(&[(across, self.top), (across, self.bottom)], grid);
            let Some(x) = x else { continue };
            let label = (x.label)(tick);
            let half = text_width(&label, SMALL) / 2.0;
            // A label that would touch its neighbour is left out; its grid line stays.
            if across - half >= free_from {
                canvas.text((across, self.bottom + 15.0), &label, Type::new(SMALL, Align::Middle));
                free_from = across + half + 6.0;
            }
        }
        if let Some(x) = x {
            let middle = f64::midpoint(self.left, self.right);
            canvas.text((middle, self.bottom + 36.0), x.name, Type::new(SMALL, Align::Middle));
        }
        let edge = Pen::new(INK, 1.0).faint(0.5);
        canvas.line(
            &[(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)],
            edge,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn ticks_are_round() {
        let scale = Scale::from_zero([930.0]);
        assert_eq!(scale, Scale::Linear { low: 0.0, high: 1_000.0 });
        assert_eq!(scale.ticks(5), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0]);
        let scale = Scale::log_around([12_300.0, 870_000.0]);
        assert_eq!(scale, Scale::Log { low: 10_000.0, high: 1_000_000.0 });
        assert_eq!(scale.ticks(8), [1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6],);
        assert_eq!(scale.ticks(3), [1e4, 1e5, 1e6]);
    }

    proptest! {
        #[test]
        fn any_values_get_a_scale_with_ticks(a in 1e-6..1e15_f64, b in 1e-6..1e15_f64) {
            for scale in [Scale::from_zero([a, b]), Scale::log_around([a, b])] {
                let ticks = scale.ticks(6);
                prop_assert!(ticks.len() >= 2 && ticks.len() <= 20, "{scale:?} {ticks:?}");
                for value in [a, b] {
                    prop_assert!((0.0..=1.0).contains(&scale.share(value)));
                }
                prop_assert!(scale.share(a.min(b)) <= scale.share(a.max(b)));
            }
        }
    }

    #[test]
    fn empty_and_odd_values_do_not_break_a_scale() {
        for values in [vec![], vec![0.0], vec![f64::NAN, f64::INFINITY], vec![5.0, 5.0]] {
            assert!(Scale::from_zero(values.clone()).ticks(5).len() >= 2);
            assert!(Scale::log_around(values).ticks(5).len() >= 2);
        }
    }
}
