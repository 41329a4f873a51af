//! A node: one process's part in its cluster.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::NodeError;
use super::events::{DeadLetters, Events};
use super::log;
use super::router::RouterBuilder;
use super::select::{Selection, tell_to};
use super::shared::{PartCount, Shared};
use crate::base::fate::{Counts, Refusal};
use crate::base::{
    LogKind, NodeId, NodeRef, Path, PatternError, Placement, Time, View, WorkerIndex, counted,
};
use crate::control::given_up::GivenUp;
use crate::control::joining::JoinState;
use crate::control::leaving::LeaveWaits;
use crate::control::troubles::Trouble;
use crate::queue::block_on;
use crate::queue::block_on::{block_on_within, is_worker_thread};
use crate::queue::foreign::shielded;
use crate::route::{RouterSpec, StrategyKind};
use crate::runtime::proxies::{Order, OrderError};
use crate::runtime::published::{Ended, Strangers};
use crate::wire::Message;
use crate::worker::{Pattern, Routee, RouteeFactory, RouteeRef};

impl Shared {
    /// Whether this thread may wait for an answer.
    pub(super) fn may_wait(&self) -> Result<(), NodeError> {
        if is_worker_thread() { Err(NodeError::WouldBlock) } else { Ok(()) }
    }

    /// Lets application threads begin nothing new.
    fn begin_leave(&self) -> Result<(), NodeError> {
        if self.gate.is_closed() {
            return Err(NodeError::Stopped); // Control may still be there, and ends.
        }
        self.gate.leave();
        Ok(())
    }

