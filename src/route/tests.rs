//! What a route table promises: it depends on view and spec alone, and holds what they say.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::build::SharedSlots;
use super::super::collisions::NameCollisions;
use super::super::collisions::tests::colliding_names;
use super::super::spec::{LocalPreference, RouterSpec};
use super::super::strategy::StrategyKind;
use super::*;
use crate::base::{
    Incarnation, LayoutHash, Member, MemberState, MessageType, Path, Placed, Service, View,
};
use crate::hash::{HashSeed, MAX_CANDIDATES};

/// The layout of every message type in these tests that does not say another.
pub(in super::super) const LAYOUT: LayoutHash = LayoutHash(1);

/// A member that is up and reachable, with two workers.
pub(in super::super) fn member(number: u64, services: &[(&str, &[&str])]) -> Member {
    let name = format!("node-{number}");
    let life = NodeRef { node: NodeId::from_name(&name), incarnation: Incarnation(1) };
    Member {
        name: name.into(),
        workers: 2,
        app_version: "1".into(),
        services: (1..)
            .zip(services)
            .map(|(handler, (path, messages))| Service {
                path: path.parse().unwrap(),
                handler: HandlerId(handler),
                placed: Placed::EVERY,
                messages: messages.iter().map(|&name| MessageType::new(name, LAYOUT)).collect(),
            })
            .collect(),
        ..Member::plain(life, ([127, 0, 0, 1], 7_400 + number as u16).into())
    }
}

/// The view of the node with this number.
pub(in super::super) fn view(me: u64, members: Vec<Member>) -> View {
    View::new(member(me, &[]).node_ref(), 1, members)
}

fn server(number: u64) -> Member {
    member(number, &[("/user/a", &["x"])])
}

/// So many members that serve `/user/a`, seen by the first.
pub(in super::super) fn cluster(count: u64) -> View {
    view(1, (1..=count).map(server).collect())
}

pub(in super::super) fn with_weights(weights: &[u32]) -> View {
    let mut members: Vec<_> = (1..=weights.len() as u64).map(server).collect();
    for (member, weight) in members.iter_mut().zip(weights) {
        member.weight = *weight;
    }
    view(1, members)
}

fn spec(strategy: StrategyKind) -> RouterSpec {
    RouterSpec {
        slot_bits: 10,
        ..RouterSpec::new("/user/a".parse().unwrap(), strategy, HashSeed(7))
    }
}

pub(in super::super) fn table_of(view: View, strategy: StrategyKind) -> (RouterSpec, RouteTable) {
    let spec = spec(strategy);
    let table = RouteTable::build(&view, &spec, None);
    (spec, table)
}

pub(in super::super) fn table(count: u64, strategy: StrategyKind) -> (RouterSpec, RouteTable) {
    table_of(cluster(count), strategy)
}

fn nodes(table: &RouteTable) -> BTreeSet<NodeId> {
    table.routees().iter().map(|routee| routee.node.node).collect()
}

#[test]
fn each_worker_of_each_server_that_is_up_is_a_routee() {
    let mut members: Vec<_> = (1..=5).map(server).collect();
    members.remove(1);
    members.insert(1, member(8, &[("/user/b", &["x"])]));
    members[4].reachable = false;
    members[2].state = MemberState::Joining;
    members[3].state = MemberState::Leaving;
    members.push(member(6, &[("/user/b", &["x"])]));
    members.push(member(7, &[("/user/0", &["x"]), ("/user/a", &["x"]), ("/user/b", &["x"])]));
    let (_, table) = table_of(view(5, members.clone()), StrategyKind::ConsistentHash);

    assert_eq!(nodes(&table), BTreeSet::from([members[0].id, members[4].id, members[6].id]));
    assert_eq!(table.len(), 6);
    for (member, handler) in [(&members[0], 1), (&members[4], 1), (&members[6], 2)] {
        for worker in [WorkerIndex(0), WorkerIndex(1)] {
            let index = table.index_of(member.id, worker).expect("a routee");
            let expected = Routee {
                node: member.node_ref(),
                worker,
                handler: HandlerId(handler),
                weight: 100,
                local: member.id == members[4].id,
            };
            assert_eq!(table.routees()[usize::from(index)], expected);
        }
    }
    assert_eq!(table.index_of(members[0].id, WorkerIndex(2)), None);
    assert_eq!(table.index_of(members[5].id, WorkerIndex(0)), None);
    assert_eq!(table.local_routees().len(), 2);

    // Slot owners are routee indices.
    let slots = table.slots().expect("keyed");
    let identities: Vec<_> =
        table.routees().iter().map(|r| routee_identity(r.node.node, r.worker)).collect();
    assert_eq!(slots.candidates().iter().map(|c| c.id).collect::<Vec<_>>(), identities);
    assert!(slots.owners().iter().all(|&owner| usize::from(owner) < table.len()));
}

