//! How often something is done that is wanted again and again: at once where it was not wanted for a
//! while, and ever more rarely as long as it is wanted on and on. What comes in a row is done together
//! this way, and what comes alone does not wait.

use std::time::Duration;

use super::Time;

/// Says when something may be done.
#[derive(Clone, Debug)]
pub struct Pace {
    least: Duration,
    most: Duration,
    /// From the last time to the next one.
    gap: Duration,
    last: Option<Time>,
    waits: bool,
}

/// When what is wanted is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Now; then [`Pace::done`] is called.
    Now,
    /// Then, for which the caller sets a timer.
    At(Time),
    /// When the timer fires that is set already.
    Waits,
}

impl Pace {
    /// `least` lies between the first time and the second, twice as much before each further one,
    /// and at the end `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, gap: least, last: None, waits: false }
    }

    /// It is wanted.
    pub fn wanted(&mut self, now: Time) -> Turn {
        match self.last.map(|last| last.plus(self.gap)) {
            _ if self.waits => Turn::Waits,
            Some(next) if now < next => {
                self.waits = true;
                Turn::At(next)
            }
            _ => Turn::Now,
        }
    }

    /// Whether a timer's time is that of something that waits.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// It is done.
    pub fn done(&mut self, now: Time) {
        // Not wanted for as long as it would have waited, that is: the row has an end.
        let in_a_row = self.last.is_some_and(|last| now.since(last) < self.gap * 2);
        self.gap = if in_a_row { (self.gap * 2).min(self.most) } else { self.least };
        self.last = Some(now);
        self.waits = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn what_comes_in_a_row_waits_longer_and_longer_and_what_comes_alone_does_not() {
        let mut pace = Pace::new(MS(5), MS(20));
        let mut done = Vec::new();
        let mut timer = None;
        for now in (0..100).chain(200..203).map(at) {
            if timer.is_some_and(|timer| timer <= now) {
                timer = None;
                assert!(pace.waits());
                pace.done(now);
                done.push(now);
            }
            match pace.wanted(now) {
                Turn::Now => {
                    pace.done(now);
                    done.push(now);
                }
                Turn::At(time) => assert_eq!(timer.replace(time), None),
                Turn::Waits => assert!(timer.is_some()),
            }
        }
        assert_eq!(done, [0, 5, 15, 35, 55, 75, 95, 200].map(at));
    }
}
