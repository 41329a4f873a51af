//! What others can cause fills no log: a line of one kind comes once a second at most. Members have
//! names that are worth a line each, so some of these may come in a row.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{LogKind, Time};
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a line of one kind comes once a second at most";

const PAUSE: Duration = Duration::from_secs(1);
/// Lines about members that may come in a row.
const MEMBERS: u64 = 256;

/// The lines that control wrote.
#[derive(Default)]
pub struct Lines {
    /// By process and kind: when the last one came, and how many.
    last: BTreeMap<(LifeId, u8), (Time, u64)>,
    /// How many were looked at that were not the first of their kind.
    pub later: u64,
}

impl World {
    /// A process's control wrote a line.
    pub(super) fn check_pace(&mut self, life: LifeId, kind: LogKind) {
        let now = self.lives[life].local(self.net.now);
        let known = self.checks.lines.last.get(&(life, kind as u8)).copied();
        let lines = known.map_or(1, |(_, lines)| lines + 1);
        self.checks.lines.last.insert((life, kind as u8), (now, lines));
        let Some((last, _)) = known else { return };
        self.checks.lines.later += 1;
        let too_many = match kind {
            LogKind::Member => lines > MEMBERS + 1 + now.0 / PAUSE.as_nanos() as u64,
            _ => now.since(last) < PAUSE,
        };
        if too_many {
            let after = now.since(last);
            let seen = format!("life {life}: line {lines} about {kind:?} came {after:?} later");
            self.blame(NAME, seen);
        }
    }
}
