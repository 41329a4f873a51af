//! Who is here: the decider that keeps the list of members and says who answers.
//!
//! Two replicated things lie under a [`View`]. The *directory* holds one record
//! per node, written by that node, spread by push, and compared between random pairs until equal.
//! The *failure detector* (SWIM) says who answers. A member that does not answer is unreachable,
//! and remains a member: it is removed only when it leaves, when a later life of it appears, when
//! an operator removes it, or when the [`PartitionPolicy`] does.
//!
//! ```text
//!  config, error, policy     what users set, and what they are told
//!  codec, messages           bytes on the wire, read once
//!  identity, belief, outlet, reachability
//!                            the failure detector behind a boundary of ours
//!  roll_call                 how it finds out that many are gone at once
//!  health                    how far this node trusts its own doubts
//!  hearers                   who hears this node, whatever others say
//!  refuted                   which verdicts count for nothing
//!  renewals                  how often this node refutes its own death
//!  verdicts                  whom it has given up, told to all
//!  fitness                   who gets no keys because it falls silent again and again
//!  records                   the directory and its merge rules
//!  receive, answers          what a datagram does, and how often
//!  farewell                  how a member leaves, and that somebody knows
//!  tombstones                what is kept of who is gone, and for how long
//!  hello                     which incarnation a node starts with
//!  door                      who is let in
//!  seeds, join               where members are looked for, and how they meet
//!  sync, passing             how they stay equal
//!  settle, events            what follows from an input, and what of it is shown
//! ```

mod answers;
mod belief;
mod door;
mod error;
mod events;
mod farewell;
mod fitness;
mod health;
mod hearers;
mod hello;
mod identity;
mod join;
mod messages;
mod outlet;
mod passing;
mod policy;
mod reachability;
mod receive;
mod records;
mod refusals;
mod refuted;
mod renewals;
mod roll_call;
mod seeds;
mod settle;
mod start;
mod sync;
mod timer;
mod tombstones;
mod verdicts;

#[cfg(test)]
mod testnet;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};

use crate::base::pace::Pace;
use crate::base::{Member, MemberEvent, MemberState, NodeId, NodeRef, Rng, Service, Time, View};
use crate::config::MembershipConfig;
use crate::wire::codec::Unreadable;

pub use error::{MemberError, MemberFault};
pub use hello::Hello;
pub use messages::MAX_DATAGRAM_BYTES;
pub use policy::{Manual, PartitionPolicy, RemoveAfter, configured as configured_policy};
pub use records::{MAX_RECORD_BYTES, MAX_RECORDS};
pub use refusals::Refused;
use start::usable;
pub use start::{LocalMember, MemberConfig, MemberConfigError};
pub use timer::MemberTimer;

use answers::Answers;
use belief::Belief;
use door::Door;
use farewell::Farewell;
use fitness::Fitness;
use identity::{KIND_SWIM, SwimId};
use messages::{Message, Sender};
use passing::Passing;
use reachability::Swim;
use records::{Directory, Entry, Record};
use refusals::Refusals;
use timer::TimerKind;
use verdicts::Verdicts;

/// Where the decider's effects go. The caller carries them out in order, or keeps them to do so;
/// it must not call back into the decider from within.
pub trait MemberSink {
    /// Send a datagram of at most [`MAX_DATAGRAM_BYTES`]; it may be lost.
    fn send(&mut self, to: SocketAddr, payload: &[u8]);
    /// Call [`Membership::handle_timer`] with this once `at` is reached. Timers that are due
    /// together fire in the order in which they were due.
    fn schedule(&mut self, at: Time, timer: MemberTimer);
    /// The view has changed; the events lead from the last one to this one.
    fn view_changed(&mut self, view: &Arc<View>, events: &[MemberEvent]);
    /// A node calls from there and has not shown yet that it is at the address that it advertises,
    /// where it was asked. Told each time, and at first of every newcomer.
    fn not_proven(&mut self, _member: &Member, _from: SocketAddr) {}
    /// Membership is over. Nothing else follows.
    fn fault(&mut self, fault: MemberFault);
}

