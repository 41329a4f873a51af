//! The scenarios: what is measured, one file each. A new one is a variant here, which is its command
//! as well, and an arm in [`Scenario::run`].

mod churn;
mod floors;
mod latency;
mod quick;
mod scale;
mod shared;
mod throughput;

use clap::Subcommand;

use crate::cli::Flags;
use crate::error::Result;

/// What can be measured, with its flags.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Measure everything that matters in under a minute
    Quick {
        /// What every scenario takes.
        #[command(flatten)]
        flags: Flags,
        /// One short round of everything, with all checks: for a first look and for CI
        #[arg(long)]
        smoke: bool,
    },
    /// Measure one-way messages at saturation, by payload size and connections
    Throughput(Flags),
    /// Measure latency over loads from light to past saturation
    Latency(Flags),
    /// Measure throughput over node counts
    Scale(Flags),
    /// Let nodes join, leave, be killed, stopped and cut off under a steady load
    Churn(Flags),
    /// Measure what stripped programs reach on this machine: the limits of everything else
    Floors(Flags),
}

impl Scenario {
    /// Measures, prints the table and writes the files.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Quick { flags, smoke } => quick::run(flags, *smoke),
            Self::Throughput(flags) => throughput::run(flags),
            Self::Latency(flags) => latency::run(flags),
            Self::Scale(flags) => scale::run(flags),
            Self::Churn(flags) => churn::run(flags),
            Self::Floors(flags) => floors::run(flags),
        }
    }
}
