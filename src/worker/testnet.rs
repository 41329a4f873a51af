//! What the worker's tests stand on: handlers that note what they see, and workers that are joined
//! by hand, byte for byte.

mod handlers;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rkyv::util::AlignedVec;

pub(super) use handlers::*;

use super::core::Context;
use super::outbox::Outbox;
use super::*;
use crate::Message;
use crate::base::fate::Refusal;
use crate::base::{
    Incarnation, InstanceId, Member, MemberState, MessageType, NodeId, Placed, RouteeId, Service,
    View,
};
use crate::hash::HashSeed;
use crate::queue::inject::{Injected, Room, injector};
use crate::queue::wake::sleeper;
use crate::route::snapshot::{Destination, Destinations, RouterState};
use crate::route::snapshot::{Reach, Snapshot};
use crate::route::{RouteTable, RouterSpec, StrategyKind};
use crate::wire::{CHUNK_BYTES, FrameKind, WireError};

pub(super) const SEED: HashSeed = HashSeed(7);
pub(super) const CALLER: HandlerId = HandlerId(0);
pub(super) const ECHO: HandlerId = HandlerId(1);
pub(super) const ROUND_ROBIN: RouterRef = RouterRef::new(node(0), 0, SEED);
pub(super) const KEYED: RouterRef = RouterRef::new(node(0), 1, SEED);
pub(super) const BROADCAST: RouterRef = RouterRef::new(node(0), 2, SEED);
pub(super) const WITHIN: Duration = Duration::from_millis(500);

pub(super) const LIMITS: Limits = Limits {
    max_frame_bytes: 4096,
    outbox_bytes: 16 * 1024,
    max_work: 16,
    outboxes_bytes: 16 << 20,
    max_accepted: 64,
    retry_bytes: 1 << 20,
    max_asks: 8,
    ack_interval_ms: 20,
    redial_min_ms: 100,
    redial_max_ms: 400,
};

/// [`Request`] in a form that can be compared.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    Dial(u32),
    Close,
    Suspect(usize),
    Vanished(usize),
    Reached(usize),
    NoPlace(usize),
    InVain(usize),
    Overtaken(Lower),
    Served(u32),
    ServeFailed(u32),
    Withdrawn(u32),
    Dead(DeathReason, u64, Option<usize>),
    /// A part said something to its half in control.
    Part,
}

pub(super) struct Side {
    pub(super) worker: Worker,
    pub(super) injected: Injected<Injection>,
    pub(super) replies: ReplySlots<AppReply>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) seen: Shared,
}

pub(super) struct Wire {
    pub(super) dialer: usize,
    pub(super) dialed: LinkId,
    pub(super) acceptor: usize,
    pub(super) accepted: LinkId,
    pub(super) there: Vec<u8>,
    pub(super) back: Vec<u8>,
}

pub(super) struct Net {
    pub(super) sides: Vec<Side>,
    pub(super) wires: Vec<Wire>,
    pub(super) now: Time,
    pub(super) epoch: u64,
    pub(super) random: u64,
    pub(super) reach: Vec<Reach>,
    /// Members that were leaving, and do not answer any more.
    pub(super) silent: Vec<usize>,
    pub(super) version: u64,
    /// Lives that snapshots say are over.
    pub(super) ended: Vec<NodeRef>,
    /// Routers that they say are over.
    pub(super) ended_routers: Vec<u32>,
    /// What was told of panics.
    pub(super) panics: Vec<Panicked>,
}

/// As every worker names the only one of a node.
pub(super) fn destination(index: usize) -> DestinationId {
    DestinationId::new(index, NonZeroU32::MIN.saturating_add(index as u32))
}

pub(super) const fn node(index: usize) -> NodeRef {
    NodeRef { node: NodeId(index as u64 + 1), incarnation: Incarnation(10) }
}

pub(super) fn member(index: usize) -> Member {
    let service = Service {
        path: "/echo".parse().unwrap(),
        handler: ECHO,
        placed: Placed::EVERY,
        messages: vec![MessageType::new(Ping::NAME, Ping::LAYOUT)],
    };
    Member {
        name: format!("node {index}").into(),
        services: vec![service],
        ..Member::plain(node(index), ([127, 0, 0, 1], 1000 + index as u16).into())
    }
}

impl Worker {
    pub(super) fn is_drained(&mut self) -> bool {
        self.undrained().is_none()
    }