/// Counters for the operator; they only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemberStats {
    /// Datagrams that could not be read.
    pub malformed: u64,
    /// Records that were refused because a reachable member elsewhere has their name.
    pub names_refused: u64,
    /// Records that found no room.
    pub directory_full: u64,
    /// How often this node was taken for dead and refuted it.
    pub renewals: u64,
    /// How often this node itself gave a member up.
    pub verdicts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Running,
    /// Has left, and repeats it for those who did not hear.
    Farewell,
    Ended,
}

/// The membership decider of one node.
///
/// Calls, in order: [`new`](Self::new), once [`start`](Self::start), then any of the `handle_*`,
/// `set_*`, `peer_*` and [`down`](Self::down) as things happen, then perhaps
/// [`leave`](Self::leave) and, when the data plane has drained, [`left`](Self::left). After `left`
/// timers must be handed in for another 200 ms, so that the others hear of it, and with datagrams
/// until [`is_farewell_heard`](Self::is_farewell_heard); all other calls do nothing from then on, or
/// return [`MemberError::Ended`]. A [`MemberSink::fault`] ends it at once.
/// `now` never goes backwards.
///
/// ```
/// use std::sync::Arc;
/// use keyway::base::{Incarnation, MemberEvent, MemberState, Time, View};
/// use keyway::member::{
///     LocalMember, Manual, MemberConfig, MemberFault, MemberSink, MemberTimer, Membership,
/// };
///
/// #[derive(Default)]
/// struct Driver {
///     timers: Vec<(Time, MemberTimer)>,
/// }
///
/// impl MemberSink for Driver {
///     fn send(&mut self, to: std::net::SocketAddr, payload: &[u8]) {
///         println!("{} bytes to {to}", payload.len());
///     }
///     fn schedule(&mut self, at: Time, timer: MemberTimer) {
///         self.timers.push((at, timer));
///     }
///     fn view_changed(&mut self, view: &Arc<View>, events: &[MemberEvent]) {
///         println!("{} members after {events:?}", view.members.len());
///     }
///     fn fault(&mut self, fault: MemberFault) {
///         println!("stop: {fault}");
///     }
/// }
///
/// let local = LocalMember {
///     name: "basket-1".into(),
///     address: "127.0.0.1:7400".parse()?,
///     incarnation: Incarnation(1),
///     workers: 2,
///     weight: 100,
///     roles: ["basket".into()].into(),
///     metadata: Default::default(),
///     app_version: "1.0.0".into(),
///     services: Vec::new(),
/// };
/// let mut driver = Driver::default();
/// let mut membership = Membership::new(MemberConfig::default(), local, Box::new(Manual), 7)?;
/// membership.start(Time::ZERO, &mut driver);
/// assert_eq!(membership.view().members[0].state, MemberState::Up); // no seeds: it is the cluster
///
/// let (at, timer) = driver.timers.remove(0);
/// membership.handle_timer(at, timer, &mut driver);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Membership {
    config: MembershipConfig,
    /// Addresses to join through.
    seeds: Vec<SocketAddr>,
    /// There are seeds, and none of their addresses is known or of any use: this node does not form a
    /// cluster for want of them.
    awaits_seeds: bool,
    policy: Box<dyn PartitionPolicy>,
    directory: Directory,
    swim: Swim,
    rng: Rng,
    stage: Stage,
    view: Arc<View>,
    stats: MemberStats,
    /// Nodes whose record or reachability may be another since it was last looked at.
    touched: BTreeSet<NodeId>,
    /// Something changed from which more may follow.
    changed: bool,
    /// Something changed that the view does not yet show.
    unshown: bool,
    showing: Pace,
    passing: Passing,
    verdicts: Verdicts,
    /// Up to which former member others were told of them.
    told_of_gone: NodeId,
    /// Somebody else has listed this very node: it is no newcomer any more.
    established: bool,
    /// When this node was first told that its address is another's.
    address_taken_since: Option<Time>,
    /// While it is a newcomer: when it was first told that its name is another's.
    name_taken_since: Option<Time>,
    /// When it then last asked the members whom it knows.
    asked_for_place: Option<Time>,
    /// This node knew nobody when it last called its seeds.
    joined_alone: bool,
    /// Of the seeds and its own address: where a call of this node came back from. Until then somebody
    /// else may be there.
    led_here: BTreeSet<SocketAddr>,
    called_itself: Option<Time>,
    /// Seeds at which a member answers that advertises another address: which life of it did last.
    seed_aliases: BTreeMap<SocketAddr, NodeRef>,
    /// A part of a welcome came before the one that says who sends it, and was left aside.
    welcome_missed: bool,
    aliases_called: Time,
    seed_retry_ms: u64,
    seed_token: u32,
    door: Door,
    last_heard: Time,
    last_push: Option<Time>,
    push_token: u32,
    push_pending: bool,
    last_recall: Option<Time>,
    fitness: Fitness,
    refusals: Refusals,
    answers: Answers,
    farewell: Farewell,
}

