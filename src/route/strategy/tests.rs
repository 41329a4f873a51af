//! What each strategy promises.

use super::super::table::tests::{cluster, table, table_of, with_weights};
use super::super::{LocalPreference, Picker, RouterSpec};
use super::*;
use crate::hash::{HashKey, HashSeed};

/// How often each routee is picked in so many picks.
fn counts(picker: &mut Picker, table: &RouteTable, usable: &RouteeSet, picks: usize) -> Vec<usize> {
    let mut counts = vec![0; table.len()];
    for _ in 0..picks {
        match picker.pick(table, None, usable, usable) {
            Pick::One(routee) => counts[usize::from(routee)] += 1,
            other => panic!("{other:?}"),
        }
    }
    counts
}

fn picked(picker: &mut Picker, table: &RouteTable, usable: &RouteeSet, picks: usize) -> Vec<u16> {
    let one = |picker: &mut Picker| match picker.pick(table, None, usable, usable) {
        Pick::One(routee) => routee,
        other => panic!("{other:?}"),
    };
    (0..picks).map(|_| one(picker)).collect()
}

#[test]
fn names_lead_back_to_strategies() {
    for kind in StrategyKind::BUILT_IN {
        assert_eq!(kind.name().parse::<StrategyKind>().unwrap().name(), kind.name());
    }
    assert_eq!(
        "fastest".parse::<StrategyKind>().unwrap_err().to_string(),
        "cannot build the router: option `strategy` is \"fastest\", but must be one of \
         round-robin, random, broadcast, consistent-hash"
    );
}

#[test]
fn every_reason_for_nobody_is_named() {
    for kind in StrategyKind::BUILT_IN {
        let (spec, full) = table(3, kind.clone());
        let (_, empty) = table(0, kind.clone());
        let mut picker = Picker::new(&spec, 1);
        let mut pick = |table: &RouteTable, usable: RouteeSet| {
            picker.pick(table, Some(5), &RouteeSet::all(table.len()), &usable)
        };
        let none = pick(&empty, RouteeSet::none(0));
        assert_eq!(none, Pick::None(NoRoutee::NoRoutees), "{kind:?}");
        let down = pick(&full, RouteeSet::none(full.len()));
        if kind.is_keyed() {
            assert!(matches!(down, Pick::One(_)), "keys do not follow a node's own links");
            let all = RouteeSet::all(full.len());
            let unkeyed = picker.pick(&full, None, &all, &all);
            let silent = RouteeSet::none(full.len());
            let silent = picker.pick(&full, Some(5), &silent, &silent);
            assert_eq!(silent, Pick::None(NoRoutee::NoneUsable), "they follow who answers");
            assert_eq!(unkeyed, Pick::None(NoRoutee::MissingKey));
        } else {
            assert_eq!(down, Pick::None(NoRoutee::NoneUsable), "{kind:?}");
        }
    }
}

#[test]
fn round_robin_takes_turns() {
    let (spec, table) = table(3, StrategyKind::RoundRobin);
    let mut picker = Picker::new(&spec, 1);
    let mut usable = RouteeSet::all(6);
    let first = picked(&mut picker, &table, &usable, 1)[0];
    let expected: Vec<_> = (1..=12).map(|step| (first + step) % 6).collect();
    assert_eq!(picked(&mut picker, &table, &usable, 12), expected);

    // One that goes down is left out at once, and takes its turn again when it is back.
    usable.set(2, false);
    assert_eq!(counts(&mut picker, &table, &usable, 50), [10, 10, 0, 10, 10, 10]);
    usable.set(2, true);
    assert_eq!(counts(&mut picker, &table, &usable, 60), [10; 6]);
}

#[test]
fn pickers_start_at_different_places() {
    let (spec, table) = table(50, StrategyKind::RoundRobin);
    let usable = RouteeSet::all(table.len());
    let mut firsts: Vec<_> =
        (0..20).map(|seed| picked(&mut Picker::new(&spec, seed), &table, &usable, 1)[0]).collect();
    firsts.sort();
    firsts.dedup();
    assert!(firsts.len() > 12, "{firsts:?}");
}

#[test]
fn weighted_turns_are_exact_over_a_period() {
    let weights = [100, 25, 50, 100, 1, 75];
    let (spec, table) = table_of(with_weights(&weights), StrategyKind::RoundRobin);
    let usable = RouteeSet::all(table.len());
    let mut picker = Picker::new(&spec, 3);
    // Two workers each; 100 laps.
    let total: u32 = table.routees().iter().map(|routee| routee.weight).sum();
    assert_eq!(total, 2 * weights.iter().sum::<u32>());
    picked(&mut picker, &table, &usable, 57);
    let counts = counts(&mut picker, &table, &usable, total as usize * 3);
    for (routee, count) in table.routees().iter().zip(counts) {
        assert_eq!(count, routee.weight as usize * 3);
    }
}

