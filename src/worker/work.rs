//! What is under way of the work that routees have begun elsewhere, on a runtime or a thread of the
//! user's, and who brings its result.
//!
//! What is to be done with the result stays here, on the worker, by a number; only the result goes
//! between threads. So a routee that ends takes its work with it: there is nothing left that its
//! successor could be told.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use super::panics::drop_quietly;
use crate::base::InstanceId;
use crate::base::debug_as_display;
use crate::base::fate::WorkEnd;
use crate::queue::board::CountsBoard;
use crate::queue::finished::{Finished, Place, finished};
use crate::queue::foreign::quietly;
use crate::queue::wake::Waker;

/// Why work has no result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum WorkLost {
    /// It panicked.
    #[error("the work panicked")]
    Panicked,
    /// It was given up: its [`Work`] was dropped, as when its runtime shuts down.
    #[error("the work was given up before it had a result")]
    GivenUp,
}

debug_as_display!(WorkLost);

/// As much work is under way as may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error(
    "work was not begun: {most} pieces are under way, as many as may be; begin it again when some \
     has ended, or raise {setting}"
)]
pub struct TooMuchWork {
    /// How many may be.
    pub most: usize,
    /// What says so.
    pub setting: &'static str,
}

debug_as_display!(TooMuchWork);

/// Work that a routee has begun, by which it can be called off: see
/// [`Context::cancel_work`](super::Context::cancel_work).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkKey(u64);

/// A result of any type, or why there is none.
pub(super) type Outcome = Result<Box<dyn Any + Send>, WorkLost>;

/// A piece of work, and what is done with its result.
struct Open<T> {
    routee: InstanceId,
    then: T,
    stop: Option<Box<dyn FnOnce()>>,
    /// Whoever works looks whether this is still held.
    _wanted: Arc<()>,
}

/// All work of one worker's routees. What is done with a result, a `T`, is kept and not looked at.
pub(super) struct Works<T> {
    most: usize,
    waker: Waker,
    next: u64,
    open: BTreeMap<u64, Open<T>>,
    /// Made with the first of them.
    results: Option<Finished<(u64, Outcome)>>,
}

impl<T> Works<T> {
    pub fn new(most: usize, waker: Waker) -> Self {
        Self { most, waker, next: 0, open: BTreeMap::new(), results: None }
    }

    /// How many pieces somebody waits for.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether a result has come.
    #[inline]
    pub fn has_results(&self) -> bool {
        self.results.as_ref().is_some_and(|results| !results.is_empty())
    }

    /// How many results have come.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.results.as_ref().map_or(0, Finished::len)
    }

    /// Takes a place for the result of one more piece of work.
    pub fn begin<R>(&mut self, routee: InstanceId, then: T) -> Result<Work<R>, TooMuchWork> {
        let Self { most, waker, results, .. } = self;
        let results = results.get_or_insert_with(|| finished(*most, waker.clone()));
        let too_much = TooMuchWork { most: *most, setting: "workers.max_work" };
        let place = results.place().ok_or(too_much)?;
        let key = self.next;
        self.next += 1;
        let wanted = Arc::new(());
        let work = Work { key, place, wanted: Arc::downgrade(&wanted), result: PhantomData };
        self.open.insert(key, Open { routee, then, stop: None, _wanted: wanted });
        Ok(work)
    }

    /// Whether this routee waits for the work.
    pub fn is_of(&self, routee: InstanceId, key: WorkKey) -> bool {
        self.open.get(&key.0).is_some_and(|open| open.routee == routee)
    }

    /// Has `stop` called when the routee that began the work waits for it no more.
    pub fn stop_with(&mut self, routee: InstanceId, key: WorkKey, stop: Box<dyn FnOnce()>) {
        if let Some(open) = self.open.get_mut(&key.0)
            && open.routee == routee
        {
            open.stop = Some(stop);
        }
    }

    /// The oldest result that has come, with who waits for it and what is done with it. None if
    /// nobody does: it was counted when the work was called off, or its routee ended.
    pub fn take_result(&mut self) -> Option<(InstanceId, T, Outcome)> {
        let (key, outcome) = self.results.as_ref().and_then(Finished::pop)?;
        match self.open.remove(&key) {
            Some(Open { routee, then, stop, .. }) => {
                drop_quietly(stop);
                Some((routee, then, outcome))
            }
            None => {
                drop_quietly(outcome);
                None
            }
        }
    }

    /// Ends one piece of work: nobody waits for its result any more.
    pub fn end(&mut self, key: WorkKey, end: WorkEnd, board: &CountsBoard) {
        if let Some(Open { then, stop, .. }) = self.open.remove(&key.0) {
            board.tally.work_ended[end as usize].add(1);
            match stop {
                // Nothing of users' runs any more.
                Some(stop) if board.is_given_up() => drop_quietly(stop),
                Some(stop) => quietly(stop),
                None => {}
            }
            drop_quietly(then);
        }
    }

    /// Ends the work of a routee that is no more.
    pub fn end_of(&mut self, routee: InstanceId, end: WorkEnd, board: &CountsBoard) {
        let of = self.open.iter().filter(|(_, open)| open.routee == routee);
        for key in of.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.end(WorkKey(key), end, board);
        }
    }

    /// Ends all work.
    pub fn end_all(&mut self, end: WorkEnd, board: &CountsBoard) {
        while let Some((key, _)) = self.open.first_key_value() {
            self.end(WorkKey(*key), end, board);
        }
    }
}

impl<T> Drop for Works<T> {
    fn drop(&mut self) {
        let Some(results) = self.results.take() else { return };
        while let Some(result) = results.pop() {
            drop_quietly(result);
        }
        // One may have come just then.
        drop_quietly(results);
    }
}

/// The right, and the duty, to bring one result to the routee that began the work, from any thread.
///
/// Dropped without a result, it tells the routee so.
#[must_use = "a routee waits for this result"]
pub struct Work<T> {
    key: u64,
    place: Place<(u64, Outcome)>,
    wanted: Weak<()>,
    result: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Work<T> {
    /// Brings the result.
    pub fn done(mut self, result: T) {
        self.place.fill((self.key, Ok(Box::new(result))));
    }
}

impl<T> Work<T> {
    /// By which its routee can call it off.
    pub fn key(&self) -> WorkKey {
        WorkKey(self.key)
    }

    /// Whether the routee still waits for it: it may have called it off, or ended.
    pub fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        let lost = if panicked { WorkLost::Panicked } else { WorkLost::GivenUp };
        // Nothing happens when it is done.
        self.place.fill((self.key, Err(lost)));
    }
}

impl<T> std::fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("key", &self.key).field("wanted", &self.is_wanted()).finish()
    }
}