    /// Runs all that is due.
    pub(super) fn run(&mut self) {
        self.gather();
        while self.run_one() {}
    }
}

impl Net {
    pub(super) fn new(size: usize) -> Self {
        Self::with_limits(size, LIMITS)
    }

    pub(super) fn with_limits(size: usize, limits: Limits) -> Self {
        let sides = (0..size).map(|index| Side::new(index, limits)).collect();
        let mut net = Self {
            sides,
            wires: Vec::new(),
            now: Time::ZERO,
            epoch: 0,
            random: 1,
            reach: vec![Reach::Usable; size],
            version: 0,
            silent: Vec::new(),
            ended: Vec::new(),
            ended_routers: Vec::new(),
            panics: Vec::new(),
        };
        for side in 0..size {
            net.apply(side);
            assert_eq!(net.effects(side), [Effect::Served(0), Effect::Served(1)]);
        }
        net
    }

    /// Gives a worker a snapshot of the present reach.
    pub(super) fn apply(&mut self, side: usize) {
        self.apply_with(side, (0..self.sides.len()).map(|index| (index, destination(index))));
    }

    /// The same with only these nodes, and other names for their workers.
    pub(super) fn apply_with(
        &mut self,
        side: usize,
        names: impl IntoIterator<Item = (usize, DestinationId)>,
    ) {
        self.version += 1;
        let size = self.sides.len();
        let usable = |index: &usize| self.reach[*index] == Reach::Usable;
        let silent = self.silent.iter().map(|index| Member {
            state: MemberState::Leaving,
            reachable: false,
            ..member(*index)
        });
        let members = (0..size).filter(usable).map(member).chain(silent).collect();
        let view = Arc::new(View::new(node(side), self.version, members));
        let mut slots = vec![None; size];
        let mut newest = destination(size - 1).serial();
        for (index, id) in names {
            newest = newest.max(id.serial());
            slots[id.slot()] = Some(Destination {
                id,
                node: node(index),
                worker: WorkerIndex(0),
                address: member(index).address,
                reach: self.reach[index],
                routed: self.reach[index] == Reach::Usable,
                damped: false,
            })
            .filter(|destination| destination.reach != Reach::Gone);
        }
        let destinations = Destinations::new(slots, newest);
        let kinds =
            [StrategyKind::RoundRobin, StrategyKind::ConsistentHash, StrategyKind::Broadcast];
        let routers = kinds
            .into_iter()
            .map(|kind| {
                let mut spec = RouterSpec::new("/echo".parse().unwrap(), kind, SEED);
                spec.slot_bits = 10;
                let table = RouteTable::build(&view, &spec, None);
                let places = table.routees().iter().map(|routee| routee.node.node.0 as usize - 1);
                let places = places.map(destination).collect();
                let (spec, table) = (Arc::new(spec), Arc::new(table));
                Arc::new(RouterState::new(spec, table, places, &destinations))
            })
            .enumerate();
        let is_there = |id: &u32| !self.ended_routers.contains(id);
        let routers = routers.map(|(id, state)| Some((id as u32, state)));
        let routers = routers.map(|one| one.filter(|(id, _)| is_there(id))).collect();
        let ended = (0..3).map(|id| self.ended_routers.contains(&id).then_some(id)).collect();
        let snapshot = Snapshot::new(self.version, view, destinations, routers);
        let snapshot = snapshot.with_ended_routers(ended);
        let snapshot = snapshot.with_ended(self.ended.as_slice().into());
        self.sides[side].worker.apply(Arc::new(snapshot));
        self.read_out(side);
    }

    /// Does as a driver in whose sockets nothing lies that was not handled.
    fn read_out(&mut self, side: usize) {
        let requests: Vec<Request> = self.sides[side].worker.requests().collect();
        for request in requests {
            let worker = &mut self.sides[side].worker;
            match request {
                Request::ReadOut(id) => {
                    worker.link_lost(id);
                    worker.core.requests.push(Request::Close(id));
                }
                request => worker.core.requests.push(request),
            }
        }
    }

