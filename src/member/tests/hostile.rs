//! Bytes from outside: nothing panics, nothing grows without bound, and what cannot be read
//! changes nothing.

use std::sync::OnceLock;

use proptest::prelude::*;

mod replays;

use super::*;
use crate::base::{LayoutHash, MessageType, Placed, WorkerIndex};
use crate::member::door::Asked;
use crate::member::identity::SwimCodec;
use crate::member::messages::Numbers;
use crate::member::messages::{Body, FLAG_ESTABLISHED, Packer};
use crate::member::testnet::{Effect, Recorder};

/// One of every kind of datagram that members exchange, and many more.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut net = Net::cluster(30, 4);
        net.tapped = Some(Vec::new());
        let services = vec![Service {
            path: "/user/a".parse().unwrap(),
            handler: crate::base::HandlerId(1),
            placed: Placed::new(vec![WorkerIndex(1)], 2).unwrap(),
            messages: vec![
                MessageType::new("a.b", LayoutHash(1)),
                MessageType::new("a.c", LayoutHash(2)),
            ],
        }];
        net.call(0, |membership, now, sink| membership.set_services(now, services, sink)).unwrap();
        net.cut(&[0], &[1, 2, 3]);
        net.run(S(3));
        net.heal();
        net.run(S(3));
        add(&mut net, 4, &[0]);
        net.add_at(seeded(&[0]), local("lost", address(200), 1), address(10));
        net.add(seeded(&[0]), local("n1", address(9), 9_000));
        net.run(S(2));
        net.kill(2);
        net.run(S(3));
        let tapped = net.tapped.unwrap();
        for kind in (1..=6).chain(11..=12) {
            assert!(tapped.iter().any(|payload| payload[0] == kind), "no datagram of kind {kind}");
        }
        tapped
    })
}

fn running() -> Membership {
    let local = local("n1", address(1), 1_001);
    let mut membership = Membership::new(seeded(&[0, 1]), local, Box::new(Manual), 1).unwrap();
    membership.start(Time::ZERO, &mut Recorder::default());
    membership
}

/// Hands the datagrams in and checks what must hold whatever they are.
fn feed(membership: &mut Membership, datagrams: &[Vec<u8>]) {
    for (index, datagram) in datagrams.iter().enumerate() {
        let mut sink = Recorder::default();
        let now = Time(1_000_000 * index as u64);
        let view = membership.view().clone();
        let (running, malformed) =
            (membership.stage == Stage::Running, membership.stats().malformed);
        let result = membership.handle_datagram(now, address(7), datagram, &mut sink);
        if let Err(MemberError::Malformed { .. } | MemberError::DatagramTooLarge { .. }) = result {
            assert_eq!(sink.0, []);
            assert_eq!(*membership.view(), view);
            assert_eq!(membership.stats().malformed, malformed + 1);
        }
        assert!(running || sink.0.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_harmless(
        datagrams in prop::collection::vec(
            (0..14_u8, prop::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(kind, rest)| [vec![kind], rest].concat()),
            1..20,
        )
    ) {
        feed(&mut running(), &datagrams);
    }

    #[test]
    fn damaged_datagrams_are_harmless(
        picks in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8),
            1..40,
        )
    ) {
        let samples = samples();
        let damaged: Vec<Vec<u8>> = picks
            .into_iter()
            .map(|(which, place, byte, how)| {
                let mut datagram = which.get(samples).clone();
                let place = place.index(datagram.len());
                match how {
                    0 => datagram[place] = byte,
                    1 => datagram.truncate(place),
                    2 => datagram.insert(place, byte),
                    _ => {}
                }
                datagram
            })
            .collect();
        feed(&mut running(), &damaged);
    }
}

