//! The Universal Scalability Law fitted to throughput over node counts.
//!
//! `X(n) = lambda n / (1 + sigma (n - 1) + kappa n (n - 1))`: lambda is the throughput of one
//! node, sigma the share of work that is serial (contention), kappa the cost of keeping pairs of
//! nodes coherent (crosstalk). Source: N. J. Gunther, "Guerrilla Capacity Planning", 2007.

use keyway::base::Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// How many different node counts a fit needs.
pub const MIN_NODE_COUNTS: usize = 4;

/// Throughput at one node count. Several rounds at one count are several points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Node count, at least 1.
    pub nodes: f64,
    /// Throughput in any unit.
    pub throughput: f64,
}

/// The law's parameters. Sigma and kappa are never negative: throughput that grows faster than
/// the nodes is noise or a change of setting, not a law.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// Throughput of one node.
    pub lambda: f64,
    /// Contention.
    pub sigma: f64,
    /// Crosstalk.
    pub kappa: f64,
}

impl Law {
    /// The throughput at a node count.
    pub fn at(&self, nodes: f64) -> f64 {
        self.lambda * nodes
            / (1.0 + self.sigma * (nodes - 1.0) + self.kappa * nodes * (nodes - 1.0))
    }

    /// The node count with the highest throughput; `None` if it rises without end.
    pub fn peak_nodes(&self) -> Option<f64> {
        (self.kappa > 0.0).then(|| ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt().max(1.0))
    }
}

/// A range that holds a parameter with 95 % confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// A fitted law with its confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// The best parameters.
    pub law: Law,
    /// Confidence of lambda.
    pub lambda: Confidence,
    /// Confidence of sigma.
    pub sigma: Confidence,
    /// Confidence of kappa.
    pub kappa: Confidence,
    /// Share of the points' variance that the law explains; 1 is all.
    pub r_squared: f64,
}

/// Fits the law by least squares of the relative error (noise grows with throughput), and finds
/// the confidence by a residual bootstrap of `resamples` rounds from `seed`.
///
/// Errors if a point is impossible or there are fewer than [`MIN_NODE_COUNTS`] node counts: three
/// parameters pass through any three points, which proves nothing.
pub fn fit(points: &[Point], resamples: usize, seed: u64) -> Result<Fit, String> {
    if let Some(bad) = points.iter().find(|point| {
        !(point.nodes.is_finite()
            && point.nodes >= 1.0
            && point.throughput.is_finite()
            && point.throughput > 0.0)
    }) {
        return Err(format!(
            "fitting the scalability law failed: {} per second at {} nodes is no measurement",
            bad.throughput, bad.nodes
        ));
    }
    let mut counts: Vec<f64> = points.iter().map(|point| point.nodes).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    if counts.len() < MIN_NODE_COUNTS {
        return Err(format!(
            "fitting the scalability law needs {MIN_NODE_COUNTS} different node counts, there are \
             {}; measure more",
            counts.len()
        ));
    }

    let law = least_squares(points);
    let mean = points.iter().map(|point| point.throughput).sum::<f64>() / points.len() as f64;
    let spread: f64 = points.iter().map(|point| (point.throughput - mean).powi(2)).sum();
    let left: f64 =
        points.iter().map(|point| (point.throughput - law.at(point.nodes)).powi(2)).sum();
    let r_squared = if spread > 0.0 { 1.0 - left / spread } else { 1.0 };

    // Residuals of a fit are smaller than the noise by the degrees of freedom it used up.
    let inflation = (points.len() as f64 / (points.len() as f64 - 3.0)).sqrt();
    let residuals: Vec<f64> = points
        .iter()
        .map(|point| (point.throughput / law.at(point.nodes) - 1.0) * inflation)
        .collect();
    let mut rng = Rng::seed_from_u64(seed);
    let laws: Vec<Law> = (0..resamples)
        .map(|_| {
            let resampled: Vec<Point> = points
                .iter()
                .map(|point| {
                    let residual = residuals[rng.random_range(0..residuals.len())];
                    // A throughput stays positive, however large the residual.
                    let factor = (1.0 + residual).max(0.01);
                    Point { throughput: law.at(point.nodes) * factor, ..*point }
                })
                .collect();
            least_squares(&resampled)
        })
        .collect();
    let confidence = |of: fn(&Law) -> f64| {
        let mut values: Vec<f64> = laws.iter().map(of).collect();
        if values.is_empty() {
            return Confidence { low: of(&law), high: of(&law) };
        }
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        Confidence { low: at(0.025), high: at(0.975) }
    };
    Ok(Fit {
        law,
        lambda: confidence(|law| law.lambda),
        sigma: confidence(|law| law.sigma),
        kappa: confidence(|law| law.kappa),
        r_squared,
    })
}

fn relative_error(points: &[Point], law: &Law) -> f64 {
    points.iter().map(|point| (law.at(point.nodes) / point.throughput - 1.0).powi(2)).sum()
}

