//! No ask times out before its deadline, and none is open long after it, or after its link was lost.
//! All by the clock of whoever asked; what is too long in time that it ran: what a pause or a handler
//! held it for does not count.

use std::time::Duration;

use super::{Violation, asks, ends};
use crate::ask::ASKERS_GRACE;
use crate::base::Time;
use crate::base::fate::AskError;
use crate::sim::events::{CoreId, LifeId};
use crate::sim::load::Outcome;
use crate::sim::messages::MessageId;
use crate::sim::world::World;

/// Never too early.
pub const EARLY: &str = "no ask times out before its deadline";
/// Nor too late.
pub const LATE: &str = "no ask is open long after its deadline";

/// Nor too late where there is no reply to come.
pub const LOST: &str = "an ask whose link is lost is told so soon";

/// An ask that would be sent again no earlier than its deadline ends at once.
const EARLIER: Duration = Duration::from_millis(2);
/// So long may whoever has to end an ask have run since it was found overdue, or lost.
const LATER: Duration = Duration::from_millis(100);

/// A worker that was told to stop waits so long for its siblings, and then ends all that it has.
const STOPPING: Duration = Duration::from_secs(1);

/// Until when an ask is to have ended.
pub struct Deadline {
    /// On the clock of whoever asked.
    at: Time,
    /// For how long who has to end it had run when it was found overdue.
    overdue: Option<Duration>,
    /// The same, since it was found that its link is lost.
    lost: Option<Duration>,
}

impl Deadline {
    /// Of an ask that is made now.
    pub fn new(at: Time) -> Self {
        Self { at, overdue: None, lost: None }
    }
}

/// What has come of an ask, of which whoever asked is to be told at once or soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Nothing yet.
    Nothing,
    /// Its link is lost.
    Loss,
    /// Its reply was read.
    Reply,
}

/// For how long a process and each of its workers have run.
#[derive(Clone, Default)]
struct Ran {
    process: Duration,
    workers: Vec<Duration>,
}

/// What is known of all deadlines.
#[derive(Default)]
pub struct Deadlines {
    /// Asks that timed out, and not too early.
    pub timeouts: u64,
    /// Asks that were open at their deadlines.
    pub overdue: u64,
    /// Asks that were told that their link is lost.
    pub lost: u64,
    /// By process.
    ran: Vec<Ran>,
}

impl Deadlines {
    /// An ask has ended so, by the clock of whoever asked.
    ///
    /// # Errors
    /// How much earlier it timed out than it may.
    pub fn ended(
        &mut self,
        deadline: &Deadline,
        now: Time,
        end: Result<(), AskError>,
    ) -> Result<(), String> {
        self.overdue += u64::from(deadline.overdue.is_none() && now >= deadline.at);
        self.lost += u64::from(end == Err(AskError::LinkLost));
        if end != Err(AskError::Timeout) {
            return Ok(());
        }
        self.timeouts += 1;
        let early = deadline.at.since(now);
        match early > EARLIER {
            true => Err(format!("an ask timed out {early:?} before its deadline")),
            false => Ok(()),
        }
    }