    /// What a worker wants of its driver.
    pub(super) fn effects(&mut self, side: usize) -> Vec<Effect> {
        let index = |node: NodeRef| node.node.0 as usize - 1;
        let panics = &mut self.panics;
        let effect = |request| match request {
            Request::Panicked(panicked) => {
                panics.push(panicked);
                None
            }
            request => Some(request),
        };
        let requests = self.sides[side].worker.requests().filter_map(effect);
        let effect = |request| match request {
            Request::Dial { destination, .. } => Effect::Dial(destination.slot() as u32),
            Request::Close(_) => Effect::Close,
            Request::ReadOut(_) => unreachable!("it was done at once"),
            Request::Suspect(peer) => Effect::Suspect(index(peer)),
            Request::Vanished(peer, _) => Effect::Vanished(index(peer)),
            Request::NoPlace(peer, _) => Effect::NoPlace(index(peer)),
            Request::InVain(peer) => Effect::InVain(index(peer)),
            Request::Overtaken(_, _, lower) => Effect::Overtaken(lower),
            Request::Reached(peer) => Effect::Reached(index(peer)),
            Request::Part(_) => Effect::Part,
            Request::Panicked(_) => unreachable!("they are kept apart"),
            Request::Served(handler) => Effect::Served(handler.0),
            Request::ServeFailed(handler) => Effect::ServeFailed(handler.0),
            Request::Withdrawn(handler) => Effect::Withdrawn(handler.0),
            Request::DeadLetters(Dead { reason, count, peer, .. }) => {
                Effect::Dead(reason, count, peer.map(index))
            }
        };
        requests.map(effect).collect()
    }

    /// Does as a driver whose dial of `to` has succeeded.
    pub(super) fn open(&mut self, from: usize, to: usize) {
        self.open_taking(from, to, None);
    }

    /// The same, with a peer that takes no longer frames than it says.
    pub(super) fn open_taking(&mut self, from: usize, to: usize, takes: Option<NonZeroU32>) {
        self.epoch += 1;
        let dialed =
            self.sides[from].worker.link_opened(destination(to), takes).expect("it was asked for");
        let accepted = self.sides[to].worker.accept(node(from), WorkerIndex(0), self.epoch);
        let accepted = accepted.expect("it is the newest");
        let (there, back) = Default::default();
        self.wires.push(Wire { dialer: from, dialed, acceptor: to, accepted, there, back });
        let mut effects = self.effects(from);
        effects.retain(|effect| !matches!(effect, Effect::Dead(..)));
        assert_eq!(effects, [Effect::Reached(to)]);
    }

    /// Two sides with a link from the first to the second.
    pub(super) fn joined(size: usize) -> Self {
        Self::joined_with_limits(size, LIMITS)
    }

