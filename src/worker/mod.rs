//! Composes what there is one of per core: links, routees, routers, asks, timers. A decider: bytes,
//! snapshots and times come in; frames in outboxes and requests to the driver go out.
//!
//! The files, from the bottom up: each imports only from those before it.
//!
//! - what is written to others: `purse`, `buffers`, `outbox`, `link`
//! - where messages go: `place`, `select`, `router_ref`, `router_slot`
//! - what other threads hand over and get: `inject`, `replier`, `send`
//! - what is kept and told: `limits`, `panics`, `calls`, `kinds`, `work`, `dead`, `request`
//! - all that handlers may touch: `core`, and what is done with it in `burying`, `giving_up`,
//!   `panicked` and `asks`
//! - what users see and write: `context`, `handler`, `asking`; and what control says: `command`
//! - `Worker`, declared here, in parts: `routees`, `working`, `parts`, `deliver`, `admit`, `held`,
//!   `linking`, `mend`, `due`, `usage`, `drained`
//! - in which order it does all this, and when: `turn`
//!
//! How a message walks through them stands in `docs/ARCHITECTURE.md`.

mod admit;
mod asking;
mod asks;
pub mod buffers;
mod burying;
pub mod calls;
pub mod command;
pub mod context;
mod core;
pub mod dead;
mod deliver;
mod drained;
mod due;
mod giving_up;
pub mod handler;
mod held;
pub mod inject;
mod kinds;
mod limits;
pub mod link;
mod linking;
mod mend;
pub mod outbox;
mod panicked;
mod panics;
mod parts;
pub mod place;
pub mod purse;
mod replier;
mod request;
mod routees;
pub mod router_ref;
mod router_slot;
pub mod select;
pub mod send;
#[cfg(test)]
mod testnet;
#[cfg(test)]
mod tests;
pub mod turn;
mod usage;
pub mod work;
mod working;

use std::collections::VecDeque;
use std::sync::Arc;

pub use self::buffers::{Buffers, Reply};
pub use self::command::{Command, Drained, Report, SlowTurn, Undrained};
pub use self::context::WakeKey;
pub use self::core::Context;
pub use self::dead::{Dead, Mourner};
pub use self::deliver::Received;
pub use self::handler::{Handler, HandlerTable, IntoReply, OnReply, Routee, RouteeFactory};
pub use self::inject::{AppReply, InjectedAsk, Injection};
pub use self::limits::Limits;
pub use self::link::{Link, LinkId, LinkState, Lower, OVERTAKEN, Role};
pub use self::outbox::encode_single;
pub use self::panics::Panicked;
pub(crate) use self::panics::text_of;
pub use self::place::{Place, RouteeRef, Target};
pub use self::replier::{Later, Replier};
pub use self::request::Request;
pub use self::router_ref::{KeyFunctions, Registration, RouterRef};
pub use self::select::Pattern;
pub use self::send::{AskOptions, Sender};
pub use self::usage::{PurseUsage, Usage};
pub use self::work::{TooMuchWork, Work, WorkKey, WorkLost};

use self::calls::Calls;
use self::core::{Core, Timer};
use self::due::Round;
use self::held::Held;
use self::kinds::Kinds;
use self::link::Links;
use self::outbox::Encoder;
use self::routees::RouteeSlot;
use self::work::Works;
use crate::ask::Asks;
use crate::base::fate::{AskError, Counts, DeathReason};
use crate::base::timers::TimerWheel;
use crate::base::{
    DestinationId, HandlerId, LifeNumber, MessageTypeId, NodeRef, Time, WorkerIndex,
};
use crate::part::{PartSettings, WorkerHalves};
use crate::queue::board::{CountsBoard, WayState};
use crate::queue::inject::Injector;
use crate::queue::reply::ReplySlots;
use crate::queue::spill::Spill;
use crate::wire::Chunk;

/// How fine the worker's timers are.
const TIMER_TICK: std::time::Duration = std::time::Duration::from_millis(1);
/// A duty cycle that takes less is a moment.
const LONG_TURN: std::time::Duration = TIMER_TICK;

