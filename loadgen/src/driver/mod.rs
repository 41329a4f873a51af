//! The sending side: a node like the others, whose only routee makes the load.

pub mod generator;
pub mod plan;
pub mod thread;

pub use plan::{AskEnd, DriveReport, LoadPlan, Paced};
