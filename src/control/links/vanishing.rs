//! Members that answer, and to which what is sent on connections vanishes again and again: as where
//! large packets are dropped on the way and nobody is told, since ICMP is dropped as well.
//!
//! A handshake is short and goes through there, and so do short messages. So the next connections to
//! such a member are made with packets as short as its datagrams, which arrive.

use std::time::Duration;

use super::{LinkEffect, Links};
use crate::base::{NodeRef, Time};
use crate::control::troubles::PeerTrouble;

/// How often it must happen, on one connection after the other.
const TIMES: u32 = 2;
/// After which time it is another story.
const TOGETHER: Duration = Duration::from_secs(60);
/// How soon a member's machine takes a connection if it could be reached all the time: after a cut
/// of the whole path it takes none while that lasts.
const AT_ONCE: Duration = Duration::from_millis(500);

/// What a packet carries: with the headers of TCP and IP it is as long as a datagram of membership.
const SMALL_SEGMENT_BYTES: u32 = 1_188;

/// What has vanished on the way to one member.
#[derive(Default)]
pub(super) struct Vanishing {
    /// On so many connections, each opened after the one before was given up.
    times: u32,
    /// So often its machine took a connection at once.
    answered: u32,
    last: Time,
    /// It is being looked whether it does.
    asked: bool,
}

impl Links {
    /// What was sent to a peer on a connection that was opened then has vanished.
    pub fn vanished(&mut self, now: Time, peer: NodeRef, opened: Time) {
        if !self.members.contains(&peer) {
            return;
        }
        let known = self.vanishing.entry(peer).or_default();
        // What takes one connection takes others that were open at the time.
        if known.times > 0 && opened < known.last {
            return;
        }
        if now.since(known.last) > TOGETHER {
            known.answered = 0;
            // Short packets are gone on with: with others it would begin anew.
            known.times = if known.times < TIMES { 0 } else { known.times };
        }
        (known.times, known.last, known.asked) = (known.times.saturating_add(1), now, true);
    }

    /// A member's machine took a connection.
    pub(super) fn answers(&mut self, now: Time, peer: NodeRef, out: &mut Vec<LinkEffect>) {
        let Some(known) = self.vanishing.get_mut(&peer) else { return };
        if std::mem::take(&mut known.asked) && now.since(known.last) < AT_ONCE {
            known.answered = known.answered.saturating_add(1);
            if known.answered >= TIMES {
                out.push(LinkEffect::Trouble(peer, PeerTrouble::Swallowed, None));
            }
        }
    }

    /// How much a packet to this peer may carry, if not as much as the system finds right.
    pub(super) fn segment_bytes(&self, peer: NodeRef) -> Option<u32> {
        let known = self.vanishing.get(&peer)?;
        (known.times >= TIMES).then_some(SMALL_SEGMENT_BYTES)
    }
}
