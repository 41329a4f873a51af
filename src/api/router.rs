//! Walk of a message: it starts here, on an application thread; `route/pick` comes next.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rkyv::ser::allocator::Arena;
use tokio::sync::oneshot;

use super::ask::Ask;
use super::node::NodeError;
use super::shared::{Place, Shared};
use crate::base::WorkerIndex;
use crate::base::fate::Refusal;
use crate::hash::{HashKey, HashSeed};
use crate::queue::block_on::block_on_until;
use crate::route::snapshot::{RouterState, Snapshot};
use crate::route::{LocalPreference, Pick, Picker, RouteeSet, RouterSpec, Strategy, StrategyKind};
use crate::runtime::proxies::Order;
use crate::wire::{CHUNK_BYTES, Chunk, EncodeError, Fields, FrameKind, Message, encode};
use crate::worker::{RouteeRef, RouterRef, encode_single, refusal};

thread_local! {
    /// Scratch memory for nested message types.
    static ARENA: RefCell<Arena> = RefCell::new(Arena::new());
}

pub(super) fn with_arena<T>(run: impl FnOnce(&mut Arena) -> T) -> T {
    ARENA.with_borrow_mut(run)
}

/// Hashes the key that a user's function takes from a message.
type KeyFunction<M> = Box<dyn Fn(&M, HashSeed) -> Option<u64> + Send + Sync>;

/// Key functions by message type.
type KeyFunctions = BTreeMap<TypeId, Box<dyn Any + Send + Sync>>;

/// Describes a router before it is built. Made by [`Node::router`](super::Node::router).
#[must_use = "a router does nothing before `build`"]
pub struct RouterBuilder<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) spec: RouterSpec,
    pub(super) keys: KeyFunctions,
}

impl RouterBuilder<'_> {
    /// Each message to the next routee in turn. The default.
    pub fn round_robin(mut self) -> Self {
        self.spec.strategy = StrategyKind::RoundRobin;
        self
    }

    /// Each message to a random routee, by weight.
    pub fn random(mut self) -> Self {
        self.spec.strategy = StrategyKind::Random;
        self
    }

    /// Each message to every routee.
    pub fn broadcast(mut self) -> Self {
        self.spec.strategy = StrategyKind::Broadcast;
        self
    }

    /// Messages of one key to one routee, the same from every node.
    pub fn consistent_hash(mut self) -> Self {
        self.spec.strategy = StrategyKind::ConsistentHash;
        self
    }

    /// A strategy of your own.
    pub fn strategy(mut self, strategy: impl Strategy + 'static) -> Self {
        self.spec.strategy = StrategyKind::Custom(Arc::new(strategy));
        self
    }

    /// Whether routees on this node are used, preferred or left out.
    pub fn local(mut self, preference: LocalPreference) -> Self {
        self.spec.local = preference;
        self
    }

    /// Only routees on nodes with this role. Given several times, all are needed.
    pub fn role(mut self, role: &str) -> Self {
        self.spec.roles.insert(role.into());
        self
    }

    /// At most so many routees per node.
    pub fn max_routees_per_node(mut self, routees: u16) -> Self {
        self.spec.max_routees_per_node = Some(routees);
        self
    }

    /// At most so many routees in all.
    pub fn max_routees(mut self, routees: u32) -> Self {
        self.spec.max_routees = Some(routees);
        self
    }

    /// How fine keys are spread: 2 to the power of this many slots, from 10 to 20. All nodes must
    /// use the same.
    pub fn slot_bits(mut self, bits: u8) -> Self {
        self.spec.slot_bits = bits;
        self
    }

    /// Takes the key of messages of type `M` with a function instead of the message's own.
    pub fn key<M: Message, K: HashKey>(
        mut self,
        key: impl Fn(&M) -> K + Send + Sync + 'static,
    ) -> Self {
        let hash: KeyFunction<M> = Box::new(move |message, seed| Some(key(message).hash_key(seed)));
        self.keys.insert(TypeId::of::<M>(), Box::new(hash));
        self
    }

    /// Builds the router. Returns once this node routes by it; other nodes are not involved.
    ///
    /// # Errors
    /// When an option does not fit, or the node has stopped.
    pub fn build(self) -> Result<Router, NodeError> {
        let (answer, answered) = oneshot::channel();
        let keyed = matches!(self.spec.strategy, StrategyKind::ConsistentHash);
        let picker = Picker::new(&self.spec, self.shared.clock.now().0);
        self.shared.order(Order::Route(self.spec, answer))?;
        let id = self.shared.answer(answered)??;
        Ok(Router {
            shared: Arc::clone(self.shared),
            reference: RouterRef { id, seed: self.shared.seed },
            home: self.shared.home(),
            keyed,
            turn: Mutex::new(Turn { picker, usable: RouteeSet::none(0) }),
            keys: Arc::new(self.keys),
        })
    }
}

