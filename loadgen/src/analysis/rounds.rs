//! Interleaved rounds: the order in which variants take turns, and what is quoted from them.
//!
//! A machine that is shared drifts from minute to minute. Variants that alternate meet the same
//! weather, and a shuffled order keeps any rhythm of the machine from favouring one of them.

use keyway::base::Rng;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// Share of stolen time above which a round is marked.
pub const STEAL_MARK: f64 = 0.02;

/// How many rounds a figure needs before it may be quoted.
pub const ROUNDS_TO_QUOTE: usize = 5;

/// One turn: which variant runs in which round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The round, from 0.
    pub round: usize,
    /// The variant, from 0.
    pub variant: usize,
}

/// The order of turns: in each round every variant once, in shuffled order. Equal arguments give
/// equal orders.
pub fn interleave(variants: usize, rounds: usize, seed: u64) -> Vec<Turn> {
    let mut rng = Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..variants).collect();
    let mut turns = Vec::with_capacity(variants * rounds);
    for round in 0..rounds {
        order.shuffle(&mut rng);
        turns.extend(order.iter().map(|&variant| Turn { round, variant }));
    }
    turns
}

/// What one round measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The measured value.
    pub value: f64,
    /// Share of the machine's time that the host took away during the round, 0 to 1.
    pub steal_share: f64,
}

impl Round {
    /// Whether the host took so much that the round is shown with a mark.
    pub fn is_marked(&self) -> bool {
        self.steal_share > STEAL_MARK
    }
}

/// What is quoted from several rounds. Marked rounds are part of it: leaving them out would be
/// choosing results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The middle value; between two middle ones, their mean.
    pub median: f64,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// How many rounds.
    pub rounds: u32,
    /// How many of them had more than 2 % steal.
    pub marked_rounds: u32,
}

impl Figure {
    /// The figure of these rounds; `None` without rounds or if a value is no number.
    pub fn of(rounds: &[Round]) -> Option<Self> {
        let mut values: Vec<f64> = rounds.iter().map(|round| round.value).collect();
        if values.is_empty() || values.iter().any(|value| value.is_nan()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self {
            median,
            min: values[0],
            max: values[values.len() - 1],
            rounds: values.len() as u32,
            marked_rounds: rounds.iter().filter(|round| round.is_marked()).count() as u32,
        })
    }

    /// Whether there are enough rounds to quote the figure in a document.
    pub fn is_quotable(&self) -> bool {
        self.rounds as usize >= ROUNDS_TO_QUOTE
    }

    /// Between what values, and of how many rounds. `unit` turns a value into text.
    pub fn range(&self, unit: impl Fn(f64) -> String) -> String {
        format!("{} .. {} of {}", unit(self.min), unit(self.max), self.rounds)
    }

    /// The figure as text: median, range, rounds, marks. `unit` turns a value into text.
    pub fn describe(&self, unit: impl Fn(f64) -> String) -> String {
        let Self { median, min, max, rounds, marked_rounds } = *self;
        if rounds == 1 {
            let mark = if marked_rounds > 0 { ", steal above 2 %" } else { "" };
            return format!("{} (1 round{mark})", unit(median));
        }
        let marks = match marked_rounds {
            0 => String::new(),
            marked => format!(", {marked} with steal above 2 %"),
        };
        format!("{} ({} to {}, {rounds} rounds{marks})", unit(median), unit(min), unit(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Vec<Round> {
        values.iter().map(|&value| Round { value, steal_share: 0.0 }).collect()
    }

    #[test]
    fn each_round_holds_every_variant_once() {
        let turns = interleave(3, 50, 1);
        assert_eq!(turns.len(), 150);
        for (round, turns) in turns.chunks(3).enumerate() {
            let mut variants: Vec<usize> = turns.iter().map(|turn| turn.variant).collect();
            variants.sort_unstable();
            assert_eq!(variants, [0, 1, 2]);
            assert!(turns.iter().all(|turn| turn.round == round));
        }
        let firsts: Vec<usize> = turns.chunks(3).map(|turns| turns[0].variant).collect();
        for variant in 0..3 {
            let first = firsts.iter().filter(|&&first| first == variant).count();
            assert!((8..=26).contains(&first), "variant {variant} came first {first} times of 50");
        }
        assert_eq!(turns, interleave(3, 50, 1));
        assert_ne!(turns, interleave(3, 50, 2));
    }

    #[test]
    fn median_and_range() {
        let odd = Figure::of(&rounds(&[5.0, 1.0, 100.0])).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (5.0, 1.0, 100.0));
        let even = Figure::of(&rounds(&[4.0, 1.0, 2.0, 100.0])).unwrap();
        assert_eq!(even.median, 3.0);
        assert!(!even.is_quotable());
        assert!(Figure::of(&rounds(&[1.0; 5])).unwrap().is_quotable());
        assert_eq!(Figure::of(&[]), None);
        assert_eq!(Figure::of(&rounds(&[1.0, f64::NAN])), None);
    }

    #[test]
    fn stolen_rounds_are_marked_and_kept() {
        let mut rounds = rounds(&[10.0, 20.0, 30.0]);
        rounds[1].steal_share = 0.02;
        rounds[2].steal_share = 0.021;
        let figure = Figure::of(&rounds).unwrap();
        assert_eq!((figure.rounds, figure.marked_rounds, figure.max), (3, 1, 30.0));
        assert_eq!(
            figure.describe(|value| format!("{value} us")),
            "20 us (10 us to 30 us, 3 rounds, 1 with steal above 2 %)"
        );
        let one = Figure::of(&rounds[..1]).unwrap();
        assert_eq!(one.describe(|value| format!("{value}")), "10 (1 round)");
    }
}
