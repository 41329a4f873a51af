//! Walk of a message: it starts here, on an application thread; `route/pick` comes next.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::NodeError;
use super::shared::Shared;
use crate::base::debug_as_display;
use crate::base::fate::Refusal;
use crate::base::{DestinationId, Path, PathError, Time, TypeRef, WorkerIndex};
use crate::hash::HashKey;
use crate::queue::block_on::{block_on_within, is_worker_thread};
use crate::queue::foreign::shielded;
use crate::queue::reply::Ticket;
use crate::route::snapshot::{RouterState, Snapshot};
use crate::route::{LocalPreference, RouterSpec, Strategy, StrategyKind};
use crate::runtime::proxies::{Order, OrderError};
use crate::wire::{Chunk, Message};
use crate::worker::outbox::{append, encode_single, with_arena};
use crate::worker::place::{Route, places, single};
use crate::worker::send::{Choice, tell_head};
use crate::worker::{
    AppReply, AskOptions, KeyFunctions, Place, Registration, RouteeRef, RouterRef, Sender, Target,
};

/// Describes a router before it is built. Made by [`Node::router`](super::Node::router).
#[must_use = "a router does nothing before `build`"]
pub struct RouterBuilder<'a> {
    pub(super) shared: &'a Arc<Shared>,
    /// Why it cannot be built, if its path is none: told by `build`, so that calls can be chained.
    pub(super) spec: Result<RouterSpec, PathError>,
    pub(super) keys: KeyFunctions,
}

impl RouterBuilder<'_> {
    fn change(mut self, change: impl FnOnce(&mut RouterSpec)) -> Self {
        if let Ok(spec) = &mut self.spec {
            change(spec);
        }
        self
    }

    /// Each message to the next routee in turn. The default.
    pub fn round_robin(self) -> Self {
        self.change(|spec| spec.strategy = StrategyKind::RoundRobin)
    }

    /// Each message to a random routee, by weight.
    pub fn random(self) -> Self {
        self.change(|spec| spec.strategy = StrategyKind::Random)
    }

    /// Each message to every routee.
    pub fn broadcast(self) -> Self {
        self.change(|spec| spec.strategy = StrategyKind::Broadcast)
    }

    /// Messages of one key to one routee, the same from every node.
    pub fn consistent_hash(self) -> Self {
        self.change(|spec| spec.strategy = StrategyKind::ConsistentHash)
    }

    /// A strategy of your own.
    pub fn strategy(self, strategy: impl Strategy + 'static) -> Self {
        self.change(|spec| spec.strategy = StrategyKind::Custom(Arc::new(strategy)))
    }

    /// Whether routees on this node are used, preferred or left out.
    pub fn local(self, preference: LocalPreference) -> Self {
        self.change(|spec| spec.local = preference)
    }

    /// Only routees on nodes with this role. Given several times, all are needed.
    pub fn role(self, role: &str) -> Self {
        self.change(|spec| {
            spec.roles.insert(role.into());
        })
    }

    /// At most so many routees per node.
    pub fn max_routees_per_node(self, routees: u16) -> Self {
        self.change(|spec| spec.max_routees_per_node = Some(routees))
    }

    /// At most so many routees in all.
    pub fn max_routees(self, routees: u32) -> Self {
        self.change(|spec| spec.max_routees = Some(routees))
    }

    /// How fine keys are spread: 2 to the power of this many slots, from 10 to 20. All nodes must
    /// use the same.
    pub fn slot_bits(self, bits: u8) -> Self {
        self.change(|spec| spec.slot_bits = bits)
    }

    /// Takes the key of messages of type `M` with a function instead of the message's own, for
    /// threads and handlers alike.
    pub fn key<M: Message, K: HashKey>(
        mut self,
        key: impl Fn(&M) -> K + Send + Sync + 'static,
    ) -> Self {
        self.keys.set(key);
        self
    }

    /// Builds the router. Returns once this node routes by it; other nodes are not involved.
    ///
    /// # Errors
    /// When an option does not fit, or the node has stopped.
    pub fn build(self) -> Result<Router, NodeError> {
        self.shared.may_wait()?;
        let spec = self.spec.map_err(OrderError::BadPath)?;
        let (answer, answered) = oneshot::channel();
        let keyed = matches!(spec.strategy, StrategyKind::ConsistentHash);
        let choice = Choice::new(&spec, self.shared.clock.now().0);
        self.shared.order(Order::Route(spec, answer))?;
        let id = self.shared.answer(answered)??;
        let unroute = self.shared.unroute.clone();
        // A node that has ended has no routers anyway.
        let registration = Registration::new(id, move |id| {
            let _ = unroute.send(id);
        });
        let reference = RouterRef::new(self.shared.me, id, self.shared.seed).with_keys(self.keys);
        Ok(Router {
            shared: Arc::clone(self.shared),
            reference: reference.holding(registration),
            home: self.shared.home(),
            keyed,
            choice: Mutex::new(choice),
        })
    }
}

