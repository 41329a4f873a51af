//! An ask ends exactly once, with its own answer or an error, and in time.

use crate::base::fate::Counts;
use crate::worker::Usage;

/// The invariant's name.
pub const NAME: &str = "an ask ends exactly once";

/// At any time, for one worker.
///
/// # Errors
/// Which counts contradict each other.
pub fn running(counts: &Counts) -> Result<(), String> {
    let Counts { asks, replies, failed_asks, .. } = counts;
    if replies + failed_asks > *asks {
        return Err(format!("of {asks} asks {replies} had a reply and {failed_asks} failed"));
    }
    Ok(())
}

/// After a duty cycle of a worker: what may be sent again is not left with a peer that does not
/// answer, or is gone.
///
/// # Errors
/// How many are.
pub fn moving(usage: &Usage) -> Result<(), String> {
    match usage.stranded_attempts {
        0 => Ok(()),
        stranded => Err(format!("{stranded} attempts wait for peers that do not answer")),
    }
}

/// When nothing is under way any more. `open` is how many asks of routees have not ended.
///
/// # Errors
/// What is left.
pub fn settled(total: &Counts, open: usize) -> Result<(), String> {
    let Counts { asks, replies, failed_asks, .. } = total;
    if replies + failed_asks != *asks {
        return Err(format!("of {asks} asks {replies} had a reply and {failed_asks} failed"));
    }
    if open > 0 {
        return Err(format!("{open} asks of routees never ended"));
    }
    Ok(())
}