/// Changes of the own record closer together than this travel together.
const PUSH_GAP: Duration = Duration::from_millis(10);
/// Changes of the view closer together than this are shown together, at first and when they go on
/// and on. Where a hundred nodes join at once, this spares everyone most of three hundred views.
const SHOW_GAPS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

impl Membership {
    /// A node that is not yet running. `seed` drives every random choice: equal arguments and
    /// equal calls give equal effects.
    pub fn new(
        config: MemberConfig,
        local: LocalMember,
        policy: Box<dyn PartitionPolicy>,
        seed: u64,
    ) -> Result<Self, MemberConfigError> {
        let MemberConfig { seeds, settings: config } = config;
        config.validate()?;
        let mut record = local.into_record()?;
        record.fit = Self::first_fit(config.damp_max_ms);
        let member = record.member.node_ref();
        let id = SwimId { address: record.member.address, member, renewal: 0 };
        let mut rng = Rng::seed_from_u64(seed);
        let swim = Swim::new(id, &config, Rng::seed_from_u64(rng.random()));
        let door = Door::new(rng.random());
        Ok(Self {
            seed_retry_ms: config.seed_retry_min_ms,
            config,
            seeds: usable(seeds),
            awaits_seeds: false,
            policy,
            directory: Directory::new(record, MAX_RECORDS),
            swim,
            rng,
            stage: Stage::Idle,
            view: Arc::new(View::new(member, 0, Vec::<Member>::new())),
            stats: MemberStats::default(),
            touched: BTreeSet::new(),
            changed: true,
            unshown: false,
            showing: Pace::new(SHOW_GAPS.0, SHOW_GAPS.1),
            passing: Passing::default(),
            verdicts: Verdicts::default(),
            told_of_gone: NodeId(0),
            established: false,
            address_taken_since: None,
            name_taken_since: None,
            asked_for_place: None,
            joined_alone: true,
            led_here: BTreeSet::new(),
            called_itself: None,
            seed_aliases: BTreeMap::new(),
            welcome_missed: false,
            aliases_called: Time::ZERO,
            seed_token: 0,
            door,
            last_heard: Time::ZERO,
            last_push: None,
            push_token: 0,
            push_pending: false,
            last_recall: None,
            fitness: Fitness::default(),
            refusals: Refusals::default(),
            answers: Answers::default(),
            farewell: Farewell::default(),
        })
    }