/// Carries messages to the routees at a path, wherever in the cluster they are.
///
/// A handle is one sender: what it sends to one routee arrives in that order, but for asks that may
/// be sent again ([`Ask::idempotent`](super::Ask::idempotent)). It can be used from
/// any thread and any runtime; give each busy thread a clone of its own, which is a sender of its
/// own and has its own way into the node.
pub struct Router {
    shared: Arc<Shared>,
    reference: RouterRef,
    /// The worker that this handle's messages go through.
    home: WorkerIndex,
    keyed: bool,
    /// Only for strategies with a state of their own; keyed ones never lock.
    choice: Mutex<Choice>,
}

impl Clone for Router {
    fn clone(&self) -> Self {
        let home = self.shared.home();
        let snapshot = self.shared.snapshot.load();
        let seed = self.shared.clock.now().0 ^ u64::from(home.0) << 48;
        let choice = Choice::new(&self.state(&snapshot).spec, seed);
        Self {
            shared: Arc::clone(&self.shared),
            reference: self.reference.clone(),
            home,
            keyed: self.keyed,
            choice: Mutex::new(choice),
        }
    }
}

impl AsRef<RouterRef> for Router {
    fn as_ref(&self) -> &RouterRef {
        &self.reference
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let snapshot = self.shared.snapshot.load();
        let state = self.state(&snapshot);
        f.debug_struct("Router")
            .field("path", &state.spec.path)
            .field("strategy", &state.spec.strategy)
            .field("routees", &state.active.count())
            .finish()
    }
}

/// A router did not get the routees it was to wait for.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The time was over.
    #[error(
        "the router has {routees} routees, {wanted} were waited for: is the path served there, and \
         are the nodes members?"
    )]
    TimedOut {
        /// How many there are.
        routees: usize,
        /// How many were waited for.
        wanted: usize,
    },
    /// The node has stopped. [`Node::end`](super::Node::end) tells how.
    #[error("the node has stopped; `Node::end` tells why, and its log if it could not go on")]
    Stopped,
    /// It was called by a handler, whose worker's thread must not wait.
    #[error("a handler must not wait on its worker's thread: build and await routers elsewhere")]
    WouldBlock,
}

debug_as_display!(NotReady);

impl Router {
    /// Sends a message, at most once. Returns as soon as it is accepted.
    ///
    /// # Errors
    /// A [`Refusal`] names why it was not accepted; it can be tried again. After `Ok` the message
    /// ends in exactly one of the node's [`counts`](super::Node::counts).
    pub fn tell<M: Message>(&self, message: &M) -> Result<(), Refusal> {
        self.tell_hashed(self.reference.key_hash(message), message)
    }

    /// As [`Router::tell`], by this key instead of the message's own.
    ///
    /// # Errors
    /// As [`Router::tell`].
    pub fn tell_keyed<M: Message, K: HashKey + ?Sized>(
        &self,
        key: &K,
        message: &M,
    ) -> Result<(), Refusal> {
        self.tell_hashed(Some(key.hash_key(self.reference.seed)), message)
    }

    fn tell_hashed<M: Message>(&self, key_hash: Option<u64>, message: &M) -> Result<(), Refusal> {
        let snapshot = self.shared.snapshot.load();
        let sender = self.shared.sender(self.home, &snapshot);
        let state = self.state(&snapshot);
        sender.tell_route(state, self.route(&sender, state, M::TYPE, key_hash), message)
    }

    /// Sends a copy to every routee, whatever the strategy. Each copy is a message of its own.
    ///
    /// # Errors
    /// The first refusal, after all were tried.
    pub fn broadcast<M: Message>(&self, message: &M) -> Result<(), Refusal> {
        let snapshot = self.shared.snapshot.load();
        let sender = self.shared.sender(self.home, &snapshot);
        sender.tell_each(places(self.state(&snapshot), M::TYPE), message).map(drop)
    }