#[test]
fn what_is_cut_off_too_long_or_unknown_is_named() {
    let mut membership = running();
    let mut take = |payload: &[u8]| {
        membership.handle_datagram(Time(1), address(7), payload, &mut Recorder::default())
    };
    let malformed = |kind, reason| Err(MemberError::Malformed { kind, reason });
    assert_eq!(take(&[]), malformed(0, "it is cut off"));
    assert_eq!(take(&[1]), malformed(1, "it is cut off"));
    assert_eq!(take(&[99; 40]), malformed(99, "its kind is not known here"));
    assert_eq!(take(&[[3; 22].as_slice(), &[0; 9]].concat()), malformed(3, "bytes are left over"));
    let (bytes, limit) = (MAX_DATAGRAM_BYTES + 1, MAX_DATAGRAM_BYTES);
    assert_eq!(take(&vec![2; bytes]), Err(MemberError::DatagramTooLarge { bytes, limit }));
    assert_eq!(membership.stats().malformed, 5);
}

/// The number that this node must repeat to be let in.
fn prove_asked(membership: &mut Membership, record: &Record) -> u64 {
    let sender = Sender { member: record.member.node_ref(), renewal: 0 };
    let (mut payload, mut sink) = (Vec::new(), Recorder::default());
    let mut packer =
        Packer::records(0, Numbers::default(), sender, |bytes| payload = bytes.to_vec());
    packer.record(record, Belief::Unknown);
    packer.finish();
    membership.handle_datagram(Time(1_000), address(7), &payload, &mut sink).unwrap();
    let asked = sink.0.into_iter().find_map(|effect| match effect {
        Effect::Send(_, bytes) => match Message::read(&bytes) {
            Ok(Message { body: Body::Prove { number, .. }, .. }) => Some(number),
            _ => None,
        },
        _ => None,
    });
    asked.expect("it is asked at its address")
}

/// Very many identities come by the detector's gossip.
fn identities_flood(membership: &mut Membership, sink: &mut Recorder) {
    let member =
        |index: u64| NodeRef { node: NodeId(index), incarnation: crate::base::Incarnation(1) };
    let mut codec = SwimCodec::default();
    for batch in 0..400_u64 {
        use foca::Codec;
        let id = |index: u64| SwimId {
            address: SocketAddr::from((
                [11, (index >> 16) as u8, (index >> 8) as u8, index as u8],
                1,
            )),
            member: member(index),
            renewal: 0,
        };
        let mut payload = vec![KIND_SWIM];
        let header = foca::Header {
            src: id(1_000_000 + batch),
            src_incarnation: 0,
            dst: membership.swim.id(),
            message: foca::Message::Gossip,
        };
        codec.encode_header(&header, &mut payload).unwrap();
        payload.extend_from_slice(&30_u16.to_be_bytes());
        for index in 0..30 {
            let update = foca::Member::new(id(batch * 30 + index), 0, foca::State::Alive);
            codec.encode_member(&update, &mut payload).unwrap();
        }
        sink.0.clear();
        membership.handle_datagram(Time(batch), address(7), &payload, sink).unwrap();
        let held = membership.swim.identities();
        assert!(held <= MAX_RECORDS + 1_100, "{held} identities");
    }
}

