//! How long a duty cycle goes on handling messages. Handlers are the user's and take as long as
//! they like, so that a number of messages is no bound; and a look at the clock after each of them
//! would cost more than a quick one does. So the clock is looked at after a number of messages that
//! follows from how long the last ones took.

use std::time::Duration;

use crate::base::Time;
use crate::worker::calls::Calls;

/// How long messages are handled in one duty cycle for each kind of source, of which there are
/// four: siblings, sockets, what is due, and the worker itself.
const SHARE: Duration = Duration::from_micros(3_300);

/// How long may pass from one look at the clock to the next.
const LOOK_AFTER: Duration = Duration::from_millis(1);

/// The most messages from one look to the next: with quick handlers the clock costs nothing then,
/// with handlers that all at once are slow it is noticed in time.
const MOST_MESSAGES: u32 = 64;

/// The first message of one in so many turns is timed by itself.
const SAMPLE_EVERY: u32 = 16;

/// The longest time between two looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Longest {
    pub took: Duration,
    /// What was called in it.
    pub calls: Calls,
}

pub(super) struct Pace {
    every: u32,
    left: u32,
    begun: Time,
    looked: Time,
    until: Time,
    longest: Option<Longest>,
    /// What the turn had called when the clock was looked at last.
    called: Calls,
    /// Turns until one is sampled, which is when it comes to 0.
    unsampled: u32,
    sample: Sample,
}

/// Of the first message of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sample {
    None,
    Wanted,
    Begun(Time),
}

impl Pace {
    pub fn new() -> Self {
        let (begun, looked, until) = (Time::ZERO, Time::ZERO, Time::ZERO);
        let (unsampled, sample) = (SAMPLE_EVERY, Sample::None);
        Self {
            every: 1,
            left: 1,
            begun,
            looked,
            until,
            longest: None,
            called: Calls::NONE,
            unsampled,
            sample,
        }
    }

    /// A duty cycle begins.
    #[inline]
    pub fn begin(&mut self, now: Time) {
        self.begun = now;
        self.looked = now;
        self.left = self.every;
        self.longest = None;
        self.called.begin();
        if self.unsampled > 0 {
            self.unsampled -= 1;
        } else {
            self.sample = Sample::Wanted;
            self.left = 1;
        }
    }

    /// Whether the next message is to be timed by itself: then [`Pace::sample`] is called.
    #[inline]
    pub fn wants_sample(&self) -> bool {
        self.sample == Sample::Wanted
    }

    /// A message is handled now, of which nothing else is handled until the next look.
    #[cold]
    pub fn sample(&mut self, now: Time) {
        self.sample = Sample::Begun(now);
        self.unsampled = SAMPLE_EVERY;
        self.left = 1;
    }

    /// There was no message after all: the next one is timed. Returns whether one was to be.
    #[inline]
    pub fn unsample(&mut self) -> bool {
        let begun = matches!(self.sample, Sample::Begun(_));
        if begun {
            (self.sample, self.unsampled) = (Sample::Wanted, 0);
        }
        begun
    }

    /// How long the message took that was to be timed, if this look is the one behind it.
    #[inline]
    pub fn sampled(&mut self, now: Time) -> Option<Duration> {
        let Sample::Begun(since) = self.sample else { return None };
        self.sample = Sample::None;
        // One of as many as are handled otherwise between two looks.
        self.left = self.every - 1;
        Some(now.since(since))
    }

    /// Another kind of source has its turn.
    #[inline]
    pub fn share(&mut self) {
        self.until = self.looked.plus(SHARE);
    }

    /// How many messages may be handled before the next look. Never 0.
    #[inline]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// So many were handled. Returns whether it is time to look.
    #[inline]
    pub fn handled(&mut self, messages: u32) -> bool {
        self.left -= messages;
        self.left == 0
    }

