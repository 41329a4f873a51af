//! What handlers do with work that goes on elsewhere: begin it, call it off, and take its result.

use super::Worker;
use super::core::{Context, Core, Then};
use super::handler::Routee;
use super::panics::drop_quietly;
use super::work::{TooMuchWork, Work, WorkKey, WorkLost};
use crate::base::fate::WorkEnd;

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
    /// A node that leaves waits for it, within `membership.leave_timeout_ms`, and its result still comes
    /// home. What its own thread sends through routers is the
    /// application's, and refused from then on as [`Refusal::Leaving`](crate::Refusal::Leaving);
    /// `then` and the futures of [`AsyncWork`] send as handlers do.
    ///
    /// # Errors
    /// [`TooMuchWork`] when `workers.max_work` pieces are under way on this worker.
    ///
    /// # Panics
    /// When `then` takes another type of routee than the one that runs.
    ///
    /// [`Counts::work_ended`]: crate::Counts::work_ended
    /// [`Replier`]: crate::Replier
    /// [`AsyncWork`]: crate::AsyncWork
    pub fn begin_work<H: Routee, T: Send + 'static>(
        &mut self,
        then: impl FnOnce(&mut H, Result<T, WorkLost>, &mut Context<'_>) + 'static,
    ) -> Result<Work<T>, TooMuchWork> {
        self.is_run_by::<H>("Context::begin_work` or `AsyncWork::spawn");
        let then: Then = Box::new(move |routee, outcome, cx| {
            let routee = routee.downcast_mut::<H>();
            debug_assert!(routee.is_some(), "work was begun for a routee of another type");
            let result = outcome.map(|result| result.downcast::<T>().map(|result| *result));
            match (routee, result) {
                (Some(routee), Ok(Ok(result))) => then(routee, Ok(result), cx),
                (Some(routee), Err(lost)) => then(routee, Err(lost), cx),
                _ => {}
            }
        });
        let work = self.core.works.begin(self.instance, then)?;
        self.core.published.tally.work_begun.add(1);
        Ok(work)
    }

    /// Has `stop` called, on this worker's thread, when nobody waits for the work any more: it was
    /// called off, or its routee ended. Dropped without a call for work that ends by itself, and on a
    /// worker that its node has given up.
    pub fn stop_work_with(&mut self, key: WorkKey, stop: impl FnOnce() + 'static) {
        self.core.works.stop_with(self.instance, key, Box::new(stop));
    }

    /// Calls off work that this routee has begun: its result is dropped, and a future is ended.
    /// False when it has ended already, was called off before, or is not this routee's.
    pub fn cancel_work(&mut self, key: WorkKey) -> bool {
        let Core { works, published, .. } = &mut *self.core;
        let own = works.is_of(self.instance, key);
        if own {
            works.end(key, WorkEnd::CalledOff, published);
        }
        own
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
        let Some((routee, then, outcome)) = self.core.works.take_result() else { return };
        let end = match &outcome {
            Ok(_) => WorkEnd::Done,
            Err(WorkLost::Panicked) => WorkEnd::Panicked,
            Err(WorkLost::GivenUp) => WorkEnd::GivenUp,
        };
        self.core.published.tally.work_ended[end as usize].add(1);
        let mut brought = Some((then, outcome));
        let panicked = self.with_routee(routee, "a result", |hosted, cx| {
            if let Some((then, outcome)) = brought.take() {
                then(hosted.routee(), outcome, cx);
            }
        });
        match panicked {
            Some(true) => self.restart(routee),
            Some(false) => {}
            // Nothing of users' runs any more.
            None => drop_quietly(brought),
        }
    }
}
