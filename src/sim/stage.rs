//! A world for somebody else's application: no load of the simulator's own, faults by order, and a
//! time that goes on as far as it is asked to. The face of it is [`testing`](crate::testing).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::events::{LifeId, SlotId};
use super::invariants::{Seen, Violation};
use super::plan::Plan;
use super::process::{Body, Fate, Life};
use super::scenario::Scenario;
use super::world::World;
use crate::ask::ASKERS_GRACE;
use crate::base::debug_as_display;
use crate::base::fate::{AskError, Counts};
use crate::base::{MemberState, NodeId, Path, Placement, Time};
use crate::control::{ServeError, ServeFailure};
use crate::hash::HashSeed;
use crate::route::snapshot::{RouterState, Snapshot};
use crate::route::{RouterSpec, SpecError};
use crate::worker::send::Choice;
use crate::worker::{RouteeFactory, RouterRef, Sender};

/// What the application did that ends its run, in the place of an invariant.
pub const NOT_SERVED: &str = "every path is served";

/// A process that is starting.
pub struct Process<'a> {
    world: &'a mut World,
    life: LifeId,
}

impl Process<'_> {
    /// Its machine.
    pub fn slot(&self) -> SlotId {
        self.world.lives[self.life].slot
    }

    /// The cluster's hash seed, of which routers are made.
    pub fn seed(&self) -> HashSeed {
        HashSeed(self.world.key.hash_seed())
    }

    /// Serves a path from now on.
    ///
    /// # Errors
    /// As [`Control::serve`](crate::control::Control::serve).
    pub fn serve(
        &mut self,
        path: Path,
        placement: &Placement,
        factory: RouteeFactory,
    ) -> Result<(), ServeError> {
        let served = self.world.control(self.life, |control, _, sink| {
            control.serve(path, placement, factory, sink).map(drop)
        });
        self.world.lives[self.life].set_up.0 += 1;
        served.expect("who is starting is there")
    }

    /// Makes a router, which stays until the process ends.
    ///
    /// # Errors
    /// When its options do not fit.
    pub fn route(&mut self, spec: RouterSpec) -> Result<RouterRef, SpecError> {
        let seed = self.seed();
        let made = self.world.control(self.life, |control, _, sink| control.route(spec, sink));
        let id = made.expect("who is starting is there")?;
        let routers = &mut self.world.lives[self.life].set_up.1;
        *routers = (*routers).max(id as usize + 1);
        let me = self.world.lives[self.life].me;
        Ok(RouterRef::new(me, id, seed))
    }
}

/// A sender outside of all routees: one router of one process.
struct Way {
    life: LifeId,
    spec: RouterSpec,
    router: RouterRef,
    choice: Choice,
}

/// What a sender decides by.
pub struct Hands<'a> {
    /// The way into its worker.
    pub sender: Sender<'a>,
    /// Its router's table.
    pub state: &'a RouterState,
    /// Its router.
    pub router: &'a RouterRef,
    /// The strategy's state.
    pub choice: &'a mut Choice,
    /// The process's clock.
    pub now: Time,
}

/// How long a process may take to make a router's table.
const TABLE_WITHIN: Duration = Duration::from_secs(5);

/// The world with what its outside holds.
pub struct Stage {
    world: World,
    ways: Vec<Way>,
    cuts: BTreeMap<(SlotId, SlotId), u64>,
}

