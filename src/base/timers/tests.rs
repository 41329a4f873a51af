//! The wheel against what it stands for: a sorted list of deadlines.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TICK_NS: u64 = 1_000_000;

fn wheel() -> TimerWheel<u32> {
    TimerWheel::new(Duration::from_nanos(TICK_NS), Time::ZERO)
}

fn expired(wheel: &mut TimerWheel<u32>, now: Time) -> Vec<u32> {
    let mut fired = vec![];
    let count = wheel.expire(now, |value| fired.push(value));
    assert_eq!(count, fired.len());
    fired
}

#[test]
fn fires_never_early_and_within_a_tick() {
    let mut wheel = wheel();
    wheel.insert(Time(5 * TICK_NS + 1), 1);
    wheel.insert(Time(5 * TICK_NS), 2);
    assert_eq!(wheel.next_deadline(), Some(Time(5 * TICK_NS)));
    assert!(expired(&mut wheel, Time(5 * TICK_NS - 1)).is_empty());
    assert_eq!(expired(&mut wheel, Time(5 * TICK_NS)), [2]);
    assert!(expired(&mut wheel, Time(6 * TICK_NS - 1)).is_empty());
    assert_eq!(expired(&mut wheel, Time(6 * TICK_NS)), [1]);
    assert!(wheel.is_empty());
}

#[test]
fn timers_of_one_tick_fire_in_the_order_of_insertion_whatever_level_they_came_from() {
    let mut wheel = wheel();
    let at = Time(5_000 * TICK_NS);
    wheel.insert(at, 1); // 5,000 ticks ahead: level 2
    expired(&mut wheel, Time(4_950 * TICK_NS));
    wheel.insert(at, 2); // level 1
    expired(&mut wheel, Time(4_999 * TICK_NS));
    wheel.insert(at, 3); // level 0
    assert_eq!(expired(&mut wheel, at), [1, 2, 3]);
}

#[test]
fn what_is_past_at_insertion_fires_next() {
    let mut wheel = wheel();
    expired(&mut wheel, Time(100 * TICK_NS));
    wheel.insert(Time(101 * TICK_NS), 1);
    wheel.insert(Time(50 * TICK_NS), 2);
    assert_eq!(wheel.next_deadline(), Some(Time(100 * TICK_NS)));
    assert_eq!(expired(&mut wheel, Time(99 * TICK_NS)), [2], "even if time stood still");
    assert_eq!(expired(&mut wheel, Time(101 * TICK_NS)), [1]);
}

#[test]
fn a_stale_key_names_nothing() {
    let mut wheel = wheel();
    let first = wheel.insert(Time(TICK_NS), 1);
    assert_eq!(wheel.get(first), Some(&1));
    assert_eq!(wheel.cancel(first), Some(1));
    let second = wheel.insert(Time(TICK_NS), 2);
    assert_eq!(wheel.get(first), None);
    assert_eq!(wheel.cancel(first), None);
    assert_eq!(expired(&mut wheel, Time(TICK_NS)), [2]);
    assert_eq!(wheel.get(second), None);
    assert_eq!(wheel.cancel(second), None);
}

#[test]
fn the_last_deadline_there_is_has_a_place() {
    for tick_ns in [1, TICK_NS, u64::MAX] {
        let mut wheel = TimerWheel::new(Duration::from_nanos(tick_ns), Time::ZERO);
        wheel.insert(Time::NEVER, 1);
        assert!(wheel.next_deadline().is_some());
        assert!(expired(&mut wheel, Time(u64::MAX - 1)).is_empty());
        // A tick that ends after the end of time never comes.
        let reached = u64::MAX % tick_ns == 0;
        assert_eq!(expired(&mut wheel, Time::NEVER).len(), usize::from(reached));
    }
}

#[test]
fn next_deadline_is_early_at_most_once_per_level() {
    let mut wheel = wheel();
    let at = Time(123_456_789 * TICK_NS);
    wheel.insert(at, 1);
    let mut looks = 0;
    while let Some(next) = wheel.next_deadline() {
        assert!(next <= at);
        expired(&mut wheel, next);
        looks += 1;
    }
    assert!(looks <= 5, "64^5 ticks reach further, yet it took {looks} looks");
}