#[test]
fn only_keyed_strategies_pay_for_slots() {
    for kind in StrategyKind::BUILT_IN {
        assert_eq!(table(2, kind.clone()).1.slots().is_some(), kind.is_keyed());
    }
}

#[test]
fn all_roles_are_needed() {
    let roles = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<BTreeSet<_>>();
    let mut members: Vec<_> = (1..=4).map(server).collect();
    members[0].roles = roles(&["eu"]);
    members[1].roles = roles(&["eu", "gpu", "x"]);
    members[2].roles = roles(&["gpu"]);
    let expected = members[1].id;
    let spec = RouterSpec { roles: roles(&["eu", "gpu"]), ..spec(StrategyKind::Random) };
    assert_eq!(nodes(&RouteTable::build(&view(1, members), &spec, None)), [expected].into());
}

#[test]
fn excluding_local_routees_is_the_only_thing_that_differs_between_nodes() {
    for (local, same) in [
        (LocalPreference::Any, true),
        (LocalPreference::Prefer, true),
        (LocalPreference::Exclude, false),
    ] {
        let spec = RouterSpec { local, ..spec(StrategyKind::ConsistentHash) };
        let one = RouteTable::build(&cluster(3), &spec, None);
        let mut elsewhere = cluster(3);
        elsewhere.me = server(2).node_ref();
        let two = RouteTable::build(&elsewhere, &spec, None);
        assert_eq!(one.digest() == two.digest(), same, "{local:?}");
        assert_eq!(one.len(), if same { 6 } else { 4 });
        assert_eq!(one.local_routees().len(), if same { 2 } else { 0 });
        assert_ne!(one, two);
    }
}

#[test]
fn limits_spread_over_nodes_and_are_counted() {
    let mut members: Vec<_> = (1..=4).map(server).collect();
    for member in &mut members {
        member.workers = 5;
    }
    let view = view(1, members);
    let build = |max_routees_per_node, max_routees| {
        let spec =
            RouterSpec { max_routees_per_node, max_routees, ..spec(StrategyKind::RoundRobin) };
        let table = RouteTable::build(&view, &spec, None);
        let mut per_node = BTreeMap::<_, usize>::new();
        for routee in table.active(|_| true).iter() {
            let routee = table.routees()[usize::from(routee)];
            *per_node.entry(routee.node.node).or_default() += 1;
        }
        let mut counts: Vec<_> = per_node.into_values().collect();
        counts.sort();
        (counts, table.over_limit())
    };
    assert_eq!(build(None, None), (vec![5; 4], 0));
    assert_eq!(build(Some(2), None), (vec![2; 4], 12));
    assert_eq!(build(Some(9), None), (vec![5; 4], 0));
    assert_eq!(build(None, Some(6)), (vec![1, 1, 2, 2], 14));
    assert_eq!(build(None, Some(3)), (vec![1; 3], 17));
    assert_eq!(build(Some(2), Some(7)), (vec![1, 2, 2, 2], 13));
}

