//! Work that a routee has begun elsewhere, on a runtime or a thread of the user's, and whose result
//! comes back to it.
//!
//! What is to be done with the result stays here, on the worker, by a number; only the result goes
//! between threads. So a routee that ends takes its work with it: there is nothing left that its
//! successor could be told.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use super::Worker;
use super::context::Context;
use super::core::Core;
use super::handler::Routee;
use super::routees::drop_quietly;
use crate::base::InstanceId;
use crate::base::fate::WorkEnd;
use crate::queue::finished::{Finished, Place, finished};
use crate::queue::wake::Waker;

/// Why work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum WorkLost {
    /// It panicked.
    #[error("the work panicked")]
    Panicked,
    /// It was given up: its [`Work`] was dropped, as when its runtime shuts down.
    #[error("the work was given up before it had a result")]
    GivenUp,
}

/// As much work is under way as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
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

/// Work that a routee has begun, by which it can be called off: see [`Context::cancel_work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkKey(u64);

type Outcome = Result<Box<dyn Any + Send>, WorkLost>;
type Then = Box<dyn FnOnce(&mut dyn Any, Outcome, &mut Context<'_>)>;
type Results = Finished<(u64, Outcome)>;

struct Open {
    routee: InstanceId,
    then: Then,
    stop: Option<Box<dyn FnOnce()>>,
    /// Whoever works looks whether this is still held.
    _wanted: Arc<()>,
}

/// All work of one worker's routees.
pub(super) struct Works {
    most: usize,
    waker: Waker,
    next: u64,
    open: BTreeMap<u64, Open>,
    /// Made with the first of them.
    results: Option<Results>,
}

impl Works {
    pub fn new(most: usize, waker: Waker) -> Self {
        Self { most, waker, next: 0, open: BTreeMap::new(), results: None }
    }

    /// Whether nobody waits for anything.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

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

impl Context<'_> {
    /// Begins work that goes on elsewhere: give the [`Work`] to a thread or task, which brings the
    /// result from there. It need not be a message; any type that can go between threads will do.
    /// Then `then` runs on this worker, with the routee, the result and a context, exactly once;
    /// unless the routee called the work off, was withdrawn, panicked, or its node stopped before:
    /// then the result is dropped and counted in [`Counts::work_ended`], and whoever came after the
    /// routee hears nothing of it.
    ///
    /// `then` stays here, so that it can hold what must not leave this thread, and a [`Replier`] for
    /// the message that is being handled. For futures there is [`AsyncWork`], which also ends them
    /// when nobody waits for them any more.
    ///
    /// A node that leaves waits for work that is under way, within its `leave_timeout_ms`.
    ///
    /// ```
    /// # use keyway::{Context, Handler, Message, Routee};
    /// # use rkyv::{Archive, Deserialize, Serialize};
    /// # #[derive(Archive, Serialize, Deserialize, Message)]
    /// # #[message(name = "doc.sum_up")]
    /// # struct SumUp;
    /// #[derive(Default, Routee)]
    /// #[routee(handles(SumUp))]
    /// struct Sums(u64);
    ///
    /// impl Handler<SumUp> for Sums {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: &ArchivedSumUp, cx: &mut Context<'_>) {
    ///         let begun = cx.begin_work(|me: &mut Self, sum, _| me.0 = sum.unwrap_or_default());
    ///         if let Ok(work) = begun {
    ///             std::thread::spawn(move || work.done((1..1_000_000).sum::<u64>()));
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`TooMuchWork`] when `workers.max_work` pieces are under way on this worker.
    ///
    /// [`Counts::work_ended`]: crate::Counts::work_ended
    /// [`Replier`]: crate::Replier
    /// [`AsyncWork`]: crate::AsyncWork
    pub fn begin_work<H: Routee, T: Send + 'static>(
        &mut self,
        then: impl FnOnce(&mut H, Result<T, WorkLost>, &mut Context<'_>) + 'static,
    ) -> Result<Work<T>, TooMuchWork> {
        let works = &mut self.core.works;
        let Works { most, waker, results, .. } = works;
        let results = results.get_or_insert_with(|| finished(*most, waker.clone()));
        let too_much = TooMuchWork { most: works.most, setting: "workers.max_work" };
        let place = results.place().ok_or(too_much)?;
        let key = works.next;
        works.next += 1;
        let wanted = Arc::new(());
        let work = Work { key, place, wanted: Arc::downgrade(&wanted), result: PhantomData };
        let then = Box::new(move |routee: &mut dyn Any, outcome: Outcome, cx: &mut Context<'_>| {
            let routee = routee.downcast_mut::<H>();
            debug_assert!(routee.is_some(), "work was begun for a routee of another type");
            let result = outcome.map(|result| result.downcast::<T>().map(|result| *result));
            match (routee, result) {
                (Some(routee), Ok(Ok(result))) => then(routee, Ok(result), cx),
                (Some(routee), Err(lost)) => then(routee, Err(lost), cx),
                _ => {}
            }
        });
        let open = Open { routee: self.instance, then, stop: None, _wanted: wanted };
        works.open.insert(key, open);
        self.core.published.tally.work_begun.add(1);
        Ok(work)
    }

    /// Has `stop` called, on this worker's thread, when nobody waits for the work any more: it was
    /// called off, or its routee ended. Not called for work that ends by itself.
    pub fn stop_work_with(&mut self, key: WorkKey, stop: impl FnOnce() + 'static) {
        if let Some(open) = self.core.works.open.get_mut(&key.0)
            && open.routee == self.instance
        {
            open.stop = Some(Box::new(stop));
        }
    }

    /// Calls off work that this routee has begun: its result is dropped, and a future is ended.
    /// False when it has ended already, was called off before, or is not this routee's.
    pub fn cancel_work(&mut self, key: WorkKey) -> bool {
        let own = self.core.works.open.get(&key.0).is_some_and(|open| open.routee == self.instance);
        if own {
            self.core.drop_work(key.0, WorkEnd::CalledOff);
        }
        own
    }
}

