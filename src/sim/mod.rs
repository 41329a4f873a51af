//! The other driver: runs the real deciders of many nodes in one thread, on a fake clock and a fake
//! network, with faults, and checks what must hold. Everything follows from one seed.
//!
//! What a driver in `runtime` does with sockets and threads, a file here does with events:
//! [`control`](self) and [`worker`](self) drive the deciders, [`network`] stands for the kernel
//! and the wire, [`world`] lets one thing happen after the other, [`strikes`](self) break things,
//! [`load`] is the application (or, on a [`stage`], somebody else's), and [`ledger`] knows what really happened to each message. The
//! [`invariants`] hold the nodes against it.
//!
//! ```
//! use keyway::sim::{Scenario, simulate};
//!
//! let scenario = Scenario { seed: 7, nodes: 3, workers: 1, seconds: 20, ..Scenario::default() };
//! let result = simulate(scenario);
//! assert_eq!(result.violation, None);
//! assert_eq!(simulate(scenario).trace_hash, result.trace_hash);
//! ```

// What is in a simulation's world is there to be looked at, and made by it alone.
#![allow(unnameable_types)]

mod body;
mod bytes;
mod calls;
mod clashes;
mod clocks;
mod control;
pub mod events;
pub mod faults;
pub mod forger;
pub mod forgery;
mod forging;
pub mod invariants;
mod jobs;
pub mod ledger;
pub mod load;
mod measuring;
mod messages;
mod mixed;
mod names;
pub mod network;
pub mod newer;
mod news;
pub mod plan;
pub mod process;
mod processors;
mod recipient;
mod renames;
pub mod report;
mod routers;
pub mod scenario;
mod schedule;
mod serving;
pub mod shrink;
mod socket;
pub mod stage;
pub mod strange;
pub mod streams;
mod strikes;
mod talks;
mod timings;
pub mod trace;
mod walls;
pub mod weather;
pub mod without;
pub mod work;
mod worker;
pub mod world;

pub use report::Summary;
pub use scenario::{Course, Print, Scenario};
pub use world::Result;

/// Runs one simulation to its end, or to the first thing that must not be; a panic of the nodes' own
/// is one as well.
pub fn simulate(scenario: Scenario) -> Result {
    let (seconds, draw): (_, fn(&_) -> _) = match scenario.course {
        Course::Drawn => (scenario.seconds, plan::Plan::draw),
        Course::Flapping => (plan::FLAPPING_SECONDS, plan::Plan::draw_flapping),
        Course::Deaf => (scenario.seconds, plan::Plan::draw_deaf),
        Course::Crowded => (scenario.seconds, plan::Plan::draw_crowded),
    };
    world::World::new(Scenario { seconds, ..scenario }, draw).run()
}