    /// An ask is open. `worker` has to end it; without one its process has.
    ///
    /// # Errors
    /// For how much longer than it may be.
    pub fn open(
        &mut self,
        deadline: &mut Deadline,
        now: Time,
        (id, (life, worker)): (MessageId, (LifeId, Option<usize>)),
        (owed, stopping): (Owed, bool),
    ) -> Result<(), Violation> {
        let most = LATER + if stopping { STOPPING } else { Duration::ZERO };
        let overdue = now >= deadline.at;
        let lost = owed == Owed::Loss;
        if owed == Owed::Reply {
            let seen = format!("life {life} has read the reply to {id}, which is open");
            return Err(Violation { invariant: ends::NAME, seen });
        }
        if !overdue && !lost {
            return Ok(());
        }
        let ran = self.ran.get(life);
        let ran = ran.and_then(|ran| worker.map_or(Some(&ran.process), |it| ran.workers.get(it)));
        let ran = ran.copied().unwrap_or_default();
        self.overdue += u64::from(overdue && deadline.overdue.is_none());
        let later = |since: &mut Option<Duration>, is_so: bool| {
            let since = is_so.then(|| *since.get_or_insert(ran))?;
            ran.checked_sub(since).filter(|ran| *ran > most)
        };
        let (left, right) =
            (later(&mut deadline.overdue, overdue), later(&mut deadline.lost, lost));
        let (invariant, what, ran) = match (left, right) {
            (Some(ran), _) => (LATE, "it was overdue", ran),
            (None, Some(ran)) => (LOST, "its link was lost", ran),
            (None, None) => return Ok(()),
        };
        let seen = format!("life {life} has run {ran:?} with {id} open since {what}");
        Err(Violation { invariant, seen })
    }

    /// A process has run for so long.
    fn ran(&mut self, life: LifeId, by: Duration) {
        if self.ran.len() <= life {
            self.ran.resize(life + 1, Ran::default());
        }
        self.ran[life].process += by;
    }

    /// One of its workers has.
    fn worker_ran(&mut self, (life, worker): CoreId, by: Duration) {
        let workers = &mut self.ran[life].workers;
        if workers.len() <= worker {
            workers.resize(worker + 1, Duration::ZERO);
        }
        workers[worker] += by;
    }
}

impl World {
    /// Looks for asks that are open for too long. It was last done `before`.
    pub(in crate::sim) fn check_deadlines(&mut self, before: Time) {
        for life in self.living() {
            self.note_run(life, before);
            for thread in 0..self.plan.traffic.threads {
                self.look_at_asks(life, thread);
            }
        }
        let now = self.net.now;
        let lives = &self.lives;
        let clock = |life: LifeId| {
            let body = lives[life].body.as_deref()?;
            (!body.paused).then(|| lives[life].local(now))
        };
        self.ledger.lock().check_deadlines(clock);
    }

    /// Adds up for how long a process and its workers have run. A hold that began meanwhile takes all
    /// of that time.
    fn note_run(&mut self, life: LifeId, before: Time) {
        let known = &self.lives[life];
        let (now, before) = (known.local(self.net.now), known.local(before.max(known.clock.born)));
        let Some(body) = known.body.as_deref().filter(|body| !body.paused) else { return };
        let since = before.max(body.running_since);
        let deadlines = &mut self.ledger.lock().deadlines;
        deadlines.ran(life, now.since(since));
        for (index, core) in body.workers.iter().enumerate() {
            // One that is held has it in the future.
            let since = since.max(core.running_since);
            deadlines.worker_ran((life, index), now.since(since));
        }
    }

