//! A cluster in a test: what is sent into it, what goes wrong in it, and what is seen of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize};

use super::router::Router;
use crate::ask::ASKERS_GRACE;
use crate::base::fate::{AskError, Counts, Refusal};
use crate::base::{MemberState, NodeId, Time, View};
use crate::hash::HashSeed;
use crate::queue::reply::Ticket;
use crate::route::RouterSpec;
use crate::sim::invariants::Violation;
use crate::sim::stage::{Hands, NOT_SERVED, OpenError, Stage};
use crate::wire::{Message, WireType};
use crate::worker::place::{Route, single};
use crate::worker::{AppReply, AskOptions, Target};

/// How often [`Cluster::run_until`] looks.
const LOOK: Duration = Duration::from_millis(1);

/// How long a router is waited for.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A simulated cluster. See the [module](self::super).
///
/// # Panics
/// Its methods take nodes by their number from 0 and panic when there is none of that number; those
/// that need one that runs, or runs on and is not paused, panic when it does not; and all that let
/// time pass do when an invariant of the simulator breaks. Each says the seed.
pub struct Cluster {
    stage: Stage,
    seed: u64,
    names: Vec<NodeId>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the cluster of this test ran with `.seed({})`, and had run for {:?}",
                self.seed,
                self.now()
            );
        }
    }
}

impl Cluster {
    pub(super) fn on(stage: Stage, seed: u64, nodes: u16) -> Self {
        let names = (0..usize::from(nodes)).map(Stage::node_id).collect();
        Self { stage, seed, names }
    }

    // ---- time ----

    /// For how long the cluster has run.
    pub fn now(&self) -> Duration {
        self.stage.now().since(Time::ZERO)
    }

    /// Lets so much time pass.
    #[track_caller]
    pub fn run_for(&mut self, time: Duration) {
        let until = self.stage.now().plus(time);
        while self.step(until) {}
    }

    /// Lets time pass until something is so, which is looked at every simulated millisecond, and at
    /// most so long. Whether it is.
    #[track_caller]
    pub fn run_until(&mut self, within: Duration, mut so: impl FnMut(&Self) -> bool) -> bool {
        let until = self.stage.now().plus(within);
        loop {
            if so(self) {
                return true;
            }
            if self.stage.now() >= until {
                return false;
            }
            let next = self.stage.now().plus(LOOK).min(until);
            while self.step(next) {}
        }
    }

    /// Lets time pass until every message that was sent has come to its end: nothing is in flight on
    /// any node that runs. At most so long; whether it is so.
    #[track_caller]
    pub fn run_until_quiet(&mut self, within: Duration) -> bool {
        self.run_until(within, |cluster| {
            let mut running = (0..cluster.names.len()).filter(|node| cluster.is_running(*node));
            running.all(|node| cluster.counts(node).in_flight() == 0)
        })
    }

    #[track_caller]
    fn step(&mut self, until: Time) -> bool {
        self.stage.step(until).unwrap_or_else(|violation| broken(&violation))
    }

    // ---- what goes wrong ----

    /// Starts a node that does not run, as a new process on the same machine.
    #[track_caller]
    pub fn start(&mut self, node: usize) {
        self.known(node);
        assert!(!self.is_running(node), "node {node} runs already");
        self.stage.start(node);
    }

    /// Kills a node, as SIGKILL does: it says goodbye to nobody, but the system closes its
    /// connections. For a loss of power, cut it off first. What was asked on it and is still open ends
    /// as [`AskError::LinkLost`], as nobody knows whether it was handled.
    #[track_caller]
    pub fn crash(&mut self, node: usize) {
        self.running(node);
        self.stage.kill(node);
    }

    /// Stops a node in its tracks, as SIGSTOP does, until [`Cluster::resume`].
    #[track_caller]
    pub fn pause(&mut self, node: usize) {
        self.running(node);
        self.stage.pause(node);
    }

    /// Lets a paused node go on.
    #[track_caller]
    pub fn resume(&mut self, node: usize) {
        self.known(node);
        self.stage.resume(node);
    }

    /// A node begins to leave, as by [`Node::leave`](crate::Node::leave); time has to pass until it
    /// has.
    #[track_caller]
    pub fn leave(&mut self, node: usize) {
        self.acting(node, "leave");
        self.stage.leave(node);
    }

    /// One node is told that another one will not come back, as by [`Node::down`](crate::Node::down).
    /// Whether it removes it: not if that one is no member, or is the node itself.
    #[track_caller]
    pub fn down(&mut self, by: usize, node: usize) -> bool {
        self.acting(by, "remove a member");
        self.known(node);
        self.stage.down(by, node)
    }

