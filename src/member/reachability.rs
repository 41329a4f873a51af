//! Who answers: the failure detector (SWIM, from `foca`) behind a boundary that speaks of members.
//!
//! What it believes about one address is a small replicated fact of its own: a later incarnation
//! or renewal wins, and for one identity "down" is final. A node that learns of its own death
//! renews its identity, so "down" never outlives the next exchange with a living node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Foca, Member as SwimMember, NoCustomBroadcast, Notification, PeriodicParams, State};

use crate::base::{Member, NodeId, NodeRef, Rng, Time};

use super::MemberSink;
use super::codec::{ReadResult, Reader, Unreadable};
use super::identity::{SwimCodec, SwimId};
use super::messages::{DATAGRAM_BYTES, KIND_SWIM};
use super::timer::{MemberTimer, TimerKind};
use crate::config::MembershipConfig;

/// How many identities the detector may hold; more than this only a broken or hostile member
/// speaks of.
const MAX_IDENTITIES: usize = super::records::MAX_RECORDS + 1_024;
/// How many members hear each piece of news from one node, and how many help with a probe.
const FAN_OUT: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// How often one node passes one piece of news on, beyond the push to everybody.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(8).unwrap();

/// What is believed about the reachability of one life of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// Nothing; it is treated as unreachable, but not passed on as such.
    Unknown,
    /// It answers, or is not yet known not to.
    Active {
        renewal: u32,
        /// The detector's own counter of refuted suspicions.
        refuted: u16,
    },
    /// It does not answer.
    Down { renewal: u32 },
}

/// A belief's size on the wire.
pub(super) const BELIEF_BYTES: usize = 7;

impl Belief {
    pub fn is_active(self) -> bool {
        matches!(self, Self::Active { .. })
    }

    pub fn put(self, out: &mut Vec<u8>) {
        let (tag, renewal, refuted) = match self {
            Self::Unknown => (0, 0, 0),
            Self::Active { renewal, refuted } => (1, renewal, refuted),
            Self::Down { renewal } => (2, renewal, 0),
        };
        out.push(tag);
        out.extend_from_slice(&u32::to_le_bytes(renewal));
        out.extend_from_slice(&u16::to_le_bytes(refuted));
    }

    pub fn read(reader: &mut Reader<'_>) -> ReadResult<Self> {
        let (tag, renewal, refuted) = (reader.u8()?, reader.u32()?, reader.u16()?);
        match tag {
            0 => Ok(Self::Unknown),
            1 => Ok(Self::Active { renewal, refuted }),
            2 => Ok(Self::Down { renewal }),
            _ => Err(Unreadable("a belief about a member is of an unknown kind")),
        }
    }
}

type Detector = Foca<SwimId, SwimCodec, Rng, NoCustomBroadcast>;

/// The failure detector of one node.
pub(super) struct Swim {
    detector: Detector,
    effects: Effects,
    suspect: Duration,
}

/// What the detector's calls leave behind, besides what went into the sink.
#[derive(Default)]
struct Effects {
    datagram: Vec<u8>,
    /// Nodes whose reachability may be another now.
    touched: BTreeSet<NodeId>,
    renewed: bool,
    downed: Vec<SwimId>,
}

struct Outlet<'a> {
    now: Time,
    effects: &'a mut Effects,
    sink: &'a mut dyn MemberSink,
}

impl foca::Runtime<SwimId> for Outlet<'_> {
    fn notify(&mut self, notification: Notification<'_, SwimId>) {
        match notification {
            Notification::MemberUp(id) => {
                self.effects.touched.insert(id.member.node);
            }
            Notification::Rename(old, new) => {
                self.effects.touched.extend([old.member.node, new.member.node]);
            }
            Notification::MemberDown(id) => {
                self.effects.touched.insert(id.member.node);
                self.effects.downed.push(*id);
            }
            Notification::Rejoin(_) => self.effects.renewed = true,
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: SwimId, data: &[u8]) {
        let datagram = &mut self.effects.datagram;
        datagram.clear();
        datagram.push(KIND_SWIM);
        datagram.extend_from_slice(data);
        self.sink.send(to.address, datagram);
    }

    fn submit_after(&mut self, event: foca::Timer<SwimId>, after: Duration) {
        let timer = MemberTimer { due: self.now.plus(after), kind: TimerKind::Swim(event) };
        self.sink.schedule(timer.due, timer);
    }
}