#[test]
fn a_flood_of_members_is_bounded() {
    let mut membership = running();
    let mut sink = Recorder::default();
    identities_flood(&mut membership, &mut sink);
    // Records, each from its own node: nobody has let them in, whether others know them or not.
    let stranger = |index: usize| {
        local(&format!("stranger-{index}"), address(20 + index), 5).into_record().unwrap()
    };
    for flags in [0, FLAG_ESTABLISHED] {
        for record in (0..4_200).map(stranger) {
            let sender = Sender { member: record.member.node_ref(), renewal: 0 };
            let mut payload = Vec::new();
            let mut packer = Packer::records(flags, Numbers::default(), sender, |bytes| {
                payload = bytes.to_vec()
            });
            packer.record(&record, Belief::Unknown);
            packer.finish();
            sink.0.clear();
            let taken = membership.handle_datagram(Time(1_000), address(7), &payload, &mut sink);
            assert!(taken.is_ok() && membership.directory.entries.len() == 1, "{taken:?}");
        }
    }
    // As many of which a member speaks that was let in, as it was asked to.
    let sender = Sender { member: stranger(0).member.node_ref(), renewal: 0 };
    let proof = prove_asked(&mut membership, &stranger(0));
    let asked = Asked::Records(sender.member);
    let number = membership.door.number(Time(1_000), asked, address(20));
    for record in (0..4_200).map(stranger) {
        let mut payload = Vec::new();
        let emit = |bytes: &[u8]| payload = bytes.to_vec();
        let own = record.member.node_ref() == sender.member;
        let numbers = Numbers::answer(Some(if own { proof } else { number }));
        let mut packer = Packer::records(FLAG_ESTABLISHED, numbers, sender, emit);
        packer.record(&record, Belief::Unknown);
        packer.finish();
        sink.0.clear();
        membership.handle_datagram(Time(1_000), address(7), &payload, &mut sink).unwrap();
        assert!(membership.directory.entries.len() > 1);
    }
    assert_eq!(membership.directory.entries.len(), MAX_RECORDS);
    assert_eq!(membership.stats().directory_full, 4_200 + 1 - MAX_RECORDS as u64);

    // Who asks to be let in is told by name.
    let newcomer = local("newcomer", address(9_000), 7);
    let mut newcomer = Membership::new(seeded(&[7]), newcomer, Box::new(Manual), 3).unwrap();
    sink.0.clear();
    newcomer.start(Time(0), &mut sink);
    let join = sink.0.iter().find_map(|effect| match effect {
        Effect::Send(_, bytes) => Some(bytes.clone()),
        _ => None,
    });
    sink.0.clear();
    let taken = membership.handle_datagram(Time(1_000), address(9_000), &join.unwrap(), &mut sink);
    assert_eq!(taken, Err(MemberError::DirectoryFull { limit: MAX_RECORDS }));
    let [Effect::Send(to, answer)] = &sink.0[..] else { panic!("{sink:?}") };
    assert_eq!(*to, address(9_000));
    let told = newcomer.handle_datagram(Time(1), address(7), answer, &mut Recorder::default());
    assert_eq!(told, Err(MemberError::ClusterFull { limit: MAX_RECORDS as u32 }));
}

/// Whoever speaks to a node that has no place for it is told so, however it speaks, and is not asked
/// for a record that would be refused.
#[test]
fn who_finds_no_place_is_told_so_by_whatever_it_sends() {
    let mut membership = running();
    let own = membership.directory.own().clone();
    membership.directory = Directory::new(own, 1);
    let outsider = local("outsider", address(8), 7);
    let mut outsider = Membership::new(seeded(&[1, 8]), outsider, Box::new(Manual), 3).unwrap();
    let mut sink = Recorder::default();
    outsider.start(Time::ZERO, &mut sink);
    let (sender, record) = (outsider.sender(), outsider.directory.own().clone());
    let mut swim = vec![KIND_SWIM];
    let id = membership.swim.id();
    crate::member::identity::put_ping(&outsider.swim.id(), &id, None, &mut swim);
    let mut spoken = vec![swim, messages::digest(sender, 7)];
    // It would learn of this node, and believe that it has joined it.
    spoken.push(messages::prove(sender, membership.me(), 5, None));
    let mut packer = Packer::requests(sender, 9, |bytes| spoken.push(bytes.to_vec()));
    packer.request(membership.me().node);
    packer.finish();
    for flags in [0, FLAG_ESTABLISHED, messages::FLAG_JOIN] {
        let mut packer =
            Packer::records(flags, Numbers::default(), sender, |bytes| spoken.push(bytes.to_vec()));
        packer.record(&record, Belief::Active { renewal: 0, refuted: 0 });
        packer.finish();
    }
    for payload in spoken {
        sink.0.clear();
        let _ = membership.handle_datagram(Time(1_000), address(8), &payload, &mut sink);
        let read = |effect: &Effect| match effect {
            Effect::Send(to, bytes) if bytes[0] != KIND_SWIM => {
                assert_eq!(*to, address(8));
                Some((Message::read(bytes).unwrap().body, bytes.clone()))
            }
            _ => None,
        };
        let answers: Vec<_> = sink.0.iter().filter_map(read).collect();
        let [(Body::Full { .. }, full)] = &answers[..] else { panic!("{payload:?}: {answers:?}") };
        for (established, told) in [
            (false, MemberError::ClusterFull { limit: 1 }),
            (true, MemberError::NotListed { limit: 1 }),
        ] {
            outsider.established = established;
            let heard = outsider.handle_datagram(Time(1), address(1), full, &mut sink);
            assert_eq!(heard, Err(told));
        }
    }
}