    /// Collects many tells and hands them over together: the cheapest way in for a busy thread.
    pub fn batch(&self) -> Batch<'_> {
        let snapshot = self.shared.snapshot.load_full();
        let state = Arc::clone(self.state(&snapshot));
        let mut choice = Choice::new(&state.spec, self.shared.clock.now().0);
        choice.look(&self.shared.sender(self.home, &snapshot), &state);
        Batch { router: self, snapshot, state, choice, runs: Vec::new(), by_slot: Vec::new() }
    }

    /// How many routees take messages now: those of unreachable nodes do not.
    pub fn routee_count(&self) -> usize {
        self.state(&self.shared.snapshot.load()).active.count()
    }

    /// The routees that take messages now, in the order of the table.
    pub fn routees(&self) -> Vec<RouteeRef> {
        let snapshot = self.shared.snapshot.load();
        let state = self.state(&snapshot);
        let routees = state.active.iter().map(|routee| state.table.routees()[usize::from(routee)]);
        routees.map(|routee| RouteeRef { id: routee.id(), path: state.spec.path.clone() }).collect()
    }

    /// Hash of the table: equal on all nodes that have the same members and ask for the same. Does
    /// not follow who is reachable.
    pub fn table_digest(&self) -> u64 {
        self.state(&self.shared.snapshot.load()).table.digest()
    }

    /// Waits until there are at least so many routees. A node has one on each worker on which it
    /// serves the path: on all, unless it was told otherwise.
    ///
    /// # Errors
    /// When the node stops meanwhile.
    pub async fn ready(&self, routees: usize) -> Result<(), NotReady> {
        let mut changes = self.shared.changes.clone();
        let mut ended = self.shared.ended.clone();
        shielded(async {
            loop {
                if self.state(&changes.borrow_and_update()).active.count() >= routees {
                    return Ok(());
                }
                tokio::select! {
                    changed = changes.changed() => {
                        if changed.is_err() {
                            return Err(NotReady::Stopped);
                        }
                    }
                    _ = ended.wait_for(Option::is_some) => return Err(NotReady::Stopped),
                }
            }
        })
        .await
    }

    /// As [`Router::ready`], blocking the thread for at most a while; for programs without a
    /// runtime.
    ///
    /// # Errors
    /// When the time is over or the node stops.
    pub fn wait_ready(&self, routees: usize, within: Duration) -> Result<(), NotReady> {
        if is_worker_thread() {
            return Err(NotReady::WouldBlock);
        }
        block_on_within(self.ready(routees), within).unwrap_or_else(|| {
            Err(NotReady::TimedOut { routees: self.routee_count(), wanted: routees })
        })
    }

    // ---- on the way ----

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn home(&self) -> WorkerIndex {
        self.home
    }

    fn state<'s>(&self, snapshot: &'s Snapshot) -> &'s Arc<RouterState> {
        snapshot.router(self.reference.id()).expect("a router is there as long as its handles are")
    }

    fn route(
        &self,
        sender: &Sender<'_>,
        state: &RouterState,
        message: &TypeRef,
        key_hash: Option<u64>,
    ) -> Result<Route, Refusal> {
        if self.keyed {
            return sender.route_keyed(state, message, key_hash);
        }
        let mut choice = self.choice.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        choice.look(sender, state);
        choice.route(state, message, key_hash).map_err(|refusal| sender.explain(refusal))
    }

    pub(super) fn send_ask<M: Message>(
        &self,
        key_hash: Option<u64>,
        message: &M,
        options: AskOptions,
        now: Time,
    ) -> Result<Ticket<AppReply>, Refusal> {
        let snapshot = self.shared.snapshot.load();
        let sender = self.shared.sender(self.home, &snapshot);
        let route = self.route(&sender, self.state(&snapshot), M::TYPE, key_hash);
        let again = Target::Router { router: self.reference.id(), message: M::TYPE, key_hash };
        sender.ask(route.and_then(single), again, message, options, now)
    }

    /// Where its routees are.
    pub(super) fn path(&self) -> Path {
        self.state(&self.shared.snapshot.load()).spec.path.clone()
    }
}

/// Collects tells of one router, one run of frames per routee's worker, and hands them over when a
/// run is long enough, at [`Batch::flush`], and when dropped. It takes 64 KiB for each routee's worker
/// that it meets, for as long as it lives.
///
/// It routes by the table of the moment it was made in: make a new one for each burst.
pub struct Batch<'a> {
    router: &'a Router,
    snapshot: Arc<Snapshot>,
    state: Arc<RouterState>,
    choice: Choice,
    /// Runs under way, one per destination met so far.
    runs: Vec<Run>,
    /// By the slot of a destination: which run is its own.
    by_slot: Vec<Option<u32>>,
}