    /// From now on nothing passes between the nodes on the one side and those on the other, until
    /// [`Cluster::heal`]. Others reach both.
    #[track_caller]
    pub fn cut(&mut self, one: &[usize], other: &[usize]) {
        for from in one {
            for to in other {
                self.cut_one_way(*from, *to);
                self.cut_one_way(*to, *from);
            }
        }
    }

    /// From now on nothing passes from one node to another; what that one says still arrives.
    #[track_caller]
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.known(from);
        self.known(to);
        self.stage.cut(from, to);
    }

    /// From now on so many of a hundred datagrams are lost, by which nodes know of each other.
    /// Connections, by which messages travel, are as they were.
    pub fn lose_datagrams(&mut self, percent: u32) {
        self.stage.lose(percent.min(100) * 10_000);
    }

    /// Ends all cuts and losses. Nodes that were killed or paused stay so.
    pub fn heal(&mut self) {
        self.stage.mend();
        self.stage.lose(0);
    }

    // ---- what is seen ----

    /// Whether a node runs: also one that is paused.
    #[track_caller]
    pub fn is_running(&self, node: usize) -> bool {
        self.known(node);
        self.stage.is_running(node)
    }

    pub(super) fn is_set_up(&self) -> bool {
        self.stage.is_set_up()
    }

    /// What a node holds to be true about its cluster.
    #[track_caller]
    pub fn view(&self, node: usize) -> Arc<View> {
        self.running(node);
        Arc::clone(&self.stage.snapshot(node).expect("it runs").view)
    }

    /// The nodes that a node sees as members which answer, itself included, in order.
    #[track_caller]
    pub fn reachable(&self, node: usize) -> Vec<usize> {
        let view = self.view(node);
        let here = |id: &NodeId| {
            let member = view.member(*id);
            member.is_some_and(|member| member.reachable && member.state == MemberState::Up)
        };
        (0..self.names.len()).filter(|node| here(&self.names[*node])).collect()
    }

    /// What became of the messages that a node sent, as [`Node::counts`](crate::Node::counts).
    #[track_caller]
    pub fn counts(&self, node: usize) -> Counts {
        self.running(node);
        self.stage.counts(node).expect("it runs")
    }

    /// How many routees a node's router has that take messages now. The first use of a router on a
    /// node takes the moment that its table takes.
    #[track_caller]
    pub fn routees(&mut self, from: usize, router: &Router) -> usize {
        let spec = self.open(from, router);
        self.stage.routees(from, &spec)
    }

    /// Lets time pass until a node's router has so many routees, at most a minute.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    pub fn run_until_ready(&mut self, from: usize, router: &Router, routees: usize) {
        let spec = self.open(from, router);
        let ready = self.run_until(READY_WITHIN, |it| it.stage.routees(from, &spec) >= routees);
        let has = self.stage.routees(from, &spec);
        assert!(
            ready,
            "the router of node {from} to {} has {has} routees after {READY_WITHIN:?}, {routees} \
             were waited for: is the path served, and are the nodes members?",
            spec.path
        );
    }

    /// Fingerprint of all that has happened: equal for equal seeds and equal orders.
    pub fn fingerprint(&self) -> u64 {
        self.stage.trace_hash()
    }

    // ---- sending ----

    /// Sends a message from outside of all routees, as [`Router::tell`](crate::Router::tell) does on
    /// that node. The first use of a router on a node takes the moment that its table takes.
    ///
    /// # Errors
    /// Why it was not accepted.
    #[track_caller]
    pub fn tell<M: Message>(
        &mut self,
        from: usize,
        router: &Router,
        message: &M,
    ) -> Result<(), Refusal> {
        let spec = self.open(from, router);
        let told = self.stage.send(from, &spec, |mut hands| {
            let route = route(&mut hands, message);
            hands.sender.tell_route(hands.state, route, message)
        });
        told.unwrap_or(Err(Refusal::Stopped))
    }

    /// Asks from outside of all routees, as [`Router::ask`](crate::Router::ask) does on that node, and
    /// lets time pass until the ask has ended.
    ///
    /// # Errors
    /// Why there is no reply.
    #[track_caller]
    pub fn ask<M: Message>(
        &mut self,
        from: usize,
        router: &Router,
        message: &M,
    ) -> Result<M::Reply, AskError>
    where
        <M::Reply as Archive>::Archived: Deserialize<M::Reply, HighDeserializer<Failure>>,
    {
        self.begin_ask(from, router, message, AskOptions::default()).end(self)
    }

    /// Asks with other options, and does not wait for the outcome. No time passes, but for the first
    /// use of a router on a node, as in [`Cluster::tell`].
    #[track_caller]
    pub fn begin_ask<M: Message>(
        &mut self,
        from: usize,
        router: &Router,
        message: &M,
        options: AskOptions,
    ) -> Asked<M::Reply> {
        let spec = self.open(from, router);
        let sent = self.stage.send(from, &spec, |mut hands| {
            let route = route(&mut hands, message);
            let key_hash = hands.router.key_hash(message);
            let again = Target::Router { router: hands.router.id(), message: M::TYPE, key_hash };
            hands.sender.ask(route.and_then(single), again, message, options, hands.now)
        });
        let until = self.stage.now().plus(options.within.saturating_add(2 * ASKERS_GRACE));
        let life = self.stage.running(from).unwrap_or(usize::MAX);
        let state = match sent.unwrap_or(Err(Refusal::Stopped)) {
            Ok(ticket) => State::Open(ticket),
            Err(refusal) => State::Over(Err(refusal.into())),
        };
        Asked { state, life, until }
    }

    /// Sees to it that a node has this router.
    #[track_caller]
    fn open(&mut self, from: usize, router: &Router) -> RouterSpec {
        self.acting(from, "send");
        let spec = router.spec(HashSeed(self.stage.seed()));
        match self.stage.open(from, &spec) {
            Ok(true) => spec,
            // It ended meanwhile, and refuses what is sent on it.
            Ok(false) if !self.is_running(from) => spec,
            Ok(false) => panic!("node {from} has made no table for the router to {}", spec.path),
            Err(OpenError::Spec(error)) => panic!("cannot make a router: {error}"),
            Err(OpenError::Violation(violation)) => broken(&violation),
        }
    }

    #[track_caller]
    fn known(&self, node: usize) {
        let last = self.names.len() - 1;
        assert!(node <= last, "there is no node {node}: they are 0 to {last}");
    }

    #[track_caller]
    fn running(&self, node: usize) {
        assert!(self.is_running(node), "node {node} does not run");
    }

    /// It must run, and not be paused.
    #[track_caller]
    fn acting(&self, node: usize, what: &str) {
        self.running(node);
        assert!(!self.stage.is_paused(node), "node {node} is paused: it cannot {what}");
    }
}

