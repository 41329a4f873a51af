//! F2: frames one way through one TCP connection; the reader only steps over lengths.

use serde::{Deserialize, Serialize};

use super::FloorPlan;
use super::pair::Pair;
use super::peer::PeerCommand;
use super::stream::Reading;
use crate::analysis::rounds::Round;
use crate::error::Result;
use crate::machine::WindowReport;

/// One measurement of F2.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnewayFloor {
    /// Frames read.
    pub msgs: u64,
    /// Per second of wall time.
    pub msgs_per_s: f64,
    /// Per CPU-second of both processes.
    pub msgs_per_cpu_s: f64,
    /// The reading end, then the sending end.
    pub window: WindowReport,
}

impl OnewayFloor {
    /// A round of one of its values.
    pub fn round(&self, value: impl Fn(&Self) -> f64) -> Round {
        Round { value: value(self), steal_share: self.window.steal_share }
    }
}

/// Measures F2.
pub fn run(plan: &FloorPlan) -> Result<OnewayFloor> {
    let pair = Pair::connect(plan)?;
    let task = pair.task();
    let reading: Reading = pair.run(
        &PeerCommand::StreamSend { frame_bytes: plan.frame_bytes },
        &PeerCommand::StreamReadFrames { task },
    )?;
    Ok(OnewayFloor {
        msgs: reading.count,
        msgs_per_s: reading.window.per_second(reading.count),
        msgs_per_cpu_s: reading.window.per_cpu_second(reading.count),
        window: reading.window,
    })
}
