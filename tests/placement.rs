//! Services on some workers of their nodes: who gets messages, who is found, what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::{
    AskError, Context, DeathReason, GoneReason, Handler, Message, Node, NodeBuilder, Placement,
    Refusal, Routee, RouteeRef, Router, WorkerIndex,
};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(30);
const PATH: &str = "/placement/where";

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "placement.where", key = key, reply = u64)]
struct Where {
    key: u64,
    panics: bool,
}

fn item(key: u64) -> Where {
    Where { key, panics: false }
}

/// A node by its number, and one of its workers.
type Place = (u16, u16);

/// What is handled where, and what was made and stopped there.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<BTreeMap<Place, [u64; 3]>>>);

const HANDLED: usize = 0;
const MADE: usize = 1;
const STOPPED: usize = 2;

impl Notes {
    fn add(&self, place: Place, what: usize) {
        self.0.lock().unwrap().entry(place).or_default()[what] += 1;
    }

    /// Of which places there is a count, and what it is.
    fn of(&self, what: usize) -> BTreeMap<Place, u64> {
        let notes = self.0.lock().unwrap();
        let counts = notes.iter().map(|(place, counts)| (*place, counts[what]));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// Answers with its place: a node's number times 100, and the worker.
#[derive(Routee)]
#[routee(handles(Where), stopped = Self::close)]
struct Sink {
    place: Place,
    notes: Notes,
}

impl Sink {
    fn close(&mut self, _: &mut Context<'_>) {
        self.notes.add(self.place, STOPPED);
    }
}

impl Handler<Where> for Sink {
    type Reply = u64;
    fn handle(&mut self, message: &ArchivedWhere, _: &mut Context<'_>) -> u64 {
        assert!(!message.panics, "told to");
        self.notes.add(self.place, HANDLED);
        u64::from(self.place.0) * 100 + u64::from(self.place.1)
    }
}

struct Cluster {
    nodes: Vec<Node>,
    notes: Notes,
}

impl Cluster {
    /// Of nodes that have so many workers each.
    fn new(workers: &[usize]) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        for workers in workers {
            let builder: NodeBuilder = Node::builder();
            let mut builder = builder.bind("127.0.0.1:0").workers(*workers).spin(Duration::ZERO);
            if let Some(first) = nodes.first() {
                builder = builder.seed(first.address());
            }
            nodes.push(builder.start().unwrap());
        }
        for node in &nodes {
            assert!(node.wait_members(workers.len(), LIMIT), "{node:?}");
        }
        Self { nodes, notes: Notes::default() }
    }

    fn serve(&self, node: usize, path: &str, placement: Placement) {
        let notes = self.notes.clone();
        let make = move |worker: WorkerIndex| {
            let place = (node as u16, worker.0);
            notes.add(place, MADE);
            Sink { place, notes: notes.clone() }
        };
        self.nodes[node].serve_on(path, placement, make).unwrap();
    }

    /// Where routees are, as numbers of nodes and workers.
    fn places(&self, routees: &[RouteeRef]) -> BTreeSet<Place> {
        let number = |routee: &RouteeRef| {
            let node = self.nodes.iter().position(|node| node.id() == routee.id.node).unwrap();
            (node as u16, routee.id.worker.0)
        };
        let places: BTreeSet<Place> = routees.iter().map(number).collect();
        assert_eq!(places.len(), routees.len(), "each of them once");
        places
    }

    /// A router of a node once it has exactly these routees.
    fn router(&self, node: usize, describe: Describe, places: &BTreeSet<Place>) -> Router {
        let router = describe(self.nodes[node].router(PATH)).build().unwrap();
        self.settled(&router, places);
        router
    }

    fn settled(&self, router: &Router, places: &BTreeSet<Place>) {
        eventually("the router has the routees of the placements", || {
            self.places(&router.routees()) == *places
        });
        router.wait_ready(places.len(), LIMIT).unwrap();
        let more = router.wait_ready(places.len() + 1, Duration::from_millis(50));
        assert!(more.is_err(), "{more:?}");
        assert_eq!(router.routee_count(), places.len());
    }
}

type Describe = fn(keyway::RouterBuilder<'_>) -> keyway::RouterBuilder<'_>;

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn on(workers: &[u16]) -> Placement {
    Placement::Workers(workers.iter().copied().map(WorkerIndex).collect())
}

fn ask(router: &Router, key: u64) -> Place {
    let answer = router.ask(&item(key)).within(LIMIT).wait().unwrap();
    ((answer / 100) as u16, (answer % 100) as u16)
}

#[test]
fn every_way_to_route_reaches_exactly_the_workers_of_the_placements() {
    let cluster = Cluster::new(&[3, 3, 2]);
    cluster.serve(0, PATH, on(&[2, 0]));
    cluster.serve(1, PATH, on(&[1]));
    cluster.serve(2, PATH, Placement::default());
    let places = BTreeSet::from([(0, 0), (0, 2), (1, 1), (2, 0), (2, 1)]);
    let made: BTreeSet<Place> = cluster.notes.of(MADE).into_keys().collect();
    assert_eq!(made, places, "no routee is made elsewhere");
    let rounds = 40;

    let mut owners = BTreeSet::new();
    for node in 0..cluster.nodes.len() {
        let round_robin = cluster.router(node, |it| it.round_robin(), &places);
        let reached: Vec<Place> = (0..rounds * 5).map(|key| ask(&round_robin, key)).collect();
        for place in &places {
            let times = reached.iter().filter(|at| *at == place).count();
            assert!(times >= rounds as usize / 2, "{place:?} {times} times, from node {node}");
        }

        let keyed = cluster.router(node, |it| it.consistent_hash().slot_bits(12), &places);
        let of_keys: Vec<Place> = (0..400).map(|key| ask(&keyed, key)).collect();
        assert_eq!(of_keys.iter().copied().collect::<BTreeSet<_>>(), places);
        owners.insert(of_keys);

        cluster.notes.clear();
        let broadcast = cluster.router(node, |it| it.broadcast(), &places);
        for key in 0..rounds {
            broadcast.tell(&item(key)).unwrap();
        }
        let each: BTreeMap<Place, u64> = places.iter().map(|place| (*place, rounds)).collect();
        eventually("each has every broadcast", || cluster.notes.of(HANDLED) == each);
    }
    assert_eq!(owners.len(), 1, "all nodes agree who owns a key");
    for node in &cluster.nodes {
        eventually("the books balance", || node.counts().in_flight() == 0);
        assert_eq!(node.counts().dead.iter().sum::<u64>(), 0);
    }
}

#[test]
fn one_per_node_is_one_on_each_node_and_paths_are_spread_over_workers() {
    let cluster = Cluster::new(&[4, 4, 4]);
    let paths: Vec<String> = (0..12).map(|number| format!("/placement/{number}")).collect();
    let mut used = BTreeSet::new();
    for path in &paths {
        for node in 0..3 {
            cluster.serve(node, path, Placement::OnePerNode);
        }
    }
    for path in &paths {
        let mut seen = BTreeSet::new();
        for node in &cluster.nodes {
            let router = node.router(path).build().unwrap();
            router.wait_ready(3, LIMIT).unwrap();
            let places = cluster.places(&router.routees());
            let nodes: Vec<u16> = places.iter().map(|(node, _)| *node).collect();
            assert_eq!(nodes, [0, 1, 2]);
            let reached: BTreeSet<Place> = (0..3).map(|key| ask(&router, key)).collect();
            assert_eq!(reached, places);
            seen.insert(places);
        }
        let seen: Vec<_> = seen.into_iter().collect();
        assert_eq!(seen.len(), 1, "all nodes know which worker of each: {seen:?}");
        let workers: BTreeSet<u16> = seen[0].iter().map(|(_, worker)| *worker).collect();
        assert_eq!(workers.len(), 1, "it follows from the path and the number of workers");
        used.extend(workers);
    }
    assert!(used.len() >= 3, "12 paths are on workers {used:?} of 4");
}

/// What names a worker on which the path is not served is told so, on this node and on another.
#[test]
fn a_worker_that_does_not_run_a_path_says_so() {
    let cluster = Cluster::new(&[2, 2]);
    cluster.serve(0, PATH, on(&[1]));
    cluster.serve(1, PATH, on(&[0]));
    let places = BTreeSet::from([(0, 1), (1, 0)]);
    let router = cluster.router(0, |it| it.round_robin(), &places);
    let node = &cluster.nodes[0];
    let selected = node.select("/placement/*").unwrap();
    assert_eq!(cluster.places(&selected.identify()), places);
    assert_eq!(selected.tell(&item(1)), Ok(2));

    for there in router.routees() {
        let mut wrong = there.clone();
        wrong.id.worker = WorkerIndex(1 - there.id.worker.0);
        assert_eq!(node.tell_to(&wrong, &item(1)), Err(Refusal::NoRoutee));
        let asked = node.ask_to(&wrong, &item(1)).within(LIMIT).wait();
        assert_eq!(asked, Err(AskError::Refused(Refusal::NoRoutee)));
        let mut watch = node.watch(&wrong).unwrap();
        assert_eq!(watch.wait(LIMIT).unwrap(), Some(GoneReason::Withdrawn));

        assert!(node.ask_to(&there, &item(1)).within(LIMIT).wait().is_ok());
        let mut watch = node.watch(&there).unwrap();
        assert_eq!(watch.wait(Duration::from_millis(50)).unwrap(), None);
    }
}

#[test]
fn a_path_can_be_withdrawn_and_served_on_other_workers() {
    let cluster = Cluster::new(&[3, 1]);
    cluster.serve(0, PATH, on(&[1]));
    let routers: Vec<Router> =
        [0, 1].map(|node| cluster.router(node, |it| it.consistent_hash(), &[(0, 1)].into())).into();
    let old = routers[1].routees().remove(0);
    let mut watch = cluster.nodes[1].watch(&old).unwrap();
    assert_eq!(routers.iter().map(|router| ask(router, 7)).collect::<Vec<_>>(), [(0, 1); 2]);
    let mut stops = BTreeMap::new();
    let steps: [(Placement, &[u16]); 4] = [
        (on(&[2, 0]), &[0, 2]),
        (Placement::EveryWorker, &[0, 1, 2]),
        (on(&[0, 1, 2]), &[0, 1, 2]),
        (on(&[1]), &[1]),
    ];
    let mut now: Vec<u16> = vec![1];
    for (placement, workers) in steps {
        cluster.nodes[0].unserve(PATH).unwrap();
        now.iter().for_each(|worker| *stops.entry((0, *worker)).or_default() += 1);
        assert_eq!(cluster.notes.of(STOPPED), stops, "each that ran it has ended its routee");
        cluster.serve(0, PATH, placement);
        now = workers.to_vec();
        let places: BTreeSet<Place> = workers.iter().map(|worker| (0, *worker)).collect();
        for router in &routers {
            cluster.settled(router, &places);
            let reached: BTreeSet<Place> = (0..200).map(|key| ask(router, key)).collect();
            assert_eq!(reached, places);
        }
        // It is another registration, also where it is on the same worker again.
        let late = cluster.nodes[1].ask_to(&old, &item(1)).within(LIMIT).wait();
        assert_eq!(late, Err(AskError::Dead(DeathReason::UnknownHandler)));
    }
    assert_eq!(watch.wait(LIMIT).unwrap(), Some(GoneReason::Withdrawn));
}

#[test]
fn a_routee_that_panics_is_started_anew_on_its_own_worker() {
    let cluster = Cluster::new(&[3]);
    cluster.serve(0, PATH, on(&[2]));
    let router = cluster.router(0, |it| it.round_robin(), &[(0, 2)].into());
    let told_to = Where { key: 1, panics: true };
    let died = router.ask(&told_to).within(LIMIT).wait();
    assert_eq!(died, Err(AskError::Dead(DeathReason::HandlerPanicked)));
    assert_eq!(ask(&router, 1), (0, 2));
    assert_eq!(cluster.notes.of(MADE), [((0, 2), 2)].into());
}

#[test]
fn a_placement_that_cannot_be_is_refused_by_name_and_the_path_stays_free() {
    let cluster = Cluster::new(&[2]);
    let node = &cluster.nodes[0];
    let refused = |placement| {
        let notes = cluster.notes.clone();
        let make = move |worker: WorkerIndex| {
            notes.add((0, worker.0), MADE);
            Sink { place: (0, worker.0), notes: notes.clone() }
        };
        node.serve_on(PATH, placement, make).unwrap_err().to_string()
    };
    for (placement, why) in [
        (
            on(&[]),
            "`placement` is the empty list of workers, but must name at least one, of 0 to 1",
        ),
        (on(&[0, 2]), "`placement` names worker 2, but must name workers of 0 to 1"),
        (on(&[u16::MAX]), "`placement` names worker 65535, but must name workers of 0 to 1"),
        (on(&[1, 1]), "`placement` names worker 1 more than once, but must name each once"),
    ] {
        let refused = refused(placement);
        let expected = format!("cannot serve {PATH}: {why}");
        assert!(refused.starts_with(&expected), "{refused}");
    }
    assert_eq!(cluster.notes.of(MADE), BTreeMap::new());

    // One whose routee cannot be made is known to no other worker.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&asked);
    let outcome = node.serve_on(PATH, on(&[1]), move |worker| -> Sink {
        its.lock().unwrap().push(worker.0);
        panic!("as the test wants it")
    });
    let outcome = outcome.unwrap_err().to_string();
    assert!(outcome.contains("panicked"), "{outcome}");
    assert_eq!(*asked.lock().unwrap(), [1]);

    cluster.serve(0, PATH, on(&[0]));
    let router = cluster.router(0, |it| it.round_robin(), &[(0, 0)].into());
    assert_eq!(ask(&router, 1), (0, 0));
}
