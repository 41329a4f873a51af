//! Nobody here garbles bytes, so no peer may ever find fault with another's frames.

use crate::base::LogKind;
use crate::control::LogLine;
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "peers understand each other's frames";

impl World {
    /// A process's control wrote a line: that a channel broke is told there.
    pub(super) fn check_line(&mut self, life: LifeId, line: LogLine) {
        self.net.trace.say(|| line.text.clone());
        if line.kind == LogKind::BrokenFrame {
            self.blame(NAME, format!("life {life}: {}", line.text));
        }
    }
}