/// The best law under `sigma, kappa >= 0`: the unconstrained minimum if it is allowed, else the
/// best on the edges, each found on its own.
fn least_squares(points: &[Point]) -> Law {
    if let Some(law) = on_edge(points, true, true) {
        return law;
    }
    [(true, false), (false, true), (false, false)]
        .into_iter()
        .filter_map(|(use_sigma, use_kappa)| on_edge(points, use_sigma, use_kappa))
        .min_by(|a, b| relative_error(points, a).total_cmp(&relative_error(points, b)))
        .expect("the law without sigma and kappa always fits")
}

/// Fits the parameters that are in use, the others at 0. `None` if one leaves its range.
fn on_edge(points: &[Point], use_sigma: bool, use_kappa: bool) -> Option<Law> {
    // Linear start: n / X = a + b (n - 1) + c n (n - 1), with lambda = 1 / a, sigma = b / a,
    // kappa = c / a. Weighted by X / n, so that it too minimises relative errors.
    let features = |nodes: f64| {
        [
            1.0,
            if use_sigma { nodes - 1.0 } else { 0.0 },
            if use_kappa { nodes * (nodes - 1.0) } else { 0.0 },
        ]
    };
    let in_use = [true, use_sigma, use_kappa];
    let mut normal = Normal::default();
    for point in points {
        let weight = point.throughput / point.nodes;
        normal.add(features(point.nodes).map(|feature| feature * weight), 1.0);
    }
    let [a, b, c] = normal.solve(in_use, 0.0)?;
    let mut law = Law { lambda: 1.0 / a, sigma: b / a, kappa: c / a };

    // Levenberg-Marquardt on the relative error of X itself.
    let mut error = relative_error(points, &law);
    let mut damping = 1e-3;
    for _ in 0..40 {
        let mut normal = Normal::default();
        for point in points {
            let nodes = point.nodes;
            let divisor = 1.0 + law.sigma * (nodes - 1.0) + law.kappa * nodes * (nodes - 1.0);
            let relative = law.at(nodes) / point.throughput;
            let [_, by_sigma, by_kappa] = features(nodes);
            // Derivatives of X / measured, with respect to ln lambda, sigma and kappa.
            let gradient =
                [relative, -relative * by_sigma / divisor, -relative * by_kappa / divisor];
            normal.add(gradient, 1.0 - relative);
        }
        let [d_lambda, d_sigma, d_kappa] = normal.solve(in_use, damping)?;
        let next = Law {
            lambda: law.lambda * d_lambda.clamp(-1.0, 1.0).exp(),
            sigma: law.sigma + d_sigma,
            kappa: law.kappa + d_kappa,
        };
        let next_error = relative_error(points, &next);
        if next_error < error {
            let gain = error - next_error;
            (law, error) = (next, next_error);
            damping /= 10.0;
            if gain <= error * 1e-9 {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e6 {
                break;
            }
        }
    }
    // Adding 0 turns the zero that carries a minus sign into the plain one.
    let law = Law { sigma: law.sigma + 0.0, kappa: law.kappa + 0.0, ..law };
    (law.lambda.is_finite() && law.lambda > 0.0 && law.sigma >= 0.0 && law.kappa >= 0.0)
        .then_some(law)
}

/// Normal equations of three unknowns.
#[derive(Default)]
struct Normal {
    matrix: [[f64; 3]; 3],
    right: [f64; 3],
}

impl Normal {
    fn add(&mut self, features: [f64; 3], target: f64) {
        for row in 0..3 {
            for column in 0..3 {
                self.matrix[row][column] += features[row] * features[column];
            }
            self.right[row] += features[row] * target;
        }
    }

    /// Gauss elimination with pivots; unknowns not in use are 0. `None` if it has no solution.
    fn solve(mut self, in_use: [bool; 3], damping: f64) -> Option<[f64; 3]> {
        for (index, in_use) in in_use.into_iter().enumerate() {
            if in_use {
                self.matrix[index][index] *= 1.0 + damping;
            } else {
                self.matrix[index] = [0.0; 3];
                self.matrix[index][index] = 1.0;
                self.right[index] = 0.0;
            }
        }
        let Self { matrix, right } = &mut self;
        for column in 0..3 {
            let pivot = (column..3)
                .max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
            if matrix[pivot][column].abs() < 1e-300 {
                return None;
            }
            matrix.swap(column, pivot);
            right.swap(column, pivot);
            for row in column + 1..3 {
                let factor = matrix[row][column] / matrix[column][column];
                let pivot_row = matrix[column];
                for (value, above) in matrix[row].iter_mut().zip(pivot_row).skip(column) {
                    *value -= factor * above;
                }
                right[row] -= factor * right[column];
            }
        }
        let mut solution = [0.0; 3];
        for row in (0..3).rev() {
            let known: f64 = (row + 1..3).map(|index| matrix[row][index] * solution[index]).sum();
            solution[row] = (right[row] - known) / matrix[row][row];
        }
        solution.iter().all(|value| value.is_finite()).then_some(solution)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::*;

    const COUNTS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0];

    fn exact(law: Law) -> Vec<Point> {
        COUNTS.map(|nodes| Point { nodes, throughput: law.at(nodes) }).to_vec()
    }

    /// Three rounds per node count with uniform relative noise.
    fn noisy(law: Law, noise: f64, seed: u64) -> Vec<Point> {
        let mut rng = Rng::seed_from_u64(seed);
        (0..3)
            .flat_map(|_| exact(law))
            .map(|point| {
                let factor = 1.0 + noise * rng.random_range(-1.0..1.0);
                Point { throughput: point.throughput * factor, ..point }
            })
            .collect()
    }

    #[test]
    fn noise_is_within_the_confidence() {
        let law = Law { lambda: 1.2e6, sigma: 0.05, kappa: 0.002 };
        let mut covered = 0;
        for seed in 0..30 {
            let fit = fit(&noisy(law, 0.05, seed), 200, seed).unwrap();
            assert!(fit.r_squared > 0.95, "{fit:?}");
            let holds = |range: Confidence, value: f64| (range.low..=range.high).contains(&value);
            covered += usize::from(holds(fit.sigma, law.sigma));
            assert!(holds(fit.lambda, fit.law.lambda) && fit.sigma.low <= fit.sigma.high);
        }
        // 95 % of 30 is 28; four standard deviations below is 24.
        assert!(covered >= 24, "the interval held the truth in {covered} of 30 runs");
    }

    #[test]
    fn a_seed_fixes_the_confidence() {
        let points = noisy(Law { lambda: 100.0, sigma: 0.1, kappa: 0.01 }, 0.1, 1);
        assert_eq!(fit(&points, 100, 5), fit(&points, 100, 5));
        assert_ne!(fit(&points, 100, 5), fit(&points, 100, 6));
    }

    #[test]
    fn faster_than_linear_is_held_at_linear() {
        let points: Vec<Point> =
            COUNTS.map(|nodes| Point { nodes, throughput: 10.0 * nodes.powf(1.1) }).to_vec();
        let law = fit(&points, 0, 1).unwrap().law;
        assert_eq!((law.sigma, law.kappa), (0.0, 0.0));
        assert_eq!(law.peak_nodes(), None);
    }

    #[test]
    fn a_straight_line_has_no_signed_zeros() {
        let points: Vec<Point> =
            COUNTS.map(|nodes| Point { nodes, throughput: 1e6 * nodes }).to_vec();
        let fit = fit(&points, 50, 1).unwrap();
        for value in [fit.law.sigma, fit.law.kappa, fit.sigma.low, fit.kappa.low] {
            assert!(value.is_sign_positive(), "{fit:?}");
        }
    }

    #[test]
    fn the_peak_is_where_throughput_is_highest() {
        let law = Law { lambda: 1.0, sigma: 0.1, kappa: 0.01 };
        let peak = law.peak_nodes().unwrap();
        assert!((peak - 9.487).abs() < 0.001);
        assert!(law.at(peak) > law.at(peak - 0.5) && law.at(peak) > law.at(peak + 0.5));
    }

    #[test]
    fn too_little_data_is_refused() {
        let law = Law { lambda: 1.0, sigma: 0.1, kappa: 0.01 };
        let few: Vec<Point> = exact(law).into_iter().take(3).collect();
        assert!(fit(&few, 10, 1).unwrap_err().contains("4 different node counts"));
        let mut bad = exact(law);
        bad[2].throughput = 0.0;
        assert!(fit(&bad, 10, 1).unwrap_err().contains("at 3 nodes"));
    }

    proptest! {
        #[test]
        fn exact_points_give_the_law_back(
            lambda in 1.0..1e8_f64,
            sigma in 0.0..0.9_f64,
            kappa in 0.0..0.1_f64,
        ) {
            let law = Law { lambda, sigma, kappa };
            let found = fit(&exact(law), 0, 1).unwrap();
            prop_assert!((found.law.lambda / lambda - 1.0).abs() < 1e-4, "{found:?}");
            prop_assert!((found.law.sigma - sigma).abs() < 1e-4, "{found:?}");
            prop_assert!((found.law.kappa - kappa).abs() < 1e-4, "{found:?}");
            prop_assert!(found.r_squared > 0.999);
        }

        #[test]
        fn any_measurement_can_be_fitted(
            throughputs in prop::collection::vec(1.0..1e9_f64, 7),
        ) {
            let points: Vec<Point> = COUNTS
                .iter()
                .zip(throughputs)
                .map(|(&nodes, throughput)| Point { nodes, throughput })
                .collect();
            let found = fit(&points, 20, 1).unwrap();
            prop_assert!(found.law.lambda > 0.0 && found.law.sigma >= 0.0 && found.law.kappa >= 0.0);
            prop_assert!(found.sigma.low <= found.sigma.high);
        }
    }
}
