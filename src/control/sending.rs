//! What the system says of the datagrams that it is given: a member, or a seed, to which it sends none
//! is named while that is so. It is over when one is taken, and not since none failed for a while: to
//! some members little is sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::troubles::{self, PeerTrouble};
use super::{Control, ControlSink};
use crate::base::Time;

/// What became of a datagram that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The system took it.
    Taken,
    /// The system had no room for it: as good as lost on the way.
    NoRoom,
    /// The system does not send it, and says why by a number.
    Not(i32),
}

/// What is worth telling of datagrams, by where to.
pub(super) type Told = BTreeMap<SocketAddr, Result<(), i32>>;

impl Control {
    /// Datagrams to there were not taken, or are taken again.
    pub(super) fn sending_told(&mut self, now: Time, told: &Told, sink: &mut dyn ControlSink) {
        if told.is_empty() || self.is_ending() {
            return;
        }
        for (to, outcome) in told {
            self.joining.sending_told(now, *to, *outcome);
        }
        let view = Arc::clone(self.membership.view());
        let others = view.members.iter().filter(|member| member.id != self.me.node);
        for member in others {
            if let Some(Err(code)) = told.get(&member.address) {
                let error = std::io::Error::from_raw_os_error(*code).to_string();
                let what = PeerTrouble::NotSent;
                self.troubles.saw(now, troubles::of(now, member, what, Some(error.into())));
            }
        }
        let over = self.troubles.sent_again(now, |to| told.get(to) == Some(&Ok(())));
        self.tell_troubles(now, over, sink);
    }
}