    pub(super) fn joined_with_limits(size: usize, limits: Limits) -> Self {
        let mut net = Self::with_limits(size, limits);
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1_000))).unwrap();
        assert_eq!(net.effects(0), [Effect::Dial(1)]);
        net.open(0, 1);
        net.settle();
        assert_eq!(net.counts(0).delivered, 1);
        net.seen(1, |seen| seen.keys.clear());
        net
    }

    pub(super) fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random as usize % below
    }

    /// Moves what waits in an outbox onto its wire, as far as a socket takes it at once.
    pub(super) fn write(&mut self, side: usize, id: LinkId, most: usize) {
        let Some(link) = self.sides[side].worker.link(id) else { return };
        let mut bytes: Vec<u8> = link.outbox().slices().flatten().copied().collect();
        bytes.truncate(most);
        let wire = self.wires.iter_mut().find_map(|wire| match () {
            () if (wire.dialer, wire.dialed) == (side, id) => Some(&mut wire.there),
            () if (wire.acceptor, wire.accepted) == (side, id) => Some(&mut wire.back),
            () => None,
        });
        let Some(wire) = wire else { return };
        wire.extend_from_slice(&bytes);
        self.sides[side].worker.written(id, bytes.len());
        self.sides[side].worker.blocked(id);
    }

    /// Hands a worker the first bytes of what is on its wire; what it leaves stays there.
    pub(super) fn read(&mut self, wire: usize, back: bool, most: usize) -> Result<(), WireError> {
        let wire = &mut self.wires[wire];
        let (bytes, side, id) = match back {
            false => (&mut wire.there, wire.acceptor, wire.accepted),
            true => (&mut wire.back, wire.dialer, wire.dialed),
        };
        let mut aligned = AlignedVec::<64>::new();
        aligned.extend_from_slice(&bytes[..most.min(bytes.len())]);
        let received = self.sides[side].worker.receive(id, &aligned, u32::MAX)?;
        assert!(received.consumed <= aligned.len());
        assert!(received.need > aligned.len() - received.consumed);
        bytes.drain(..received.consumed);
        Ok(())
    }

    /// One duty cycle of every worker, with sockets that take and give random pieces.
    pub(super) fn turn(&mut self) -> bool {
        let mut moved = false;
        for side in 0..self.sides.len() {
            self.sides[side].worker.begin(self.now);
            while let Some(item) = self.sides[side].injected.pop() {
                self.sides[side].worker.inject(item);
                moved = true;
            }
            let core = &self.sides[side].worker.core;
            moved |= !core.soon.is_empty() || !core.notices.is_empty();
            moved |= !core.links[core.own].outbox.is_empty();
            self.sides[side].run();
            while let Some(id) = self.sides[side].worker.take_dirty() {
                let most = 1 + self.random(3_000);
                self.write(side, id, most);
                let waits = |link: &Link| {
                    !link.outbox().is_empty()
                        && link.role != Role::Own
                        && matches!(link.state(), LinkState::Open | LinkState::Finished)
                };
                if self.sides[side].worker.link(id).is_some_and(waits) {
                    // As a socket does that takes more later.
                    self.sides[side].worker.touch(id);
                    moved = true;
                    break;
                }
            }
            self.check(side);
        }
        for wire in 0..self.wires.len() {
            for back in [false, true] {
                let waiting = match back {
                    false => self.wires[wire].there.len(),
                    true => self.wires[wire].back.len(),
                };
                if waiting > 0 {
                    // At first pieces, at the end all: a frame may be larger than any piece.
                    let most = if self.random(3) == 0 { waiting } else { 1 + self.random(waiting) };
                    self.read(wire, back, most).unwrap();
                    moved = true;
                }
            }
        }
        for side in 0..self.sides.len() {
            self.check(side);
        }
        moved
    }

    /// Until nothing moves any more, acknowledgements included.
    pub(super) fn settle(&mut self) {
        for pause_ms in [0, LIMITS.ack_interval_ms + 1, LIMITS.ack_interval_ms + 1] {
            self.pass(pause_ms);
            let mut turns = 0;
            while self.turn() {
                turns += 1;
                assert!(turns < 10_000, "the workers never come to rest");
            }
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
        for side in &mut self.sides {
            side.worker.begin(self.now);
            side.run();
        }
    }

    /// The connection breaks; what is on its way is gone.
    pub(super) fn cut(&mut self, wire: usize) {
        let wire = self.wires.remove(wire);
        self.sides[wire.dialer].worker.link_lost(wire.dialed);
        self.sides[wire.acceptor].worker.link_lost(wire.accepted);
        self.check(wire.dialer);
        self.check(wire.acceptor);
    }

    /// Runs something as a handler of the caller's would.
    pub(super) fn cx<T>(&mut self, side: usize, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.cx_of(side, CALLER, run)
    }

    /// Runs something as this handler's routee would.
    pub(super) fn cx_of<T>(
        &mut self,
        side: usize,
        handler: HandlerId,
        run: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let Worker { core, routees, .. } = &mut self.sides[side].worker;
        let instance = routees[handler.slot()].as_ref().expect("it runs").id;
        let outcome = run(&mut Context { core, instance, origin: None });
        self.check(side);
        outcome
    }

    pub(super) fn ask(
        &mut self,
        side: usize,
        router: RouterRef,
        message: &Ping,
        token: u64,
    ) -> Result<(), Refusal> {
        self.cx(side, |cx| cx.ask::<Caller, _>(router, message, WITHIN, token))
    }

    pub(super) fn counts(&self, side: usize) -> Counts {
        self.sides[side].worker.counts()
    }

    pub(super) fn seen<T>(&self, side: usize, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.sides[side].seen.lock().unwrap())
    }

    pub(super) fn outcomes(&self, side: usize) -> Vec<(u64, Result<u64, AskError>)> {
        self.seen(side, |seen| std::mem::take(&mut seen.outcomes))
    }

    /// `sent` = all ends + what waits or is on its way, exactly.
    pub(super) fn check(&self, side: usize) {
        for purse in self.sides[side].worker.usage().purses {
            assert_eq!(purse.taken, purse.held, "what outboxes hold is what was taken for them");
        }
        let worker = &self.sides[side].worker;
        let under_way: u64 = worker
            .core
            .links
            .iter()
            .map(|(_, link)| match link.role {
                Role::Dialed { .. } => link.sent.requests - link.sent.acknowledged(),
                Role::Own => requests_in(&link.outbox),
                _ => 0,
            })
            .sum();
        let waits = worker.core.notices.len() as u64 + worker.held.messages();
        // Asks that were handed over and rest until one of their attempts has a link.
        let waits = waits + worker.core.handed_over.len() as u64;
        let under_way = under_way + waits;
        let counts = worker.counts();
        let ended =
            counts.delivered + counts.refused_total() + counts.dead_total() + counts.unknown;
        assert_eq!(counts.sent, ended + under_way, "{counts:?}");
        let open = worker.core.asks.len() + worker.core.failed_asks.len();
        assert_eq!(counts.asks, counts.replies + counts.failed_asks + open as u64, "{counts:?}");
    }
}