impl Stage {
    /// A stage on which no process runs yet. `set_up` is what each does when it starts.
    pub fn new(
        seed: u64,
        nodes: u16,
        workers: u16,
        set_up: impl Fn(&mut Process<'_>) + 'static,
    ) -> Self {
        let scenario = Scenario { seed, nodes, workers, seconds: 0, ..Scenario::default() };
        let mut world = World::empty(scenario, Plan::quiet);
        world.ledger.lock().follows = false;
        world.application = Some(Arc::new(move |world, life| set_up(&mut Process { world, life })));
        Self { world, ways: Vec::new(), cuts: BTreeMap::new() }
    }

    /// Who the processes on a machine are.
    pub fn node_id(slot: SlotId) -> NodeId {
        NodeId::from_name(&Plan::name(slot))
    }

    /// The cluster's hash seed.
    pub fn seed(&self) -> u64 {
        self.world.key.hash_seed()
    }

    /// How long it has run.
    pub fn now(&self) -> Time {
        self.world.net.now
    }

    /// Fingerprint of all that happened.
    pub fn trace_hash(&self) -> u64 {
        self.world.net.trace.hash()
    }

    /// Lets the next thing happen, if one does by then; else it is then, and nothing happened.
    ///
    /// # Errors
    /// When the nodes themselves did what must not be.
    pub fn step(&mut self, until: Time) -> Result<bool, Violation> {
        let happened = self.world.step(until);
        let ledger = self.world.ledger.lock();
        ledger.violation.clone().map_or(Ok(happened), Err)
    }

    fn life(&self, slot: SlotId) -> Option<LifeId> {
        self.world.slots[slot]
    }

    fn body(&self, slot: SlotId) -> Option<&Body> {
        self.world.lives[self.life(slot)?].body.as_deref()
    }

    // ---- processes ----

    /// Starts a process, if none runs there.
    pub fn start(&mut self, slot: SlotId) {
        self.world.start(slot);
    }

    /// Kills a process, as SIGKILL does. Whether one ran there.
    pub fn kill(&mut self, slot: SlotId) -> bool {
        let life = self.life(slot);
        if let Some(life) = life {
            self.world.kill(life, Fate::Killed);
            self.ways.retain(|way| way.life != life);
        }
        life.is_some()
    }

    /// Stops a process for a while, as SIGSTOP does, or until it is resumed. Whether one ran there.
    pub fn pause(&mut self, slot: SlotId) -> bool {
        let life = self.life(slot);
        if let Some(life) = life {
            self.world.pause(life, Time::NEVER);
        }
        life.is_some()
    }

    /// Lets a paused process go on.
    pub fn resume(&mut self, slot: SlotId) -> bool {
        let life = self.life(slot);
        if let Some(life) = life {
            self.world.resume(life);
        }
        life.is_some()
    }

    /// A process begins to leave. Whether one ran there.
    pub fn leave(&mut self, slot: SlotId) -> bool {
        let life = self.life(slot);
        if let Some(life) = life {
            self.world.begin_leave(life);
        }
        life.is_some()
    }

    /// A process is told that the one that last ran on another machine will not come back. Whether
    /// it knows that one as a member.
    pub fn down(&mut self, by: SlotId, slot: SlotId) -> bool {
        let last = self.world.lives.iter().rev().find(|life| life.slot == slot);
        let (Some(life), Some(last)) = (self.life(by), last) else { return false };
        let node = last.me.node;
        let told = self.world.control(life, |control, now, sink| control.down(now, node, sink));
        matches!(told, Some(Ok(())))
    }

    // ---- the network ----

    /// From now on nothing passes from one machine to another.
    pub fn cut(&mut self, from: SlotId, to: SlotId) {
        if !self.cuts.contains_key(&(from, to)) {
            self.world.next_partition += 1;
            let number = self.world.next_partition;
            self.cuts.insert((from, to), number);
            self.world.net.walls.stand(number, from, to);
        }
    }

    /// Ends all cuts.
    pub fn mend(&mut self) {
        self.cuts.clear();
        self.world.net.walls.fall_all();
    }

    /// From now on so many datagrams of a million are lost; connections are as they were.
    pub fn lose(&mut self, ppm: u32) {
        self.world.net.weather.loss_ppm = ppm;
    }

    // ---- what is seen ----

    /// Whether a process runs there: also one that is paused.
    pub fn is_running(&self, slot: SlotId) -> bool {
        self.body(slot).is_some()
    }

    /// Whether the process there is paused.
    pub fn is_paused(&self, slot: SlotId) -> bool {
        self.body(slot).is_some_and(|body| body.paused)
    }

    /// Whether every process knows all others with all that they serve, and all its routers route by
    /// that.
    pub fn is_set_up(&self) -> bool {
        let living = || self.world.slots.iter().flatten().map(|life| &self.world.lives[*life]);
        living().all(|life| {
            let Some(body) = &life.body else { return false };
            let snapshot = &body.snapshot;
            let known = |other: &Life| {
                let member = snapshot.view.member(other.me.node);
                member.is_some_and(|member| {
                    let serves = member.services.len() == other.set_up.0;
                    serves && member.state == MemberState::Up && member.node_ref() == other.me
                })
            };
            let roster = snapshot.view.roster_digest;
            let routes =
                |(_, state): (u32, &Arc<RouterState>)| state.table.roster_digest() == roster;
            living().all(known)
                && snapshot.routers().count() >= life.set_up.1
                && snapshot.routers().all(routes)
        })
    }

    /// What a process has published last.
    pub fn snapshot(&self, slot: SlotId) -> Option<&Arc<Snapshot>> {
        self.body(slot).map(|body| &body.snapshot)
    }

    /// What became of a process's messages.
    pub fn counts(&self, slot: SlotId) -> Option<Counts> {
        let body = self.body(slot)?;
        let mut total = Counts::default();
        for core in &body.workers {
            total += core.worker.counts();
            total.sent += core.ends.injector.handed_over() - core.worker.taken();
        }
        for (count, refused) in total.refused.iter_mut().zip(&body.refused) {
            let refused = refused.load(Ordering::Relaxed);
            *count += refused;
            total.sent += refused;
        }
        Some(total)
    }

    // ---- sending ----

    /// The router of a process that is as this one, made if it was not, with what its strategy
    /// remembers. Each is one sender, on the first worker.
    ///
    /// # Errors
    /// When its options do not fit. `None`: no process runs there.
    fn way(&mut self, slot: SlotId, spec: &RouterSpec) -> Result<Option<usize>, SpecError> {
        let Some(life) = self.life(slot) else { return Ok(None) };
        let known = self.ways.iter().position(|way| way.life == life && way.spec.is_same(spec));
        if let Some(known) = known {
            return Ok(Some(known));
        }
        let router = Process { world: &mut self.world, life }.route(spec.clone())?;
        let choice = Choice::new(spec, self.world.scenario.seed);
        self.ways.push(Way { life, spec: spec.clone(), router, choice });
        Ok(Some(self.ways.len() - 1))
    }

    /// Sees to it that a process has a router, and its table. Whether it has.
    ///
    /// # Errors
    /// When its options do not fit, or the nodes themselves did what must not be.
    pub fn open(&mut self, slot: SlotId, spec: &RouterSpec) -> Result<bool, OpenError> {
        let Some(way) = self.way(slot, spec)? else { return Ok(false) };
        let (id, until) = (self.ways[way].router.id(), self.now().plus(TABLE_WITHIN));
        while self.snapshot(slot).is_some_and(|snapshot| snapshot.router(id).is_none()) {
            if self.is_paused(slot) || !self.step(until)? {
                return Ok(false);
            }
        }
        Ok(self.is_running(slot))
    }

    /// Sends by a router that is open. `None`: no process runs there, or it has no table.
    pub fn send<T>(
        &mut self,
        slot: SlotId,
        spec: &RouterSpec,
        act: impl FnOnce(Hands<'_>) -> T,
    ) -> Option<T> {
        let life = self.life(slot)?;
        let way = self.ways.iter_mut().find(|way| way.life == life && way.spec.is_same(spec))?;
        let now = self.world.lives[life].local(self.world.net.now);
        let body = self.world.lives[life].body.as_deref()?;
        let Way { router, choice, .. } = way;
        let state = body.snapshot.router(router.id())?;
        let done = act(Hands { sender: body.sender(0), state, router, choice, now });
        self.world.nudge(life, 0);
        Some(done)
    }

    /// How many routees a process's router has that take messages now.
    pub fn routees(&self, slot: SlotId, spec: &RouterSpec) -> usize {
        let life = self.life(slot);
        let way = self.ways.iter().find(|way| Some(way.life) == life && way.spec.is_same(spec));
        let state = way.zip(self.snapshot(slot)).and_then(|(way, it)| it.router(way.router.id()));
        state.map_or(0, |state| state.active.count())
    }

    /// Ends the asks of a process whose time is over also where a worker is held: as the faces do.
    /// Whether that process still runs.
    pub fn expire(&self, life: LifeId) -> bool {
        let Some(body) = self.world.lives[life].body.as_deref() else { return false };
        let now = self.world.lives[life].local(self.world.net.now);
        let overdue = now.0.saturating_sub(ASKERS_GRACE.as_nanos() as u64);
        body.replies.expire(overdue, || Err(AskError::Timeout));
        true
    }

    /// Which life of its process runs on a machine.
    pub fn running(&self, slot: SlotId) -> Option<LifeId> {
        self.life(slot)
    }
}

/// Why a router could not be opened.
#[derive(thiserror::Error)]
pub enum OpenError {
    /// Its options do not fit.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The nodes themselves did what must not be.
    #[error("{}: {}", .0.invariant, .0.seen)]
    Violation(Violation),
}

debug_as_display!(OpenError);

impl From<Violation> for OpenError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl World {
    /// What a call of control came to, where nobody knows the truth about messages.
    pub(super) fn hear(&mut self, life: LifeId, seen: Seen) {
        match seen {
            Seen::Served(_, Err(why)) if !self.lives[life].leaving => {
                let node = self.lives[life].slot;
                let why = match why {
                    ServeFailure::FactoryPanicked => {
                        "what makes its routees, or their `started`, panicked".to_owned()
                    }
                    ServeFailure::Member(error) => error.to_string(),
                };
                self.blame(NOT_SERVED, format!("node {node} could not serve a path: {why}"));
            }
            Seen::Fault(_) => self.kill(life, Fate::Downed),
            Seen::Left(well) => self.left(life, well),
            Seen::Stopped(running) => self.stopped(life, running),
            _ => {}
        }
    }
}
