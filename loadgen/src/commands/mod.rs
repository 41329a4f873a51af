//! The commands, one file each; `main.rs` has their list.

pub mod churn;
pub mod compare;
pub mod floors;
pub mod latency;
mod pair;
pub mod quick;
pub mod readme;
pub mod report;
mod run;
pub mod scale;
mod story;
pub mod throughput;
