//! The machine underneath: cores, CPU time, disturbance by others, and its description.
//!
//! Linux only, as is everything that measures here: the numbers come from `/proc`, the
//! process CPU clocks and one perf tracepoint.

mod card;
mod cores;
mod cpu;
mod stat;
mod switches;
mod syscalls;
mod window;

pub use card::MachineCard;
pub(crate) use cores::core_set;
pub use cores::{allowed_cores, pin_thread, resolve_cores};
pub use cpu::{process_cpu_ns, thread_cpu_ns};
pub use stat::{CoreTimes, StatSnapshot};
pub use switches::{ContextSwitches, context_switches};
pub use syscalls::SyscallCounter;
pub use window::{ProcessUsage, Window, WindowReport};
