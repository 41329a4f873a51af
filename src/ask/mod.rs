//! Asks: from their opening to their one end, over one attempt or several.
//!
//! A decider: openings, replies, failures, lost links and times come in; attempts to send and ends
//! go out as [`Effect`]s. Each ask ends exactly once, by the first of: a reply, a failure after
//! which its plan knows nothing more to try, its deadline, its cancellation.
//!
//! An ask without a plan is sent once, and its own number is the correlation that travels: it costs
//! one place in a table and one timer. An ask with a [`Plan`] keeps its frame, and each attempt has
//! a number of its own, so that attempts that overlap are told apart.

mod effect;
mod plan;
mod progress;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use effect::{Effect, Effects};
pub use plan::{Advance, Plan};
use progress::Progress;
pub use progress::left_open;
pub use table::AskTable;

use crate::base::Time;
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::base::timers::{TimerKey, TimerWheel};
use crate::wire::Chunk;

/// How fine deadlines and pauses are.
const TICK: Duration = Duration::from_millis(1);

/// How long after a deadline whoever asked waits for its worker to say so, and then says so itself.
pub const ASKERS_GRACE: Duration = Duration::from_millis(20);

/// All asks of one worker. `W` is who waits, `L` a link, `T` a target of a plan.
pub struct Asks<W, L, T> {
    table: AskTable<Entry<W, L, T>>,
    timers: TimerWheel<Timer>,
    due: Vec<Timer>,
    open: usize,
    /// Asks that have failed and whose waiters have not been told: their places are not free yet.
    untold: usize,
    max_asks: usize,
    /// The memory of the frames that plans keep.
    kept_bytes: usize,
    most_kept_bytes: usize,
    closing: bool,
    over: bool,
}

enum Entry<W, L, T> {
    Ask(Ask<W, L, T>),
    /// One attempt of an ask with a plan; no link before it is sent.
    Attempt {
        ask: u64,
        link: Option<L>,
    },
}

struct Ask<W, L, T> {
    waiter: W,
    deadline: TimerKey,
    course: Course<L, T>,
}

enum Course<L, T> {
    /// Sent once, on this link.
    Once(L),
    Planned(Box<Progress<T>>),
}

enum Timer {
    Deadline(u64),
    Next(u64),
}