/// An answer to a hello that comes when the node runs makes its sender no acquaintance.
#[test]
fn a_late_answer_to_a_hello_is_not_answered() {
    let mut membership = running();
    let member =
        NodeRef { node: NodeId::from_name("other"), incarnation: crate::base::Incarnation(1) };
    let sender = Sender { member, renewal: 0 };
    let mut sink = Recorder::default();
    let late = messages::known(sender, 9, crate::base::Incarnation(3));
    assert_eq!(membership.handle_datagram(Time(1_000), address(7), &late, &mut sink), Ok(()));
    assert!(sink.0.is_empty(), "{sink:?}");
}

/// What a node sent itself and what came back shows nothing of whether it hears others.
#[test]
fn a_node_that_hears_itself_is_deaf_all_the_same() {
    let mut membership = running();
    let heard = membership.last_heard;
    let mut sink = Recorder::default();
    membership.call(Time(1_000), 0, address(7), &mut sink);
    let [Effect::Send(_, call)] = &sink.0[..] else { panic!("{sink:?}") };
    let call = call.clone();
    membership.handle_datagram(Time(5_000), address(7), &call, &mut sink).unwrap();
    assert_eq!(membership.last_heard, heard);
}

/// Numbers at their edges, as one who has the cluster's secret may send them.
const EDGES: [u64; 6] = [0, 1, 2, 3, u64::MAX - 1, u64::MAX];

/// What somebody says of this very node.
#[derive(Clone, Debug)]
struct Said {
    in_summary: bool,
    later_life: bool,
    version: u64,
    state: MemberState,
    belief: Belief,
    /// Also to the detector, as a suspicion or a verdict.
    suspected: Option<(u32, u16, bool)>,
}

fn said() -> impl Strategy<Value = Said> {
    let edge = || prop::sample::select(EDGES.to_vec());
    let states = vec![MemberState::Joining, MemberState::Up, MemberState::Leaving];
    let belief = (edge(), edge(), 0..3_u8).prop_map(|(renewal, refuted, kind)| match kind {
        0 => Belief::Unknown,
        1 => Belief::Active { renewal: renewal as u32, refuted: refuted as u16 },
        _ => Belief::Down { renewal: renewal as u32, doubted: refuted as u16 },
    });
    let suspected = prop::option::of(
        (edge(), edge(), any::<bool>())
            .prop_map(|(renewal, count, down)| (renewal as u32, count as u16, down)),
    );
    let flags = (any::<bool>(), prop::bool::weighted(0.05));
    (flags, edge(), prop::sample::select(states), belief, suspected).prop_map(
        |((in_summary, later_life), version, state, belief, suspected)| Said {
            in_summary,
            later_life,
            version,
            state,
            belief,
            suspected,
        },
    )
}

