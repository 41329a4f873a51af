//! Who does not hold the secret gets in nowhere: no handshake with it comes to a link, whichever side
//! began it, and what it sends changes nothing that a node holds true. In one seed of eight somebody
//! tries, by all means that there are without the secret.

use crate::base::View;
use crate::control::links::{Failure, JobEvent};
use crate::sim::events::{ConnId, LifeId, Side};
use crate::sim::forgery::Forgery;
use crate::sim::network::address;
use crate::sim::world::World;
use crate::wire::handshake::HandshakeError;

/// The invariant's name.
pub const NAME: &str = "who does not hold the secret gets in nowhere";
/// The name of that of its datagrams.
pub const DATAGRAMS: &str = "a forged datagram is dropped, counted and changes nothing";

/// What a node has made of datagrams: those that were not its cluster's, all others, and its view.
pub type TakenIn = (u64, u64, u64);

impl World {
    /// What a process has made of datagrams until now.
    pub(in crate::sim) fn taken_in(&self, life: LifeId) -> Option<TakenIn> {
        let body = self.lives[life].body.as_deref().filter(|body| body.left.is_none())?;
        let counts = body.control.datagrams();
        let others = counts.taken + counts.skipped + counts.malformed;
        Some((counts.not_ours, others, body.control.view().digest))
    }

    /// A forged datagram came to a process.
    pub(in crate::sim) fn check_forged(
        &mut self,
        life: LifeId,
        how: Forgery,
        before: Option<TakenIn>,
    ) {
        let Some(forger) = &mut self.net.forger else { return };
        // What a node said does mean something, however often it is said.
        forger.forged.datagrams[how as usize] += 1;
        let after = self.taken_in(life);
        let Some(((not_ours, others, view), after)) = before.zip(after) else { return };
        let is_right = matches!(how, Forgery::Replayed | Forgery::Reflected);
        if !is_right && after != (not_ours + 1, others, view) {
            let seen = format!("life {life} made of one ({how:?}): {before:?}, {after:?}");
            self.blame(DATAGRAMS, seen);
        }
    }

    /// Control is about to hear this of a connection.
    pub(in crate::sim) fn check_stranger(
        &mut self,
        life: LifeId,
        (conn, side): (ConnId, Side),
        event: &JobEvent,
    ) {
        let Some(forger) = &mut self.net.forger else { return };
        let Some(how) = forger.forges(conn) else { return };
        let error = match event {
            JobEvent::Accepted(_) | JobEvent::Dialed(_) => {
                let seen = format!("life {life} opened a link to a stranger ({how:?})");
                return self.blame(NAME, seen);
            }
            JobEvent::Refused(error, _) | JobEvent::Failed(Failure::Handshake(error), _) => {
                Some(error)
            }
            JobEvent::Failed(..) => None,
            _ => return,
        };
        // Others end before there is a proof.
        let is_proof = matches!(how, Forgery::Zeros | Forgery::Guessed | Forgery::Flipped);
        if is_proof && error != Some(&HandshakeError::WrongProof) {
            return;
        }
        let counts = [&mut forger.forged.answered, &mut forger.forged.dialed];
        counts[side][how as usize] += 1;
    }

    /// A process is about to show a view.
    pub(super) fn check_strangers(&mut self, life: LifeId, view: &View) {
        let Some(forger) = &self.net.forger else { return };
        let at = address(forger.slot);
        if view.members.iter().any(|member| member.address == at || *member.name == *"forger") {
            self.blame(NAME, format!("life {life} shows a stranger as a member"));
        }
    }
}
