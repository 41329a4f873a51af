//! What each machine went through: when it did not run last, or could not speak with another one, and
//! whose word can arrive where.

use std::time::Duration;

use crate::base::Time;
use crate::sim::events::SlotId;
use crate::sim::process::Life;
use crate::sim::walls::Walls;
use crate::sim::world::World;

/// What is known of machines.
#[derive(Default)]
pub struct Disturbed {
    /// By machine: when it was last, as of now, and as of the look before.
    at: Vec<Time>,
    before: Vec<Time>,
    /// By machine: from whom word can arrive, straight or by way of others; empty where nothing keeps
    /// anybody apart.
    hears: Vec<Vec<bool>>,
    /// By machine: since when these are the ones.
    heard_since: Vec<Time>,
}

/// Whether it can answer.
pub fn is_silent(life: &Life) -> bool {
    life.body.as_ref().is_none_or(|body| body.paused)
}

impl Disturbed {
    /// For how long a machine has run and could speak with all others.
    pub fn quiet_for(&self, slot: SlotId, now: Time) -> Duration {
        now.since(self.at.get(slot).copied().unwrap_or(Time::ZERO))
    }

    /// For how long a machine had, until it was looked last but one.
    pub fn was_quiet_for(&self, slot: SlotId, now: Time) -> Duration {
        now.since(self.before.get(slot).copied().unwrap_or(Time::ZERO))
    }

    /// Since when the same machines can be heard there.
    pub fn hears_since(&self, slot: SlotId) -> Time {
        self.heard_since.get(slot).copied().unwrap_or(Time::ZERO)
    }

    /// Whether what one machine says can arrive at another one.
    pub fn can_hear(&self, listener: SlotId, speaker: SlotId) -> bool {
        self.hears.get(listener).is_none_or(|hears| hears[speaker])
    }
}

impl World {
    /// Looks at all machines.
    pub(super) fn look_at_machines(&mut self) {
        let (now, slots) = (self.net.now, self.slots.len());
        let runs: Vec<bool> = self
            .slots
            .iter()
            .map(|life| life.is_some_and(|life| !is_silent(&self.lives[life])))
            .collect();
        let walls = &self.net.walls;
        let Disturbed { at, before, hears, heard_since } = &mut self.checks.disturbed;
        before.clone_from(at);
        at.resize(slots, Time::ZERO);
        heard_since.resize(slots, Time::ZERO);
        let heard = std::mem::take(hears);
        for slot in 0..slots {
            if !runs[slot] || self.plan.slow.contains(&slot) {
                at[slot] = now;
            }
        }
        for listener in (0..slots).filter(|_| walls.any()) {
            for other in 0..slots {
                if walls.is_between(listener, other) {
                    (at[listener], at[other]) = (now, now);
                }
            }
            hears.push(heard_by(listener, &runs, walls));
        }
        for (slot, since) in heard_since.iter_mut().enumerate() {
            let (was, is) = (heard.get(slot), hears.get(slot));
            let all = |hears: Option<&Vec<bool>>| hears.is_none_or(|it| it.iter().all(|it| *it));
            if was != is && !(all(was) && all(is)) {
                *since = now;
            }
        }
    }
}

/// By machine, whether its word can arrive, passed on by those that run.
fn heard_by(listener: SlotId, runs: &[bool], walls: &Walls) -> Vec<bool> {
    let mut heard = vec![false; runs.len()];
    heard[listener] = true;
    let mut open = vec![listener];
    while let Some(to) = open.pop() {
        for from in 0..runs.len() {
            if !heard[from] && !walls.is_between(from, to) {
                heard[from] = true;
                if runs[from] {
                    open.push(from);
                }
            }
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_comes_by_way_of_those_that_run_and_one_way_is_enough() {
        let mut walls = Walls::default();
        walls.stand(1, 0, 1);
        walls.stand(1, 0, 2);
        walls.stand(1, 1, 0);
        assert_eq!(heard_by(1, &[true; 3], &walls), [false, true, true]);
        assert_eq!(heard_by(0, &[true; 3], &walls), [true, true, true], "1 by way of 2");
        assert_eq!(heard_by(0, &[true, true, false], &walls), [true, false, true]);
    }
}
