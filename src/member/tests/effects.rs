//! Single calls and everything that follows from them.

use super::*;
use crate::base::{HandlerId, Incarnation, LayoutHash, MessageType, Placed, WorkerIndex};
use crate::member::door::Asked;
use crate::member::messages::Numbers;
use crate::member::messages::{self, FLAG_JOIN, Packer};
use crate::member::testnet::{Effect, Recorder};

fn node(index: usize, seeds: &[usize]) -> Membership {
    let local = local(&format!("n{index}"), address(index), 1_000 + index as u64);
    Membership::new(seeded(seeds), local, Box::new(Manual), 1).unwrap()
}

fn effects(call: impl FnOnce(&mut dyn MemberSink)) -> Vec<Effect> {
    let mut sink = Recorder::default();
    call(&mut sink);
    sink.0
}

/// A datagram with the sender's own record.
fn own_record(membership: &Membership, flags: u8) -> Vec<u8> {
    own_record_behind(membership, flags, Numbers::default())
}

fn own_record_behind(membership: &Membership, flags: u8, numbers: Numbers) -> Vec<u8> {
    let mut payload = Vec::new();
    let emit = |bytes: &[u8]| payload = bytes.to_vec();
    let mut packer = Packer::records(flags, numbers, membership.sender(), emit);
    packer.record(membership.directory.own(), membership.own_belief());
    packer.finish();
    payload
}

fn scheduled(effect: &Effect) -> Option<&TimerKind> {
    match effect {
        Effect::Schedule(_, timer) => Some(&timer.kind),
        _ => None,
    }
}

