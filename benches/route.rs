//! Consistent hashing: lookup, rebuild, balance and movement of slot tables, beside a ring with 200
//! points per node and a Maglev table; and what a whole pick costs.
//!
//! `cargo bench --bench route` measures all; `cargo bench --bench route -- balance` prints only the
//! report on balance and movement, which needs no clock.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keyway::base::{
    HandlerId, Incarnation, LayoutHash, Member, MemberState, MessageType, NodeId, NodeRef, Placed,
    Service, View,
};
use keyway::control::destinations::Destinations;
use keyway::hash::{Candidate, DEFAULT_SLOT_BITS, HashKey, HashSeed, SlotTable};
use keyway::route::snapshot::{RouterState, Snapshot};
use keyway::route::{Picker, RouteTable, RouteeSet, RouterSpec, Strategy as _, StrategyKind};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SEED: HashSeed = HashSeed(0x1234_5678_9abc_def0);
const NODES: [usize; 4] = [3, 10, 100, 1_000];

fn candidates(count: usize) -> Vec<Candidate> {
    (0..count)
        .map(|node| Candidate { id: NodeId::from_name(&format!("node-{node}")).0, weight: 100 })
        .collect()
}

fn hash(id: u64, salt: u64) -> u64 {
    xxh3_64_with_seed(&id.to_le_bytes(), SEED.0 ^ salt)
}

/// Karger's ring: each node at 200 points, a key belongs to the first point at or after it.
struct Ring {
    points: Vec<u64>,
    owners: Vec<u16>,
}

impl Ring {
    const POINTS: u64 = 200;

    fn build(nodes: &[Candidate]) -> Self {
        let mut all: Vec<(u64, u16)> = nodes
            .iter()
            .zip(0..)
            .flat_map(|(node, index)| {
                (0..Self::POINTS).map(move |point| (hash(node.id, point), index))
            })
            .collect();
        all.sort_unstable();
        Self {
            points: all.iter().map(|&(point, _)| point).collect(),
            owners: all.iter().map(|&(_, owner)| owner).collect(),
        }
    }

    #[inline]
    fn lookup(&self, key_hash: u64) -> u16 {
        let place = self.points.partition_point(|&point| point < key_hash);
        self.owners[if place == self.points.len() { 0 } else { place }]
    }

    /// The new node's points merged into the sorted ones.
    fn join(&self, node: Candidate) -> Self {
        let joiner = (self.points.len() as u64 / Self::POINTS) as u16;
        let mut new: Vec<u64> = (0..Self::POINTS).map(|point| hash(node.id, point)).collect();
        new.sort_unstable();
        let mut points = Vec::with_capacity(self.points.len() + new.len());
        let mut owners = Vec::with_capacity(points.capacity());
        let mut new = new.into_iter().peekable();
        for (&point, &owner) in self.points.iter().zip(&self.owners) {
            while let Some(joined) = new.next_if(|&joined| joined < point) {
                points.push(joined);
                owners.push(joiner);
            }
            points.push(point);
            owners.push(owner);
        }
        for joined in new {
            points.push(joined);
            owners.push(joiner);
        }
        Self { points, owners }
    }
}

/// Maglev: nodes take turns to claim the next free slot of their own permutation of the table.
/// (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 2016.)
struct Maglev {
    owners: Vec<u16>,
}

impl Maglev {
    /// The first prime above 2^19, so that it is as large as the default slot table. The paper's
    /// sizes are 65,537 and 655,373.
    const SLOTS: usize = 524_309;

    fn build(nodes: &[Candidate]) -> Self {
        let slots = Self::SLOTS as u64;
        // Position and step of each node's permutation.
        let mut walks: Vec<(u64, u64)> = nodes
            .iter()
            .map(|node| (hash(node.id, 1) % slots, hash(node.id, 2) % (slots - 1) + 1))
            .collect();
        let mut owners = vec![u16::MAX; Self::SLOTS];
        let mut free = Self::SLOTS;
        loop {
            for ((position, step), node) in walks.iter_mut().zip(0..) {
                let slot = loop {
                    let slot = *position as usize;
                    *position += *step;
                    if *position >= slots {
                        *position -= slots;
                    }
                    if owners[slot] == u16::MAX {
                        break slot;
                    }
                };
                owners[slot] = node;
                free -= 1;
                if free == 0 {
                    return Self { owners };
                }
            }
        }
    }

