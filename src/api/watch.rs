//! Watching: a handler or an application learns, exactly once, that a routee or a node is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::error::NodeError;
use super::node::Node;
use crate::base::{NodeRef, RouteeId};
use crate::part::ControlOrder;
use crate::part::watch::{GoneReason, Notify, Order, Target, TooManyWatches, Watcher, WorkerOrder};
use crate::queue::Taken;
use crate::queue::block_on::{block_on_within, is_worker_thread};
use crate::queue::foreign::shielded;
use crate::runtime::proxies;
use crate::runtime::published::Ended;
use crate::worker::{Context, Handler, RouteeRef};

/// Tells the watches of this process's applications apart.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);

impl From<NodeRef> for Target {
    fn from(node: NodeRef) -> Self {
        Self::Node(node)
    }
}

impl From<RouteeId> for Target {
    fn from(routee: RouteeId) -> Self {
        Self::Routee(routee)
    }
}

impl From<&RouteeRef> for Target {
    fn from(routee: &RouteeRef) -> Self {
        Self::Routee(routee.id)
    }
}

impl Context<'_> {
    /// Watches a routee or one life of a node: when it is gone this handler gets one
    /// [`Gone`](crate::Gone) with this token, also when it was gone before. A watch with a token
    /// that is in use replaces the earlier one. It ends with this instance of the handler.
    ///
    /// `H` is the handler's own type: `cx.watch::<Self>(&routee, 7)`.
    ///
    /// A routee is gone when its path is withdrawn, when it panics (a fresh instance takes its
    /// place, which this watch does not speak of), and with its node's life: left, removed, or
    /// restarted. A node that only does not answer is not gone.
    ///
    /// Of a routee that life is watched which runs when the watch gets to its worker, unless the id
    /// names one, as [`Context::id`] does. Watch and messages go different ways: a panic that a
    /// message right behind this call causes may come before, and the fresh life is watched then.
    ///
    /// # Errors
    /// [`TooManyWatches`] when this worker keeps `watch.max_watches`. A watch that ends keeps its
    /// place until its handler was told, which takes another turn of the worker. Nothing has changed
    /// then.
    ///
    /// # Panics
    /// When `H` is another type than the routee's that runs.
    pub fn watch<H: Handler<crate::Gone> + 'static>(
        &mut self,
        target: impl Into<Target>,
        token: u64,
    ) -> Result<(), TooManyWatches> {
        self.is_run_by::<H>("Context::watch");
        let watcher = Watcher::Routee(self.id().instance, token);
        let (parts, untold) = self.parts();
        parts.watch.admit(watcher, untold)?;
        self.part_order(WorkerOrder::Watch { watcher, target: target.into() }.into());
        Ok(())
    }

    /// Stops watching what was given this token. A [`Gone`](crate::Gone) that is on its way
    /// within this worker still comes.
    pub fn unwatch(&mut self, token: u64) {
        let watcher = Watcher::Routee(self.id().instance, token);
        self.part_order(WorkerOrder::Unwatch { watcher }.into());
    }
}

impl Node {
    /// Watches a routee or one life of a node, from an application: see [`Context::watch`], also for
    /// which life of a routee that is. It returns before the watch has got there.
    ///
    /// # Errors
    /// [`NodeError::TooManyWatches`] when there are `watch.max_watches` for each of its workers, and
    /// [`NodeError::Stopped`] when this node has stopped. When handlers have taken what one of the
    /// workers keeps, the watch ends with [`GoneReason::TooManyWatches`].
    pub fn watch(&self, target: impl Into<Target>) -> Result<Watch, NodeError> {
        let places = &self.shared.parts.watch;
        let full = NodeError::TooManyWatches { most: places.most };
        let place = places.take().ok_or(full)?;
        let token = NEXT_TOKEN.fetch_add(1, Ordering::Relaxed);
        let (told, gone) = oneshot::channel();
        let notify = Box::new(Waiting { told: Some(told), _place: place });
        let order = Order::Watch { token, target: target.into(), notify };
        self.shared.order(proxies::Order::Part(order.into()))?;
        let ended = self.shared.ended.clone();
        Ok(Watch { token, gone, told: None, ended, dropped: self.shared.dropped.clone() })
    }
}

/// The other end of a [`Watch`].
struct Waiting {
    told: Option<oneshot::Sender<GoneReason>>,
    /// Free when nothing of the watch is kept any more.
    _place: Taken,
}

impl Notify for Waiting {
    fn is_wanted(&self) -> bool {
        self.told.as_ref().is_some_and(|told| !told.is_closed())
    }

    fn tell(&mut self, reason: GoneReason) {
        // The watch may have been dropped; then nobody needs to know.
        let _ = self.told.take().map(|told| told.send(reason));
    }
}

/// A watch of an application; dropping it stops it.
#[must_use = "a watch that is dropped watches nothing"]
pub struct Watch {
    token: u64,
    gone: oneshot::Receiver<GoneReason>,
    /// What it was told, once: why, or nothing since this node has stopped.
    told: Option<Option<GoneReason>>,
    ended: watch::Receiver<Option<Ended>>,
    dropped: mpsc::UnboundedSender<ControlOrder>,
}

impl Watch {
    /// Waits until what is watched is gone, and says why; asked again, it says the same.
    ///
    /// # Errors
    /// When this node has stopped before.
    pub async fn gone(&mut self) -> Result<GoneReason, NodeError> {
        let told = match self.told {
            Some(told) => told,
            // Neither of the two may be asked again once it has answered.
            None => {
                let answered = async {
                    tokio::select! {
                        biased;
                        reason = &mut self.gone => reason.ok(),
                        _ = self.ended.wait_for(Option::is_some) => None,
                    }
                };
                shielded(answered).await
            }
        };
        self.told = Some(told);
        told.ok_or(NodeError::Stopped)
    }

    /// As [`Watch::gone`], blocking the thread for at most a while; `None` when it is still there.
    ///
    /// # Errors
    /// As [`Watch::gone`]; in a handler, whose worker's thread must not wait.
    pub fn wait(&mut self, within: Duration) -> Result<Option<GoneReason>, NodeError> {
        if is_worker_thread() {
            return Err(NodeError::WouldBlock);
        }
        block_on_within(self.gone(), within).transpose()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // First: control may hear of this before it takes the watch itself.
        self.gone.close();
        let _ = self.dropped.send(Order::Unwatch { token: self.token }.into());
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("token", &self.token).finish_non_exhaustive()
    }
}