#[test]
fn the_steady_path_takes_no_memory() {
    let mut wheel = TimerWheel::with_capacity(Duration::from_millis(1), Time::ZERO, 100);
    let capacity = wheel.nodes.capacity();
    for round in 0..100_u64 {
        for timer in 0..100 {
            wheel.insert(Time((round + timer % 7) * TICK_NS), 0);
        }
        expired(&mut wheel, Time((round + 7) * TICK_NS));
    }
    assert_eq!(wheel.nodes.capacity(), capacity);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { in_ns: u64 },
    Cancel { which: usize },
    Postpone { which: usize, by_ns: u64 },
    Advance { by_ns: u64 },
}

fn spans() -> impl Strategy<Value = u64> {
    // Around the borders of the levels as well as anywhere.
    prop_oneof![
        0..3 * TICK_NS,
        0..200 * TICK_NS,
        (0_u64..40, 0..3 * TICK_NS).prop_map(|(bits, more)| (TICK_NS << bits >> 4) + more),
        (60_u64..68).prop_map(|ticks| ticks * TICK_NS),
        (4_090_u64..4_100).prop_map(|ticks| ticks * TICK_NS),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => spans().prop_map(|in_ns| Step::Insert { in_ns }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => (any::<usize>(), spans())
            .prop_map(|(which, by_ns)| Step::Postpone { which, by_ns }),
        2 => spans().prop_map(|by_ns| Step::Advance { by_ns }),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn behaves_like_a_sorted_map(steps in steps(), start in 0..u64::MAX / 4) {
        let mut wheel = TimerWheel::new(Duration::from_nanos(TICK_NS), Time(start));
        // Ordered by tick and then by insertion. A deadline already past when inserted counts
        // as tick 0: it comes before all others.
        let mut model = BTreeMap::new();
        let mut keys = vec![];
        let mut now = start;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { in_ns } => {
                    // Some lie in the past.
                    let at = (now + in_ns).saturating_sub(TICK_NS);
                    let at_tick = at.div_ceil(TICK_NS);
                    let tick = if at_tick <= now / TICK_NS { 0 } else { at_tick };
                    model.insert((tick, number), number);
                    keys.push((wheel.insert(Time(at), number), (tick, number), at_tick));
                }
                Step::Cancel { which } => {
                    if !keys.is_empty() {
                        let (key, place, _) = keys[which % keys.len()];
                        let expected = model.remove(&place);
                        prop_assert_eq!(wheel.get(key).copied(), expected);
                        prop_assert_eq!(wheel.cancel(key), expected);
                    }
                }
                Step::Postpone { which, by_ns } => {
                    // It then comes behind all others of its tick.
                    let key = which.checked_rem(keys.len()).map(|at| &mut keys[at]);
                    if let Some((key, place, at_tick)) = key {
                        wheel.postpone(*key, Duration::from_nanos(by_ns));
                        if let Some(value) = model.remove(place) {
                            *at_tick += by_ns.div_ceil(TICK_NS);
                            let past = *at_tick <= now / TICK_NS;
                            *place = (if past { 0 } else { *at_tick }, number);
                            model.insert(*place, value);
                        }
                    }
                }
                Step::Advance { by_ns } => {
                    now += by_ns;
                    let later = model.split_off(&(now / TICK_NS + 1, 0));
                    let due = std::mem::replace(&mut model, later);
                    let due: Vec<_> = due.into_values().collect();
                    let mut fired = vec![];
                    wheel.expire(Time(now), |value| fired.push(value));
                    prop_assert_eq!(fired, due);
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            let first = model.keys().next().map(|&(tick, _)| {
                Time(tick.max(now / TICK_NS) * TICK_NS)
            });
            match (wheel.next_deadline(), first) {
                (None, None) => {}
                (Some(next), Some(first)) => {
                    prop_assert!(next <= first, "{next:?} is after {first:?}");
                    // Exact as soon as the timer is near.
                    if first.0 / TICK_NS / 64 == now / TICK_NS / 64 {
                        prop_assert_eq!(next, first);
                    }
                }
                other => prop_assert!(false, "wheel and model differ: {other:?}"),
            }
        }
        let rest: Vec<_> = model.into_values().collect();
        let mut fired = vec![];
        wheel.expire(Time::NEVER, |value| fired.push(value));
        prop_assert_eq!(fired, rest);
    }
}