#[test]
fn starting_calls_the_seeds_and_shows_the_node_itself() {
    let mut membership = node(5, &[0, 5, 1]);
    // Each with another number, for when it comes back.
    let numbers = [0, 1].map(|seed| membership.door.number(Time(7), Asked::Call, address(seed)));
    assert_ne!(numbers[0], numbers[1]);
    let call = |number| {
        let numbers = Numbers { answers: None, asks: Some(number) };
        own_record_behind(&membership, FLAG_JOIN, numbers)
    };
    let [to_first, to_second] = numbers.map(call);
    let effects = effects(|sink| membership.start(Time(7), sink));
    let [first, second, seeds, sync, recontact, Effect::View(view, events)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(*first, Effect::Send(address(0), to_first));
    assert_eq!(*second, Effect::Send(address(1), to_second));
    assert_eq!(scheduled(seeds), Some(&TimerKind::Seeds { token: 1 }));
    assert_eq!(scheduled(sync), Some(&TimerKind::Sync));
    assert_eq!(scheduled(recontact), Some(&TimerKind::Recontact));
    let me = &view.members[0];
    assert!(view.version == 1 && view.members.len() == 1 && me.state == MemberState::Up);
    assert_eq!(*events, [MemberEvent::Joined(me.clone())]);
}

#[test]
fn a_joining_node_is_asked_at_its_address_then_shown_welcomed_and_probed() {
    let mut seed = node(0, &[0]);
    let mut joiner = node(1, &[0]);
    effects(|sink| seed.start(Time::ZERO, sink));
    effects(|sink| joiner.start(Time::ZERO, sink));
    let join = own_record(&joiner, FLAG_JOIN);
    let later = Time(1_000_000_000);
    let asked = effects(|sink| {
        seed.handle_datagram(later, address(1), &join, sink).unwrap();
    });
    let [Effect::Send(to, prove)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((*to, seed.view().members.len()), (address(1), 1));
    let answer = effects(|sink| {
        joiner.handle_datagram(later, address(0), prove, sink).unwrap();
    });
    let [Effect::Send(to, proof)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!(*to, address(0));
    let effects = effects(|sink| {
        seed.handle_datagram(later, address(1), proof, sink).unwrap();
    });
    let [probe, gossip, Effect::Send(to, welcome), Effect::Send(also, digest), view] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    let is_swim = |effect| matches!(scheduled(effect), Some(TimerKind::Swim(_)));
    assert!(is_swim(probe) && is_swim(gossip));
    assert!(*to == address(1) && *also == address(1));
    let welcome = Message::read(welcome).unwrap();
    let messages::Body::Records { flags, numbers, entries } = welcome.body else {
        panic!("{welcome:?}")
    };
    assert_eq!(flags, messages::FLAG_WELCOME | messages::FLAG_NUMBER);
    assert_eq!(numbers, Numbers::answer(Some(joiner.door.number(later, Asked::Call, address(0)))));
    let names: Vec<&str> = entries.iter().map(|entry| &*entry.record.member.name).collect();
    assert_eq!(names, ["n0", "n1"]);
    assert_eq!(*digest, messages::digest(seed.sender(), seed.digest()));
    let Effect::View(view, events) = view else { panic!("{view:?}") };
    let newcomer = view.member(joiner.me().node).unwrap();
    assert!(newcomer.reachable && newcomer.state == MemberState::Joining);
    assert_eq!(*events, [MemberEvent::Joined(newcomer.clone().into())]);
}

#[test]
fn who_is_not_seen_to_be_listed_asks_whomever_it_compares_with_for_a_list() {
    for listed in [false, true] {
        let mut net = Net::cluster(1, 2);
        net.nodes[0].membership.established = listed;
        let now = net.now;
        let said = effects(|sink| net.nodes[0].membership.sync_tick(now, now, sink));
        let joins = said.iter().filter(|effect| match effect {
            Effect::Send(_, said) => match Message::read(said).unwrap().body {
                messages::Body::Records { flags, .. } => flags & FLAG_JOIN != 0,
                _ => false,
            },
            _ => false,
        });
        assert_eq!(joins.count(), usize::from(!listed), "{said:?}");
    }
}

#[test]
fn who_missed_a_part_of_a_welcome_compares_once_with_whoever_welcomes_it() {
    let mut net = Net::cluster(1, 2);
    let by_a_member = own_record(&net.nodes[1].membership, messages::FLAG_WELCOME);
    let mut missed = Vec::new();
    let stranger = Sender { member: NodeRef { node: NodeId(9), ..net.me(1) }, renewal: 0 };
    let emit = |bytes: &[u8]| missed = bytes.to_vec();
    let mut packer = Packer::records(messages::FLAG_WELCOME, Numbers::default(), stranger, emit);
    packer.record(net.nodes[1].membership.directory.own(), Belief::Unknown);
    packer.finish();
    let mut compares = |from: usize, said: &[u8]| {
        let it = &mut net.nodes[0].membership;
        let said = effects(|sink| it.handle_datagram(net.now, address(from), said, sink).unwrap());
        let digest = messages::digest(it.sender(), it.digest());
        said.iter().filter(|effect| **effect == Effect::Send(address(1), digest.clone())).count()
    };
    let compared = [compares(1, &by_a_member), compares(9, &missed)];
    assert_eq!((compared, compares(1, &by_a_member), compares(1, &by_a_member)), ([0, 0], 1, 0));
}

#[test]
fn a_claim_to_the_own_name_is_answered_and_changes_nothing() {
    let mut holder = node(0, &[0]);
    effects(|sink| holder.start(Time::ZERO, sink));
    let rival = local("n0", address(9), 5_000);
    let rival = Membership::new(seeded(&[0]), rival, Box::new(Manual), 1).unwrap();
    let join = own_record(&rival, FLAG_JOIN);
    let answer = effects(|sink| {
        holder.handle_datagram(Time(1), address(9), &join, sink).unwrap();
    });
    let expected = messages::name_taken(holder.sender(), Incarnation(5_000), address(0), false);
    assert_eq!(answer, [Effect::Send(address(9), expected.clone())]);

    let mut rival = rival;
    effects(|sink| rival.start(Time::ZERO, sink));
    let end = effects(|sink| {
        rival.handle_datagram(Time(1), address(0), &expected, sink).unwrap();
    });
    let [Effect::View(view, events), Effect::Fault(fault)] = &end[..] else { panic!("{end:?}") };
    assert!(view.members.is_empty());
    assert!(matches!(&events[..], [MemberEvent::Removed(me)] if me.state == MemberState::Down));
    assert_eq!(*fault, MemberFault::NameTaken { by: address(0) });
    assert_eq!(effects(|sink| rival.leave(Time(2), sink)), []);
    let services = rival.set_services(Time(2), Vec::new(), &mut Recorder::default());
    assert_eq!(services, Err(MemberError::Ended));
}

#[test]
fn an_unchanged_record_is_not_published() {
    let mut membership = node(0, &[]);
    effects(|sink| membership.start(Time::ZERO, sink));
    let again = effects(|sink| {
        membership.change_own(Time(1), sink, |own| own.member_mut().weight = 100).unwrap()
    });
    assert_eq!(again, []);
}

#[test]
fn services_are_kept_in_one_form_and_double_paths_are_refused() {
    let service = |path: &str, messages: &[&str]| Service {
        path: path.parse().unwrap(),
        handler: HandlerId(1),
        placed: Placed::EVERY,
        messages: messages.iter().map(|name| MessageType::new(name, LayoutHash(1))).collect(),
    };
    let mut membership = node(0, &[]);
    effects(|sink| membership.start(Time::ZERO, sink));
    let services = vec![service("/user/b", &["y", "x", "y"]), service("/user/a", &[])];
    let later = Time(1_000_000_000);
    let shown = effects(|sink| membership.set_services(later, services, sink).unwrap());
    let [Effect::View(view, events)] = &shown[..] else { panic!("{shown:?}") };
    let expected = [service("/user/a", &[]), service("/user/b", &["x", "y"])];
    assert_eq!(view.members[0].services, expected);
    assert_eq!(*events, [MemberEvent::Changed(view.members[0].clone())]);

    let double = vec![service("/user/a", &[]), service("/user/a", &["x"])];
    let refused = membership.set_services(later, double, &mut Recorder::default());
    let path = "/user/a".parse().unwrap();
    assert_eq!(refused, Err(MemberError::Refused(MemberConfigError::DuplicatePath { path })));
    assert_eq!(membership.view().members[0].services, expected);
}

/// Otherwise two records of equal content would differ, and others would not read the one.
#[test]
fn a_services_workers_are_kept_in_one_form_and_must_be_the_nodes() {
    let placed = |some: &[u16], workers| {
        Placed::new(some.iter().copied().map(WorkerIndex).collect(), workers).unwrap()
    };
    let on = |placed| Service {
        path: "/user/a".parse().unwrap(),
        handler: HandlerId(1),
        placed,
        messages: Vec::new(),
    };
    let mut membership = node(0, &[]);
    effects(|sink| membership.start(Time::ZERO, sink));
    let mut now = Time::ZERO;
    let mut set = |placed| {
        // Views come at intervals.
        now = now.plus(S(1));
        let mut sink = Recorder::default();
        let outcome = membership.set_services(now, vec![on(placed)], &mut sink);
        let services = membership.view().members[0].services.clone();
        outcome.map(|()| services)
    };
    assert_eq!(set(placed(&[1], 2)), Ok(vec![on(placed(&[1], 2))]));
    // Two workers of many are all that this node has.
    assert_eq!(set(placed(&[0, 1], 8)), Ok(vec![on(Placed::EVERY)]));
    let (key, value, min, max) = ("services.workers", 2, 0, 1);
    let refused = MemberConfigError::OutOfRange { key, value, min, max };
    assert_eq!(set(placed(&[0, 2], 8)), Err(MemberError::Refused(refused)));
}

#[test]
fn settings_out_of_range_are_named() {
    let refused = |change: &dyn Fn(&mut MembershipConfig)| {
        let mut config = seeded(&[0]);
        change(&mut config.settings);
        let local = local("n", address(0), 1);
        Membership::new(config, local, Box::new(Manual), 1).err().unwrap().to_string()
    };
    assert_eq!(
        refused(&|config| config.probe_timeout_ms = 200),
        "`membership.probe_timeout_ms` = 200 is refused: it takes less than half of \
         `membership.probe_period_ms` (250)"
    );
    assert_eq!(
        refused(&|config| config.min_members = 0),
        "`membership.min_members` = 0 is refused: it takes an integer from 1 to 4096"
    );

    let refused = |change: &dyn Fn(&mut LocalMember)| {
        let mut local = local("n", address(0), 1);
        change(&mut local);
        Membership::new(MemberConfig::default(), local, Box::new(Manual), 1).err().unwrap()
    };
    let weight = MemberConfigError::OutOfRange { key: "weight", value: 0, min: 1, max: 1_000 };
    assert_eq!(refused(&|local| local.weight = 0), weight);
    let name = MemberConfigError::OutOfRange { key: "name", value: 256, min: 1, max: 255 };
    assert_eq!(refused(&|local| local.name = "x".repeat(256).into()), name);
}

#[test]
fn late_timers_of_an_ended_chain_do_nothing() {
    let mut membership = node(1, &[0]);
    let mut started = effects(|sink| membership.start(Time::ZERO, sink));
    started.retain(|effect| matches!(scheduled(effect), Some(TimerKind::Seeds { .. })));
    let [Effect::Schedule(at, timer)] = &started[..] else { panic!("{started:?}") };
    let fired = effects(|sink| membership.handle_timer(*at, timer.clone(), sink));
    assert_eq!(fired.len(), 2, "one call, one new timer");
    let again = effects(|sink| membership.handle_timer(*at, timer.clone(), sink));
    assert_eq!(again, []);
}

#[test]
fn a_restart_with_a_clock_behind_is_told_what_to_exceed() {
    let mut net = Net::cluster(31, 3);
    net.kill(2);
    net.run(S(5));
    let behind = net.add(seeded(&[0]), local("n2", address(2), 7));
    net.run(S(2));
    let incarnation = Incarnation(1_002);
    assert_eq!(net.nodes[behind].faults, [MemberFault::Superseded { by: address(2), incarnation }]);
}