    pub(super) fn order(&self, order: Order) -> Result<(), NodeError> {
        let mut order = Some(order);
        loop {
            let sent = self.orders.try_send(order.take().expect("put back after each attempt"));
            match sent {
                Ok(()) => return Ok(()),
                Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => {
                    return Err(NodeError::Stopped);
                }
                // Orders are rare; control is only catching up.
                Err(tokio::sync::mpsc::error::TrySendError::Full(back)) => {
                    order = Some(back);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    pub(super) fn answer<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, NodeError> {
        block_on(answer).map_err(|_| NodeError::Stopped)
    }
}

/// One process's part in its cluster. Dropping it stops it at once; [`Node::leave`] says goodbye
/// first.
pub struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Node {
    /// Serves a path: each worker runs one routee, made by the function, which gets the worker's
    /// index. Returns when all workers run it and the cluster is being told.
    /// [`Node::unserve`] ends it; [`Node::serve_on`] serves on some workers only.
    ///
    /// # Errors
    /// When the path is not one or is served already, the function panics on a worker, or the node
    /// is leaving ([`OrderError::Leaving`]) or has stopped. The path is free then.
    pub fn serve<H: Routee>(
        &self,
        path: &str,
        make: impl Fn(WorkerIndex) -> H + Send + Sync + 'static,
    ) -> Result<(), NodeError> {
        self.serve_on(path, Placement::EveryWorker, make)
    }

    /// Serves a path on the workers of a placement: one of this node, or those that are named. The
    /// cluster is told which, and routers everywhere send to no others. For the rest as
    /// [`Node::serve`].
    ///
    /// # Errors
    /// As [`Node::serve`]; [`OrderError::BadPlacement`] when the placement names no worker, one
    /// that this node does not have, or one twice.
    pub fn serve_on<H: Routee>(
        &self,
        path: &str,
        placement: Placement,
        make: impl Fn(WorkerIndex) -> H + Send + Sync + 'static,
    ) -> Result<(), NodeError> {
        self.shared.may_wait()?;
        let path = Path::new(path).map_err(OrderError::BadPath)?;
        let (answer, answered) = oneshot::channel();
        self.shared.order(Order::Serve(path, placement, RouteeFactory::new(make), answer))?;
        self.shared.answer(answered)??;
        Ok(())
    }

    /// Withdraws a path: the cluster is told first, and after a grace of three `gossip_ms`, by when
    /// the others have heard, each worker that runs it ends its routee, see [`Routee::stopped`]. Returns when all
    /// have; the path can be served again then. What still comes for those routees dies as
    /// [`DeathReason::UnknownHandler`](crate::DeathReason::UnknownHandler).
    ///
    /// # Errors
    /// When the path is not one or is not served here, or the node stops meanwhile.
    pub fn unserve(&self, path: &str) -> Result<(), NodeError> {
        self.shared.may_wait()?;
        let path = Path::new(path).map_err(OrderError::BadPath)?;
        let (answer, answered) = oneshot::channel();
        self.shared.order(Order::Unserve(path, answer))?;
        self.shared.answer(answered)??;
        Ok(())
    }

    /// Describes a router to the routees at a path, on this node and others.
    pub fn router(&self, path: &str) -> RouterBuilder<'_> {
        let spec = Path::new(path)
            .map(|path| RouterSpec::new(path, StrategyKind::RoundRobin, self.shared.seed));
        RouterBuilder { shared: &self.shared, spec, keys: Default::default() }
    }

    /// Handlers by a path pattern: `node.select("/user/*")`.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn select(&self, pattern: &str) -> Result<Selection, PatternError> {
        Ok(Selection { shared: Arc::clone(&self.shared), pattern: Pattern::new(pattern)? })
    }

    /// Sends a message to one routee.
    ///
    /// # Errors
    /// As [`Router::tell`](super::Router::tell); [`Refusal::Stopped`] when that life of its
    /// node is over.
    pub fn tell_to<M: Message>(&self, to: &RouteeRef, message: &M) -> Result<(), Refusal> {
        tell_to(&self.shared, to, message)
    }

    /// This life of this node.
    pub fn id(&self) -> NodeRef {
        self.shared.me
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens: what `bind` became. Others may reach it elsewhere.
    pub fn bound(&self) -> SocketAddr {
        self.shared.bound
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The time on the node's clock, on which handlers' times run.
    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// The members as this node sees them now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.snapshot.load().view)
    }

    /// Changes of membership from now on.
    pub fn events(&self) -> Events {
        Events { items: self.shared.events.subscribe(), ended: self.shared.ended.clone() }
    }

    /// Messages that die on this node from now on.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters {
            items: self.shared.dead_letters.subscribe(),
            ended: self.shared.ended.clone(),
        }
    }

    /// How many messages ended how, over all workers, now. What was accepted is in flight until it
    /// has ended, also while a handler holds its worker: where [`Counts::in_flight`] is 0, whatever
    /// was sent before has had its end, but for an idempotent ask that rests between two attempts.
    /// While messages move there may seem to be a few more than there are, never fewer. What a [`Batch`](super::Batch) collects is counted when it is handed over.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// What this node's halves of parts have counted.
    pub fn part_counts(&self) -> Vec<PartCount> {
        self.shared.part_counts()
    }

    /// What came to the port that was not let in.
    pub fn strangers(&self) -> Strangers {
        *self.shared.strangers.borrow()
    }

    /// How far the node has got with joining its cluster, and what stands in the way: what was last
    /// seen of each seed. After the first second without success, and then ever more seldom, the
    /// log says the same. It is never behind [`Node::view`]: whoever sees others there, or has waited
    /// for them, finds that they were met.
    pub fn join_state(&self) -> JoinState {
        self.shared.join_state(self.end().as_ref())
    }

    /// What is wrong between this node and others that run: connections that do not come about where
    /// datagrams arrive, peers that have no place for its links, nodes that call and do not answer
    /// at the address they advertise. By node; the log says the same when it begins, rarely again,
    /// and when it is over.
    pub fn troubles(&self) -> Arc<[Trouble]> {
        self.shared.troubles.borrow().clone()
    }

    /// The routers of this node: path, strategy, routees, digest of the table.
    pub fn routers(&self) -> Vec<RouterInfo> {
        let snapshot = self.shared.snapshot.load();
        let routers = snapshot.routers();
        routers
            .map(|(_, state)| RouterInfo {
                path: state.spec.path.to_string(),
                strategy: strategy_name(&state.spec.strategy),
                routees: state.active.count(),
                table_digest: state.table.digest(),
            })
            .collect()
    }

    /// Waits until the view holds so many usable members, this node included.
    ///
    /// # Errors
    /// When the node stops meanwhile.
    pub async fn members_ready(&self, members: usize) -> Result<(), NodeError> {
        let mut changes = self.shared.changes.clone();
        let mut ended = self.shared.ended.clone();
        shielded(async {
            loop {
                let usable = {
                    let snapshot = changes.borrow_and_update();
                    snapshot.view.members.iter().filter(|member| member.is_usable()).count()
                };
                if usable >= members {
                    return Ok(());
                }
                tokio::select! {
                    changed = changes.changed() => {
                        changed.map_err(|_| NodeError::Stopped)?;
                    }
                    _ = ended.wait_for(Option::is_some) => return Err(NodeError::Stopped),
                }
            }
        })
        .await
    }

    /// As [`Node::members_ready`], blocking the thread; false when the time was over first, and at
    /// once in a handler, whose worker's thread must not wait.
    pub fn wait_members(&self, members: usize, within: Duration) -> bool {
        if is_worker_thread() {
            if let Some(left_out) = log::line(LogKind::WouldBlock) {
                tracing::error!(
                    left_out = counted(left_out),
                    "wait_members was called by a handler, which must not wait"
                );
            }
            return false;
        }
        let ready = block_on_within(self.members_ready(members), within);
        matches!(ready, Some(Ok(())))
    }

    /// Removes a member that will not come back: the default partition policy leaves that to you.
    ///
    /// # Errors
    /// When there is no such member, or the node has stopped.
    pub fn down(&self, node: NodeId) -> Result<(), NodeError> {
        self.shared.may_wait()?;
        let (answer, answered) = oneshot::channel();
        self.shared.order(Order::Down(node, answer))?;
        self.shared.answer(answered)??;
        Ok(())
    }

    /// Leaves gracefully: the others stop sending here, what is under way is finished, then the
    /// node stops. Gives true if everything was drained in time, and a member has shown that it knows.
    ///
    /// From the start of it on, what the application's threads tell and ask through this node is
    /// refused as [`Refusal::Leaving`]: otherwise it might never be drained. Its handlers still send, by
    /// their context or its routers, and so do the futures that they run by
    /// [`AsyncReplies`](crate::AsyncReplies) and [`AsyncWork`](crate::AsyncWork); what they had begun
    /// before is waited for. At the end the farewell is repeated until a member has heard it that
    /// stays, and was not silent before the leave began: where none has, the others see this node as
    /// unreachable until their policy or an operator removes it. [`Node::leave_waits_for`] tells for
    /// what it waits.
    ///
    /// # Errors
    /// When the node had stopped already.
    pub async fn leave(self) -> Result<bool, NodeError> {
        self.shared.begin_leave()?;
        let (answer, answered) = oneshot::channel();
        self.shared.order(Order::Leave(answer))?;
        shielded(answered).await.map_err(|_| NodeError::Stopped)
    }

    /// Begins to leave as [`Node::leave`] does and returns at once, for nodes that are shared;
    /// [`Node::ended`] and [`Node::wait_ended`] tell when it is over and whether all went well. A
    /// second time changes nothing while it goes on.
    ///
    /// # Errors
    /// When the node had stopped already.
    pub fn begin_leave(&self) -> Result<(), NodeError> {
        self.shared.begin_leave()?;
        // Nobody waits for this answer: `ended` says the same.
        let (answer, _) = oneshot::channel();
        self.shared.order(Order::Leave(answer))
    }

    /// Whether it was told to leave, by whomever; also once it has left, or has ended before it had.
    pub fn is_leaving(&self) -> bool {
        self.shared.gate.is_leaving()
    }

    /// What its leave waits for, once that takes longer than a second, until all of that has come; and
    /// after a leave that was not done in time, what it gave up on. The log says the same.
    pub fn leave_waits_for(&self) -> Option<Arc<LeaveWaits>> {
        self.shared.leave.borrow().clone()
    }

    /// As [`Node::leave`], blocking the thread.
    ///
    /// # Errors
    /// As [`Node::leave`]. [`NodeError::WouldBlock`] in a handler, whose worker the leave waits for:
    /// it goes on all the same, and the node with it until it has left, or stops if the system gives
    /// no thread for that.
    pub fn leave_and_wait(self) -> Result<bool, NodeError> {
        if let Err(would_block) = self.shared.may_wait() {
            self.begin_leave()?;
            // Whoever drops a node stops it, so it is kept until it has left.
            let kept = std::thread::Builder::new().name("keyway-leaving".to_owned());
            if let Err(error) = kept.spawn(move || block_on(self.leave())) {
                tracing::error!("cannot start a thread for a leave, so the node stops: {error}");
            }
            return Err(would_block);
        }
        block_on(self.leave())
    }

    /// Stops at once. Peers notice the closed links; what was under way is lost, and counted.
    /// Returns when the threads have ended, with the last counts; in a handler, whose thread is one of
    /// them, at once, with those of now.
    ///
    /// # Errors
    /// When handlers held some of the workers for more than 5 s: they are named, and what they had is
    /// counted as [`GivenUp`] says. The node has stopped all the same.
    pub fn stop(self) -> Result<Counts, GivenUp> {
        self.stop_threads();
        match self.given_up() {
            Some(given_up) => Err(given_up),
            None => Ok(self.shared.counts()),
        }
    }

    /// What the node has given up on, if it has ended, by itself or by a leave, while handlers held
    /// some of its workers.
    pub fn given_up(&self) -> Option<GivenUp> {
        let given_up = self.shared.given_up.get()?;
        Some(GivenUp { counts: Box::new(self.shared.counts()), ..given_up.clone() })
    }

    /// Waits until the node has ended, by its own leave, a stop, or a fault.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.shared.ended.clone();
        let end = shielded(ended.wait_for(Option::is_some)).await;
        // The sender goes only with the control thread, which sets a reason first.
        end.ok().and_then(|end| end.clone()).unwrap_or(Ended::Stopped)
    }

