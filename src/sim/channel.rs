//! Moves the bytes of channels between simulated controls.

use super::events::LifeId;
use super::network::{ConnId, Network, Read, Side};
use super::process::Job;
use super::world::World;
use crate::control::links::{Failure, JobEvent};

/// How much is read in one go.
const READ_BYTES: usize = 4 << 10;

impl Job {
    /// Writes what waits and this, as far as the socket takes it.
    pub(super) fn write(&mut self, net: &mut Network, bytes: &[u8]) {
        let Some(waiting) = &mut self.kept else { return };
        waiting.extend_from_slice(bytes);
        let written = net.write(self.conn, self.side, std::iter::once(waiting.as_slice()));
        waiting.drain(..written);
    }
}

impl World {
    /// A channel's socket takes more, has something, or is over.
    pub(super) fn step_channel(&mut self, life: LifeId, conn: ConnId, side: Side) {
        loop {
            let Some(body) = self.lives[life].body.as_deref_mut() else { return };
            let Some(id) = body.job_of(conn, side) else { return };
            let Some(job) = body.jobs.get_mut(&id) else { return };
            job.write(&mut self.net, &[]);
            if job.kept.as_ref().is_none_or(|waiting| !waiting.is_empty()) {
                return; // As the real driver: it reads nothing before its peer has taken that.
            }
            let mut bytes = vec![0; READ_BYTES];
            let mut unknown = 0;
            let event = match self.net.read(conn, side, &mut bytes) {
                Read::Bytes(count) => {
                    bytes.truncate(count);
                    unknown = self.letters_taken((life, id), &bytes);
                    JobEvent::Bytes(bytes)
                }
                Read::Blocked => return,
                Read::Closed => JobEvent::Failed(Failure::Broken, "the peer closed it".to_owned()),
            };
            self.job_event(life, id, event);
            if unknown > 0 {
                self.check_skipped_letters(life, unknown);
            }
        }
    }
}
