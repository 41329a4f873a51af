//! Connections in control's hands: when the next step of what is said on one is due. What it is,
//! `control/links/shake` decides.

use std::io;

use super::events::LifeId;
use super::network::{ConnId, Network, Read, Side, address};
use super::newer::refuse_anew;
use super::world::World;
use crate::control::ControlSink;
use crate::control::links::shake::{Step, Wire};
use crate::control::links::{Failure, JobEvent, JobId};

impl World {
    /// A connection's first segment came to a machine: its kernel accepts if a process listens.
    pub(super) fn syn(&mut self, conn: ConnId) {
        let (from, to) = self.net.slots(conn);
        let listener = self.slots.get(to).copied().flatten();
        if !self.net.syn(conn, listener) {
            return;
        }
        let Some(life) = listener else { return };
        if self.turns_away_anew(conn) {
            return;
        }
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        body.arriving = Some(conn);
        self.control(life, |control, now, sink| control.incoming(now, address(from), sink));
    }

    /// The dialing side hears whether a process listens.
    pub(super) fn connected(&mut self, life: LifeId, conn: ConnId, listens: bool) {
        if listens {
            return self.step_job(life, conn, 0);
        }
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if let Some(job) = body.job_of(conn, 0) {
            self.job_event(life, job, JobEvent::Failed(Failure::Refused, String::new()));
        }
    }

    /// Something may go on on a connection in control's hands.
    pub(super) fn step_job(&mut self, life: LifeId, conn: ConnId, side: Side) {
        loop {
            let Some(body) = self.lives[life].body.as_deref_mut() else { return };
            let Some(job) = body.job_of(conn, side) else { return };
            let Some(known) = body.jobs.get_mut(&job) else { return };
            if known.kept.is_some() {
                return self.step_channel(life, conn, side);
            }
            let mut talk = Talk { net: &mut self.net, conn, side };
            let Step::Tell(event) = known.shake.step(&mut talk) else { return };
            self.job_event(life, job, event);
        }
    }

    pub(super) fn job_event(&mut self, life: LifeId, job: JobId, event: JobEvent) {
        self.net.trace.note(self.net.now, life, "shaken", job);
        self.heard_refusal(&event);
        let last = event.is_last();
        let failed = matches!(event, JobEvent::Failed(..));
        self.control(life, |control, now, sink| {
            control.job(now, job, event, sink);
            if failed || last && !sink.keeps(job) {
                sink.abort(job); // Nobody wanted it.
            }
        });
    }
}

/// One side of a connection as a handshake uses it.
struct Talk<'a> {
    net: &'a mut Network,
    conn: ConnId,
    side: Side,
}

impl Wire for Talk<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.net.read(self.conn, self.side, room) {
            Read::Bytes(count) => Ok(count),
            Read::Blocked => Err(io::ErrorKind::WouldBlock.into()),
            Read::Closed => Ok(0),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut bytes = bytes.to_vec();
        if self.net.is_newer(self.conn, self.side) {
            refuse_anew(&mut bytes);
        }
        match self.net.write(self.conn, self.side, std::iter::once(bytes.as_slice())) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}
