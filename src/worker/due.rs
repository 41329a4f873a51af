//! What a worker runs besides messages: times that have come, wake-ups, asks that failed, work that
//! has ended, what parts tell. All of it calls users' code, which takes as long as it likes: it is
//! run one by one, and the duty cycle says when its time is over. What is left has its turn then.

use super::Worker;
use super::core::Timer;
use super::link::LinkState;
use super::routees::running;
use crate::base::fate::DeathReason;

/// Results, and messages of parts, that a duty cycle takes at most, however quick their routees are.
const MOST_OF_EACH: usize = 64;

/// What calls users' code when it is due.
#[derive(Clone, Copy)]
enum Source {
    /// A time that a routee has set.
    Wakes,
    /// A routee's wish to be woken at once.
    Soon,
    FailedAsks,
    Results,
    Notices,
}

const SOURCES: [Source; 5] =
    [Source::Wakes, Source::Soon, Source::FailedAsks, Source::Results, Source::Notices];

/// What a duty cycle runs, in rounds of one of each source: nobody's many let others wait. No more
/// than was there when it began, so that what a handler adds does not hold it up for ever.
#[derive(Default)]
pub(super) struct Round {
    /// By source: how many.
    left: [usize; SOURCES.len()],
    /// The source that comes next.
    next: usize,
}

impl Round {
    /// Whether all was run.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.left == [0; SOURCES.len()]
    }

    fn take(&mut self) -> Option<Source> {
        for _ in SOURCES {
            let place = self.next;
            self.next = (place + 1) % SOURCES.len();
            if self.left[place] > 0 {
                self.left[place] -= 1;
                return Some(SOURCES[place]);
            }
        }
        None
    }
}

impl Worker {
    /// Does what is due of the worker's own, and gathers what calls users' code. Returns whether
    /// there was any.
    pub fn gather(&mut self) -> bool {
        let mut own = std::mem::take(&mut self.due);
        self.core.timers.expire(self.core.now, |timer| own.push(timer));
        let any = !own.is_empty();
        for timer in own.drain(..) {
            self.timer(timer);
        }
        self.due = own;
        let core = &mut self.core;
        core.asks.expire(core.now, &mut core.ask_effects);
        core.carry_asks();
        let wakes = core.wakes.ripen(core.now);
        let results = core.works.waiting().min(MOST_OF_EACH);
        let notices = core.notices.len().min(MOST_OF_EACH);
        self.round.left = [wakes, core.soon.len(), core.failed_asks.len(), results, notices];
        core.carry_out_parts();
        any || !self.round.is_over()
    }

    /// Runs one of what was gathered. Returns whether there was one.
    pub fn run_one(&mut self) -> bool {
        let Some(source) = self.round.take() else { return false };
        // There may be fewer than were gathered: a handler can call off what it waits for.
        match source {
            Source::Wakes => {
                if let Some((instance, token)) = self.core.wakes.pop() {
                    self.wake(instance, token);
                }
            }
            Source::Soon => {
                if let Some((instance, token)) = self.core.soon.pop_front() {
                    self.wake(instance, token);
                }
            }
            Source::FailedAsks => {
                if let Some((waiter, error)) = self.core.next_failed() {
                    self.end_ask(waiter, Err(error));
                    self.core.carry_asks();
                }
            }
            Source::Results => self.take_result(),
            Source::Notices => self.take_notice(),
        }
        self.core.carry_out_parts();
        true
    }

    /// Brings the oldest message of a part to the routee that it is for. Not by the queue of messages
    /// to itself, whose frames name no life.
    #[cold]
    fn take_notice(&mut self) {
        let Some((to, chunk)) = self.core.notices.pop_front() else { return };
        if running(&mut self.routees, to).is_some() {
            self.deliver_chunk(self.core.own, chunk, u32::MAX);
        } else {
            self.core.bury_notice(chunk, DeathReason::UnknownHandler);
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Ack(link) => self.core.acknowledge(link),
            Timer::Redial(id) => {
                if let Some(link) = self.core.links.get_mut(id)
                    && link.state == LinkState::Broken
                {
                    link.state = LinkState::Idle;
                    self.core.refresh_usable();
                }
            }
            Timer::Dial(id) => self.look_at_dial(id),
            Timer::Parting(id) => self.part_when_all_is_sent(id),
            Timer::Part { part, token } => self.core.parts.timer(part, token),
        }
    }
}
