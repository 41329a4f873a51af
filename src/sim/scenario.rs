//! What is asked of one simulation, and what of it is printed.

use super::without::Without;

/// What of a simulation is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Print {
    /// Nothing.
    #[default]
    Nothing,
    /// What a person would tell of it: faults, lives, what members see, what is found wrong.
    Story,
    /// Every event as well.
    Events,
}

/// What is asked of one simulation.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// Nodes there are from the start.
    pub nodes: u16,
    /// Workers of each.
    pub workers: u16,
    /// Simulated time; at least 20 s, of which the last 15 are without faults.
    pub seconds: u64,
    /// What is left out of what the seed draws.
    pub without: Without,
    /// What is printed.
    pub print: Print,
}

impl Default for Scenario {
    fn default() -> Self {
        let (without, print) = (Without::default(), Print::Nothing);
        Self { seed: 1, nodes: 5, workers: 2, seconds: 60, without, print }
    }
}