impl<W, L: Copy + PartialEq, T> Asks<W, L, T> {
    /// None yet, `max_asks` at a time. All attempts together are at most as many again; what is
    /// beyond counts as refused. The frames of all plans take `most_kept_bytes`, or one takes more.
    pub fn new(max_asks: usize, most_kept_bytes: usize, now: Time) -> Self {
        Self {
            table: AskTable::new(2 * max_asks),
            timers: TimerWheel::new(TICK, now),
            due: Vec::new(),
            open: 0,
            untold: 0,
            max_asks,
            kept_bytes: 0,
            most_kept_bytes,
            closing: false,
            over: false,
        }
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// The number that the next ask gets, if it is opened.
    pub fn next(&self) -> u64 {
        self.table.next()
    }

    /// So many asks have failed and keep their places until it is told.
    #[inline]
    pub fn hold_untold(&mut self, untold: usize) {
        self.untold = untold;
    }

    /// Whether no more can be opened.
    pub fn is_full(&self) -> bool {
        self.open + self.untold >= self.max_asks || self.table.is_full()
    }

    /// The memory of the frames that plans keep: as it is counted, and as it is.
    pub fn kept_bytes(&self) -> (usize, usize) {
        let kept = self.table.iter().map(|entry| match entry {
            Entry::Ask(Ask { course: Course::Planned(progress), .. }) => progress.frame.capacity(),
            _ => 0,
        });
        (self.kept_bytes, kept.sum())
    }

    /// How many deadlines and pauses are waited for.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// When to call [`Asks::expire`] next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    // ---- openings ----

    /// Opens an ask that is sent once, on this link, and gives its correlation; gives the waiter
    /// back when there are too many.
    #[inline]
    pub fn open(&mut self, waiter: W, link: L, deadline: Time) -> Result<u64, W> {
        self.insert(waiter, Course::Once(link), deadline).map_err(|(waiter, _)| waiter)
    }

    /// Opens an ask with a plan: its first attempts are among the effects.
    ///
    /// # Errors
    /// Gives waiter and frame back when there are too many, they keep too much, or none is opened
    /// any more.
    pub fn start(
        &mut self,
        (waiter, plan, frame): (W, Plan<T>, Chunk),
        deadline: Time,
        now: Time,
        out: &mut Effects<W>,
    ) -> Result<u64, (W, Chunk)> {
        let bytes = frame.capacity();
        if self.kept_bytes > 0 && self.kept_bytes + bytes > self.most_kept_bytes {
            return Err((waiter, frame));
        }
        let attempts = Vec::new();
        let progress =
            Progress { plan, frame, deadline, begun: 0, attempts, next: None, said: None };
        match self.insert(waiter, Course::Planned(Box::new(progress)), deadline) {
            Ok(ask) => {
                self.kept_bytes += bytes;
                self.begin_next(ask, now, out);
                Ok(ask)
            }
            Err((waiter, Course::Planned(progress))) => Err((waiter, progress.frame)),
            Err((_, Course::Once(_))) => unreachable!("the course was planned"),
        }
    }

    #[inline]
    fn insert(
        &mut self,
        waiter: W,
        course: Course<L, T>,
        deadline: Time,
    ) -> Result<u64, (W, Course<L, T>)> {
        if self.is_full() || self.over {
            return Err((waiter, course));
        }
        // The timer names the ask, and the ask its timer: the place is known before it is taken.
        let key = self.timers.insert(deadline, Timer::Deadline(self.table.next()));
        match self.table.open(Entry::Ask(Ask { waiter, deadline: key, course })) {
            Ok(ask) => {
                self.open += 1;
                Ok(ask)
            }
            Err(_) => unreachable!("the table was checked to have room"),
        }
    }

    /// Has an ask end so much later, unless it has ended.
    pub fn postpone(&mut self, ask: u64, by: Duration) {
        let Some(Entry::Ask(Ask { deadline, course, .. })) = self.table.get_mut(ask) else {
            return;
        };
        self.timers.postpone(*deadline, by);
        if let Course::Planned(progress) = course {
            progress.deadline = progress.deadline.plus(by);
        }
    }

    /// Takes an ask back, as if it had never been opened, or gives it up: who waited is not told.
    pub fn cancel(&mut self, ask: u64, out: &mut Effects<W>) -> Option<W> {
        self.ask(ask)?;
        self.close(ask, out)
    }

    // ---- what attempts come to ----

    /// The plan of an ask, and the frame to send a copy of.
    pub fn plan(&self, ask: u64) -> Option<(&Plan<T>, &Chunk)> {
        match self.table.get(ask) {
            Some(Entry::Ask(Ask { course: Course::Planned(progress), .. })) => {
                Some((&progress.plan, &progress.frame))
            }
            _ => None,
        }
    }

    /// What is left of the deadline of an ask with a plan.
    pub fn left(&self, ask: u64, now: Time) -> Option<Duration> {
        match self.table.get(ask) {
            Some(Entry::Ask(Ask { course: Course::Planned(progress), .. })) => {
                Some(progress.deadline.since(now))
            }
            _ => None,
        }
    }

    /// Who waits for an ask.
    pub fn waiter(&self, ask: u64) -> Option<&W> {
        match self.table.get(ask) {
            Some(Entry::Ask(ask)) => Some(&ask.waiter),
            _ => None,
        }
    }

    /// An attempt is on its way on this link.
    pub fn sent(&mut self, attempt: u64, on: L) {
        if let Some(Entry::Attempt { link, .. }) = self.table.get_mut(attempt) {
            *link = Some(on);
        }
    }

    /// An attempt could not be sent.
    pub fn not_sent(&mut self, attempt: u64, refusal: Refusal, now: Time, out: &mut Effects<W>) {
        if let Some(Entry::Attempt { ask, .. }) = self.table.get(attempt) {
            self.attempt_failed(*ask, attempt, AskError::Refused(refusal), now, out);
        }
    }

    /// An attempt could not be sent, and no later one can be: what it goes by has ended. The ask ends
    /// with what was known of it before.
    pub fn nowhere_left(&mut self, attempt: u64, out: &mut Effects<W>) {
        let Some(Entry::Attempt { ask, .. }) = self.table.get(attempt) else { return };
        let ask = *ask;
        self.table.close(attempt);
        let Some(progress) = self.progress(ask) else { return };
        progress.attempts.retain(|open| *open != attempt);
        let said = progress.said.unwrap_or(AskError::Refused(Refusal::NoRoutee));
        self.fail(ask, said, out);
    }

    /// A reply came on a link. Gives who waited for it; `None` when it answers nothing any more.
    #[inline]
    pub fn replied(&mut self, correlation: u64, link: L, out: &mut Effects<W>) -> Option<W> {
        let ask = match self.table.get(correlation)? {
            Entry::Ask(Ask { course: Course::Once(on), .. }) if *on == link => correlation,
            Entry::Attempt { ask, link: on } if *on == Some(link) => *ask,
            _ => return None,
        };
        self.close(ask, out)
    }

    /// Who waits for what would come with this correlation on this link.
    #[inline]
    pub fn waits_for(&self, correlation: u64, link: L) -> Option<&W> {
        match self.table.get(correlation)? {
            Entry::Ask(Ask { course: Course::Once(on), waiter, .. }) if *on == link => Some(waiter),
            Entry::Attempt { ask, link: on } if *on == Some(link) => self.waiter(*ask),
            _ => None,
        }
    }

    /// A failure came on a link: what it is about may have ended.
    pub fn failed(
        &mut self,
        correlation: u64,
        link: L,
        reason: DeathReason,
        now: Time,
        out: &mut Effects<W>,
    ) {
        let on = match self.table.get(correlation) {
            Some(Entry::Ask(Ask { course: Course::Once(on), .. })) => Some(*on),
            Some(Entry::Attempt { link, .. }) => *link,
            _ => None,
        };
        if on == Some(link) {
            self.lost(correlation, AskError::Dead(reason), now, out);
        }
    }

    /// Nothing more comes on a link: what is open there has failed.
    pub fn link_lost(&mut self, link: L, error: AskError, now: Time, out: &mut Effects<W>) {
        self.link_lost_but(&[], link, error, now, out);
    }

    /// The same, but for these, in order.
    pub fn link_lost_but(
        &mut self,
        kept: &[u64],
        link: L,
        error: AskError,
        now: Time,
        out: &mut Effects<W>,
    ) {
        for correlation in self.on_link(link) {
            if kept.binary_search(&correlation).is_err() {
                self.lost(correlation, error, now, out);
            }
        }
    }

    /// The attempts of plans on links like this, each with its link.
    pub fn attempts_on(&self, like: impl Fn(L) -> bool) -> Vec<(u64, L)> {
        if self.kept_bytes == 0 {
            return Vec::new();
        }
        let link = |entry: &Entry<W, L, T>| match entry {
            Entry::Attempt { link, .. } => link.filter(|link| like(*link)),
            Entry::Ask(_) => None,
        };
        let attempts = self.table.find(|entry| link(entry).is_some());
        let with_link = |attempt| Some((attempt, link(self.table.get(attempt)?)?));
        attempts.into_iter().filter_map(with_link).collect()
    }

    /// Where messages go has changed: what rests after a failure tries again at once.
    pub fn hurry(&mut self, now: Time, out: &mut Effects<W>) {
        if self.kept_bytes == 0 {
            return;
        }
        let resting = self.table.find(|entry| match entry {
            Entry::Ask(Ask { course: Course::Planned(progress), .. }) => {
                progress.next.is_some() && progress.plan.advance == Advance::AfterFailure
            }
            Entry::Ask(_) | Entry::Attempt { .. } => false,
        });
        for ask in resting {
            self.begin_next(ask, now, out);
        }
    }

    /// The links on which attempts of plans are open, once for each.
    pub fn attempted(&self) -> impl Iterator<Item = L> {
        self.table.iter().filter_map(|entry| match entry {
            Entry::Attempt { link, .. } => *link,
            Entry::Ask(_) => None,
        })
    }

    /// The links on which asks are open, once for each.
    pub fn links(&self) -> impl Iterator<Item = L> {
        self.table.iter().filter_map(|entry| match entry {
            Entry::Ask(Ask { course: Course::Once(link), .. }) => Some(*link),
            Entry::Attempt { link, .. } => *link,
            Entry::Ask(_) => None,
        })
    }

    /// Whether anything is open on a link.
    pub fn waits_on(&self, link: L) -> bool {
        !self.on_link(link).is_empty()
    }

    fn on_link(&self, link: L) -> Vec<u64> {
        self.table.find(|entry| match entry {
            Entry::Ask(Ask { course: Course::Once(on), .. }) => *on == link,
            Entry::Attempt { link: on, .. } => *on == Some(link),
            Entry::Ask(_) => false,
        })
    }

    /// Nothing more comes of an attempt, or of an ask that is sent once.
    pub fn lost(&mut self, correlation: u64, error: AskError, now: Time, out: &mut Effects<W>) {
        match self.table.get(correlation) {
            Some(Entry::Attempt { ask, .. }) => {
                self.attempt_failed(*ask, correlation, error, now, out);
            }
            Some(Entry::Ask(_)) => self.fail(correlation, error, out),
            None => {}
        }
    }

    // ---- times ----

    /// Ends what is overdue, and begins what has paused for long enough.
    pub fn expire(&mut self, now: Time, out: &mut Effects<W>) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.expire(now, |timer| due.push(timer));
        for timer in due.drain(..) {
            match timer {
                Timer::Deadline(ask) => {
                    let error = self.progress(ask).map_or(AskError::Timeout, |it| it.timeout());
                    self.fail(ask, error, out);
                }
                Timer::Next(ask) => {
                    if let Some(progress) = self.progress(ask) {
                        progress.next = None;
                        self.begin_next(ask, now, out);
                    }
                }
            }
        }
        self.due = due;
    }