/// The run cannot go on.
#[track_caller]
fn broken(violation: &Violation) -> ! {
    let Violation { invariant, seen } = violation;
    if *invariant == NOT_SERVED {
        panic!("{seen}");
    }
    panic!(
        "the simulated nodes did what no node may, which is a fault of theirs and not of this test: \
         {invariant}: {seen}"
    )
}

fn route<M: Message>(hands: &mut Hands<'_>, message: &M) -> Result<Route, Refusal> {
    let Hands { sender, state, router, choice, .. } = hands;
    choice.look(sender, state);
    let route = choice.route(state, M::TYPE, router.key_hash(message));
    route.map_err(|refusal| sender.explain(refusal))
}

/// An ask that is under way: see [`Cluster::begin_ask`].
pub struct Asked<R> {
    state: State<R>,
    life: usize,
    until: Time,
}

enum State<R> {
    Open(Ticket<AppReply>),
    Over(Result<R, AskError>),
}

impl<R: WireType> Asked<R>
where
    R::Archived: Deserialize<R, HighDeserializer<Failure>>,
{
    /// Looks whether it has ended, and how; no time passes. It may be looked at again.
    pub fn look(&mut self, cluster: &Cluster) -> Option<&Result<R, AskError>> {
        if let State::Open(ticket) = &mut self.state {
            let runs = cluster.stage.expire(self.life);
            let outcome = match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(reply) => reply.and_then(|reply| {
                    R::owned(reply.into_chunk().bytes()).ok_or(AskError::InvalidReply)
                }),
                Poll::Pending if runs => return None,
                // Whoever asked is gone, and whatever it sent may have been handled.
                Poll::Pending => Err(AskError::LinkLost),
            };
            self.state = State::Over(outcome);
        }
        match &self.state {
            State::Open(_) => None,
            State::Over(outcome) => Some(outcome),
        }
    }

    /// Lets time pass until it has ended, which it does a moment after its deadline at the latest.
    ///
    /// # Errors
    /// Why there is no reply.
    #[track_caller]
    pub fn end(mut self, cluster: &mut Cluster) -> Result<R, AskError> {
        while self.look(cluster).is_none() {
            let happened = cluster.step(self.until);
            assert!(happened || cluster.stage.now() < self.until, "an ask outlives its deadline");
        }
        match self.state {
            State::Over(outcome) => outcome,
            State::Open(_) => unreachable!("it has just been looked at"),
        }
    }
}