    /// Looks at the clock. Returns whether this source's time is over.
    pub fn look(&mut self, now: Time, calls: Calls) -> bool {
        let (took, messages) = (now.since(self.looked), self.every - self.left);
        if self.longest.is_none_or(|longest| took > longest.took) {
            self.longest = Some(Longest { took, calls: calls.since(&self.called) });
        }
        self.called = calls;
        if messages > 0 {
            let each = (took.as_nanos() as u64 / u64::from(messages)).max(1);
            let fitting = (LOOK_AFTER.as_nanos() as u64 / each).clamp(1, u64::from(MOST_MESSAGES));
            self.every = (fitting as u32).min(2 * self.every);
        }
        self.left = self.every;
        self.looked = now;
        self.is_over()
    }

    /// Whether this source's time is over.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.looked >= self.until
    }

    /// The duty cycle is over. Returns what held it for longest, if it took longer than `limit`.
    #[inline]
    pub fn end(&mut self, now: Time, calls: Calls, limit: Duration) -> Option<Longest> {
        if now.since(self.begun) <= limit {
            return None;
        }
        self.look(now, calls);
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Calls = Calls::NONE;

    #[test]
    fn where_no_message_was_the_next_one_is_timed() {
        let mut pace = Pace::new();
        while !pace.wants_sample() {
            pace.begin(Time::ZERO);
        }
        pace.sample(Time(1));
        assert!(pace.unsample() && !pace.unsample());
        pace.begin(Time(1_000));
        assert!(pace.wants_sample(), "also in a later turn");
        pace.sample(Time(1_000));
        assert_eq!(pace.sampled(Time(1_007)), Some(Duration::from_nanos(7)));
    }

    #[test]
    fn one_message_in_some_turns_is_timed_by_itself() {
        let mut pace = Pace::new();
        let (mut now, mut samples) = (Time::ZERO, Vec::new());
        for _ in 0..3 * (SAMPLE_EVERY + 1) {
            now = now.plus(Duration::from_micros(50)); // What comes before the first message.
            pace.begin(now);
            pace.share();
            let mut handled = 0;
            while handled < 100 {
                now = now.plus(Duration::from_micros(9)); // A read, say.
                if pace.wants_sample() {
                    pace.sample(now);
                    assert_eq!(pace.left(), 1);
                }
                let messages = pace.left();
                handled += messages;
                now = now.plus(Duration::from_micros(1) * messages);
                if pace.handled(messages) {
                    samples.extend(pace.sampled(now));
                    pace.look(now, CALL);
                }
            }
        }
        assert_eq!(samples, [Duration::from_micros(1); 3]);
        assert_eq!(pace.every, MOST_MESSAGES, "samples do not slow it down");
    }

    #[test]
    fn what_held_a_turn_is_told_without_what_was_called_before_it() {
        let calls = |messages, hooks, panics| {
            let mut calls = CALL;
            (calls.messages, calls.hooks, calls.panics) = (messages, hooks, panics);
            calls
        };
        let mut pace = Pace::new();
        pace.begin(Time::ZERO);
        pace.look(Time(1), calls(3, 2, 1));
        let longest = pace.end(Time(1_000), calls(4, 4, 4), Duration::ZERO).unwrap();
        let Calls { messages, hooks, panics, .. } = longest.calls;
        assert_eq!((longest.took, messages, hooks, panics), (Duration::from_nanos(999), 1, 2, 3));
    }

    #[test]
    fn looks_follow_the_pace_of_handlers() {
        let mut pace = Pace::new();
        let mut now = Time::ZERO;
        let mut after = |pace: &mut Pace, each: Duration| {
            pace.begin(now);
            pace.share();
            let mut handled = 0;
            loop {
                let messages = pace.left();
                now = now.plus(each * messages);
                handled += messages;
                if pace.handled(messages) && pace.look(now, CALL) {
                    return (handled, messages);
                }
            }
        };
        let quick = Duration::from_nanos(100);
        assert_eq!(after(&mut pace, quick).1, MOST_MESSAGES);
        // The first slow ones come as a surprise; from then on each is looked at.
        let slow = Duration::from_millis(1);
        assert_eq!(after(&mut pace, slow), (MOST_MESSAGES, MOST_MESSAGES));
        assert_eq!(after(&mut pace, slow), (4, 1));
        assert_eq!(after(&mut pace, quick).1, MOST_MESSAGES);
    }
}
