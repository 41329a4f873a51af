//! Async code on the user's own runtime, begun by handlers: whose output is a reply, or comes back to
//! the routee. With a bound on how much runs at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::log;
use crate::base::{LogKind, NodeRef, counted};
use crate::queue::gate::for_handler_of;
use crate::wire::WireType;
use crate::worker::{Context, Later, Routee, TooMuchWork, WorkKey, WorkLost};

/// A future of a handler: what it sends while its node leaves is a part of what was under way.
async fn on_behalf<F: Future>(node: NodeRef, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| for_handler_of(node, || future.as_mut().poll(cx))).await
}

/// Runs replies as futures on a tokio runtime, at most so many at a time.
///
/// A handler clones what it needs out of the message, hands a future over and returns at once; the
/// worker goes on, and the reply leaves when the future is done.
///
/// ```
/// use keyway::{AsyncReplies, Context, Handler, Later, Message, Routee};
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize, Message)]
/// #[message(name = "doc.price_of", key = sku, reply = u64)]
/// struct PriceOf {
///     sku: u32,
/// }
///
/// #[derive(Routee)]
/// #[routee(handles(PriceOf))]
/// struct Prices {
///     replies: AsyncReplies,
/// }
///
/// impl Handler<PriceOf> for Prices {
///     type Reply = Later<u64>;
///     fn handle(&mut self, message: &ArchivedPriceOf, cx: &mut Context<'_>) -> Later<u64> {
///         let sku = u64::from(message.sku.to_native());
///         self.replies.reply(cx, async move {
///             tokio::task::yield_now().await; // A database, say.
///             sku * 100
///         })
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncReplies {
    runtime: Handle,
    permits: Arc<Semaphore>,
}

impl AsyncReplies {
    /// Futures run on this runtime, at most `limit` at a time over all clones.
    pub fn new(runtime: Handle, limit: usize) -> Self {
        Self { runtime, permits: Arc::new(Semaphore::new(limit)) }
    }

    /// Starts a future whose output is the reply to the message that is being handled.
    ///
    /// When as many run as may, or the future panics, the asker is told at once that there will be
    /// no reply ([`DeathReason::NoReply`](crate::DeathReason::NoReply)). For a `tell` the future
    /// runs and its output is dropped.
    pub fn reply<R, F>(&self, cx: &mut Context<'_>, future: F) -> Later<R>
    where
        R: WireType + Send,
        F: Future<Output = R> + Send + 'static,
    {
        let (later, replier) = cx.reply_later::<R>();
        // Without a permit the replier is dropped here, which tells the asker.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            let node = cx.node();
            self.runtime.spawn(async move {
                let reply = on_behalf(node, future).await;
                if let Err(refusal) = replier.reply(&reply)
                    && let Some(left_out) = log::line(LogKind::AsyncReply)
                {
                    let left_out = counted(left_out);
                    tracing::warn!(%refusal, left_out, "an async reply could not be sent");
                }
                drop(permit);
            });
        }
        later
    }

    /// How many more can be started now.
    pub fn free(&self) -> usize {
        self.permits.available_permits()
    }
}

/// Runs futures on a tokio runtime for handlers, at most so many at a time, and brings what they
/// come to back to the routee that began them, with its state at hand.
///
/// ```
/// use std::collections::HashMap;
///
/// use keyway::{AsyncWork, Context, Handler, Later, Message, Routee};
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize, Message)]
/// #[message(name = "doc.price_of_one", key = sku, reply = u64)]
/// struct PriceOf {
///     sku: u32,
/// }
///
/// #[derive(Routee)]
/// #[routee(handles(PriceOf))]
/// struct Prices {
///     known: HashMap<u32, u64>,
///     work: AsyncWork,
/// }
///
/// async fn look_up(sku: u32) -> u64 {
///     tokio::task::yield_now().await; // A database, say.
///     u64::from(sku) * 100
/// }
///
/// impl Handler<PriceOf> for Prices {
///     type Reply = Later<u64>;
///     fn handle(&mut self, message: &ArchivedPriceOf, cx: &mut Context<'_>) -> Later<u64> {
///         let sku = message.sku.to_native();
///         let (later, replier) = cx.reply_later();
///         // When too much is under way, or the look-up panics, the replier is dropped, which tells
///         // the asker.
///         let _ = self.work.spawn(cx, look_up(sku), move |me: &mut Self, price, _| {
///             if let Ok(price) = price {
///                 me.known.insert(sku, price);
///                 let _ = replier.reply(&price);
///             }
///         });
///         later
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncWork {
    runtime: Handle,
    permits: Arc<Semaphore>,
    most: usize,
}

/// A task that is ended with this, also where whoever is to stop it is dropped without a call. One that
/// has ended takes no harm.
struct Aborted(AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AsyncWork {
    /// Futures run on this runtime, at most `limit` at a time over all clones.
    pub fn new(runtime: Handle, limit: usize) -> Self {
        Self { runtime, permits: Arc::new(Semaphore::new(limit)), most: limit }
    }

    /// Starts a future. When it is done, `then` runs on this worker with the routee, its output and
    /// a context, as described at [`Context::begin_work`]; a panic of the future is told as
    /// [`WorkLost::Panicked`]. The future is dropped at its next `.await` when the routee ends, or
    /// calls it off by the key.
    ///
    /// # Errors
    /// [`TooMuchWork`] when as many run as may, by this limit or by `workers.max_work`; then nothing
    /// was started, and `then` does not run.
    ///
    /// # Panics
    /// When `then` takes another type of routee than the one that runs.
    pub fn spawn<H, T, F>(
        &self,
        cx: &mut Context<'_>,
        future: F,
        then: impl FnOnce(&mut H, Result<T, WorkLost>, &mut Context<'_>) + 'static,
    ) -> Result<WorkKey, TooMuchWork>
    where
        H: Routee,
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit
            .map_err(|_| TooMuchWork { most: self.most, setting: "the limit of `AsyncWork`" })?;
        let work = cx.begin_work(then)?;
        let key = work.key();
        let node = cx.node();
        let task = self.runtime.spawn(async move {
            let result = on_behalf(node, future).await;
            // Before the routee hears of it, so that it can begin the next one then.
            drop(permit);
            work.done(result);
        });
        let task = Aborted(task.abort_handle());
        cx.stop_work_with(key, move || drop(task));
        Ok(key)
    }

    /// How many more can be started now.
    pub fn free(&self) -> usize {
        self.permits.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_is_ended_also_where_what_stops_it_is_dropped_without_a_call() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = runtime.spawn(std::future::pending::<()>());
        drop(Aborted(task.abort_handle()));
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    }
}