    /// Calls the seeds, sets the timers going, and goes up at once if this node may form a cluster
    /// alone.
    pub fn start(&mut self, now: Time, sink: &mut dyn MemberSink) {
        assert!(self.stage == Stage::Idle, "membership is started once");
        self.stage = Stage::Running;
        self.last_heard = now;
        self.call_seeds(now, sink);
        let sync_in = self.jitter(self.config.sync_ms);
        schedule(now, sync_in, TimerKind::Sync, sink);
        let recontact_in = self.jitter(self.config.recontact_ms);
        schedule(now, recontact_in, TimerKind::Recontact, sink);
        self.settle(now, sink);
    }

    /// Takes an opened datagram: one whose sender has proved that it belongs to the cluster. On an
    /// error nothing has changed.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        payload: &[u8],
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        if self.stage == Stage::Farewell {
            self.hear_after_farewell(now, from, payload, sink);
        }
        if self.stage != Stage::Running {
            return Ok(());
        }
        let result = self.take_datagram(now, from, payload, sink);
        if matches!(
            result,
            Err(MemberError::Malformed { .. } | MemberError::DatagramTooLarge { .. })
        ) {
            self.stats.malformed += 1;
        }
        self.settle(now, sink);
        result
    }

    fn take_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        payload: &[u8],
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        let (bytes, limit) = (payload.len(), MAX_DATAGRAM_BYTES);
        if bytes > limit {
            return Err(MemberError::DatagramTooLarge { bytes, limit });
        }
        self.answers.begin(bytes);
        let kind = payload.first().copied().unwrap_or_default();
        let malformed = |error: Unreadable| MemberError::Malformed { kind, reason: error.0 };
        if kind == KIND_SWIM {
            let own = self.swim.id();
            let checked = identity::check_message(&payload[1..], &own).map_err(malformed)?;
            self.heard(now, checked.src.member, sink);
            if checked.buries && !self.swim.may_renew(now) {
                return Ok(());
            }
            if let Some(incarnation) = checked.doubts {
                self.swim.doubted(incarnation);
            }
            self.take_swim(now, from, checked, &payload[1..], sink)
        } else {
            let message = Message::read(payload).map_err(malformed)?;
            self.heard(now, message.sender.member, sink);
            self.take_message(now, from, message, sink)
        }
    }

    /// Takes a timer that this decider scheduled, at or after its time.
    pub fn handle_timer(&mut self, now: Time, timer: MemberTimer, sink: &mut dyn MemberSink) {
        match (self.stage, timer.kind) {
            (Stage::Farewell, TimerKind::Farewell) => self.say_farewell(now, sink),
            (Stage::Running, kind) => {
                self.swim.ran(now, timer.due);
                self.run_timer(now, timer.due, kind, sink);
                self.settle(now, sink);
            }
            _ => {}
        }
    }

    fn run_timer(&mut self, now: Time, due: Time, kind: TimerKind, sink: &mut dyn MemberSink) {
        match kind {
            TimerKind::Swim(foca::Timer::RemoveDown(id)) if self.remembers(&id) => {
                let kind = TimerKind::Swim(foca::Timer::RemoveDown(id));
                schedule(now, Duration::from_millis(self.config.tombstone_ms), kind, sink);
            }
            TimerKind::Swim(event) => {
                let suspected_at = due.0.saturating_sub(self.config.suspect_ms * 1_000_000);
                let deaf = self.last_heard.0 < suspected_at;
                let given_up = self.swim.handle_timer(now, due, event, deaf, sink);
                for id in given_up {
                    self.spread_verdict(now, id.member, sink);
                }
            }
            TimerKind::Seeds { token } if token == self.seed_token => self.call_seeds(now, sink),
            TimerKind::Sync => {
                self.sync_tick(now, due, sink);
                let next = self.jitter(self.config.sync_ms);
                schedule(now, next, TimerKind::Sync, sink);
            }
            TimerKind::Recontact => {
                self.recontact(sink);
                self.ask_policy(now, sink);
                let next = self.jitter(self.config.recontact_ms);
                schedule(now, next, TimerKind::Recontact, sink);
            }
            TimerKind::Push { token } if token == self.push_token => self.push_own(now, sink),
            TimerKind::Show if self.showing.waits() => self.show(now, sink),
            TimerKind::Pass => self.pass_news(now, sink),
            TimerKind::Verdicts => self.tell_verdicts(now, sink),
            TimerKind::Fitness { token } => self.look_at_fitness(now, token, sink),
            TimerKind::Seeds { .. }
            | TimerKind::Show
            | TimerKind::Push { .. }
            | TimerKind::Farewell => {}
        }
    }

    /// Replaces what this node serves.
    pub fn set_services(
        &mut self,
        now: Time,
        services: Vec<Service>,
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        self.change_own(now, sink, |record| record.member_mut().services = services)
    }

    fn change_own(
        &mut self,
        now: Time,
        sink: &mut dyn MemberSink,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), MemberError> {
        if matches!(self.stage, Stage::Farewell | Stage::Ended) {
            return Err(MemberError::Ended);
        }
        let mut record = self.directory.own().clone();
        change(&mut record);
        start::normalise(&mut record)?;
        if record != *self.directory.own() {
            *self.directory.own_mut() = record;
            self.publish_own(now, sink);
        }
        self.settle(now, sink);
        // What this node does itself is in its own view when it is done.
        if self.unshown {
            self.show(now, sink);
        }
        Ok(())
    }

    /// A link to this peer opened: if it counts as unreachable it is called at once.
    pub fn peer_link_opened(&mut self, now: Time, peer: NodeRef, sink: &mut dyn MemberSink) {
        if self.stage != Stage::Running {
            return;
        }
        if let Some(entry) = self.current(peer)
            && !entry.record.member.reachable
        {
            let entry = entry.clone();
            self.call_unreachable(std::slice::from_ref(&entry), sink);
        }
        self.settle(now, sink);
    }

    /// Removes a member for good: this life of it can never come back. It learns of it if it is
    /// alive, and stops.
    pub fn down(
        &mut self,
        now: Time,
        node: NodeId,
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        if self.stage != Stage::Running {
            return Err(MemberError::Ended);
        }
        if node == self.me().node {
            return Err(MemberError::DownSelf(node));
        }
        let entry = self.directory.get(node).filter(|entry| entry.record.is_live());
        let entry = entry.ok_or(MemberError::NotAMember(node))?.clone();
        self.directory.bury(now, node);
        self.changed = true;
        let address = entry.record.member.address;
        self.swim.give_up(now, address, entry.node_ref(), false, sink);
        self.spread_record(node, Some(address), sink);
        self.settle(now, sink);
        Ok(())
    }

    /// The view as last shown. Changes that follow closely on others are shown a little later.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Counters for the operator.
    pub fn stats(&self) -> MemberStats {
        self.stats
    }

    fn me(&self) -> NodeRef {
        self.directory.own().member.node_ref()
    }

    fn state(&self) -> MemberState {
        self.directory.own().member.state
    }

    fn sender(&self) -> Sender {
        Sender { member: self.me(), renewal: self.swim.id().renewal }
    }

    fn own_belief(&self) -> Belief {
        Belief::Active { renewal: self.swim.id().renewal, refuted: 0 }
    }

    /// The record of a member, if this is its current life and it has not ended.
    fn current(&self, member: NodeRef) -> Option<&Entry> {
        let entry = self.directory.get(member.node)?;
        (entry.node_ref() == member && entry.record.is_live() && member.node != self.me().node)
            .then_some(entry)
    }

    /// A period, made a little shorter or longer, so that nodes that started together do not act
    /// together for ever.
    fn jitter(&mut self, period_ms: u64) -> Duration {
        let spread = period_ms / 5;
        let least = period_ms - spread;
        Duration::from_millis(self.rng.random_range(least..=least + 2 * spread))
    }
}

fn schedule(now: Time, after: Duration, kind: TimerKind, sink: &mut dyn MemberSink) {
    let timer = MemberTimer { due: now.plus(after), kind };
    sink.schedule(timer.due, timer);
}
