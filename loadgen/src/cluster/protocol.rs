//! What the coordinating process and a node's process say to each other, in JSON lines.

use std::net::SocketAddr;
use std::path::PathBuf;

use keyway::Counts;
use serde::{Deserialize, Serialize};

use crate::driver::LoadPlan;

/// How a node is started within its process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartPlan {
    /// The node's number within the run.
    pub node: u32,
    /// Its name in the cluster.
    pub name: String,
    /// Where it listens.
    pub bind: SocketAddr,
    /// Whom it joins.
    pub seeds: Vec<SocketAddr>,
    /// How many workers it has.
    pub workers: usize,
    /// The core of each worker; empty to leave that to the kernel.
    pub cores: Vec<usize>,
    /// How long a worker looks for work before it sleeps.
    pub spin_us: u64,
    /// Further settings of the node, by their keys.
    pub settings: Vec<(String, String)>,
    /// Whether it serves the sink.
    pub serves: bool,
    /// The number of its generator's tells, if it drives; its asks and what its thread sends have
    /// the next three.
    pub sender: Option<u32>,
    /// Keys are numbered `0..keys`.
    pub keys: u32,
    /// Senders are numbered `0..senders`.
    pub senders: u32,
    /// Where the sink's ledgers are kept; a memory file system.
    pub ledger_folder: PathBuf,
}

/// What a node's process can be told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeCommand {
    /// Start the node. Answers [`Started`].
    Start(Box<StartPlan>),
    /// Wait until its router has so many routees.
    AwaitRoutees {
        /// How many.
        routees: usize,
        /// How long to wait.
        timeout_ms: u64,
    },
    /// Read counters. Answers [`Sample`].
    Sample {
        /// The processes whose CPU time is read along, at the same instant.
        pids: Vec<u32>,
    },
    /// Take the sink's latencies. Answers one base64 histogram.
    TakeLatencies {
        /// What was due earlier is thrown away from now on.
        warm_up_ends_ns: u64,
    },
    /// Begin a plan.
    Drive(LoadPlan),
    /// Wait until a paced plan has ended. Answers whether it has.
    AwaitFinished {
        /// How long to wait.
        timeout_ms: u64,
    },
    /// Send nothing more.
    StopDriving,
    /// Answers the driver's [`crate::driver::DriveReport`].
    Collect,
    /// Answers [`CountsRecord`].
    Counts,
    /// Answers all [`ViewChange`]s so far.
    ViewChanges,
    /// Answers [`TableState`].
    Table,
    /// Remove a member that will not come back.
    Down {
        /// Its name.
        name: String,
    },
    /// Leave gracefully. Answers whether everything was drained in time.
    Leave,
}

/// A node that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// Where others reach it.
    pub address: SocketAddr,
}

/// Counters at one instant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The instant.
    pub at_ns: u64,
    /// Messages that the sink handled.
    pub handled: u64,
    /// Asks that the driver got answered.
    pub answered: u64,
    /// CPU time of the processes that were asked for.
    pub cpu_ns: Vec<u64>,
    /// Allocations of the process so far, without those of the commanding thread.
    pub allocations: u64,
}

/// A driver's own account of its messages, see [`Counts`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsRecord {
    /// Given to a router.
    pub sent: u64,
    /// Acknowledged.
    pub delivered: u64,
    /// Refused at the call, by [`keyway::Refusal`].
    pub refused: Vec<u64>,
    /// Dead letters here, by [`keyway::DeathReason`].
    pub dead: Vec<u64>,
    /// Dead letters at the receiver.
    pub dead_at_peer: u64,
    /// Not acknowledged when their link was lost.
    pub unknown: u64,
    /// Without an end so far.
    pub in_flight: u64,
    /// Asks without an end so far.
    pub open_asks: u64,
}

impl CountsRecord {
    /// The node's counts without the `pokes` by which this program speaks to its own routees.
    pub fn of(counts: &Counts, pokes: u64, open_asks: u64) -> Self {
        Self {
            sent: counts.sent.saturating_sub(pokes),
            delivered: counts.delivered.saturating_sub(pokes),
            refused: counts.refused.to_vec(),
            dead: counts.dead.to_vec(),
            dead_at_peer: counts.dead_at_peer,
            unknown: counts.unknown,
            in_flight: counts.in_flight(),
            open_asks,
        }
    }

    /// All refusals.
    pub fn refused_in_all(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// All dead letters.
    pub fn dead_in_all(&self) -> u64 {
        self.dead.iter().sum::<u64>() + self.dead_at_peer
    }
}

/// A node noticed something about another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewChange {
    /// When, on the machine's monotonic clock.
    pub at_ns: u64,
    /// About whom.
    pub name: String,
    /// What.
    pub kind: ViewChangeKind,
}

/// What a node noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewChangeKind {
    /// It is known and takes messages, with this path's service.
    Usable,
    /// It is known, but does not take messages or serves nothing yet.
    NotUsable,
    /// It does not answer.
    Unreachable,
    /// It left or was removed.
    Removed,
}

/// A node's routing table now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Equal on nodes with equal tables.
    pub digest: u64,
    /// How many routees there are.
    pub routees: usize,
    /// Usable members in the view.
    pub members: usize,
}