    #[inline]
    fn lookup(&self, key_hash: u64) -> u16 {
        // The high half of a product: as even as a modulo, without its division.
        let slot = (u128::from(key_hash) * Self::SLOTS as u128) >> 64;
        self.owners[slot as usize]
    }
}

fn slots(nodes: &[Candidate]) -> SlotTable {
    SlotTable::build(DEFAULT_SLOT_BITS, SEED, nodes)
}

/// Key hashes without end: a step of a linear congruential generator, whose top bits are good.
#[inline]
fn next(key_hash: u64) -> u64 {
    key_hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

/// Max over mean of the owners' key counts, and the part of the keys that a join moves between
/// nodes that were there before and after.
fn report(name: &str, nodes: usize, before: impl Fn(u64) -> u64, after: impl Fn(u64) -> u64) {
    // Finer than any of the tables, so that every slot and arc is seen at its size.
    const KEYS: u64 = 1 << 24;
    let ids = candidates(nodes + 1);
    let joiner = ids[nodes].id;
    let mut sorted: Vec<u64> = ids.iter().map(|candidate| candidate.id).collect();
    sorted.sort_unstable();
    let mut counts = vec![0u64; sorted.len()];
    let (mut moved, mut gained, mut needless) = (0u64, 0u64, 0u64);
    for key in 0..KEYS {
        let key_hash = key << 40 | 1 << 39;
        let (from, to) = (before(key_hash), after(key_hash));
        counts[sorted.binary_search(&from).expect("a known node")] += 1;
        moved += u64::from(from != to);
        gained += u64::from(to == joiner);
        needless += u64::from(from != to && to != joiner);
    }
    let max = *counts.iter().max().expect("there are nodes") as f64;
    println!(
        "{name:>6} {nodes:>5} nodes: max/mean {:.4}, a join moves {:.4} % (joiner gains {:.4} %, \
         needless {:.4} %)",
        max * nodes as f64 / KEYS as f64,
        100.0 * moved as f64 / KEYS as f64,
        100.0 * gained as f64 / KEYS as f64,
        100.0 * needless as f64 / KEYS as f64,
    );
}

fn balance(_: &mut Criterion) {
    // Criterion's filter does not reach code outside of its benchmarks.
    let filters: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if !filters.is_empty() && !filters.iter().any(|filter| filter == "balance") {
        return;
    }
    for count in NODES {
        let (old, new) = (candidates(count), candidates(count + 1));
        let (before, after) = (slots(&old), slots(&new));
        let id = |table: &SlotTable, key| table.candidates()[usize::from(table.lookup(key))].id;
        report("slots", count, |key| id(&before, key), |key| id(&after, key));
        let (before, after) = (Ring::build(&old), Ring::build(&new));
        let id = |owner: u16| new[usize::from(owner)].id;
        report("ring", count, |key| id(before.lookup(key)), |key| id(after.lookup(key)));
        let (before, after) = (Maglev::build(&old), Maglev::build(&new));
        report("maglev", count, |key| id(before.lookup(key)), |key| id(after.lookup(key)));
    }
}

fn lookup(c: &mut Criterion) {
    // Independent keys, as in a batch of messages: reads overlap.
    let mut group = c.benchmark_group("lookup");
    for count in NODES {
        let nodes = candidates(count);
        macro_rules! one {
            ($name:literal, $table:expr) => {
                let table = $table;
                group.bench_function(BenchmarkId::new($name, count), |b| {
                    let mut key_hash = 1;
                    b.iter(|| {
                        key_hash = next(key_hash);
                        black_box(&table).lookup(key_hash)
                    });
                });
            };
        }
        one!("slots", slots(&nodes));
        one!("slots_2^18", SlotTable::build(18, SEED, &nodes));
        one!("slots_2^20", SlotTable::build(20, SEED, &nodes));
        one!("ring", Ring::build(&nodes));
        one!("maglev", Maglev::build(&nodes));
    }
    group.finish();

    // Each key depends on the answer before: the whole way to the cache and back.
    let mut group = c.benchmark_group("lookup_dependent");
    for count in NODES {
        let nodes = candidates(count);
        macro_rules! one {
            ($name:literal, $table:expr) => {
                let table = $table;
                group.bench_function(BenchmarkId::new($name, count), |b| {
                    let mut key_hash = 1;
                    b.iter(|| {
                        key_hash = next(key_hash ^ u64::from(black_box(&table).lookup(key_hash)));
                        key_hash
                    });
                });
            };
        }
        one!("slots", slots(&nodes));
        one!("slots_2^18", SlotTable::build(18, SEED, &nodes));
        one!("slots_2^20", SlotTable::build(20, SEED, &nodes));
        one!("ring", Ring::build(&nodes));
        one!("maglev", Maglev::build(&nodes));
    }
    group.finish();
}

fn rebuild(c: &mut Criterion) {
    let mut group = c.benchmark_group("rebuild");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    for count in NODES {
        let (old, new) = (candidates(count), candidates(count + 1));
        group.bench_function(BenchmarkId::new("slots_full", count), |b| b.iter(|| slots(&new)));
        let (before, after) = (slots(&old), slots(&new));
        group.bench_function(BenchmarkId::new("slots_join", count), |b| {
            b.iter(|| before.update(&new));
        });
        group.bench_function(BenchmarkId::new("slots_leave", count), |b| {
            b.iter(|| after.update(&old));
        });
        let mut weighted = new.clone();
        for (node, weight) in weighted.iter_mut().zip([50, 100, 150, 200].into_iter().cycle()) {
            node.weight = weight;
        }
        group.bench_function(BenchmarkId::new("slots_full_four_weights", count), |b| {
            b.iter(|| slots(&weighted));
        });
        group
            .bench_function(BenchmarkId::new("ring_full", count), |b| b.iter(|| Ring::build(&new)));
        let before = Ring::build(&old);
        group.bench_function(BenchmarkId::new("ring_join", count), |b| {
            b.iter(|| before.join(new[count]));
        });
        group.bench_function(BenchmarkId::new("maglev_full", count), |b| {
            b.iter(|| Maglev::build(&new));
        });
    }
    group.finish();
}

fn cluster(count: usize) -> View {
    let member = |node: usize| {
        let name = format!("node-{node}");
        Member {
            id: NodeId::from_name(&name),
            name: name.into(),
            address: ([127, 0, 0, 1], 7_400).into(),
            incarnation: Incarnation(1),
            state: MemberState::Up,
            reachable: true,
            damped_until: None,
            workers: 4,
            weight: 100,
            roles: BTreeSet::new(),
            metadata: Default::default(),
            app_version: "1".into(),
            services: (0..10)
                .map(|service| Service {
                    path: format!("/user/service-{service}").parse().unwrap(),
                    handler: HandlerId(service),
                    placed: Placed::EVERY,
                    messages: (0..5)
                        .map(|m| MessageType::new(&format!("bench.m{service}_{m}"), LayoutHash(1)))
                        .collect(),
                })
                .collect(),
        }
    };
    let members: Vec<_> = (0..count).map(member).collect();
    View::new(NodeRef { node: members[0].id, incarnation: Incarnation(1) }, 1, members)
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    group.throughput(Throughput::Elements(1));
    let view = cluster(100);
    for kind in StrategyKind::BUILT_IN {
        let spec = RouterSpec::new("/user/service-3".parse().unwrap(), kind.clone(), SEED);
        let table = RouteTable::build(&view, &spec, None);
        let usable = RouteeSet::all(table.len());
        let mut picker = Picker::new(&spec, 1);
        let name = picker.strategy().name().to_owned();
        group.bench_function(name, |b| {
            let mut key_hash = 1;
            b.iter(|| {
                key_hash = next(key_hash);
                picker.pick(black_box(&table), Some(key_hash), black_box(&usable), &usable)
            });
        });
    }
    // From the key to the routee: what a message pays.
    let spec =
        RouterSpec::new("/user/service-3".parse().unwrap(), StrategyKind::ConsistentHash, SEED);
    let table = RouteTable::build(&view, &spec, None);
    let usable = RouteeSet::all(table.len());
    let mut picker = Picker::new(&spec, 1);
    group.bench_function("hash_u64_and_pick", |b| {
        let mut key = 0u64;
        b.iter(|| {
            key += 1;
            let hash = black_box(key).hash_key(SEED);
            picker.pick(black_box(&table), Some(hash), black_box(&usable), &usable)
        });
    });
    group.finish();

    let mut group = c.benchmark_group("hash_key");
    group.throughput(Throughput::Elements(1));
    group.bench_function("u64", |b| b.iter(|| black_box(7u64).hash_key(SEED)));
    group.bench_function("str_16", |b| b.iter(|| black_box("customer-0123456").hash_key(SEED)));
    group.bench_function("str_36", |b| {
        b.iter(|| black_box("123e4567-e89b-12d3-a456-426614174000").hash_key(SEED));
    });
    group.bench_function("u64_u32", |b| b.iter(|| black_box((7u64, 3u32)).hash_key(SEED)));
    group.finish();
}

fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("route_table");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    for count in [10, 100, 1_000] {
        let view = cluster(count);
        let mut smaller = view.clone();
        smaller.members.remove(count / 2);
        for kind in [StrategyKind::RoundRobin, StrategyKind::ConsistentHash] {
            let spec = RouterSpec::new("/user/service-3".parse().unwrap(), kind.clone(), SEED);
            let before = RouteTable::build(&smaller, &spec, None);
            let name = format!("join_{}", kind.name());
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| RouteTable::build(&view, &spec, Some(&before)));
            });
        }
    }
    group.finish();
}