/// The decider of one core.
///
/// [`turn::Turn`] calls it, each duty cycle in this order: [`Worker::begin`] with the time;
/// [`Worker::apply`], [`Worker::serve`], [`Worker::accept`], [`Worker::link_opened`] and their
/// like for what control sent; [`Worker::inject`] for other threads' hand-overs;
/// [`Worker::sibling_chunk`] and [`Worker::receive`] for arrived frames; [`Worker::gather`] and
/// [`Worker::run_one`] for what is due, [`Worker::own_chunk`] for messages to itself. Then it takes
/// [`Worker::requests`], writes the outboxes that [`Worker::take_dirty`] names and reports progress
/// with [`Worker::written`].
pub struct Worker {
    core: Core,
    held: Held,
    /// By the slots of their ids.
    routees: Vec<Option<RouteeSlot>>,
    /// Timers of the worker's own that have come.
    due: Vec<Timer>,
    /// What of users' code is due.
    round: Round,
    /// What the next routee that is made here gets.
    next_life: LifeNumber,
    /// What ran last before a message that is timed by itself.
    unsampled_call: (HandlerId, Option<MessageTypeId>),
}

/// What a worker is made of besides its limits.
pub struct WorkerParts {
    /// This life of this node.
    pub me: NodeRef,
    /// Which worker this is.
    pub index: WorkerIndex,
    /// How many there are on this node.
    pub workers: u16,
    /// Shared free buffers.
    pub buffers: Arc<Buffers>,
    /// Where applications wait for replies.
    pub replies: ReplySlots<AppReply>,
    /// This worker's own entrance, for replies that come later.
    pub injector: Injector<Injection>,
    /// Settings of the parts.
    pub settings: PartSettings,
    /// Seed of all randomness in here.
    pub seed: u64,
}

impl Worker {
    /// A worker without routees, links to other nodes, or routers.
    pub fn new(parts: WorkerParts, limits: Limits, now: Time) -> Self {
        let mut links = Links::default();
        let mut own = None;
        let mut siblings = Vec::new();
        for index in 0..parts.workers {
            let index = WorkerIndex(index);
            let role = if index == parts.index { Role::Own } else { Role::Sibling(index) };
            let peer = (parts.me, index);
            let link = Link::new(peer, role, LinkState::Open, limits.outbox_bytes);
            let id = links.insert(link);
            if role == Role::Own {
                own = Some(id);
            }
            siblings.push(id);
        }
        let held = Held::new(parts.injector.room());
        let repliers = Spill::new(parts.injector.waker());
        let core = Core {
            me: parts.me,
            index: parts.index,
            now,
            limits,
            links,
            own: own.expect("a worker is one of its node's workers"),
            siblings,
            destinations: Vec::new(),
            gone: Vec::new(),
            snapshot: None,
            routers: Vec::new(),
            encoder: Encoder::new(Arc::clone(&parts.buffers), limits.outboxes_bytes),
            buffers: parts.buffers,
            asks: Asks::new(limits.max_asks, limits.retry_bytes, now),
            ask_effects: Default::default(),
            failed_asks: Default::default(),
            app_asks: Vec::new(),
            handed_over: Default::default(),
            reaped_at: Time::ZERO,
            replies: parts.replies,
            replied_here: Vec::new(),
            timers: TimerWheel::new(TIMER_TICK, now),
            wakes: TimerWheel::new(TIMER_TICK, now),
            begun: Default::default(),
            soon: VecDeque::new(),
            notices: VecDeque::new(),
            works: Works::new(limits.max_work, parts.injector.waker()),
            requests: Vec::new(),
            dirty: Vec::new(),
            parts: WorkerHalves::new(parts.me, parts.index, &parts.settings),
            injector: parts.injector,
            rng_seed: parts.seed,
            repliers,
            calls: Calls::NONE,
            paths: Vec::new(),
            kinds: Kinds::default(),
            ways_changed: false,
            published: Arc::default(),
            mourner: None,
        };
        let (routees, due, round) = Default::default();
        let (next_life, unsampled_call) = (LifeNumber::FIRST, (HandlerId(0), None));
        Self { core, held, routees, due, round, next_life, unsampled_call }
    }

    /// The same, telling there which handler it calls, as it calls it, and counting there. To be
    /// called before anything is counted.
    pub fn published_on(mut self, board: Arc<CountsBoard>) -> Self {
        self.core.published = board;
        self
    }

    // ---- what the driver asks ----

    /// This life of this node.
    pub fn node(&self) -> NodeRef {
        self.core.me
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.core.published.tally.counts()
    }

    /// How many messages it has taken of what application threads handed over.
    pub fn taken(&self) -> u64 {
        self.core.published.tally.handed.get()
    }

    /// The parts' halves.
    pub fn parts(&self) -> &WorkerHalves {
        &self.core.parts
    }