/// A router over one routee would otherwise serve nobody until a dead node is removed.
#[test]
fn those_beyond_a_limit_stand_in_for_silent_ones() {
    let spec = RouterSpec { max_routees: Some(3), ..spec(StrategyKind::ConsistentHash) };
    let table = RouteTable::build(&cluster(4), &spec, None);
    assert_eq!((table.len(), table.over_limit()), (8, 5));
    let first = table.active(|_| true);
    assert_eq!(first.count(), 3);
    let silent = first.at_or_after(0).unwrap();
    let next = table.active(|routee| routee != usize::from(silent));
    assert_eq!((next.count(), next.contains(silent)), (3, false));
    assert_eq!(first.iter().filter(|routee| next.contains(*routee)).count(), 2);
    for slot in 0..1u64 << spec.slot_bits {
        let key_hash = slot << (64 - spec.slot_bits);
        let (before, after) = (table.owner(key_hash, &first), table.owner(key_hash, &next));
        assert!(before == after || before == Some(silent), "{slot}");
        assert!(next.contains(after.unwrap()));
    }
    assert_eq!(table.active(|_| false).count(), 0);
}

/// One who falls silent makes no new table, and its keys go where a table without it has them.
#[test]
fn keys_of_silent_members_go_to_the_next_in_order() {
    let mut members: Vec<_> = (1..=5).map(server).collect();
    for (member, weight) in members.iter_mut().zip([100, 50, 100, 300, 7]) {
        member.weight = weight;
    }
    let spec = spec(StrategyKind::ConsistentHash);
    let all = RouteTable::build(&view(1, members.clone()), &spec, None);
    members[2].reachable = false;
    let masked = RouteTable::build(&view(1, members.clone()), &spec, None);
    assert!(masked == all, "reachability is in no table");
    let silent = members.remove(2).id;
    let without = RouteTable::build(&view(1, members), &spec, None);
    let active = all.active(|routee| all.routees()[routee].node.node != silent);
    let mut moved = 0;
    for slot in 0..1u64 << spec.slot_bits {
        let key_hash = slot << (64 - spec.slot_bits);
        let routee = |table: &RouteTable, owner: Option<u16>| {
            table.routees()[usize::from(owner.expect("somebody is there"))]
        };
        let owner = routee(&all, all.owner(key_hash, &active));
        let everyone = RouteeSet::all(without.len());
        assert_eq!(owner, routee(&without, without.owner(key_hash, &everyone)));
        moved += u32::from(owner != routee(&all, all.slots().map(|slots| slots.lookup(key_hash))));
    }
    assert!(moved > 50, "{moved} keys had the silent owner");
}

/// Otherwise all limited routers would load the same workers.
#[test]
fn limited_routers_use_different_workers() {
    let workers: BTreeSet<_> = (0..20)
        .map(|number| {
            let path: Path = format!("/user/{number}").parse().unwrap();
            let mut member = member(1, &[(&path, &["x"])]);
            member.workers = 8;
            let spec = RouterSpec {
                path,
                max_routees_per_node: Some(1),
                ..spec(StrategyKind::RoundRobin)
            };
            let table = RouteTable::build(&view(1, vec![member]), &spec, None);
            let only = table.active(|_| true).at_or_after(0).unwrap();
            table.routees()[usize::from(only)].worker
        })
        .collect();
    assert!(workers.len() >= 5, "{workers:?}");
}

#[test]
fn a_member_cannot_ask_for_more_than_a_table_holds() {
    let mut members: Vec<_> = (1..=70).map(server).collect();
    for member in &mut members {
        member.workers = u16::MAX;
        member.weight = u32::MAX;
    }
    members[0].weight = 0;
    let view = view(1, members);
    let table = RouteTable::build(&view, &spec(StrategyKind::RoundRobin), None);
    assert_eq!(table.len(), MAX_CANDIDATES);
    assert_eq!(table.over_limit() as usize, 70 * usize::from(u16::MAX) - MAX_CANDIDATES);
    let weights: BTreeSet<_> = table.routees().iter().map(|routee| routee.weight).collect();
    assert_eq!(weights, [1, 1_000].into());
}

#[test]
fn a_colliding_name_refuses_its_routees() {
    let (first, second) = colliding_names();
    let mut members: Vec<_> =
        (1..=3).map(|number| member(number, &[("/user/a", &[&first])])).collect();
    members.push(member(4, &[("/user/a", &[&second, "x"]), ("/user/b", &["x"])]));
    let view = view(1, members.clone());

    let (_, table) = table_of(view.clone(), StrategyKind::ConsistentHash);
    assert_eq!(table.len(), 6);
    assert!(!nodes(&table).contains(&members[3].id));
    let [refused] = table.refused() else { panic!("{:?}", table.refused()) };
    assert_eq!((refused.node, refused.count), (members[3].node_ref(), 2));
    assert_eq!(
        (&*refused.collision.kept.name, &*refused.collision.refused.name),
        (&*first, &*second)
    );

    // Other paths of the same node go on.
    let spec = RouterSpec { path: "/user/b".parse().unwrap(), ..spec(StrategyKind::Random) };
    let table = RouteTable::build(&view, &spec, None);
    assert_eq!((table.len(), table.refused()), (2, &[][..]));
}