/// What control does when one of a hundred members falls silent or answers again, but for
/// membership's own part: it makes no table.
fn flip(c: &mut Criterion) {
    let mut group = c.benchmark_group("flip");
    let mut views = [cluster(100), cluster(100)];
    Arc::make_mut(&mut views[1].members[50]).reachable = false;
    let views = views.map(Arc::new);
    let mut destinations = Destinations::default();
    destinations.follow(&views[0]);
    for routers in [1usize, 5, 20] {
        let mut states: Vec<_> = (0..routers)
            .map(|router| {
                let path = format!("/user/service-{}", router % 10);
                let spec =
                    RouterSpec::new(path.parse().unwrap(), StrategyKind::ConsistentHash, SEED);
                let table = RouteTable::build(
                    &views[0],
                    &RouterSpec { slot_bits: 10, ..spec.clone() },
                    None,
                );
                let places = destinations.of(&table);
                RouterState::new(Arc::new(spec), Arc::new(table), places, destinations.all())
            })
            .map(Arc::new)
            .collect();
        group.bench_function(
            BenchmarkId::new("100_nodes_of_4", format!("{routers}_routers")),
            |b| {
                let mut turn = 0;
                b.iter(|| {
                    turn += 1;
                    let view = &views[turn % 2];
                    destinations.follow(view);
                    for state in &mut states {
                        let RouterState { spec, table, destinations: places, .. } = &**state;
                        *state = Arc::new(RouterState::new(
                            Arc::clone(spec),
                            Arc::clone(table),
                            Arc::clone(places),
                            destinations.all(),
                        ));
                    }
                    let routers = (0..).zip(states.iter().cloned()).map(Some).collect();
                    let all = destinations.all().clone();
                    Arc::new(Snapshot::new(turn as u64, Arc::clone(view), all, routers))
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, balance, lookup, pick, flip, rebuild, table);
criterion_main!(benches);
