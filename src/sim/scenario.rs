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

/// What goes wrong in a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Course {
    /// What the seed draws.
    #[default]
    Drawn,
    /// One member's links are cut and mended again and again, and nothing else goes wrong. It takes
    /// [`FLAPPING_SECONDS`](super::plan::FLAPPING_SECONDS), whatever the scenario says.
    Flapping,
    /// Hardly a datagram reaches one member, or each comes late, and nothing else goes wrong.
    Deaf,
    /// All processes share two processors, on which work takes time, and nothing goes wrong.
    Crowded,
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
    /// What goes wrong.
    pub course: Course,
    /// What is left out of what the seed draws.
    pub without: Without,
    /// What is printed.
    pub print: Print,
}

impl Default for Scenario {
    fn default() -> Self {
        let (course, without) = (Course::Drawn, Without::default());
        let print = Print::Nothing;
        Self { seed: 1, nodes: 5, workers: 2, seconds: 60, course, without, print }
    }
}
