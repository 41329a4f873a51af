//! Replies made by async code on the user's own runtime, with a bound on how many are made at once.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::wire::WireType;
use crate::worker::{Context, Later};

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
            self.runtime.spawn(async move {
                let reply = future.await;
                if let Err(refusal) = replier.reply(&reply) {
                    tracing::warn!(%refusal, "an async reply could not be sent");
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