    /// No ask that fails from now on is tried again.
    pub fn close_down(&mut self) {
        self.closing = true;
    }

    /// Ends all that is left, and opens no more. What is said of it must be true of what is under way,
    /// so links are given up first; what some attempt of an ask came to outweighs it.
    pub fn end_all(&mut self, error: AskError, out: &mut Effects<W>) {
        self.closing = true;
        self.over = true;
        for ask in self.find(|_| true) {
            let said = self.progress(ask).map_or(error, |progress| progress.note(error));
            self.fail(ask, said, out);
        }
    }

    /// Whether [`Asks::end_all`] was called.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The asks whose waiter fits, in the order of their places.
    pub fn find(&self, fits: impl Fn(&W) -> bool) -> Vec<u64> {
        self.table.find(|entry| matches!(entry, Entry::Ask(ask) if fits(&ask.waiter)))
    }

    // ---- plans ----

    fn ask(&mut self, ask: u64) -> Option<&mut Ask<W, L, T>> {
        match self.table.get_mut(ask) {
            Some(Entry::Ask(ask)) => Some(ask),
            _ => None,
        }
    }

    fn progress(&mut self, ask: u64) -> Option<&mut Progress<T>> {
        match &mut self.ask(ask)?.course {
            Course::Planned(progress) => Some(progress),
            Course::Once(_) => None,
        }
    }