/// Some of the workers of a node.
fn some(workers: &[u16]) -> Placed {
    Placed::new(workers.iter().copied().map(WorkerIndex).collect(), u16::MAX).unwrap()
}

#[test]
fn a_service_has_routees_on_those_workers_that_run_it_and_on_no_others() {
    let mut members: Vec<_> = (1..=4).map(server).collect();
    let placed: [&[u16]; 4] = [&[], &[3], &[0, 2], &[1, 9]];
    for (member, placed) in members.iter_mut().zip(placed) {
        member.workers = 4;
        member.services[0].placed = some(placed);
    }
    let view = view(1, members.clone());
    // Worker 9 is beyond what its node has.
    let there: [&[u16]; 4] = [&[0, 1, 2, 3], &[3], &[0, 2], &[1]];
    for kind in StrategyKind::BUILT_IN {
        let (_, table) = table_of(view.clone(), kind.clone());
        assert_eq!((table.len(), table.over_limit()), (8, 0));
        for (member, there) in members.iter().zip(there) {
            for worker in 0..12 {
                let found = table.index_of(member.id, WorkerIndex(worker));
                assert_eq!(found.is_some(), there.contains(&worker), "{worker} of {}", member.name);
            }
        }
    }

    // Limits count the routees that there are.
    let build = |max_routees_per_node, max_routees| {
        let spec =
            RouterSpec { max_routees_per_node, max_routees, ..spec(StrategyKind::RoundRobin) };
        let table = RouteTable::build(&view, &spec, None);
        (table.active(|_| true).count(), table.over_limit())
    };
    assert_eq!(build(Some(1), None), (4, 4));
    assert_eq!(build(Some(2), None), (6, 2));
    assert_eq!(build(None, Some(3)), (3, 5));
}

#[test]
fn who_stands_in_for_whom_counts_in_the_digest() {
    let view = view(1, (1..=5).map(server).collect());
    let digest = |max_routees| {
        let spec = RouterSpec { max_routees, ..spec(StrategyKind::RoundRobin) };
        RouteTable::build(&view, &spec, None).digest()
    };
    assert_ne!(digest(Some(2)), digest(Some(3)));
    assert_eq!(digest(Some(2)), digest(Some(2)));
}

#[test]
fn slots_are_shared_only_where_keys_are_hashed_alike() {
    let view = view(1, (1..=5).map(server).collect());
    let (collisions, mut shared) = (NameCollisions::of(&view), SharedSlots::default());
    for (seed, slot_bits) in [(1, 12), (2, 12), (1, 13), (2, 12)] {
        let seed = HashSeed(seed);
        let spec = RouterSpec { seed, slot_bits, ..spec(StrategyKind::ConsistentHash) };
        let with = RouteTable::build_with(&view, &collisions, &spec, None, &mut shared);
        assert!(with == RouteTable::build(&view, &spec, None), "{seed:?} {slot_bits}");
    }
}

#[derive(Clone, Debug)]
enum Change {
    Join(u64),
    Leave(u64),
    FlipReachable(u64),
    Weigh(u64, u32),
    Restart(u64),
    Workers(u64, u16),
    Place(u64, Placed),
}