    /// As [`Node::ended`], blocking the thread for at most a while; `None` when it is still there. With
    /// [`Duration::MAX`] it waits for as long as the node runs.
    ///
    /// # Errors
    /// [`NodeError::WouldBlock`] in a handler, whose worker's thread must not wait.
    pub fn wait_ended(&self, within: Duration) -> Result<Option<Ended>, NodeError> {
        self.shared.may_wait()?;
        Ok(block_on_within(self.ended(), within))
    }

    /// How the node ended, if it has.
    pub fn end(&self) -> Option<Ended> {
        self.shared.ended.borrow().clone()
    }

    fn stop_threads(&self) {
        let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread {
            // An error means that it has stopped already.
            let _ = self.shared.order(Order::Stop);
            if is_worker_thread() {
                return; // The worker that would be waited for is this one.
            }
            if thread.join().is_err() {
                tracing::error!("the control thread panicked");
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.shared.name)
            .field("address", &self.shared.address)
            .field("members", &self.view().members.len())
            .finish()
    }
}

/// One router of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RouterInfo {
    /// Where its routees are.
    pub path: String,
    /// How it picks.
    pub strategy: String,
    /// How many routees there are now.
    pub routees: usize,
    /// Hash of the table: equal on nodes with equal views.
    pub table_digest: u64,
}

fn strategy_name(strategy: &StrategyKind) -> String {
    use crate::route::Strategy;
    strategy.name().to_owned()
}