#[test]
fn weights_are_kept_to_whoever_of_the_routees_is_usable() {
    let weights = [100, 25, 50, 100, 1, 75];
    let (spec, table) = table_of(with_weights(&weights), StrategyKind::RoundRobin);
    let weight = |index: usize| table.routees()[index].weight;
    // Of six nodes with two workers each, every choice of those that answer.
    for answer in 1_u32..64 {
        let usable = RouteeSet::from_fn(table.len(), |index| answer >> (index / 2) & 1 == 1);
        let total: u32 =
            (0..table.len()).filter(|at| usable.contains(*at as u16)).map(weight).sum();
        let mut picker = Picker::new(&spec, answer.into());
        picked(&mut picker, &table, &usable, 3);
        let counts = counts(&mut picker, &table, &usable, total as usize * 2);
        for (index, count) in counts.into_iter().enumerate() {
            let share = if usable.contains(index as u16) { weight(index) as usize * 2 } else { 0 };
            assert_eq!(count, share, "routee {index} of weight {}, {answer:b}", weight(index));
        }
    }
}

#[test]
fn light_routees_still_serve_alone() {
    let (spec, table) = table_of(with_weights(&[1_000, 1, 1]), StrategyKind::RoundRobin);
    let light = |index: usize| table.routees()[index].weight == 1;
    let usable = RouteeSet::from_fn(table.len(), light);
    let counts = counts(&mut Picker::new(&spec, 1), &table, &usable, 400);
    for (index, count) in counts.into_iter().enumerate() {
        assert!(if light(index) { (90..=110).contains(&count) } else { count == 0 });
    }
}

#[test]
fn random_follows_weights_and_links() {
    for weights in [vec![100; 4], vec![50, 100, 150, 300]] {
        let (spec, table) = table_of(with_weights(&weights), StrategyKind::Random);
        for down in [vec![], vec![3], vec![0, 1, 2, 4, 5, 6]] {
            let usable = RouteeSet::from_fn(table.len(), |index| !down.contains(&index));
            let counts = counts(&mut Picker::new(&spec, 9), &table, &usable, 40_000);
            let total: u32 =
                usable.iter().map(|index| table.routees()[usize::from(index)].weight).sum();
            for (index, count) in counts.into_iter().enumerate() {
                if down.contains(&index) {
                    assert_eq!(count, 0);
                    continue;
                }
                let fair = 40_000.0 * f64::from(table.routees()[index].weight) / f64::from(total);
                // Five deviations of the rarest.
                assert!((count as f64 / fair - 1.0).abs() < 0.12, "{index}: {count} for {fair}");
            }
        }
    }
}

#[test]
fn equal_seeds_pick_alike() {
    let (spec, table) = table(5, StrategyKind::Random);
    let usable = RouteeSet::all(table.len());
    let run = |seed| picked(&mut Picker::new(&spec, seed), &table, &usable, 100);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn local_routees_come_first_when_preferred() {
    for kind in [StrategyKind::RoundRobin, StrategyKind::Random] {
        let spec = RouterSpec {
            local: LocalPreference::Prefer,
            ..RouterSpec::new("/user/a".parse().unwrap(), kind, HashSeed(1))
        };
        let table = RouteTable::build(&cluster(4), &spec, None);
        let local = table.local_routees().to_vec();
        assert_eq!(local.len(), 2);
        let mut picker = Picker::new(&spec, 1);
        let mut usable = RouteeSet::all(table.len());

        let both = counts(&mut picker, &table, &usable, 1_000);
        let share = |index: u16| both[usize::from(index)];
        assert_eq!(share(local[0]) + share(local[1]), 1_000);
        assert!(share(local[0]) > 400 && share(local[1]) > 400);

        usable.set(local[0], false);
        assert!(picked(&mut picker, &table, &usable, 10).iter().all(|&one| one == local[1]));
        usable.set(local[1], false);
        let remote = counts(&mut picker, &table, &usable, 600);
        assert!(remote.iter().filter(|&&count| count > 50).count() == 6, "{remote:?}");
    }
}

#[test]
fn broadcast_is_all_while_anyone_is_usable() {
    let (spec, table) = table(3, StrategyKind::Broadcast);
    let mut usable = RouteeSet::none(6);
    usable.set(4, true);
    assert_eq!(Picker::new(&spec, 1).pick(&table, None, &usable, &usable), Pick::All);
}

#[test]
fn a_keys_owner_is_the_same_from_every_node_and_over_a_restart() {
    let seed = HashSeed(1);
    let spec = RouterSpec {
        slot_bits: 12,
        ..RouterSpec::new("/user/a".parse().unwrap(), StrategyKind::ConsistentHash, seed)
    };
    let view = cluster(5);
    let mut elsewhere = view.clone();
    elsewhere.me = view.members[3].node_ref();
    let mut restarted = view.members.clone();
    Arc::make_mut(&mut restarted[2]).incarnation.0 += 1;
    let restarted = crate::base::View::new(view.me, 2, restarted);

    let table = |view| RouteTable::build(view, &spec, None);
    let (here, there, later) = (table(&view), table(&elsewhere), table(&restarted));
    assert_eq!(here.digest(), there.digest());
    assert_ne!(here.digest(), later.digest());
    let (all, none) = (RouteeSet::all(here.len()), RouteeSet::none(here.len()));
    for key in 0u64..1_000 {
        let owner = |table: &RouteTable| match Picker::new(&spec, key).pick(
            table,
            Some(key.hash_key(seed)),
            &all,
            &none,
        ) {
            Pick::One(index) => {
                let routee = table.routees()[usize::from(index)];
                (routee.node.node, routee.worker)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(owner(&here), owner(&there));
        assert_eq!(owner(&here), owner(&later));
    }
}
