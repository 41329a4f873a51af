//! How often something is spoken of in the log: whoever can cause an event must not be able to
//! fill a disk with lines. Every line that a peer, a stranger or a repeated failure can cause asks
//! here first.

use std::time::Duration;

use super::Time;

/// The time after which one more line of a kind may be written.
const PAUSE: Duration = Duration::from_secs(1);

/// What a line is about. Each kind has an allowance of its own, so that a flood of one hides no
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// A datagram that is not of this cluster.
    StrangerDatagram,
    /// A connection that was not let in.
    StrangerConnection,
    /// The system gives no connection, as when descriptors have run out.
    AcceptFailed,
    /// A worker has no place for more links of others.
    NoPlace,
    /// Of two connections for one link the one with the lower link epoch was closed, or stays.
    Overtaken,
    /// A link could not be opened.
    DialFailed,
    /// A member runs, and connections to it do not come about.
    Trouble,
    /// That is over.
    TroubleOver,
    /// A node calls, and does not answer at the address that it advertises.
    NotThere,
    /// Others cannot reach this node at the address that it advertises.
    Unreached,
    /// That is over.
    Listed,
    /// What this node's leave waits for.
    Leaving,
    /// A peer broke the protocol.
    BrokenFrame,
    /// A link's socket could not be watched.
    UnwatchedSocket,
    /// A connection that moved nothing was given up.
    DeadFlow,
    /// Discovery failed, or found what cannot be used.
    Discovery,
    /// Discovery found other seeds.
    OtherSeeds,
    /// Why this node has not joined yet.
    Joining,
    /// The cluster nears the number of members that fit.
    Size,
    /// Messages died.
    DeadLetters,
    /// Messages were longer than this node sends.
    TooLarge,
    /// Messages were longer than the node takes that they were for.
    TooLargeThere,
    /// An async reply found no way.
    AsyncReply,
    /// A handler wanted to wait.
    WouldBlock,
    /// A handler holds its worker.
    HeldWorker,
    /// Code of the user's panicked.
    Panicked,
    /// A worker's turn took long, and no message was handled in it.
    SlowTurn,
    /// A member came, went or changed.
    Member,
}

const KINDS: usize = LogKind::Member as usize + 1;

impl LogKind {
    /// Lines that may come in a row after a quiet time. Members have names that are worth a line
    /// each, and only nodes with the cluster's secret cause them.
    fn burst(self) -> u64 {
        match self {
            Self::Member => 256,
            _ => 1,
        }
    }
}

/// How many were left out, for a field that a line has only if there were any.
pub fn counted(left_out: u64) -> Option<u64> {
    (left_out > 0).then_some(left_out)
}

/// Decides whether a line is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLimiter {
    kinds: [Allowance; KINDS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    /// When all of the allowance is there again; each line moves it on.
    full_at: Time,
    left_out: u64,
}

impl LogLimiter {
    /// So many of a kind are spoken of by no line of their own.
    pub fn leave_out(&mut self, kind: LogKind, count: u64) {
        self.kinds[kind as usize].left_out += count;
    }

    /// Whether a line would be given now. For what is told later if not, and so is not left out.
    pub fn has_room(&self, now: Time, kind: LogKind) -> bool {
        let ahead = self.kinds[kind as usize].full_at.max(now);
        ahead.since(now) <= PAUSE.saturating_mul(kind.burst().saturating_sub(1) as u32)
    }

    /// Asks for a line. Gives how many of its kind were left out since the last one; `None` when
    /// this one is left out too.
    pub fn line(&mut self, now: Time, kind: LogKind) -> Option<u64> {
        let has_room = self.has_room(now, kind);
        let allowance = &mut self.kinds[kind as usize];
        if !has_room {
            allowance.left_out += 1;
            return None;
        }
        allowance.full_at = allowance.full_at.max(now).plus(PAUSE);
        Some(std::mem::take(&mut allowance.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn a_flood_is_one_line_a_second_that_counts_the_others() {
        let mut log = LogLimiter::default();
        assert_eq!(log.line(at(0), LogKind::BrokenFrame), Some(0));
        for ms in 1..1_000 {
            assert_eq!(log.line(at(ms), LogKind::BrokenFrame), None);
        }
        assert_eq!(log.line(at(1_000), LogKind::BrokenFrame), Some(999));
        assert_eq!(log.line(at(5_000), LogKind::BrokenFrame), Some(0));
        assert_eq!(log.line(at(5_999), LogKind::BrokenFrame), None);
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let mut log = LogLimiter::default();
        for _ in 0..10_000 {
            log.line(at(0), LogKind::StrangerDatagram);
        }
        assert_eq!(log.line(at(0), LogKind::StrangerConnection), Some(0));
    }

    #[test]
    fn a_cluster_that_starts_is_named_member_by_member_and_a_flapping_one_is_not() {
        let mut log = LogLimiter::default();
        let lines = |log: &mut LogLimiter, from_ms: u64, count: u64| {
            (0..count).filter(|ms| log.line(at(from_ms + ms), LogKind::Member).is_some()).count()
        };
        assert_eq!(lines(&mut log, 0, 100), 100);
        assert!(lines(&mut log, 1_000, 10_000) <= 256 - 100 + 11);
    }
}
