//! Connections that control is not done with: their bytes move when something comes or there is
//! room. What is said on one is decided in `control/links/shake` and `control/links/carry`, what is
//! to happen next in `control/links`.

use std::collections::BTreeMap;

use super::events::{ConnId, Event, LifeId, Side};
use super::network::{Network, Owner};
use super::newer::refuse_anew;
use super::socket::Pipe;
use crate::control::links::carry::Carry;
use crate::control::links::shake::{Shake, Step};
use crate::control::links::{JobEvent, JobId};

/// One connection.
struct Job {
    conn: ConnId,
    side: Side,
    talk: Talk,
}

/// What is said on it.
enum Talk {
    Shake(Shake),
    Carry(Carry),
    /// Nothing more, and it is open.
    Open,
    /// Nothing more.
    Over,
}

/// Those of one process.
#[derive(Default)]
pub struct Jobs {
    all: BTreeMap<JobId, Job>,
    /// The connection that has just come in, until control has said what becomes of it.
    arrived: Option<ConnId>,
}

impl Jobs {
    /// Talks on the connection that has just come in.
    pub fn accept(&mut self, job: JobId, shake: Shake) {
        if let Some(conn) = self.arrived.take() {
            self.all.insert(job, Job { conn, side: 1, talk: Talk::Shake(shake) });
        }
    }

    /// Closes it instead, and says why.
    pub fn turn_away(&mut self, net: &mut Network, refusal: &[u8]) {
        if let Some(conn) = self.arrived.take() {
            net.write(conn, 1, std::iter::once(refusal));
            net.close(conn, 1);
        }
    }

    /// Talks on a connection once it is made.
    pub fn connect(&mut self, job: JobId, conn: ConnId, shake: Shake) {
        self.all.insert(job, Job { conn, side: 0, talk: Talk::Shake(shake) });
    }

    /// Moves the bytes of an open connection from now on, both ways.
    pub fn keep(&mut self, job: JobId) {
        if let Some(job) = self.all.get_mut(&job).filter(|job| matches!(job.talk, Talk::Open)) {
            job.talk = Talk::Carry(Carry::default());
        }
    }

    /// Writes to a connection that is kept, as soon as what moves its bytes wakes up. Gives that
    /// connection.
    pub fn write(
        &mut self,
        job: JobId,
        (net, life): (&mut Network, LifeId),
        bytes: &[u8],
    ) -> Option<(ConnId, Side)> {
        let Job { conn, side, talk: Talk::Carry(carry) } = self.all.get_mut(&job)? else {
            return None;
        };
        carry.add(bytes);
        let at = net.after_us(net.weather.wake_us);
        net.queue.push(at, Event::Job(life, *conn, *side));
        Some((*conn, *side))
    }

    /// Gives an open connection away.
    pub fn take(&mut self, job: JobId, net: &mut Network, life: LifeId) -> Option<(ConnId, Side)> {
        let Job { conn, side, talk: Talk::Open } = *self.all.get(&job)? else { return None };
        self.all.remove(&job);
        net.own(conn, side, Owner::Handed(life));
        Some((conn, side))
    }

    /// Closes a connection. Whether there was one.
    pub fn abort(&mut self, job: JobId, net: &mut Network) -> bool {
        let job = self.all.remove(&job);
        if let Some(Job { conn, side, .. }) = &job {
            net.close(*conn, *side);
        }
        job.is_some()
    }

    /// Whether nothing more is said on a connection, and nobody has it.
    pub fn is_unwanted(&self, job: JobId) -> bool {
        self.all.get(&job).is_some_and(|job| matches!(job.talk, Talk::Open | Talk::Over))
    }

    /// Those that are kept.
    pub fn kept(&self) -> Vec<JobId> {
        let kept = self.all.iter().filter(|(_, job)| matches!(job.talk, Talk::Carry(_)));
        kept.map(|(job, _)| *job).collect()
    }

    /// A connection has come in.
    pub fn arrives(&mut self, conn: ConnId) {
        self.arrived = Some(conn);
    }

    /// Goes on where something came, or there is room. Gives what control has to hear of.
    pub fn step(
        &mut self,
        (conn, side): (ConnId, Side),
        net: &mut Network,
    ) -> Option<(JobId, JobEvent)> {
        let (id, job) = self.at(conn, side)?;
        let mut pipe = Pipe { net, conn, side, anew: None };
        let step = match &mut job.talk {
            Talk::Shake(shake) => {
                pipe.anew = Some(|bytes, _| refuse_anew(bytes));
                shake.step(&mut pipe)
            }
            Talk::Carry(carry) => carry.step(&mut pipe),
            Talk::Open | Talk::Over => return None,
        };
        match step {
            Step::Tell(event) => Some((id, event)),
            Step::Read | Step::Write => None,
        }
    }

    /// Which one has this side of a connection.
    pub fn of(&mut self, conn: ConnId, side: Side) -> Option<JobId> {
        self.at(conn, side).map(|(id, _)| id)
    }

    /// Control is about to hear of this.
    pub fn note(&mut self, job: JobId, event: &JobEvent) {
        if let Some(job) = self.all.get_mut(&job).filter(|_| event.is_last()) {
            job.talk = if matches!(event, JobEvent::Failed(..)) { Talk::Over } else { Talk::Open };
        }
    }

    fn at(&mut self, conn: ConnId, side: Side) -> Option<(JobId, &mut Job)> {
        let mut all = self.all.iter_mut();
        all.find(|(_, job)| (job.conn, job.side) == (conn, side)).map(|(id, job)| (*id, job))
    }
}
