//! The command line of the load generator.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadgen::scenarios::Scenario;
use loadgen::{allocations, cluster, commands, floors};

#[global_allocator]
static ALLOCATOR: allocations::CountingAllocator = allocations::CountingAllocator;

/// Measures a keyway cluster beside the limits of the machine under it
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Scenario(Scenario),
    /// Show two runs beside each other
    Compare {
        /// A run's folder or its summary
        a: PathBuf,
        /// Another one
        b: PathBuf,
    },
    /// Draw a finished run's plots and page again
    Report {
        /// The run's folder
        folder: PathBuf,
    },
    /// Write the figures of `results/` into the documents that quote them
    Readme {
        /// Change nothing, and fail where a document differs
        #[arg(long)]
        check: bool,
    },
    /// One end of a floor; started by this program itself.
    #[command(name = floors::PEER_COMMAND, hide = true)]
    FloorPeer,
    /// A node of a cluster; started by this program itself.
    #[command(name = cluster::node::NODE_COMMAND, hide = true)]
    Node,
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Scenario(scenario) => scenario.run(),
        Command::Compare { a, b } => commands::compare::run(&a, &b),
        Command::Report { folder } => commands::report::run(&folder),
        Command::Readme { check } => commands::readme::run(check),
        Command::Node => cluster::node::serve(),
        Command::FloorPeer => floors::serve_peer(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