    /// Begins the next attempt of a plan, and where the plan says so further ones.
    fn begin_next(&mut self, ask: u64, now: Time, out: &mut Effects<W>) {
        if let Some(key) = self.progress(ask).and_then(|progress| progress.next.take()) {
            self.timers.cancel(key);
        }
        loop {
            let Some(progress) = self.progress(ask) else { return };
            let Some(target) = progress.plan.target(progress.begun) else { return };
            progress.begun += 1;
            let Ok(attempt) = self.table.open(Entry::Attempt { ask, link: None }) else {
                return self.go_on(ask, AskError::Refused(Refusal::TooManyAsks), now, out);
            };
            out.push_back(Effect::Send { ask, attempt, target });
            let Some(progress) = self.progress(ask) else { return };
            progress.attempts.push(attempt);
            let more = progress.begun < progress.plan.targets.len();
            if progress.plan.advance == Advance::AfterFailure || !more {
                return;
            }
            if !progress.plan.pause.is_zero() {
                let pause = progress.plan.pause;
                return self.pause(ask, now.plus(pause));
            }
        }
    }

    /// Has the next attempt begin then.
    fn pause(&mut self, ask: u64, at: Time) {
        let key = self.timers.insert(at, Timer::Next(ask));
        if let Some(progress) = self.progress(ask) {
            progress.next = Some(key);
        }
    }

