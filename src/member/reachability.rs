//! Who answers: the failure detector (SWIM, from `foca`) behind a boundary that speaks of members.
//!
//! What it believes about one node at one address is a small replicated fact of its own: a later
//! incarnation or renewal wins, and for one identity "down" is final. A node that learns of its own death
//! renews its identity, so "down" never outlives the next exchange with a living node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Foca, Member as SwimMember, NoCustomBroadcast, PeriodicParams, State};

use crate::base::{NodeId, NodeRef, Rng, Time};

use super::MemberSink;
use super::belief::{Belief, Beliefs, FINAL};
use super::health::Health;
use super::hearers::Hearers;
use super::identity::{self, Checked, Home, KIND_SWIM, SwimCodec, SwimId};
use super::outlet::{Effects, Outlet};
use super::renewals::Renewals;
use super::roll_call::RollCall;
use crate::config::MembershipConfig;
use crate::wire::datagram::WHOLE_BYTES;

/// How many identities the detector may hold; more than this only a broken or hostile member
/// speaks of.
const MAX_IDENTITIES: usize = super::records::MAX_RECORDS + 1_024;
/// How many members hear each piece of news from one node, and how many help with a probe.
const FAN_OUT: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// How often one node passes one piece of news on, beyond the push to everybody.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(8).unwrap();

/// So many members this node may be unsure of without looking whether it still is.
const FEW_UNSURE: usize = 64;

type Detector = Foca<SwimId, SwimCodec, Rng, NoCustomBroadcast>;

/// The failure detector of one node.
pub(super) struct Swim {
    detector: Detector,
    effects: Effects,
    probe_period: Duration,
    probe_timeout: Duration,
    /// The latest suspicion of this node that others hold, if it was of its present identity.
    doubted: Option<(SwimId, u16)>,
    /// Whom this node gave up while it heard nobody, with the counter of suspicions.
    /// As long as nobody else says so they are not known to be down, and so need not renew
    /// themselves because of this node's deafness.
    unsure: BTreeMap<Home, (SwimId, u16)>,
    /// With so many of them those that it is sure of by now are forgotten.
    unsure_limit: usize,
    roll_call: RollCall,
    renewals: Renewals,
    #[cfg(test)]
    looked_at: std::cell::Cell<u64>,
}

/// A suspected member is asked this often within its time, and told of the suspicion with it: news
/// that travel by gossip alone may come too late in a large cluster.
const ASKED_WHILE_SUSPECT: u32 = 4;

