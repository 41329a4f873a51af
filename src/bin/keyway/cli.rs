//! What the command line takes, and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use tracing_subscriber::filter::LevelFilter;

/// Where the admin commands look for a node.
const DEFAULT_ADMIN: &str = "127.0.0.1:7500";

const ABOUT: &str = "\
Keyway routes messages between the processes of a cluster.

`keyway node` runs a node with two built-in routees, so that a cluster can be tried without writing
code. The other commands show and operate a running node over its admin port.";

const EXAMPLES: &str = "\
Example, one terminal per line:
  keyway node --name a --bind 127.0.0.1:7400 --admin 127.0.0.1:7500
  keyway node --name b --bind 127.0.0.1:7401 --seed 127.0.0.1:7400
  keyway members
  keyway ask counter apples

Exit codes: 0 done, 1 failed, 2 command line or configuration refused, 3 the node could not go on.";

#[derive(Debug, Parser)]
#[command(name = "keyway", version, about = ABOUT, after_help = EXAMPLES)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Node(Box<NodeArgs>),
    /// Print a script that completes these commands in a shell
    #[command(
        after_help = "Examples:\n  keyway completions bash > ~/.local/share/bash-completion/completions/keyway\n  keyway completions zsh > ~/.zfunc/_keyway\n  keyway completions fish > ~/.config/fish/completions/keyway.fish"
    )]
    Completions {
        /// Which shell: bash, zsh, fish, elvish or powershell
        #[arg(hide_possible_values = true)]
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Operate(Operate),
}

const NODE_ABOUT: &str = "\
Runs a node until it is told to leave.

It serves /user/echo (message keyway.echo: gives the text back with the node's name) and
/user/counter (message keyway.count: counts per key on the key's owner). Once it is up it prints one
line with its name, address and members. SIGINT and SIGTERM make it leave gracefully; a second one
stops it at once.

Each setting is its default, then what the file says, then the environment (KEYWAY_WORKERS__COUNT),
then flags. Lists given as flags replace the whole list. --print-config shows every setting with its
meaning, range and default.";

const NODE_EXAMPLES: &str = "\
Examples:
  keyway node --name a --admin 127.0.0.1:7500
  keyway node --name b --bind 127.0.0.1:0 --seed 127.0.0.1:7400 --workers 1
  keyway node --print-config > keyway.toml
  keyway node --config keyway.toml --set membership.suspect_ms=2000

Exit codes: 0 left gracefully, or ended by a signal before it had started, 1 could not start, or
left before everything was drained or before another member knew, 2 command line or configuration
refused, 3 the node could not go on (its name is taken, or it was removed), 130 or 143 stopped at
once by a second signal.";

/// Run a node
#[derive(Debug, Args)]
#[command(long_about = NODE_ABOUT, after_help = NODE_EXAMPLES)]
pub(crate) struct NodeArgs {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Listen here, TCP and UDP; port 0 takes a free one [setting: bind]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) bind: Option<String>,

    /// Tell others to reach this node here, if that is not where it listens [setting: advertise]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) advertise: Option<String>,

    /// Join through this node; repeat it for several [setting: seeds]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) seed: Vec<String>,

    /// The node's name, unlike any other in the cluster [setting: name]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// The cluster's name, the same on all nodes [setting: cluster]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,

    /// The file with the secret that all nodes share [setting: secret_file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) secret_file: Option<String>,

    /// How many worker threads [setting: workers.count]
    #[arg(long, value_name = "COUNT")]
    pub(crate) workers: Option<String>,

    /// Label this node; repeat it for several [setting: roles]
    #[arg(long)]
    pub(crate) role: Vec<String>,

    /// Open the admin port here; port 0 takes a free one [setting: admin]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<String>,

    /// Any setting by its name, for example links.outbox_bytes=8388608
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,

    /// Log to stderr: off, error, warn, info, debug or trace [env: KEYWAY_LOG] [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) log: Option<LevelFilter>,

    /// Print the settings that would be used and the memory they allow, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write it as KEY=VALUE, for example workers.count=2")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

pub(crate) fn level(text: &str) -> Result<LevelFilter, String> {
    // The parser would also take numbers and nothing at all.
    text.parse()
        .ok()
        .filter(|_| !text.is_empty() && text.chars().all(char::is_alphabetic))
        .ok_or_else(|| "it takes off, error, warn, info, debug or trace".to_owned())
}

/// Where the node's admin port is, and how to show what it says.
#[derive(Clone, Debug, Args)]
pub(crate) struct At {
    /// The admin port of a running node
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADMIN)]
    pub(crate) admin: String,

    /// Print what the node says as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// Show the members as one node sees them, and what they serve on which of their workers; a path at
    /// which they take different messages is marked, with who takes which
    #[command(after_help = "Example:\n  keyway members --admin 127.0.0.1:7500")]
    Members(At),

    /// Show a node's routers; equal digests mean equal tables
    #[command(after_help = "Example:\n  keyway routers --json")]
    Routers(At),

    /// Show how many messages ended how, and why
    #[command(after_help = "Example:\n  keyway counts --admin 127.0.0.1:7501")]
    Counts(At),

    /// Show what came to a node's port, and what of it was not let in
    #[command(after_help = "\
Connections are refused by name (the node's log has the reason) or because they broke, and turned
away when too many are unfinished. Datagrams are not of this cluster when its name or secret is
another's; the rest is of this cluster: taken, malformed, for what only newer nodes have, or for a
part of this node from who is no member.

Example:
  keyway strangers")]
    Strangers(At),

    /// Say whether a node is up, and if not why; exits with 1 if it is not
    #[command(after_help = "Example:\n  keyway health --admin 127.0.0.1:7500 && echo up")]
    Health(At),

    /// Remove a member that will not come back
    #[command(after_help = "\
The member must start anew to join again. A member that still runs is told so and stops.

Example:
  keyway down b --admin 127.0.0.1:7500")]
    Down {
        /// The member's name
        node: String,
        #[command(flatten)]
        at: At,
    },

    /// Let a node leave gracefully and end
    #[command(after_help = "Example:\n  keyway leave --admin 127.0.0.1:7501")]
    Leave(At),

    /// Send a message through a node to one of the built-in routees
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_help = "\
Examples:
  keyway ask echo hello
  keyway ask counter apples")]
    Ask(Ask),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Have some node's /user/echo give a text back, each time the next one
    #[command(after_help = "Example:\n  keyway ask echo hello")]
    Echo {
        /// The text
        text: String,
        #[command(flatten)]
        at: At,
    },

    /// Count a key up on the node that owns it, the same whichever node is asked
    #[command(after_help = "Example:\n  keyway ask counter apples --admin 127.0.0.1:7501")]
    Counter {
        /// The key
        key: String,
        #[command(flatten)]
        at: At,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn levels_are_words() {
        assert_eq!(level("Debug"), Ok(LevelFilter::DEBUG));
        assert!(level("3").is_err() && level("loud").is_err() && level("").is_err());
    }
}