/// Carries messages to the routees at a path, wherever in the cluster they are.
///
/// A handle is one sender: what it sends to one routee arrives in that order. It can be used from
/// any thread and any runtime; give each busy thread a clone of its own, which is a sender of its
/// own and has its own way into the node.
pub struct Router {
    shared: Arc<Shared>,
    reference: RouterRef,
    /// The worker that this handle's messages go through.
    home: WorkerIndex,
    keyed: bool,
    /// Only for strategies with a state of their own; keyed ones never lock.
    turn: Mutex<Turn>,
    keys: Arc<KeyFunctions>,
}

/// What a strategy with a state of its own picks with.
struct Turn {
    picker: Picker,
    /// Kept for its memory, filled anew each time.
    usable: RouteeSet,
}

impl Clone for Router {
    fn clone(&self) -> Self {
        let home = self.shared.home();
        let snapshot = self.shared.snapshot.load();
        let seed = self.shared.clock.now().0 ^ u64::from(home.0) << 48;
        let picker = Picker::new(&self.state(&snapshot).spec, seed);
        Self {
            shared: Arc::clone(&self.shared),
            reference: self.reference,
            home,
            keyed: self.keyed,
            turn: Mutex::new(Turn { picker, usable: RouteeSet::none(0) }),
            keys: Arc::clone(&self.keys),
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
            .field("routees", &state.table.len())
            .finish()
    }
}

/// A router did not get the routees it was to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl Router {
    /// Sends a message, at most once. Returns as soon as it is accepted.
    ///
    /// # Errors
    /// A [`Refusal`] names why it was not accepted; it can be tried again. After `Ok` the message
    /// ends in exactly one of the node's [`counts`](super::Node::counts).
    pub fn tell<M: Message>(&self, message: &M) -> Result<(), Refusal> {
        self.tell_hashed(self.key_hash(message), message)
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
        let state = self.state(&snapshot);
        match self.shared.refuse(self.pick(state, key_hash))? {
            Pick::One(routee) => self.send(place(state, routee), message),
            _ => self.send_all(state, message),
        }
    }

    /// Sends a copy to every routee, whatever the strategy. Each copy is a message of its own.
    ///
    /// # Errors
    /// The first refusal, after all were tried.
    pub fn broadcast<M: Message>(&self, message: &M) -> Result<(), Refusal> {
        let snapshot = self.shared.snapshot.load();
        let state = self.state(&snapshot);
        if state.table.is_empty() {
            return self.shared.refuse(Err(Refusal::NoRoutee));
        }
        self.send_all(state, message)
    }