impl Change {
    /// Whom it changes.
    fn node(&self) -> u64 {
        let (Self::Join(node)
        | Self::Leave(node)
        | Self::FlipReachable(node)
        | Self::Weigh(node, _)
        | Self::Restart(node)
        | Self::Workers(node, _)
        | Self::Place(node, _)) = *self;
        node
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let node = 1u64..10;
    let change = prop_oneof![
        3 => node.clone().prop_map(Change::Join),
        2 => node.clone().prop_map(Change::Leave),
        2 => node.clone().prop_map(Change::FlipReachable),
        2 => (node.clone(), prop_oneof![Just(50), Just(100), 0u32..2_000])
            .prop_map(|(node, weight)| Change::Weigh(node, weight)),
        1 => node.clone().prop_map(Change::Restart),
        1 => (node.clone(), 0u16..5).prop_map(|(node, workers)| Change::Workers(node, workers)),
        2 => (node, prop::collection::btree_set(0u16..5, 0..4)).prop_map(|(node, workers)| {
            Change::Place(node, some(&workers.into_iter().collect::<Vec<_>>()))
        }),
    ];
    prop::collection::vec(change, 1..30)
}

fn apply(members: &mut BTreeMap<u64, Member>, change: &Change) {
    let node = change.node();
    match change {
        Change::Join(_) => {
            members.entry(node).or_insert_with(|| server(node));
        }
        Change::Leave(_) => {
            members.remove(&node);
        }
        _ => {
            let Some(member) = members.get_mut(&node) else { return };
            match change {
                Change::FlipReachable(_) => member.reachable = !member.reachable,
                Change::Weigh(_, weight) => member.weight = *weight,
                Change::Restart(_) => member.incarnation.0 += 1,
                Change::Workers(_, workers) => member.workers = *workers,
                Change::Place(_, placed) => member.services[0].placed = placed.clone(),
                Change::Join(_) | Change::Leave(_) => unreachable!("handled above"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The heart of agreement: however a node came to its view, its table is that of a node that
    /// just started.
    #[test]
    fn history_does_not_show(
        changes in changes(),
        max_routees in prop_oneof![Just(None), (1u32..20).prop_map(Some)],
        max_routees_per_node in prop_oneof![Just(None), (1u16..4).prop_map(Some)],
        skip in prop::collection::vec(any::<bool>(), 30),
    ) {
        let spec = RouterSpec {
            max_routees,
            max_routees_per_node,
            ..spec(StrategyKind::ConsistentHash)
        };
        let mut members = BTreeMap::new();
        let mut table: Option<RouteTable> = None;
        for (change, skip) in changes.iter().zip(skip) {
            apply(&mut members, change);
            // Nodes see changes in different portions.
            if skip {
                continue;
            }
            let list: Vec<_> = members.values().cloned().collect();
            let current = view(1, list.clone());
            let next = RouteTable::build(&current, &spec, table.as_ref());
            let fresh = RouteTable::build(&current, &spec, None);
            prop_assert!(next == fresh);
            prop_assert_eq!(next.digest(), fresh.digest());

            let elsewhere = RouteTable::build(&view(2, list), &spec, table.as_ref());
            prop_assert_eq!(elsewhere.digest(), fresh.digest());
            prop_assert_eq!(elsewhere.roster_digest(), fresh.roster_digest());
            prop_assert_eq!(elsewhere.slots(), fresh.slots());
            table = Some(next);
        }
    }

    /// Without limits, keys move only from and to nodes that changed.
    #[test]
    fn keys_of_unchanged_nodes_stay(
        history in changes(),
        change in changes().prop_map(|changes| changes[0].clone()),
    ) {
        let spec = spec(StrategyKind::ConsistentHash);
        let mut members = BTreeMap::new();
        history.iter().for_each(|change| apply(&mut members, change));
        let build = |members: &BTreeMap<u64, Member>| {
            RouteTable::build(&view(1, members.values().cloned().collect()), &spec, None)
        };
        let before = build(&members);
        apply(&mut members, &change);
        let after = build(&members);
        let changed = server(change.node()).id;
        for slot in 0..1u64 << spec.slot_bits {
            let owner = |table: &RouteTable| {
                let owner = table.slots().expect("keyed").lookup(slot << (64 - spec.slot_bits));
                table.routees().get(usize::from(owner)).map(|r| (r.node.node, r.worker))
            };
            let (from, to) = (owner(&before), owner(&after));
            if from != to {
                let involved = |owner: Option<(NodeId, _)>| owner.is_some_and(|(id, _)| id == changed);
                prop_assert!(involved(from) || involved(to));
                prop_assert!(!matches!(change, Change::Restart(_)));
            }
        }
    }
}
