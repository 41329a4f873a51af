//! Every message ends in exactly one count, and counts agree with what handlers really took.

use crate::base::fate::Counts;
use crate::sim::process::Sums;

/// The invariant's name.
pub const NAME: &str = "every message ends in exactly one count";

/// What is compared after each duty cycle.
pub fn sums(counts: &Counts) -> Sums {
    let ended = counts.delivered + counts.refused_total() + counts.dead_total() + counts.unknown;
    Sums { sent: counts.sent, ended, delivered: counts.delivered }
}

/// At any time. `handled` is how many of the process's messages handlers took anywhere, `taken` how
/// many of other processes' messages handlers of this worker took.
///
/// # Errors
/// Which counts contradict each other.
pub fn running(total: Sums, received: u64, handled: u64, taken: u64) -> Result<(), String> {
    let Sums { sent, ended, delivered } = total;
    if ended > sent {
        return Err(format!("{ended} messages have ended, but only {sent} were sent"));
    }
    if delivered > handled {
        return Err(format!("{delivered} messages count as delivered, handlers took {handled}"));
    }
    if received != taken {
        return Err(format!("{received} messages count as received, handlers took {taken}"));
    }
    Ok(())
}

/// When nothing is under way any more.
///
/// # Errors
/// Which counts contradict each other.
pub fn settled(total: &Counts, handled: u64) -> Result<(), String> {
    let Sums { sent, ended, delivered } = sums(total);
    if ended != sent {
        return Err(format!("{sent} messages were sent, {ended} have ended: {total:?}"));
    }
    if handled < delivered || handled > delivered + total.unknown {
        return Err(format!(
            "handlers took {handled} messages, but {delivered} count as delivered and {} as \
             unknown",
            total.unknown
        ));
    }
    Ok(())
}