    fn send_all<M: Message>(&self, state: &RouterState, message: &M) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        for routee in 0..state.table.len() {
            outcome = outcome.and(self.send(place(state, routee as u16), message));
        }
        outcome
    }

    fn send<M: Message>(&self, place: Place, message: &M) -> Result<(), Refusal> {
        let outcome = self.shared.check(self.home, place.destination).and_then(|()| {
            let frame = self.encode(FrameKind::Tell, &Fields::default(), place, message)?;
            self.shared.hand_over(self.home, place.destination, frame)
        });
        self.shared.refuse(outcome)
    }

    /// Asks: `router.ask(&message).within(limit).await`.
    ///
    /// It is sent when it is awaited, or by [`Ask::wait`].
    pub fn ask<'a, M: Message>(&'a self, message: &'a M) -> Ask<'a, M> {
        Ask::new(self, self.key_hash(message), message)
    }

    /// As [`Router::ask`], by this key instead of the message's own.
    pub fn ask_keyed<'a, M: Message, K: HashKey + ?Sized>(
        &'a self,
        key: &K,
        message: &'a M,
    ) -> Ask<'a, M> {
        Ask::new(self, Some(key.hash_key(self.reference.seed)), message)
    }

    /// Collects many tells and hands them over together: the cheapest way in for a busy thread.
    pub fn batch(&self) -> Batch<'_> {
        let snapshot = self.shared.snapshot.load_full();
        let state = Arc::clone(self.state(&snapshot));
        let picker = Picker::new(&state.spec, self.shared.clock.now().0);
        let everyone = RouteeSet::all(state.table.len());
        Batch { router: self, state, picker, everyone, chunks: Vec::new(), places: Vec::new() }
    }

    /// How many routees there are now.
    pub fn routee_count(&self) -> usize {
        self.state(&self.shared.snapshot.load()).table.len()
    }

    /// The routees there are now, in the order of the table.
    pub fn routees(&self) -> Vec<RouteeRef> {
        let snapshot = self.shared.snapshot.load();
        let state = self.state(&snapshot);
        let routees = state.table.routees().iter();
        routees
            .map(|routee| RouteeRef {
                node: routee.node,
                worker: routee.worker,
                handler: routee.handler,
                path: Arc::clone(&state.spec.path),
            })
            .collect()
    }

    /// Hash of the table: equal on all nodes that have the same view and ask for the same.
    pub fn table_digest(&self) -> u64 {
        self.state(&self.shared.snapshot.load()).table.digest()
    }

    /// Waits until there are at least so many routees (a node has one per worker).
    ///
    /// # Errors
    /// When the node stops meanwhile.
    pub async fn ready(&self, routees: usize) -> Result<(), NotReady> {
        let mut changes = self.shared.changes.clone();
        let mut ended = self.shared.ended.clone();
        loop {
            if self.state(&changes.borrow_and_update()).table.len() >= routees {
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
    }

    /// As [`Router::ready`], blocking the thread for at most a while; for programs without a
    /// runtime.
    ///
    /// # Errors
    /// When the time is over or the node stops.
    pub fn wait_ready(&self, routees: usize, within: Duration) -> Result<(), NotReady> {
        let deadline = Instant::now() + within;
        block_on_until(self.ready(routees), deadline).unwrap_or_else(|| {
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

    pub(super) fn id(&self) -> u32 {
        self.reference.id
    }

    fn state<'s>(&self, snapshot: &'s Snapshot) -> &'s Arc<RouterState> {
        &snapshot.routers[self.reference.id as usize]
    }

    /// The place that a message with this key goes to now.
    pub(super) fn place(&self, key_hash: Option<u64>) -> Result<Place, Refusal> {
        let snapshot = self.shared.snapshot.load();
        let state = self.state(&snapshot);
        match self.pick(state, key_hash)? {
            Pick::One(routee) => Ok(place(state, routee)),
            // A broadcast has no single reply.
            _ => Err(Refusal::NoRoutee),
        }
    }

    pub(super) fn encode<M: Message>(
        &self,
        kind: FrameKind,
        fields: &Fields,
        place: Place,
        message: &M,
    ) -> Result<Chunk, Refusal> {
        with_arena(|arena| {
            encode_single(
                &self.shared.buffers,
                arena,
                kind,
                fields,
                M::TYPE_ID,
                place.handler,
                message,
            )
        })
    }

    fn key_hash<M: Message>(&self, message: &M) -> Option<u64> {
        if !self.keys.is_empty()
            && let Some(function) = self.keys.get(&TypeId::of::<M>())
            && let Some(function) = function.downcast_ref::<KeyFunction<M>>()
        {
            return function(message, self.reference.seed);
        }
        message.key_hash(self.reference.seed)
    }

    fn pick(&self, state: &RouterState, key_hash: Option<u64>) -> Result<Pick, Refusal> {
        let pick = if self.keyed {
            let slots = state.table.slots();
            match (slots, key_hash) {
                (_, None) => return Err(Refusal::MissingKey),
                (Some(slots), Some(key)) if !state.table.is_empty() => Pick::One(slots.lookup(key)),
                _ => return Err(Refusal::NoRoutee),
            }
        } else {
            let mut turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let Turn { picker, usable } = &mut *turn;
            // Links that are known to be down are passed over, as a worker would.
            usable.refill(state.table.len(), |routee| {
                let destination = state.destinations[routee];
                !matches!(
                    self.shared.check(self.home, destination),
                    Err(Refusal::Unreachable | Refusal::Stopped)
                )
            });
            picker.pick(&state.table, key_hash, usable)
        };
        match pick {
            // No link of a node that has stopped takes anything.
            Pick::None(_) if self.shared.is_closing() => Err(Refusal::Stopped),
            Pick::None(reason) => Err(refusal(reason)),
            pick => Ok(pick),
        }
    }
}

fn place(state: &RouterState, routee: u16) -> Place {
    let routee = usize::from(routee);
    Place {
        destination: state.destinations[routee],
        handler: state.table.routees()[routee].handler,
    }
}

/// Collects tells of one router, one run of frames per routee's worker, and hands them over when a
/// run is long enough, at [`Batch::flush`], and when dropped.
///
/// It routes by the table of the moment it was made in: make a new one for each burst.
pub struct Batch<'a> {
    router: &'a Router,
    state: Arc<RouterState>,
    picker: Picker,
    everyone: RouteeSet,
    /// Runs under way, one per destination met so far.
    chunks: Vec<Chunk>,
    places: Vec<u32>,
}

impl Batch<'_> {
    /// Adds one message.
    ///
    /// # Errors
    /// As [`Router::tell`]. [`Refusal::QueueFull`] can also mean that a finished run was not taken;
    /// it is kept, and this message was not added.
    pub fn tell<M: Message>(&mut self, message: &M) -> Result<(), Refusal> {
        let outcome = self.add(message);
        self.router.shared.refuse(outcome)
    }

    fn add<M: Message>(&mut self, message: &M) -> Result<(), Refusal> {
        let key_hash = self.router.key_hash(message);
        match self.picker.pick(&self.state.table, key_hash, &self.everyone) {
            Pick::One(routee) => {
                let place = place(&self.state, routee);
                self.push(place, message)
            }
            Pick::All => {
                let mut outcome = Ok(());
                for routee in 0..self.state.table.len() {
                    let place = place(&self.state, routee as u16);
                    outcome = outcome.and(self.push(place, message));
                }
                outcome
            }
            Pick::None(reason) => Err(refusal(reason)),
        }
    }

    fn push<M: Message>(&mut self, place: Place, message: &M) -> Result<(), Refusal> {
        let run = match self.places.iter().position(|known| *known == place.destination) {
            Some(run) => run,
            None => {
                self.router.shared.check(self.router.home, place.destination)?;
                self.places.push(place.destination);
                self.chunks.push(self.router.shared.buffers.take_large());
                self.chunks.len() - 1
            }
        };
        for _ in 0..2 {
            let fields = Fields::default();
            let kind = FrameKind::Tell;
            let chunk = &mut self.chunks[run];
            let encoded = with_arena(|arena| {
                encode(chunk, arena, kind, &fields, M::TYPE_ID, place.handler, message)
            });
            match encoded {
                Ok(bytes) if bytes > self.router.shared.buffers.max_frame_bytes => {
                    chunk.retract(bytes);
                    return Err(Refusal::TooLarge);
                }
                Ok(_) => return Ok(()),
                Err(EncodeError::Serialize) => return Err(Refusal::Unserialisable),
                Err(EncodeError::Overflow) if self.chunks[run].is_empty() => break,
                Err(EncodeError::Overflow) => self.hand_over(run)?,
            }
        }
        // Larger than a whole run: on its own, behind what was collected before.
        let frame = self.router.encode(FrameKind::Tell, &Fields::default(), place, message)?;
        self.router.shared.hand_over(self.router.home, place.destination, frame)
    }

    /// Hands one run over; an empty one takes its place.
    fn hand_over(&mut self, run: usize) -> Result<(), Refusal> {
        let shared = &self.router.shared;
        let destination = self.places[run];
        shared.check(self.router.home, destination)?;
        let door = &shared.doors[usize::from(self.router.home.0)];
        let fresh = shared.buffers.take_large();
        debug_assert_eq!(fresh.capacity(), CHUNK_BYTES);
        let frames = std::mem::replace(&mut self.chunks[run], fresh);
        let injection = crate::worker::Injection::Frames { destination, frames };
        door.injector.push(injection).map_err(|full| {
            if let crate::worker::Injection::Frames { frames, .. } = full.0 {
                let fresh = std::mem::replace(&mut self.chunks[run], frames);
                shared.buffers.give(fresh);
            }
            Refusal::QueueFull
        })
    }

    /// Hands over all that was collected.
    ///
    /// # Errors
    /// The first refusal; what was refused stays in the batch and can be flushed again.
    pub fn flush(&mut self) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        for run in 0..self.chunks.len() {
            if !self.chunks[run].is_empty() {
                outcome = outcome.and(self.hand_over(run));
            }
        }
        outcome
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // What is not taken even now is counted as refused, frame by frame.
        let _ = self.flush();
        for chunk in self.chunks.drain(..) {
            for _ in 0..chunk.untouched_requests() {
                let _ = self.router.shared.refuse::<()>(Err(Refusal::QueueFull));
            }
            self.router.shared.buffers.give(chunk);
        }
    }
}