impl Swim {
    pub fn new(id: SwimId, config: &MembershipConfig, rng: Rng) -> Self {
        let detector_config = foca::Config {
            probe_period: Duration::from_millis(config.probe_period_ms),
            probe_rtt: Duration::from_millis(config.probe_timeout_ms),
            num_indirect_probes: FAN_OUT,
            max_transmissions: TRANSMISSIONS,
            suspect_to_down_after: Duration::from_millis(config.suspect_ms),
            remove_down_after: Some(Duration::from_millis(config.tombstone_ms)),
            max_packet_size: NonZeroUsize::new(DATAGRAM_BYTES - 1).expect("not zero"),
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
            effects: Effects::default(),
            suspect: Duration::from_millis(config.suspect_ms),
        }
    }

    pub fn id(&self) -> SwimId {
        *self.detector.identity()
    }

    /// The nodes whose reachability may have changed since this was last asked.
    pub fn take_touched(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.effects.touched)
    }

    /// Whether this node had to renew its identity since this was last asked.
    pub fn take_renewed(&mut self) -> bool {
        std::mem::take(&mut self.effects.renewed)
    }

    pub fn has_room(&self) -> bool {
        self.identities() < MAX_IDENTITIES
    }

    pub fn identities(&self) -> usize {
        self.detector.iter_membership_state().len()
    }

    /// Everything that is believed, by address.
    pub fn beliefs(&self) -> Beliefs {
        let state = self.detector.iter_membership_state();
        Beliefs(state.map(|member| (member.id().address, member.clone())).collect())
    }

    /// What is believed about one life of one member.
    pub fn belief(&self, address: SocketAddr, member: NodeRef) -> Belief {
        let mut state = self.detector.iter_membership_state();
        belief_of(state.find(|known| known.id().address == address), member)
    }

    /// The bytes must have been checked.
    pub fn handle_data(&mut self, now: Time, bytes: &[u8], sink: &mut dyn MemberSink) {
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
        if let foca::Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &event {
            let suspected = SwimMember::new(*member_id, *incarnation, State::Suspect);
            if !self.detector.iter_membership_state().any(|known| *known == suspected) {
                // It has refuted, and foca 2.0.0 would tell it that it is dead all the same.
                return Vec::new();
            }
            if now.since(due) * 4 > self.suspect {
                // This process itself was paused, so the suspect had no chance to be heard. The
                // answers may wait in the socket: look again after another period.
                let timer =
                    MemberTimer { due: now.plus(self.suspect), kind: TimerKind::Swim(event) };
                sink.schedule(timer.due, timer);
                return Vec::new();
            }
            if deaf {
                // More likely than everybody's death is that this node cannot hear. It acts on
                // its suspicion, but does not spread it.
                let down = SwimMember::new(*member_id, *incarnation, State::Down);
                self.apply(now, down, false, sink);
                return Vec::new();
            }
        }
        let outlet = Outlet { now, effects: &mut self.effects, sink };
        // A probe cycle that did not run in full after a pause is repaired by the detector.
        let _ = self.detector.handle_timer(event, outlet);
        std::mem::take(&mut self.effects.downed)
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
            Belief::Down { renewal } => (renewal, 0, State::Down),
        };
        let own = self.id();
        let id = SwimId { address, member, renewal };
        if member == own.member {
            self.believe_of_self(now, renewal, state == State::Down, sink);
        } else if address != own.address {
            self.apply(now, SwimMember::new(id, refuted, state), spread, sink);
        }
    }

    fn believe_of_self(&mut self, now: Time, renewal: u32, down: bool, sink: &mut dyn MemberSink) {
        let own = self.id();
        let outdated = renewal < own.renewal || (renewal == own.renewal && !down);
        if let (false, Some(next)) = (outdated, renewal.checked_add(1)) {
            let outlet = Outlet { now, effects: &mut self.effects, sink };
            let _ = self.detector.change_identity(SwimId { renewal: next, ..own }, outlet);
            self.effects.renewed = true;
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
            self.believe(now, address, member, Belief::Down { renewal }, spread, sink);
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
        let state = self.detector.iter_membership_state();
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
        let outlet = Outlet { now, effects: &mut self.effects, sink };
        let _ = self.detector.apply_many(std::iter::once(update), spread, outlet);
        self.effects.downed.clear();
    }
}

/// A snapshot of the detector's beliefs.
pub(super) struct Beliefs(BTreeMap<SocketAddr, SwimMember<SwimId>>);

impl Beliefs {
    pub fn of(&self, member: &Member) -> Belief {
        belief_of(self.0.get(&member.address), member.node_ref())
    }
}

fn belief_of(known: Option<&SwimMember<SwimId>>, member: NodeRef) -> Belief {
    match known {
        Some(known) if known.id().member == member => {
            let (renewal, refuted) = (known.id().renewal, known.incarnation());
            match known.state() {
                State::Alive | State::Suspect => Belief::Active { renewal, refuted },
                State::Down => Belief::Down { renewal },
            }
        }
        _ => Belief::Unknown,
    }
}