impl Said {
    fn datagrams(&self, membership: &Membership, peer: &SwimId) -> Vec<Vec<u8>> {
        let (own, mut record) = (membership.swim.id(), membership.directory.own().clone());
        (record.version, record.member_mut().state) = (self.version, self.state);
        if self.later_life {
            record.member_mut().incarnation = crate::base::Incarnation::LAST;
        }
        let (sender, mut all) = (Sender { member: peer.member, renewal: 0 }, Vec::new());
        if self.in_summary {
            let (version, state, belief) = (self.version, self.state, self.belief);
            let member = record.member.node_ref();
            let about = crate::member::messages::SummaryEntry { member, version, state, belief };
            crate::member::messages::remarks(sender, &[about], |bytes| all.push(bytes.to_vec()));
        } else {
            let emit = |bytes: &[u8]| all.push(bytes.to_vec());
            let mut packer = Packer::records(FLAG_ESTABLISHED, Numbers::default(), sender, emit);
            packer.record(&record, self.belief);
            packer.finish();
        }
        if let Some((renewal, count, down)) = self.suspected {
            use foca::Codec;
            let (mut codec, mut payload) = (SwimCodec::default(), vec![KIND_SWIM]);
            let message = foca::Message::Gossip;
            let header = foca::Header { src: *peer, src_incarnation: count, dst: own, message };
            codec.encode_header(&header, &mut payload).unwrap();
            payload.extend_from_slice(&1_u16.to_be_bytes());
            let state = if down { foca::State::Down } else { foca::State::Suspect };
            let update = foca::Member::new(SwimId { renewal, ..own }, count, state);
            codec.encode_member(&update, &mut payload).unwrap();
            all.push(payload);
        }
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever others say of it, a node says something later, or ends once and by name.
    #[test]
    fn a_node_outgrows_what_is_said_of_it_or_ends(all in prop::collection::vec(said(), 1..8)) {
        let mut membership = running();
        let peer = local("peer", address(20), 5).into_record().unwrap();
        let number = prove_asked(&mut membership, &peer);
        let sender = Sender { member: peer.member.node_ref(), renewal: 0 };
        let mut proof = Vec::new();
        let emit = |bytes: &[u8]| proof = bytes.to_vec();
        let mut packer = Packer::records(FLAG_ESTABLISHED, Numbers::answer(Some(number)), sender, emit);
        packer.record(&peer, Belief::Unknown);
        packer.finish();
        let mut sink = Recorder::default();
        membership.handle_datagram(Time(1_000), address(20), &proof, &mut sink).unwrap();
        let peer = SwimId { address: address(20), member: sender.member, renewal: 0 };
        sink.0.clear();
        for (index, said) in all.iter().enumerate() {
            let now = Time(2_000 + index as u64);
            let other = !said.in_summary && said.state != membership.state();
            for datagram in said.datagrams(&membership, &peer) {
                membership.handle_datagram(now, address(20), &datagram, &mut sink).unwrap();
            }
            if membership.stage == Stage::Running && !said.later_life {
                let own = membership.directory.own().version;
                assert!(own >= said.version + u64::from(other), "{own} after {said:?}");
                let dead = matches!(said.belief, Belief::Down { .. });
                let own = membership.swim.id().renewal;
                if let Belief::Down { renewal, .. } | Belief::Active { renewal, .. } = said.belief {
                    assert!(own >= renewal && (!dead || own > renewal), "{own} after {said:?}");
                }
            }
        }
        let now = Time(9_000_000_000);
        let _ = membership.set_services(now, Vec::new(), &mut sink);
        membership.leave(now, &mut sink);
        membership.left(now, &mut sink);
        let ends = sink.0.iter().filter(|effect| matches!(effect, Effect::Fault(_))).count();
        let last = matches!(sink.0.last(), Some(Effect::Fault(_)));
        assert!(ends == 0 || ends == 1 && last, "{:?}", sink.0);
    }
}

#[test]
fn a_node_of_which_others_hold_the_last_version_ends_by_that_name() {
    for (version, ends) in [(u64::MAX - 1, false), (u64::MAX, true)] {
        let mut net = Net::cluster(90, 3);
        let mut forged = net.nodes[1].membership.directory.own().clone();
        forged.version = version;
        forged.member_mut().app_version = "9".into();
        let sender = Sender { member: net.me(0), renewal: 0 };
        let mut payload = Vec::new();
        let emit = |bytes: &[u8]| payload = bytes.to_vec();
        let mut packer = Packer::records(FLAG_ESTABLISHED, Numbers::default(), sender, emit);
        packer.record(&forged, Belief::Active { renewal: 0, refuted: 0 });
        packer.finish();
        net.call(2, |membership, now, sink| {
            membership.handle_datagram(now, address(0), &payload, sink).unwrap();
        });
        net.run(S(10));
        let fault = MemberFault::NothingLater { what: "version of the record" };
        let faults = net.nodes[1].faults.clone();
        assert_eq!(faults, if ends { vec![fault] } else { vec![] });
        if ends {
            // Its next life is another record.
            net.nodes[1].dead = true;
            let again = net.add(seeded(&[0]), local("n1", address(1), 9_000));
            net.until(S(10), |net| net.agreed(&[0, again, 2], 3)).expect("it is back");
        } else {
            assert!(net.agreed(&[0, 1, 2], 3));
            let shown = |on: usize| &net.view(on).member(net.me(1).node).unwrap().app_version;
            assert!((0..3).all(|on| **shown(on) == *"1"), "what it says itself counts");
        }
    }
}

/// One record of the greatest number there is would leave no later life to its node.
#[test]
fn a_life_beyond_the_last_one_is_not_read() {
    use crate::base::Incarnation;
    use crate::member::Hello;
    let beyond = [Incarnation(Incarnation::LAST.0 + 1), Incarnation(u64::MAX)];
    let mut net = Net::cluster(95, 3);
    let (own, victim) = (Sender { member: net.me(1), renewal: 0 }, net.me(2));
    let mut record = net.nodes[2].membership.directory.own().clone();
    for incarnation in beyond {
        record.member_mut().incarnation = incarnation;
        let life = NodeRef { incarnation, ..victim };
        let about = crate::member::messages::SummaryEntry {
            member: life,
            version: 1,
            state: MemberState::Up,
            belief: Belief::Active { renewal: 0, refuted: 0 },
        };
        let mut all = vec![
            crate::member::messages::hello(Sender { member: life, renewal: 0 }, 1),
            crate::member::messages::known(own, 1, incarnation),
            crate::member::messages::prove(own, life, 1, None),
        ];
        let mut packer = Packer::records(FLAG_ESTABLISHED, Numbers::default(), own, |out| {
            all.push(out.to_vec())
        });
        packer.record(&record, about.belief);
        packer.finish();
        crate::member::messages::remarks(own, &[about], |out| all.push(out.to_vec()));
        let (to, mut ping) = (net.nodes[0].membership.swim.id(), vec![KIND_SWIM]);
        let id = SwimId { address: address(2), member: life, renewal: 0 };
        crate::member::identity::put_ping(&id, &to, None, &mut ping);
        all.push(ping);
        for datagram in all {
            let (now, mut sink) = (net.now, Recorder::default());
            let told =
                net.nodes[0].membership.handle_datagram(now, address(1), &datagram, &mut sink);
            assert!(matches!(told, Err(MemberError::Malformed { .. })), "{told:?}");
            assert_eq!(sink.0, []);
        }
        let mut hello = Hello::new(Time(0), victim, address(2), &[address(1)], 1);
        hello.take(address(1), &crate::member::messages::known(own, 1, incarnation));
        assert_eq!(hello.me(), victim);
        let refused = Membership::new(
            seeded(&[]),
            local("x", address(7), incarnation.0),
            Box::new(Manual),
            1,
        );
        assert!(matches!(refused, Err(MemberConfigError::OutOfRange { key: "incarnation", .. })));
    }
    net.run(S(5));
    assert!(net.agreed(&[0, 1, 2], 3) && net.nodes.iter().all(|node| node.faults.is_empty()));
    assert_eq!(Incarnation::LAST.above(0), Incarnation::LAST);
    assert_eq!(Incarnation(u64::MAX).above(u64::MAX), Incarnation::LAST);
    assert_eq!(Incarnation(5).above(0), Incarnation(6));
    assert_eq!(Incarnation(5).above(u64::MAX), Incarnation(5 + (1 << 20)));
}
