//! The `keyway` command: runs a node, and operates running ones over their admin port.

mod cli;
mod client;
mod log;
mod node;
mod operate;
mod samples;
mod show;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::cli::{Cli, Command};

// Frames that do not fit a node's buffer pools, and the tables of a changing cluster, come from
// here; a library leaves the choice to its program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something could not be done; the process ends with this code.
const FAILED: u8 = 1;
/// The command line or the configuration was refused.
const REFUSED: u8 = 2;
/// The node could not go on.
const FAULT: u8 = 3;

/// Why the command ends other than well.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Node(arguments) => node::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keyway", &mut script);
            say(String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Operate(command) => operate::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // There is nowhere to say that nobody reads this.
            let _ = writeln!(std::io::stderr(), "keyway: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Writes to stdout. A reader that has gone away (`keyway members | head -1`) is no error.
fn say(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}
