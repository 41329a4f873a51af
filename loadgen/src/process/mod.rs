//! Other processes: started on chosen cores, spoken to in JSON lines, never left behind.
//!
//! A child ends with its [`Spawned`]: when that is dropped (also by a panic or an early
//! return), when this program is interrupted or asked to terminate, and, should this program
//! be killed outright, by the kernel's parent-death signal.

mod channel;
mod error;
mod guard;
mod serve;
mod spawn;

pub use channel::Pending;
pub use error::ProcessError;
pub use guard::Cleanup;
pub use serve::serve;
pub use spawn::{SpawnPlan, Spawned, use_program};