    /// Looks which asks of a thread have ended. What has keeps its place until the thread goes on.
    fn look_at_asks(&mut self, life: LifeId, thread: usize) {
        let now = self.lives[life].local(self.net.now);
        let body = self.lives[life].body.as_deref_mut().filter(|body| !body.paused);
        let Some(body) = body else { return };
        let core = &body.workers[body.threads[thread].worker];
        // A worker that holds as much as it may for slow links takes nothing in, and one that stops ends
        // all at once when it has; whoever asked keeps the deadline meanwhile, as in the faces. What
        // the worker has, it must end itself.
        let ledger = &mut *self.ledger.lock();
        let stopping = ledger.fates.is_stopping((life, body.threads[thread].worker));
        let held = stopping || core.blocked_until > self.net.now;
        if held || !core.worker.takes_hand_overs() || !core.ends.injected.is_empty() {
            let overdue = now.0.saturating_sub(ASKERS_GRACE.as_nanos() as u64);
            body.replies.expire(overdue, || Err(AskError::Timeout));
        }
        for ask in body.threads[thread].pending.iter_mut().filter(|ask| !ask.has_ended()) {
            let end = match ask.look() {
                Outcome::Answered => Ok(()),
                Outcome::Failed(error) => Err(error),
                Outcome::Open => {
                    let id = ask.id();
                    let owed = ledger.fates.owed(id);
                    let open = ledger.deadlines.open(
                        ask.deadline(),
                        now,
                        (id, (life, None)),
                        (owed, stopping),
                    );
                    ledger.judge_open(open);
                    continue;
                }
                Outcome::Wrong(seen) => {
                    ledger.blame(asks::NAME, format!("life {life}: {seen}"));
                    continue;
                }
            };
            ledger.told(ask.id(), end);
            let ended = ledger.deadlines.ended(ask.deadline(), now, end);
            ledger.judge(EARLY, ended.map_err(|seen| format!("life {life}: {seen}")));
            if ask.is_late() {
                let told = match end {
                    Ok(()) => Err("what was withdrawn answered an ask".into()),
                    Err(error) => ledger.services.failed_late(error),
                };
                ledger.judge(asks::NAME, told.map_err(|seen| format!("life {life}: {seen}")));
            }
        }
    }

    /// A thread takes the ends of its asks.
    pub(in crate::sim) fn collect(&mut self, life: LifeId, thread: usize) {
        self.look_at_asks(life, thread);
        if let Some(body) = self.lives[life].body.as_deref_mut() {
            body.threads[thread].pending.retain(|ask| !ask.has_ended());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId { sender: 0, number: 0 };

    fn ms(ms: u64) -> Time {
        Time::ZERO.plus(Duration::from_millis(ms))
    }

    #[test]
    fn a_timeout_may_come_2_ms_before_its_deadline_and_no_more() {
        let mut all = Deadlines::default();
        let (deadline, late) = (Deadline::new(ms(50)), Err(AskError::Timeout));
        assert_eq!(all.ended(&deadline, ms(48), late), Ok(()));
        assert!(all.ended(&deadline, ms(47), late).is_err());
        assert_eq!(all.ended(&deadline, ms(1), Err(AskError::LinkLost)), Ok(()));
        assert_eq!((all.timeouts, all.overdue), (2, 0));
    }

    #[test]
    fn an_ask_is_late_by_the_time_that_its_worker_ran() {
        let mut all = Deadlines::default();
        all.ran(0, Duration::ZERO);
        all.worker_ran((0, 1), Duration::ZERO);
        let (mut deadline, by) = (Deadline::new(ms(50)), (0, Some(1)));
        assert_eq!(all.open(&mut deadline, ms(49), (ID, by), (Owed::Nothing, false)), Ok(()));
        assert_eq!(all.open(&mut deadline, ms(50), (ID, by), (Owed::Nothing, false)), Ok(()));
        assert_eq!(
            all.open(&mut deadline, ms(9_000), (ID, by), (Owed::Nothing, false)),
            Ok(()),
            "it was held"
        );
        all.worker_ran((0, 1), Duration::from_millis(101));
        assert!(all.open(&mut deadline, ms(9_000), (ID, by), (Owed::Nothing, false)).is_err());
        assert_eq!(all.overdue, 1, "it counts once");
    }

    #[test]
    fn an_ask_whose_link_is_lost_is_not_to_wait_for_its_deadline() {
        let mut all = Deadlines::default();
        let (mut deadline, by) = (Deadline::new(ms(5_000)), (0, None));
        all.ran(0, Duration::ZERO);
        assert_eq!(all.open(&mut deadline, ms(1), (ID, by), (Owed::Loss, false)), Ok(()));
        all.ran(0, Duration::from_millis(101));
        assert!(all.open(&mut deadline, ms(2), (ID, by), (Owed::Loss, false)).is_err());
        assert!(
            all.open(&mut Deadline::new(ms(50)), ms(2), (ID, by), (Owed::Reply, false)).is_err()
        );
    }
}