    /// What the driver shall do; taken out.
    pub fn requests(&mut self) -> std::vec::Drain<'_, Request> {
        self.core.requests.drain(..)
    }

    /// A link whose outbox got frames since it was last named here, if there is one.
    #[inline]
    pub fn take_dirty(&mut self) -> Option<LinkId> {
        while let Some(id) = self.core.dirty.pop() {
            if let Some(link) = self.core.links.get_mut(id) {
                link.dirty = false;
                return Some(id);
            }
        }
        None
    }

    /// One link.
    #[inline]
    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.core.links.get(id)
    }

    /// Names a link in the next [`Worker::take_dirty`] again.
    #[inline]
    pub fn touch(&mut self, id: LinkId) {
        if self.core.links.get(id).is_some() {
            self.core.mark_dirty(id);
        }
    }

    /// Whether the state of a dialed link changed since this was last called: application
    /// threads must see it then.
    #[inline]
    pub fn take_ways_changed(&mut self) -> bool {
        std::mem::take(&mut self.core.ways_changed)
    }

    /// Destinations that are gone since this was last called.
    pub fn take_gone(&mut self) -> std::vec::Drain<'_, DestinationId> {
        self.core.gone.drain(..)
    }

    /// How each link stands, by destination.
    pub fn way_states(&self) -> impl Iterator<Item = (DestinationId, WayState)> {
        self.core.links.iter().filter_map(|(_, link)| self.way_state_of(link))
    }

    /// How one link stands, if application threads can send to it.
    #[inline]
    pub fn way_state(&self, id: LinkId) -> Option<(DestinationId, WayState)> {
        self.way_state_of(self.core.links.get(id)?)
    }

    /// One for which something is held back is full, however much its peer takes now and then: else
    /// one slow peer's senders would fill what is held for all.
    #[inline]
    fn way_state_of(&self, link: &Link) -> Option<(DestinationId, WayState)> {
        let destination = link.destination?;
        Some(match link.board_state(&self.core.encoder) {
            WayState::Open if self.held.has(destination) => (destination, WayState::Full),
            state => (destination, state),
        })
    }

    /// The time of this duty cycle.
    #[inline]
    pub fn now(&self) -> Time {
        self.core.now
    }

    /// The link back to this very worker.
    #[inline]
    pub fn own_link(&self) -> LinkId {
        self.core.own
    }

    /// Whether there is work that no event will announce: messages to itself, wake-ups.
    #[inline]
    pub fn has_work(&self) -> bool {
        !self.core.soon.is_empty()
            || !self.round.is_over()
            || !self.core.notices.is_empty()
            || !self.core.failed_asks.is_empty()
            || !self.core.dirty.is_empty()
            || !self.core.requests.is_empty()
            || !self.core.parts.effects.is_empty()
            || self.core.works.has_results()
            || !self.core.links[self.core.own].outbox.is_empty()
    }

    /// Until when the driver may sleep.
    #[inline]
    pub fn next_deadline(&self) -> Option<Time> {
        let asks = self.core.asks.next_deadline();
        let others =
            self.core.timers.next_deadline().into_iter().chain(self.core.wakes.next_deadline());
        asks.into_iter().chain(others).chain(self.held.soonest()).min()
    }

    /// Whether reading from a link should rest, because what its peer asked for is not taken by
    /// it. Ends when the outbox was written.
    ///
    /// Only where requests come in: what comes in on a dialed link fills no outbox, and if it were
    /// left unread while requests cannot be written, both sides would wait for each other.
    #[inline]
    pub fn is_choked(&self, id: LinkId) -> bool {
        self.core.links.get(id).is_none_or(|link| {
            matches!(link.role, Role::Accepted { .. }) && link.outbox.is_choked(&self.core.encoder)
        })
    }

    /// How many messages on a dialed link its peer has not acknowledged.
    pub(in crate::worker) fn unanswered(&self, id: LinkId) -> u64 {
        self.core.links.get(id).map_or(0, |link| link.sent.requests - link.sent.acknowledged())
    }

    /// How many bytes of hand-overs fit into one duty cycle: what a link has left when it is shown
    /// as full.
    #[inline]
    pub fn hand_over_bytes(&self) -> usize {
        self.core.limits.outbox_bytes / 4
    }

    // ---- the duty cycle ----

    /// Begins a duty cycle.
    #[inline]
    pub fn begin(&mut self, now: Time) {
        self.core.now = now;
        self.core.calls.begin();
        self.core.published.pulse.turn(now.0);
    }

    /// Ends a duty cycle. When handlers have taken long in it, what they began is as old as its end:
    /// nothing that they sent was written before, and they cannot know how late it had become.
    #[inline]
    pub fn ends(&mut self, now: Time) {
        let took = now.since(self.core.now);
        let (asks, wakes) = &mut self.core.begun;
        if took >= LONG_TURN {
            asks.iter().for_each(|ask| self.core.asks.postpone(*ask, took));
            wakes.iter().for_each(|key| self.core.wakes.postpone(*key, took));
        }
        asks.clear();
        wakes.clear();
    }

    /// Says to whoever watches that the worker sleeps from now on, or has ended.
    #[inline]
    pub fn sleeps(&self, now: Time) {
        self.core.published.pulse.sleeps(now.0);
    }

    /// How many chunks of messages to itself wait. A duty cycle takes no more than wait when it
    /// begins: a handler that tells itself must not hold it up for ever.
    #[inline]
    pub fn own_chunks(&self) -> usize {
        self.core.links[self.core.own].outbox.chunk_count()
    }

    /// Handles up to so many messages of the oldest chunk that this worker sent to itself. Returns
    /// how many there were, and whether some are left in it.
    pub fn own_chunk(&mut self, most: u32) -> (u32, bool) {
        let own = self.core.own;
        let link = &mut self.core.links[own];
        let Some((chunk, lent)) = link.outbox.lend_chunk(&mut self.core.encoder, most) else {
            return (0, false);
        };
        link.progressed_at = self.core.now;
        let (frames, rest) = self.deliver_chunk(own, chunk, most);
        let more = rest.is_some();
        self.core.links[own].outbox.settle(&mut self.core.encoder, lent, rest);
        (frames, more)
    }

    // ---- writing ----

    /// The socket took this many bytes of a link's outbox.
    #[inline]
    pub fn written(&mut self, id: LinkId, bytes: usize) {
        if let Some(link) = self.core.links.get_mut(id) {
            link.outbox.written(&mut self.core.encoder, bytes);
            link.progressed_at = self.core.now;
        }
    }

    /// A link's peer takes nothing at the moment.
    pub(super) fn blocked(&mut self, id: LinkId) {
        if let Some(link) = self.core.links.get_mut(id) {
            link.outbox.tighten(&mut self.core.encoder);
        }
    }

    /// Takes the oldest chunk that waits for a sibling.
    pub fn pop_sibling_chunk(&mut self, id: LinkId) -> Option<Chunk> {
        let link = self.core.links.get_mut(id)?;
        link.progressed_at = self.core.now;
        link.outbox.pop_chunk(&mut self.core.encoder)
    }

    /// Puts a chunk back that the sibling's ring did not take. [`Worker::touch`] is called once all
    /// dirty links were looked at: would this mark the link, it were the next that
    /// [`Worker::take_dirty`] names, and a full ring would hold the duty cycle for ever.
    pub fn unpop_sibling_chunk(&mut self, id: LinkId, chunk: Chunk) {
        if let Some(link) = self.core.links.get_mut(id) {
            link.outbox.unpop_chunk(&mut self.core.encoder, chunk);
        }
    }

    /// This node stops: whoever still waits is told, and every message gets its last count.
    pub fn stop(&mut self) {
        self.core.asks.close_down();
        let links: Vec<LinkId> = self.core.links.iter().map(|(id, _)| id).collect();
        for (_, link) in self.core.links.iter_mut() {
            // First, so that what handlers send when they hear of their lost asks is refused.
            link.state = LinkState::Finished;
        }
        self.admit_all_held();
        for id in links {
            match self.core.links[id].role {
                Role::Dialed { .. } => self.lose(id, DeathReason::Stopped),
                Role::Own | Role::Sibling(_) => {
                    // Some may have been handled, with the reply on its way back.
                    let unhandled = self.core.links[id].outbox.unwritten_asks();
                    self.fail_asks_but(&unhandled, id, AskError::LinkLost);
                    self.fail_asks(id, AskError::Dead(DeathReason::Stopped));
                    self.core.bury_local(id, DeathReason::Stopped);
                }
                Role::Accepted { .. } => {}
            }
        }
        // Asks that rest between two attempts are on no link.
        let Core { asks, ask_effects, .. } = &mut self.core;
        asks.end_all(AskError::Dead(DeathReason::Stopped), ask_effects);
        self.end_failed_asks();
        self.end_routees();
        self.core.bury_notices();
    }
}