    fn attempt_failed(
        &mut self,
        ask: u64,
        attempt: u64,
        error: AskError,
        now: Time,
        out: &mut Effects<W>,
    ) {
        self.table.close(attempt);
        if let Some(progress) = self.progress(ask) {
            progress.attempts.retain(|open| *open != attempt);
            self.go_on(ask, error, now, out);
        }
    }

    /// What a plan does after one of its attempts has failed.
    fn go_on(&mut self, ask: u64, error: AskError, now: Time, out: &mut Effects<W>) {
        let closing = self.closing;
        let Some(progress) = self.progress(ask) else { return };
        let said = progress.note(error);
        let Progress { plan, deadline, .. } = &*progress;
        match plan.advance {
            Advance::AfterFailure if closing || !plan.may_go_better(error) => {
                self.fail(ask, said, out);
            }
            // The deadline comes before the next attempt would.
            Advance::AfterFailure if now.plus(plan.pause) >= *deadline => {
                let error = progress.timeout();
                self.fail(ask, error, out);
            }
            Advance::AfterFailure => {
                let most = (deadline.since(now) / 2).max(plan.pause);
                let rest = plan.rest(progress.begun).min(most);
                self.pause(ask, now.plus(rest));
            }
            Advance::Overlapping => {
                let more = progress.begun < progress.plan.targets.len();
                if more && !closing && error != AskError::Refused(Refusal::TooManyAsks) {
                    self.begin_next(ask, now, out);
                } else if progress.attempts.is_empty() {
                    self.fail(ask, said, out);
                }
            }
        }
    }

    // ---- ends ----

    fn fail(&mut self, ask: u64, error: AskError, out: &mut Effects<W>) {
        if let Some(waiter) = self.close(ask, out) {
            out.push_back(Effect::Fail(waiter, error));
        }
    }

    #[inline]
    fn close(&mut self, ask: u64, out: &mut Effects<W>) -> Option<W> {
        let Entry::Ask(Ask { waiter, deadline, course }) = self.table.close(ask)? else {
            return None;
        };
        self.open -= 1;
        self.timers.cancel(deadline);
        if let Course::Planned(progress) = course {
            self.give_up(ask, *progress, out);
        }
        Some(waiter)
    }

    #[cold]
    fn give_up(&mut self, ask: u64, progress: Progress<T>, out: &mut Effects<W>) {
        for attempt in progress.attempts {
            self.table.close(attempt);
        }
        if let Some(key) = progress.next {
            self.timers.cancel(key);
        }
        self.kept_bytes -= progress.frame.capacity();
        out.push_back(Effect::Free { ask, frame: progress.frame });
    }
}

impl<W, L, T> std::fmt::Debug for Asks<W, L, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asks").field("open", &self.open).finish_non_exhaustive()
    }
}