/// Frames for one destination.
struct Run {
    destination: DestinationId,
    frames: Chunk,
}

impl Batch<'_> {
    /// Adds one message.
    ///
    /// # Errors
    /// As [`Router::tell`]. [`Refusal::QueueFull`] can also mean that a finished run was not taken;
    /// it is kept, and this message was not added.
    pub fn tell<M: Message>(&mut self, message: &M) -> Result<(), Refusal> {
        let key_hash = self.router.reference.key_hash(message);
        let route = self.choice.route(&self.state, M::TYPE, key_hash);
        match route.map_err(|refusal| self.sender().explain(refusal)) {
            Ok(Route::All) => self.add_to_each(message),
            Ok(Route::One(place)) => self.add(Ok(place), message),
            Err(refusal) => self.add(Err(refusal), message),
        }
    }

    /// Adds a copy for each routee. Each is a message of its own in the counts.
    fn add_to_each<M: Message>(&mut self, message: &M) -> Result<(), Refusal> {
        let state = Arc::clone(&self.state);
        let mut outcome = Ok(());
        for place in places(&state, M::TYPE) {
            outcome = outcome.and(self.add(place, message));
        }
        outcome
    }

    fn add<M: Message>(
        &mut self,
        place: Result<Place, Refusal>,
        message: &M,
    ) -> Result<(), Refusal> {
        let outcome = place.and_then(|place| self.push(place, message));
        outcome.map_err(|refusal| self.refused(refusal))
    }

    #[cold]
    fn refused(&self, refusal: Refusal) -> Refusal {
        // Counted, and given back as it is.
        let _ = self.sender().refuse::<()>(Err(refusal));
        refusal
    }

    fn sender(&self) -> Sender<'_> {
        self.router.shared.sender(self.router.home, &self.snapshot)
    }

    /// The run for a destination; a new one, if its link takes anything.
    fn run_for(&mut self, destination: DestinationId) -> Result<usize, Refusal> {
        let slot = destination.slot();
        if let Some(Some(run)) = self.by_slot.get(slot) {
            return Ok(*run as usize);
        }
        self.sender().check(destination)?;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some(self.runs.len() as u32);
        self.runs.push(Run { destination, frames: self.router.shared.buffers.take_large() });
        Ok(self.runs.len() - 1)
    }

    fn push<M: Message>(&mut self, place: Place, message: &M) -> Result<(), Refusal> {
        let buffers = &self.router.shared.buffers;
        let run = self.run_for(place.destination)?;
        let head = tell_head::<M>(place);
        for _ in 0..2 {
            let chunk = &mut self.runs[run].frames;
            let limit = (&**buffers, buffers.max_frame_bytes);
            if with_arena(|arena| append(chunk, arena, limit, &head, message))?.is_some() {
                return Ok(());
            }
            if chunk.is_empty() {
                break;
            }
            self.hand_over(run)?;
        }
        // Larger than a whole run: on its own, behind what was collected before.
        let frame = encode_single(buffers, &head, message)?;
        self.sender().hand_over(place.destination, frame).map_err(|(refusal, frame)| {
            buffers.give(frame);
            refusal
        })
    }

    /// Hands one run over; an empty one takes its place.
    fn hand_over(&mut self, run: usize) -> Result<(), Refusal> {
        let buffers = &self.router.shared.buffers;
        let destination = self.runs[run].destination;
        self.sender().check(destination)?;
        let frames = std::mem::replace(&mut self.runs[run].frames, buffers.take_large());
        self.sender().hand_over(destination, frames).map_err(|(refusal, frames)| {
            buffers.give(std::mem::replace(&mut self.runs[run].frames, frames));
            refusal
        })
    }

    /// Hands over all that was collected.
    ///
    /// # Errors
    /// The first refusal; what was refused stays in the batch and can be flushed again.
    pub fn flush(&mut self) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        for run in 0..self.runs.len() {
            outcome = outcome.and(self.flush_run(run));
        }
        outcome
    }

    fn flush_run(&mut self, run: usize) -> Result<(), Refusal> {
        if self.runs[run].frames.is_empty() { Ok(()) } else { self.hand_over(run) }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // What is not taken even now is counted as refused, frame by frame.
        for run in 0..self.runs.len() {
            if let Err(refusal) = self.flush_run(run) {
                for _ in 0..self.runs[run].frames.untouched_requests() {
                    self.refused(refusal);
                }
            }
        }
        for Run { frames, .. } in std::mem::take(&mut self.runs) {
            self.router.shared.buffers.give(frames);
        }
    }
}