pub(super) fn requests_in(outbox: &Outbox) -> u64 {
    let mut bytes = AlignedVec::<64>::new();
    for slice in outbox.slices() {
        bytes.extend_from_slice(slice);
    }
    let (mut at, mut requests) = (0, 0);
    while let Ok(crate::wire::Deframed::Frame(frame, full)) =
        crate::wire::deframe(&bytes[at..], u32::MAX)
    {
        at += full;
        requests += u64::from(matches!(frame.header.kind, FrameKind::Tell | FrameKind::Ask));
    }
    assert_eq!(at, bytes.len());
    requests
}

pub(super) fn reference(index: usize) -> RouteeRef {
    RouteeRef {
        id: RouteeId {
            node: node(index),
            worker: WorkerIndex(0),
            instance: InstanceId::running(ECHO),
        },
        path: "/echo".parse().unwrap(),
    }
}

impl Side {
    pub(super) fn new(index: usize, limits: Limits) -> Self {
        let (_, waker) = sleeper(|| ());
        let (injector, injected) = injector(Room { items: 64, bytes: 64 * CHUNK_BYTES }, waker);
        let buffers = Arc::new(Buffers::new(64, 64, limits.max_frame_bytes as usize, 1 << 20));
        let replies = ReplySlots::new(16);
        let parts = WorkerParts {
            me: node(index),
            index: WorkerIndex(0),
            workers: 1,
            buffers: Arc::clone(&buffers),
            replies: replies.clone(),
            injector,
            settings: crate::part::PartSettings::default(),
            seed: 5,
        };
        let mut worker = Worker::new(parts, limits, Time::ZERO);
        let seen = Shared::default();
        let (caller, echo) = (Arc::clone(&seen), Arc::clone(&seen));
        worker.serve(CALLER, RouteeFactory::new(move |_| Caller(Arc::clone(&caller))));
        worker.serve(ECHO, RouteeFactory::new(move |_| Echo::new(&echo)).at("/echo"));
        Self { worker, injected, replies, buffers, seen }
    }

    /// All that a duty cycle runs.
    pub(super) fn run(&mut self) {
        self.worker.admit_held();
        self.worker.run();
        for _ in 0..self.worker.own_chunks() {
            self.worker.own_chunk(u32::MAX);
        }
    }

    /// A tell as an application thread encodes it.
    pub(super) fn encoded(&self, kind: FrameKind, message: &Ping) -> Chunk {
        let place = Place { destination: destination(0), handler: ECHO };
        let head = match kind {
            FrameKind::Ask => send::ask_head::<Ping>(place, 0, WITHIN),
            _ => send::tell_head::<Ping>(place),
        };
        encode_single(&self.buffers, &head, message).unwrap()
    }

    /// An ask as an application thread hands it over.
    pub(super) fn inject_ask(
        &mut self,
        to: usize,
        message: &Ping,
        deadline: Time,
        idempotent: bool,
    ) -> crate::queue::reply::Ticket<AppReply> {
        let ticket = self.replies.acquire().unwrap();
        let frame = self.encoded(FrameKind::Ask, message);
        let place = Place { destination: destination(to), handler: ECHO };
        let again =
            Target::Router { router: ROUND_ROBIN.id(), message: Ping::TYPE, key_hash: None };
        self.worker.inject(Injection::Ask(InjectedAsk {
            first: place,
            frame,
            slot: ticket.slot(),
            generation: ticket.generation(),
            deadline,
            plan: idempotent.then(|| Box::new(send::retry(place, again))),
        }));
        ticket
    }
}

pub(super) fn number(reply: AppReply) -> Result<u64, AskError> {
    reply.map(|it| u64::from_le_bytes(it.into_chunk().bytes().try_into().unwrap()))
}