impl Core {
    /// Ends the work of a routee that is no more.
    #[cold]
    pub(super) fn drop_work_of(&mut self, id: InstanceId, end: WorkEnd) {
        let of = self.works.open.iter().filter(|(_, open)| open.routee == id);
        for key in of.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.drop_work(key, end);
        }
    }

    /// Ends all work.
    pub(super) fn drop_all_work(&mut self) {
        while let Some((key, _)) = self.works.open.first_key_value() {
            self.drop_work(*key, WorkEnd::Stopped);
        }
    }

    fn drop_work(&mut self, key: u64, end: WorkEnd) {
        if let Some(Open { then, stop, .. }) = self.works.open.remove(&key) {
            self.published.tally.work_ended[end as usize].add(1);
            if let Some(stop) = stop {
                let _ = catch_unwind(AssertUnwindSafe(stop));
            }
            drop_quietly(then);
        }
    }
}

impl Worker {
    /// Whether a result of work waits.
    #[inline]
    pub fn has_results(&self) -> bool {
        self.core.works.has_results()
    }

    /// Brings a result to its routee.
    #[cold]
    pub(super) fn take_result(&mut self) {
        let Some((key, outcome)) = self.core.works.results.as_ref().and_then(Finished::pop) else {
            return;
        };
        let Some(Open { routee, then, .. }) = self.core.works.open.remove(&key) else {
            drop_quietly(outcome); // Counted when it was called off, or its routee ended.
            return;
        };
        let end = match &outcome {
            Ok(_) => WorkEnd::Done,
            Err(WorkLost::Panicked) => WorkEnd::Panicked,
            Err(WorkLost::GivenUp) => WorkEnd::GivenUp,
        };
        self.core.published.tally.work_ended[end as usize].add(1);
        if self.with_routee(routee, |hosted, cx| then(hosted.routee(), outcome, cx)) == Some(true) {
            self.restart(routee);
        }
    }
}
