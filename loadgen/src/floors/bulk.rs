//! F6: bytes through one TCP connection, 64 KiB per write and per read, nothing parsed.

use serde::{Deserialize, Serialize};

use super::FloorPlan;
use super::pair::Pair;
use super::peer::PeerCommand;
use super::stream::{CHUNK_BYTES, Reading};
use crate::error::Result;
use crate::machine::WindowReport;

/// One measurement of F6.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BulkFloor {
    /// Bytes read.
    pub bytes: u64,
    /// Per second of wall time.
    pub bytes_per_s: f64,
    /// Per CPU-second of both processes.
    pub bytes_per_cpu_s: f64,
    /// The reading end, then the sending end.
    pub window: WindowReport,
}

/// Measures F6.
pub fn run(plan: &FloorPlan) -> Result<BulkFloor> {
    let pair = Pair::connect(plan)?;
    let task = pair.task();
    let reading: Reading = pair.run(
        // One frame of this size is one write of exactly 64 KiB.
        &PeerCommand::StreamSend { frame_bytes: CHUNK_BYTES },
        &PeerCommand::StreamReadBytes { task },
    )?;
    Ok(BulkFloor {
        bytes: reading.count,
        bytes_per_s: reading.window.per_second(reading.count),
        bytes_per_cpu_s: reading.window.per_cpu_second(reading.count),
        window: reading.window,
    })
}
