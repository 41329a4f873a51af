//! The machine's own limits, measured by programs with everything taken out.
//!
//! A rate says little without the rate that the same box allows in the same minute. Each floor
//! is one file and one function that takes a [`FloorPlan`] and runs for its duration, with
//! fresh processes, so that a scenario can alternate floor and cluster, A B A B.
//!
//! ```no_run
//! use std::time::Duration;
//! use loadgen::floors::{FloorPlan, oneway};
//!
//! let plan = FloorPlan { cores: (0, 1), frame_bytes: 80, duration: Duration::from_secs(1) };
//! let floor = oneway::run(&plan)?;
//! println!("{:.1} million frames per CPU-second", floor.msgs_per_cpu_s / 1e6);
//! # Ok::<(), loadgen::error::Failure>(())
//! ```
//!
//! | floor | file | what is left of a message router |
//! |---|---|---|
//! | F1 | [`echo_rtt`] | two wakes and four copies: a round trip with one in flight |
//! | F2 | [`oneway`] | writing and reading one stream of frames |
//! | F3 | [`spsc`] | handing an item to another core |
//! | F4 | [`wake`] | waking a thread that sleeps on another core |
//! | F5 | [`hiccup`] | how long a core is away although it has work |
//! | F6 | [`bulk`] | bytes through one connection |
//! | F7 | [`echo64`] | F1 with 64 in flight, where wakes are shared |

pub mod bulk;
pub mod echo64;
pub mod echo_rtt;
pub mod hiccup;
pub mod oneway;
pub mod spsc;
pub mod wake;

mod echo;
mod pair;
mod peer;
mod rounds;
mod stream;
mod thread_pair;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};

pub use echo::Waiting;
pub use peer::serve as serve_peer;
pub(crate) use rounds::figures;
pub use rounds::{FloorKind, FloorRounds, Measured, Round, Spread};

/// The hidden command with which this program starts itself as one end of a floor.
pub const PEER_COMMAND: &str = "floor-peer";

/// Where, with what and for how long a floor is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorPlan {
    /// The cores of the two ends; they must differ.
    pub cores: (usize, usize),
    /// Bytes of one frame, header included; ignored by the floors that have no frames.
    pub frame_bytes: usize,
    /// How long to measure, after the warm-up.
    pub duration: Duration,
}

/// Frames are padded to this.
const FRAME_ALIGNMENT: usize = 16;
/// The largest frame of a floor; the floors' buffers are sized for it.
const MAX_FRAME_BYTES: usize = 1 << 20;

impl FloorPlan {
    /// Run before the measured time and thrown away: connections, caches and clocks settle.
    pub fn warm_up(&self) -> Duration {
        (self.duration / 4).min(Duration::from_millis(250))
    }

    /// Bytes of one frame on the wire: padded to a multiple of 16.
    pub fn padded_frame_bytes(&self) -> usize {
        self.frame_bytes.next_multiple_of(FRAME_ALIGNMENT)
    }

    /// How long to wait for an end before it counts as hung.
    fn patience(&self) -> Duration {
        self.warm_up() + self.duration + Duration::from_secs(20)
    }

    fn check(&self) -> Result<()> {
        let refuse =
            |cause: String, remedy: &str| Err(Failure::new("measure a floor", cause).hint(remedy));
        if self.cores.0 == self.cores.1 {
            let cause = format!("both ends would share core {}", self.cores.0);
            return refuse(cause, "give two different cores");
        }
        if !(FRAME_ALIGNMENT..=MAX_FRAME_BYTES).contains(&self.frame_bytes) {
            let cause = format!("a frame of {} bytes", self.frame_bytes);
            return refuse(cause, "frames are 16 bytes to 1 MiB");
        }
        if self.duration < Duration::from_millis(10) {
            return refuse(format!("a duration of {:?}", self.duration), "at least 10 ms");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> FloorPlan {
        FloorPlan { cores: (0, 1), frame_bytes: 80, duration: Duration::from_millis(100) }
    }

    #[test]
    fn plans_that_would_not_measure_are_refused() {
        assert!(plan().check().is_ok());
        for wrong in [
            FloorPlan { cores: (1, 1), ..plan() },
            FloorPlan { frame_bytes: 8, ..plan() },
            FloorPlan { frame_bytes: 2 << 20, ..plan() },
            FloorPlan { duration: Duration::ZERO, ..plan() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn frames_are_padded_and_the_warm_up_is_bounded() {
        assert_eq!(plan().padded_frame_bytes(), 80);
        assert_eq!(FloorPlan { frame_bytes: 81, ..plan() }.padded_frame_bytes(), 96);
        assert_eq!(plan().warm_up(), Duration::from_millis(25));
        let long = FloorPlan { duration: Duration::from_secs(60), ..plan() };
        assert_eq!(long.warm_up(), Duration::from_millis(250));
    }
}