impl Swim {
    pub fn new(id: SwimId, config: &MembershipConfig, rng: Rng) -> Self {
        let detector_config = foca::Config {
            probe_period: Duration::from_millis(config.probe_period_ms),
            probe_rtt: Duration::from_millis(config.probe_timeout_ms),
            num_indirect_probes: FAN_OUT,
            max_transmissions: TRANSMISSIONS,
            suspect_to_down_after: Duration::from_millis(config.suspect_ms),
            remove_down_after: Some(Duration::from_millis(config.tombstone_ms)),
            max_packet_size: NonZeroUsize::new(WHOLE_BYTES - 1).expect("not zero"),
            notify_down_members: true,
            // Members come and unreachable ones are called again through our own messages, which
            // also work where the detector knows of nobody to ask.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(PeriodicParams {
                frequency: Duration::from_millis(config.gossip_ms),
                num_members: FAN_OUT,
            }),
        };
        Self {
            detector: Foca::new(id, detector_config, rng, SwimCodec::default()),
            effects: Effects {
                datagram: Vec::new(),
                touched: BTreeSet::new(),
                renewed: false,
                cannot_renew: false,
                downed: Vec::new(),
                suspect: Duration::from_millis(config.suspect_ms),
                health: Health::default(),
                hearers: Hearers::default(),
                suspicions: BTreeMap::new(),
                silent: None,
            },
            probe_period: Duration::from_millis(config.probe_period_ms),
            probe_timeout: Duration::from_millis(config.probe_timeout_ms),
            doubted: None,
            unsure: BTreeMap::new(),
            unsure_limit: FEW_UNSURE,
            roll_call: RollCall::default(),
            renewals: Renewals::new(),
            #[cfg(test)]
            looked_at: Default::default(),
        }
    }

    pub fn id(&self) -> SwimId {
        *self.detector.identity()
    }

    /// The nodes whose reachability may have changed since this was last asked.
    pub fn take_touched(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.effects.touched)
    }

    /// After a renewal foca 2.0.0 forgets that it knows active members, and probes nobody until it
    /// hears of one: which it never does if this node is cut off by then. So it is told to look.
    pub fn look_around(&mut self, now: Time, sink: &mut dyn MemberSink) {
        let outlet = Outlet { now, effects: &mut self.effects, sink };
        let _ = self.detector.apply_many(std::iter::empty(), true, outlet);
    }

    /// Whether this node had to renew its identity since this was last asked.
    pub fn take_renewed(&mut self, now: Time) -> bool {
        let renewed = std::mem::take(&mut self.effects.renewed);
        if renewed {
            self.renewals.count(now);
            self.effects.hearers.broken_off();
        }
        renewed
    }

    /// Whether most members that this node asked heard it and were heard, for as long as whoever
    /// takes it for dead heard nothing of it.
    pub fn is_heard(&self, now: Time) -> bool {
        self.effects.hearers.are_most(now, self.probe_period + self.effects.suspect)
    }

    /// Whether this node was alone for that long: nobody that it asked answered, or hardly.
    pub fn is_alone(&self, now: Time) -> bool {
        !self.effects.hearers.are_some(now, self.probe_period + self.effects.suspect)
    }

    /// Whether this node may renew its identity now.
    pub fn may_renew(&self, now: Time) -> bool {
        self.renewals.is_free(now)
    }

    /// Whether it counts as dead and has no further identity to come back under.
    pub fn cannot_renew(&self) -> bool {
        self.effects.cannot_renew
    }

    pub fn has_room(&self) -> bool {
        self.identities() < MAX_IDENTITIES
    }

    pub fn identities(&self) -> usize {
        self.detector.iter_membership_state().len()
    }

    /// How many entries were looked at so far, one after another.
    #[cfg(test)]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.get()
    }

    /// Everything that is believed.
    pub fn beliefs(&self) -> Beliefs {
        let state = self.members().filter(|known| !self.is_unsure(known));
        Beliefs(state.map(|member| (member.id().home(), member.clone())).collect())
    }

    /// What is believed about one life of one member.
    pub fn belief(&self, address: SocketAddr, member: NodeRef) -> Belief {
        let mut state = self.members();
        let known = state.find(|known| known.id().home() == identity::home(address, member.node));
        Belief::of(known.filter(|known| !self.is_unsure(known)), member)
    }

    /// Whom this node gave up while it heard nobody, and of whom it has not heard since whether they
    /// answer.
    pub fn unsure(&self) -> BTreeSet<NodeRef> {
        let unsure = self.members().filter(|known| self.is_unsure(known));
        unsure.map(|known| known.id().member).collect()
    }

    fn is_unsure(&self, known: &SwimMember<SwimId>) -> bool {
        let unsure = || self.unsure.get(&known.id().home());
        known.state() == State::Down && unsure().is_some_and(|(id, _)| id == known.id())
    }

    /// A message of this member, whose bytes must have been checked.
    pub fn handle_data(
        &mut self,
        now: Time,
        checked: &Checked,
        bytes: &[u8],
        sink: &mut dyn MemberSink,
    ) {
        let src = &checked.src;
        self.roll_call.heard(src);
        if let Some(number) = checked.answers {
            self.effects.hearers.answered(now, src, number, self.probe_period);
        }
        if checked.doubts.is_some() && self.is_down(*src) {
            // The detector does not listen to it; others may.
            self.refute(now, checked.doubts, sink);
        }
        let sifted = if checked.accuses { self.sift(src, bytes) } else { None };
        let bytes = sifted.as_deref().unwrap_or(bytes);
        let outlet = Outlet { now, effects: &mut self.effects, sink };
        // What remains of its errors are messages of a former identity of ours or for one, which
        // need no reaction.
        let _ = self.detector.handle_data(bytes, outlet);
        self.effects.downed.clear();
    }

    /// Runs one of the detector's timers. `deaf` says that nothing was heard from anybody for as
    /// long as a suspicion lasts. Returns whom the detector has given up.
    pub fn handle_timer(
        &mut self,
        now: Time,
        due: Time,
        event: foca::Timer<SwimId>,
        deaf: bool,
        sink: &mut dyn MemberSink,
    ) -> Vec<SwimId> {
        let late = now.since(due);
        match event {
            foca::Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                return self.end_suspicion(now, (member_id, incarnation), event, deaf, sink);
            }
            foca::Timer::ProbeRandomMember(_) if self.is_put_off(late) => {
                // The rest of the period, so that helpers who are asked only now can answer.
                self.put_off(now, self.probe_period - self.probe_timeout, event, sink);
            }
            foca::Timer::SendIndirectProbe { .. } if self.is_put_off(late) => {
                self.put_off(now, self.probe_timeout, event, sink);
            }
            foca::Timer::SendIndirectProbe { .. } => {
                self.call_again(sink);
                self.run(now, event, sink);
            }
            foca::Timer::ProbeRandomMember(token) => {
                self.end_call(now, token, sink);
                self.effects.silent = None;
                self.run(now, event, sink);
                let silent = self.effects.silent.map(|id| id.member);
                if self.effects.health.probed(silent) {
                    self.call_all(sink);
                }
            }
            _ => self.run(now, event, sink),
        }
        std::mem::take(&mut self.effects.downed)
    }

    fn run(&mut self, now: Time, event: foca::Timer<SwimId>, sink: &mut dyn MemberSink) {
        let outlet = Outlet { now, effects: &mut self.effects, sink };
        // A probe cycle that did not run in full after a pause is repaired by the detector.
        let _ = self.detector.handle_timer(event, outlet);
    }

    /// Something of this node was due then, and is done only now: nobody is blamed for the time in
    /// which it did not run.
    pub fn ran(&mut self, now: Time, due: Time) {
        if self.is_late(now.since(due)) {
            self.effects.health.ran(now, due);
        }
    }

    /// Others are heard again, after a time in which nobody was: they have their time anew to be.
    pub fn hears_again(&mut self, now: Time) {
        let missed = self.missed();
        for suspicion in self.effects.suspicions.values_mut() {
            (suspicion.began, suspicion.missed) = (now, missed);
        }
    }

    fn is_late(&self, by: Duration) -> bool {
        by * 4 > self.probe_timeout
    }

    /// Whether a probe's timer fired so late that the answer may still wait in the socket.
    fn is_put_off(&mut self, late: Duration) -> bool {
        self.is_late(late) && self.effects.health.late()
    }

    fn put_off(
        &mut self,
        now: Time,
        by: Duration,
        event: foca::Timer<SwimId>,
        sink: &mut dyn MemberSink,
    ) {
        Outlet { now, effects: &mut self.effects, sink }.schedule(by, event);
    }

    /// Looks at a suspicion: asks the suspect again while there is time, and gives it up at the
    /// end. Returns whom it has given up.
    fn end_suspicion(
        &mut self,
        now: Time,
        (id, incarnation): (SwimId, u16),
        event: foca::Timer<SwimId>,
        deaf: bool,
        sink: &mut dyn MemberSink,
    ) -> Vec<SwimId> {
        let suspected = SwimMember::new(id, incarnation, State::Suspect);
        let ours = self.effects.suspicions.get(&id.home()).cloned();
        let Some(ours) = ours.filter(|ours| ours.timer == event) else { return Vec::new() };
        if !self.members().any(|known| *known == suspected) {
            // It has refuted, and foca 2.0.0 would tell it that it is dead all the same.
            self.effects.suspicions.remove(&id.home());
            self.effects.health.erred();
            return Vec::new();
        }
        let suspect = self.effects.suspect;
        let until = ours.began.plus(self.effects.health.patience(suspect, ours.missed));
        if now < until {
            self.ask(id, Some(incarnation), sink);
            let step = (suspect / ASKED_WHILE_SUSPECT).min(until.since(now));
            Outlet { now, effects: &mut self.effects, sink }.schedule(step, event);
            return Vec::new();
        }
        self.effects.suspicions.remove(&id.home());
        if deaf {
            // More likely than everybody's death is that this node cannot hear. It acts on its
            // suspicion, but does not spread it.
            let down = SwimMember::new(id, incarnation, State::Down);
            self.apply(now, down, false, sink);
            self.be_unsure(id, incarnation);
            return Vec::new();
        }
        self.run(now, event, sink);
        let given_up = std::mem::take(&mut self.effects.downed);
        if self.members().any(|known| *known == suspected) {
            // With a renewal of this node's identity foca 2.0.0 forgets what it had to do by then, and
            // would hold a member in suspicion for good.
            self.apply(now, SwimMember::new(id, incarnation, State::Down), true, sink);
            return vec![id];
        }
        given_up
    }

    #[cfg(test)]
    pub fn suspects(&self, address: SocketAddr) -> bool {
        self.effects.suspicions.keys().any(|home| home.0 == address)
    }

    fn be_unsure(&mut self, id: SwimId, incarnation: u16) {
        if self.unsure.len() >= self.unsure_limit {
            // Others may have come back meanwhile under another identity, or be forgotten. One look
            // for as many as have come since the last one.
            let down = self.members().filter(|known| known.state() == State::Down);
            let down: BTreeMap<Home, SwimId> =
                down.map(|known| (known.id().home(), *known.id())).collect();
            self.unsure.retain(|home, (id, _)| down.get(home) == Some(id));
            self.unsure_limit = FEW_UNSURE + 2 * self.unsure.len();
        }
        self.unsure.insert(id.home(), (id, incarnation));
    }

    pub fn is_down(&self, id: SwimId) -> bool {
        let mut state = self.members();
        state.any(|known| *known.id() == id && known.state() == State::Down)
    }

    /// Somebody else speaks of a member that this node gave up while it heard nobody: if it is
    /// active that is taken back, and if it is down that is known now.
    pub fn be_sure(&mut self, now: Time, id: SwimId, active: bool, sink: &mut dyn MemberSink) {
        let Some(&(unsure, incarnation)) = self.unsure.get(&id.home()) else { return };
        if unsure != id {
            return;
        }
        self.unsure.remove(&id.home());
        if active && self.is_down(id) {
            let outlet = Outlet { now, effects: &mut self.effects, sink };
            let _ = self.detector.handle_timer(foca::Timer::RemoveDown(id), outlet);
            self.apply(now, SwimMember::new(id, incarnation, State::Alive), false, sink);
        }
    }

    /// Asks a member itself. If it is suspected it is told so: its answer refutes.
    fn ask(&mut self, id: SwimId, suspected: Option<u16>, sink: &mut dyn MemberSink) {
        let own = self.id();
        let datagram = &mut self.effects.datagram;
        datagram.clear();
        datagram.push(KIND_SWIM);
        identity::put_ping(&own, &id, suspected, datagram);
        sink.send(id.address, datagram);
    }

    /// Everybody that the detector knows.
    pub fn members(&self) -> impl Iterator<Item = &SwimMember<SwimId>> {
        let members = self.detector.iter_membership_state();
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + members.len() as u64);
        members
    }

    /// For how long in all this node should have run and did not.
    fn missed(&self) -> Duration {
        self.effects.health.missed()
    }

    /// Calls those that this node does not suspect itself: everybody, or the next ones of many.
    fn call_all(&mut self, sink: &mut dyn MemberSink) {
        let suspicions = &self.effects.suspicions;
        // Also those that only others suspect: this node would never come to a verdict on them.
        let members = self.members().filter(|member| {
            member.state() != State::Down && !suspicions.contains_key(&member.id().home())
        });
        let may_be = members.map(|member| (member.id().home(), *member.id())).collect();
        let missed = self.missed();
        self.roll_call.begin(&may_be, missed);
        self.call_again(sink);
    }

    /// Calls those that have not answered yet: a datagram may be lost.
    fn call_again(&mut self, sink: &mut dyn MemberSink) {
        for id in self.roll_call.unheard() {
            self.ask(id, None, sink);
        }
    }

    /// The probe period is over: who has not answered is suspected.
    fn end_call(&mut self, now: Time, token: foca::TimerToken, sink: &mut dyn MemberSink) {
        let missed = self.missed();
        let silent = self.roll_call.end(missed);
        if silent.is_empty() {
            return;
        }
        // One look at all of them, however many are silent.
        let members = self.members().filter(|known| {
            known.state() != State::Down && silent.get(&known.id().home()) == Some(known.id())
        });
        let suspect = |known: &SwimMember<SwimId>| {
            SwimMember::new(*known.id(), known.incarnation(), State::Suspect)
        };
        let mut suspects: Vec<_> = members.map(suspect).collect();
        suspects.sort_by_key(|suspect| suspect.id().home());
        self.apply_all(now, suspects.iter().cloned(), true, sink);
        for suspect in suspects {
            let (member_id, incarnation) = (*suspect.id(), suspect.incarnation());
            let event = foca::Timer::ChangeSuspectToDown { member_id, incarnation, token };
            // The outlet begins a suspicion of it.
            let mut outlet = Outlet { now, effects: &mut self.effects, sink };
            foca::Runtime::submit_after(&mut outlet, event, Duration::ZERO);
        }
    }

    /// Answers a probe by somebody whom this node does not know yet: it may have learnt of this node
    /// first, and must not take it for dead because it has not been introduced.
    pub fn answer_unknown(&mut self, now: Time, checked: &Checked, sink: &mut dyn MemberSink) {
        let Some(asked) = checked.asked else { return };
        self.refute(now, checked.doubts, sink);
        let own = self.id();
        let refuted = checked.doubts.map_or(0, |incarnation| incarnation.saturating_add(1));
        let datagram = &mut self.effects.datagram;
        datagram.clear();
        datagram.push(KIND_SWIM);
        identity::put_answer(&own, refuted, &checked.src, asked, datagram);
        sink.send(checked.src.address, datagram);
    }

    fn refute(&mut self, now: Time, doubts: Option<u16>, sink: &mut dyn MemberSink) {
        if let Some(incarnation) = doubts {
            let doubted = SwimMember::new(self.id(), incarnation, State::Suspect);
            self.apply(now, doubted, false, sink);
        }
    }

    /// Notes that others suspect this node.
    pub fn doubted(&mut self, incarnation: u16) {
        let doubt = (self.id(), incarnation);
        let news = self.doubted.is_none_or(|(id, last)| id != doubt.0 || last < incarnation);
        if news {
            self.doubted = Some(doubt);
            self.effects.health.erred();
        }
    }

    #[cfg(test)]
    pub fn was_doubted(&self) -> bool {
        self.doubted.is_some()
    }

    /// Takes over what somebody believes about a member; `spread` passes it on if it was news.
    pub fn believe(
        &mut self,
        now: Time,
        address: SocketAddr,
        member: NodeRef,
        belief: Belief,
        spread: bool,
        sink: &mut dyn MemberSink,
    ) {
        let (renewal, refuted, state) = match belief {
            Belief::Unknown => return,
            Belief::Active { renewal, refuted } => (renewal, refuted, State::Alive),
            Belief::Down { renewal, doubted } => (renewal, doubted, State::Down),
        };
        let own = self.id();
        let id = SwimId { address, member, renewal };
        if member == own.member {
            self.believe_of_self(now, renewal, state == State::Down, sink);
        } else {
            self.be_sure(now, id, state == State::Alive, sink);
            self.apply(now, SwimMember::new(id, refuted, state), spread, sink);
        }
    }

    fn believe_of_self(&mut self, now: Time, renewal: u32, down: bool, sink: &mut dyn MemberSink) {
        let own = self.id();
        if renewal < own.renewal || (renewal == own.renewal && !down) {
            return; // It has said more itself since.
        }
        if !self.may_renew(now) {
            return;
        }
        let next = renewal.checked_add(1);
        self.effects.cannot_renew |= next.is_none();
        if let Some(next) = next {
            let outlet = Outlet { now, effects: &mut self.effects, sink };
            let _ = self.detector.change_identity(SwimId { renewal: next, ..own }, outlet);
            self.effects.renewed = true;
            self.effects.health.erred();
        }
    }

    /// Declares a member dead, or dead to us, and spreads it if asked to.
    pub fn give_up(
        &mut self,
        now: Time,
        address: SocketAddr,
        member: NodeRef,
        spread: bool,
        sink: &mut dyn MemberSink,
    ) {
        if let Belief::Active { renewal, .. } = self.belief(address, member) {
            let down = Belief::Down { renewal, doubted: FINAL };
            self.believe(now, address, member, down, spread, sink);
        }
    }

    /// Tells a few members that this one goes, and stops.
    pub fn leave(&mut self, now: Time, sink: &mut dyn MemberSink) {
        let outlet = Outlet { now, effects: &mut self.effects, sink };
        let _ = self.detector.leave_cluster(outlet);
    }

    /// Forgets every identity that `keep` does not want.
    pub fn forget_except(
        &mut self,
        now: Time,
        keep: impl Fn(&SwimId) -> bool,
        sink: &mut dyn MemberSink,
    ) {
        let state = self.members();
        let unwanted: Vec<SwimId> = state.map(|known| *known.id()).filter(|id| !keep(id)).collect();
        for id in unwanted {
            self.apply(now, SwimMember::new(id, 0, State::Down), false, sink);
            let outlet = Outlet { now, effects: &mut self.effects, sink };
            let _ = self.detector.handle_timer(foca::Timer::RemoveDown(id), outlet);
        }
    }

    fn apply(
        &mut self,
        now: Time,
        update: SwimMember<SwimId>,
        spread: bool,
        sink: &mut dyn MemberSink,
    ) {
        self.apply_all(now, std::iter::once(update), spread, sink);
    }

    fn apply_all(
        &mut self,
        now: Time,
        updates: impl Iterator<Item = SwimMember<SwimId>>,
        spread: bool,
        sink: &mut dyn MemberSink,
    ) {
        let outlet = Outlet { now, effects: &mut self.effects, sink };
        let _ = self.detector.apply_many(updates, spread, outlet);
        self.effects.downed.clear();
    }
}
