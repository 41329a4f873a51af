//! Two nodes in network namespaces of their own, with a router between them: the network is cut and
//! mended, one flow vanishes while all else goes on, and a peer does not read for long. Needs root
//! and `ip`; where there is none it is left out, and says so. With `KEYWAY_MUST_CUT=1` it fails then.

use std::io::Write as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use keyway::{
    Context, Ended, Handler, JoinState, Message, Node, PeerTrouble, Refusal, Routee, Router,
    SeedState,
};
use rkyv::{Archive, Deserialize, Serialize};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "cuts.where_is", key = key, reply = u64)]
struct WhereIs {
    key: u64,
}

/// Holds its worker for so long.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "cuts.hold", key = key)]
struct Hold {
    key: u64,
    ms: u64,
    body: Vec<u8>,
}

#[derive(Routee)]
#[routee(handles(WhereIs, Hold))]
struct Here;

impl Handler<WhereIs> for Here {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedWhereIs, cx: &mut Context<'_>) -> u64 {
        cx.node().node.0
    }
}

impl Handler<Hold> for Here {
    type Reply = ();
    fn handle(&mut self, hold: &ArchivedHold, _: &mut Context<'_>) {
        thread::sleep(Duration::from_millis(hold.ms.to_native()));
    }
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

/// Says so of the running test, past the harness, which shows nothing that a test prints and passes.
fn left_out(why: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("cuts");
    let must = std::env::var("KEYWAY_MUST_CUT").is_ok_and(|must| must == "1");
    assert!(!must, "{test} {why}; unset KEYWAY_MUST_CUT to leave it out");
    #[expect(clippy::explicit_write, reason = "the harness keeps what `eprintln` says")]
    writeln!(std::io::stderr(), "{test} is left out: {why}").unwrap();
}

/// Three namespaces: two for nodes, and the router between them. Gone when dropped.
struct Wires {
    number: u32,
}

const HOSTS: [&str; 2] = ["10.213.1.2", "10.213.2.2"];

impl Wires {
    fn new(number: u32) -> Option<Self> {
        let wires = Self { number: std::process::id() * 10 + number };
        if !wires.make() {
            left_out("needs root, and `ip` with namespaces, veth and rules");
            return None;
        }
        Some(wires)
    }

    fn make(&self) -> bool {
        let [left, right, middle] = self.names();
        let mut made = true;
        for name in [&left, &right, &middle] {
            made = made && ip(&format!("netns add {name}"));
        }
        for (name, port, net) in [(&left, "left", 1), (&right, "right", 2)] {
            made = made
                && ip(&format!("-n {middle} link add {port} type veth peer name eth netns {name}"))
                && ip(&format!("-n {middle} address add 10.213.{net}.1/24 dev {port}"))
                && ip(&format!("-n {middle} link set {port} up"))
                && ip(&format!("-n {name} link set lo up"))
                && ip(&format!("-n {name} address add 10.213.{net}.2/24 dev eth"))
                && ip(&format!("-n {name} link set eth up"))
                && ip(&format!("-n {name} route add default via 10.213.{net}.1"));
        }
        made && self.inside(2, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").is_ok())
    }

    fn names(&self) -> [String; 3] {
        ["l", "r", "m"].map(|side| format!("keyway-{}-{side}", self.number))
    }

    /// Nothing that fits passes the router any more, and nobody is told.
    fn swallow(&self, what: &str) -> bool {
        ip(&format!("-n {} rule add pref 1 {what}blackhole", self.names()[2]))
    }

    /// A node's own system has no route for what fits, and says so.
    fn no_route(&self, side: usize, what: &str) -> bool {
        ip(&format!("-n {} rule add pref 1 {what} unreachable", self.names()[side]))
    }

    /// No datagram comes here that was cut into pieces on its way.
    fn drops_fragments(&self, side: usize) -> bool {
        self.inside(side, || {
            let keeps = "/proc/sys/net/ipv4/ipfrag_";
            ["low", "high"]
                .iter()
                .all(|end| std::fs::write(format!("{keeps}{end}_thresh"), "0").is_ok())
        })
    }

    fn takes_fragments(&self, side: usize) {
        self.inside(side, || {
            std::fs::write("/proc/sys/net/ipv4/ipfrag_high_thresh", "4194304").unwrap();
        });
    }

    fn mend(&self) {
        self.mend_at(2);
    }

    fn mend_at(&self, side: usize) {
        assert!(ip(&format!("-n {} rule del pref 1", self.names()[side])));
    }

    /// Runs something in a node's namespace; threads that it starts stay there.
    fn inside<T: Send>(&self, side: usize, run: impl FnOnce() -> T + Send) -> T {
        let name = &self.names()[side];
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let space = std::fs::File::open(format!("/var/run/netns/{name}")).unwrap();
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), network).unwrap();
                run()
            });
            inside.join().unwrap()
        })
    }

    fn node(&self, side: usize) -> Node {
        self.node_with(side, 0)
    }

    /// With so many bytes of metadata.
    fn node_with(&self, side: usize, bytes: usize) -> Node {
        let node = self.start(side, HOSTS[0], bytes);
        node.serve("/user/here", |_| Here).unwrap();
        node
    }

    fn start(&self, side: usize, seed: &str, bytes: usize) -> Node {
        let text = "x".repeat(bytes / 4);
        let node = Node::builder()
            .bind(format!("{}:7400", HOSTS[side]))
            .seed(format!("{seed}:7400"))
            .secret("a secret of enough bytes")
            .workers(1)
            .spin(Duration::ZERO);
        let node = (0..4).fold(node, |node, at| node.metadata(&format!("padding{at}"), &text));
        self.inside(side, || node.start().unwrap())
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for name in self.names() {
            ip(&format!("netns del {name}"));
        }
    }
}

fn ask(router: &Router, key: u64) -> Option<u64> {
    router.ask(&WhereIs { key }).within(Duration::from_millis(100)).wait().ok()
}

/// Asks until the node answers; gives how long that took.
fn until_answered(router: &Router, key: u64, by: u64) -> Duration {
    let start = Instant::now();
    while ask(router, key) != Some(by) {
        assert!(start.elapsed() < Duration::from_secs(20), "no answer from the mended node");
        thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

#[test]
fn after_a_cut_messages_flow_at_once() {
    let Some(wires) = Wires::new(1) else { return };
    let (left, right) = (wires.node(0), wires.node(1));
    assert!(left.wait_members(2, Duration::from_secs(20)));
    let router = left.router("/user/here").consistent_hash().build().unwrap();
    router.wait_ready(2, Duration::from_secs(20)).unwrap();
    let by = right.id().node.0;
    let key = (0..).find(|key| ask(&router, *key) == Some(by)).unwrap();
    for seconds in [1, 2, 4, 10, 30] {
        until_answered(&router, key, by);
        assert!(wires.swallow(""));
        let cut = Instant::now();
        while cut.elapsed() < Duration::from_secs(seconds) {
            ask(&router, key);
            thread::sleep(Duration::from_millis(5));
        }
        wires.mend();
        let took = until_answered(&router, key, by);
        println!("a cut of {seconds} s: answered {took:?} after it was mended");
        assert!(took < Duration::from_millis(1_500), "{took:?} after a cut of {seconds} s");
    }
}

/// The local port of the one connection from here to the other node's port.
fn dialed_port() -> Option<u16> {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
        (state == "01" && port(remote)? == 7_400).then(|| port(local))?
    })
}

#[test]
fn a_flow_that_vanishes_is_noticed() {
    let Some(wires) = Wires::new(2) else { return };
    let (left, right) = (wires.node(0), wires.node(1));
    assert!(left.wait_members(2, Duration::from_secs(20)));
    let router = left.router("/user/here").consistent_hash().build().unwrap();
    router.wait_ready(2, Duration::from_secs(20)).unwrap();
    let by = right.id().node.0;
    let key = (0..).find(|key| ask(&router, *key) == Some(by)).unwrap();
    for idle in [false, true] {
        until_answered(&router, key, by);
        let port = wires.inside(0, dialed_port).unwrap();
        let gone = ["sport", "dport"].map(|end| format!("ipproto tcp {end} {port} "));
        if !gone.iter().all(|flow| wires.swallow(flow)) {
            left_out("needs an `ip rule` that knows ports");
            return;
        }
        let start = Instant::now();
        while idle && wires.inside(0, dialed_port) == Some(port) {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody noticed");
            thread::sleep(Duration::from_millis(10));
        }
        until_answered(&router, key, by);
        let took = start.elapsed();
        wires.mend();
        wires.mend();
        println!("a flow that vanished (idle: {idle}): replaced after {took:?}; must 5 s, aim 2 s");
        assert!(took < Duration::from_secs(5), "noticed after {took:?}");
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 40 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn troubles(node: &Node) -> Vec<PeerTrouble> {
    node.troubles().iter().map(|trouble| trouble.what).collect()
}

#[test]
fn a_member_to_which_the_system_makes_no_connection_is_named_with_the_systems_words() {
    let Some(wires) = Wires::new(4) else { return };
    if !wires.no_route(0, &format!("ipproto tcp to {}", HOSTS[1])) {
        return left_out("needs an `ip rule` that knows protocols");
    }
    let (left, right) = (wires.node(0), wires.node(1));
    assert!(left.wait_members(2, Duration::from_secs(20)));
    let router = left.router("/user/here").consistent_hash().build().unwrap();
    router.wait_ready(2, Duration::from_secs(20)).unwrap();
    let by = right.id().node.0;
    let key = (0..1_000).find(|key| ask(&router, *key).is_none()).unwrap();
    eventually("it is named", || troubles(&left) == [PeerTrouble::Fails]);
    let words = left.troubles()[0].to_string();
    assert!(words.contains("Network is unreachable (os error 101)"), "{words}");
    wires.mend_at(0);
    eventually("it is over, though nobody asks", || troubles(&left).is_empty());
    until_answered(&router, key, by);
}

#[test]
fn where_the_system_sends_no_datagrams_that_is_said_with_its_words() {
    let Some(wires) = Wires::new(7) else { return };
    let cut = || wires.no_route(1, &format!("ipproto udp to {}", HOSTS[0]));
    if !cut() {
        return left_out("needs an `ip rule` that knows protocols");
    }
    let (left, right) = (wires.node(0), wires.node(1));
    let seed = format!("{}:7400", HOSTS[0]).parse().unwrap();
    let why = JoinState::Joining { seeds: vec![(seed, SeedState::NotSent(101))] };
    eventually("it is said of a seed", || right.join_state() == why);
    let words = why.obstacle().unwrap();
    assert!(words.contains("Network is unreachable (os error 101)"), "{words}");
    wires.mend_at(1);
    eventually("they meet", || [&left, &right].iter().all(|node| node.view().members.len() == 2));
    assert!(cut());
    eventually("it is said of a member", || troubles(&right) == [PeerTrouble::NotSent]);
    let words = right.troubles()[0].to_string();
    assert!(words.contains("Network is unreachable (os error 101)"), "{words}");
    thread::sleep(Duration::from_secs(15));
    assert_eq!(troubles(&right), [PeerTrouble::NotSent], "for as long as it is so");
    wires.mend_at(1);
    eventually("it is over", || troubles(&right).is_empty());
}

/// The largest record goes in datagrams that no path has to cut.
#[test]
fn a_long_record_arrives_where_fragments_are_dropped() {
    let Some(wires) = Wires::new(6) else { return };
    for side in [0, 1] {
        assert!(ip(&format!("-n {} link set eth mtu 1280", wires.names()[side])));
        if !wires.drops_fragments(side) {
            return left_out("needs limits for fragments");
        }
    }
    let (left, right) = (wires.node(0), wires.node_with(1, 4_000));
    for node in [&left, &right] {
        assert!(node.wait_members(2, Duration::from_secs(20)));
    }
    eventually("they list each other", || right.join_state() == JoinState::Joined);
    // And what is added to it later.
    for number in 0..20 {
        right.serve(&format!("/user/a-long-name-for-a-path/{number:0>60}"), |_| Here).unwrap();
    }
    let has_all = |node: &Node| {
        let view = node.view();
        view.member(right.id().node).is_some_and(|member| member.services.len() == 21)
    };
    eventually("it arrives", || has_all(&left));
}

/// The seed calls the newcomer, which sees it and is let in by nobody: of its own record only the
/// first piece arrives.
#[test]
fn a_node_whose_record_does_not_arrive_is_not_healthy_and_says_so() {
    let Some(wires) = Wires::new(5) else { return };
    // What is longer than 1,000 bytes is cut, and what is cut is dropped.
    assert!(ip(&format!("-n {} link set eth mtu 1000", wires.names()[1])));
    if !wires.drops_fragments(0) {
        return left_out("needs limits for fragments");
    }
    let (left, right) = (wires.start(0, HOSTS[1], 0), wires.start(1, HOSTS[0], 3_000));
    eventually("it says so", || right.join_state() == JoinState::Unlisted);
    let health = right.health();
    assert!(!health.is_healthy() && right.view().members.len() == 2, "{health:?}");
    assert_eq!(left.view().members.len(), 1);
    // Nobody is there any more who could list it.
    assert!(wires.swallow(""));
    eventually("it sees that", || right.view().members.iter().any(|member| !member.reachable));
    eventually("it says no more", || right.join_state() == JoinState::Joined);
    wires.mend();
    assert!(ip(&format!("-n {} link set eth mtu 1500", wires.names()[1])));
    wires.takes_fragments(0);
    eventually("it is listed", || left.view().members.len() == 2 && right.health().is_healthy());
    assert_eq!(right.join_state(), JoinState::Joined);
}

/// Short messages go through, long ones vanish, and nobody is told.
#[test]
fn where_large_packets_vanish_the_peer_is_named_and_short_ones_take_their_place() {
    let Some(wires) = Wires::new(8) else { return };
    assert!(ip(&format!("-n {} link set right mtu 1280", wires.names()[2])));
    if !wires.swallow("ipproto icmp ") {
        return left_out("needs an `ip rule` that knows protocols");
    }
    let (left, right) = (wires.node(0), wires.node(1));
    assert!(left.wait_members(2, Duration::from_secs(20)));
    let router = left.router("/user/here").consistent_hash().build().unwrap();
    router.wait_ready(2, Duration::from_secs(20)).unwrap();
    let by = right.id().node.0;
    let key = (0..).find(|key| ask(&router, *key) == Some(by)).unwrap();
    // What vanished makes no delivery of a link that is dialed anew.
    let arrives = || {
        until_answered(&router, key, by);
        let before = right.counts().received;
        let sent = router.tell(&Hold { key, ms: 0, body: vec![7; 60_000] });
        let start = Instant::now();
        while sent.is_ok() && start.elapsed() < Duration::from_secs(4) {
            thread::sleep(Duration::from_millis(10));
            if right.counts().received > before {
                return true;
            }
        }
        false
    };
    let start = Instant::now();
    eventually("long messages arrive", arrives);
    let took = start.elapsed();
    println!("large packets vanish: the first long message arrived after {took:?}");
    assert_eq!(troubles(&left), [PeerTrouble::Swallowed]);
    let words = left.troubles()[0].to_string();
    assert!(words.contains("large packets"), "{words}");
    assert!(arrives() && arrives(), "and the next ones at once");
}

#[test]
fn a_handler_that_blocks_for_long_costs_no_link_and_no_message() {
    let Some(wires) = Wires::new(3) else { return };
    let (left, right) = (wires.node(0), wires.node(1));
    assert!(left.wait_members(2, Duration::from_secs(20)));
    let router = left.router("/user/here").consistent_hash().build().unwrap();
    router.wait_ready(2, Duration::from_secs(20)).unwrap();
    let by = right.id().node.0;
    let key = (0..).find(|key| ask(&router, *key) == Some(by)).unwrap();
    while left.counts().in_flight() > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let before = (left.counts().delivered, right.counts().received);

    // Its socket, this node's outbox and the way into this node's worker are full, all the time.
    let hold = |ms, bytes| Hold { key, ms, body: vec![7; bytes] };
    router.tell(&hold(8_000, 0)).unwrap();
    let (start, mut accepted, mut refused) = (Instant::now(), 1, 0);
    let message = hold(0, 60_000);
    while start.elapsed() < Duration::from_millis(7_900) {
        match router.tell(&message) {
            Ok(()) => accepted += 1,
            Err(Refusal::QueueFull) => {
                refused += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Err(refusal) => panic!("after {:?}: {refusal}", start.elapsed()),
        }
    }
    assert!(refused > 1_000, "the buffers were not full: {accepted} accepted");
    while left.counts().delivered < before.0 + accepted {
        let counts = left.counts();
        assert_eq!(counts.unknown, 0, "its link was given up: {counts:?}");
        assert!(start.elapsed() < Duration::from_secs(30), "{accepted} accepted, {counts:?}");
        thread::sleep(Duration::from_millis(5));
    }
    let counts = left.counts();
    assert_eq!((counts.unknown, counts.delivered - before.0), (0, accepted));
    assert_eq!(right.counts().received - before.1, accepted);
    println!("blocked for 8 s with full buffers: {accepted} messages, each of them delivered");
}

#[test]
fn who_leaves_while_no_datagram_passes_is_heard_when_they_do_again() {
    let Some(wires) = Wires::new(9) else { return };
    let [stays, leaver] = [0, 1].map(|side| wires.start(side, HOSTS[0], 0));
    eventually("they meet", || [&stays, &leaver].iter().all(|it| it.view().members.len() == 2));
    if !wires.swallow("ipproto udp ") {
        return left_out("needs rules by protocol");
    }
    leaver.begin_leave().unwrap();
    eventually("it says that nobody hears it", || {
        leaver.leave_waits_for().is_some_and(|waits| waits.unheard)
    });
    thread::sleep(Duration::from_millis(1_000));
    assert_eq!((leaver.end(), stays.view().members.len()), (None, 2));
    wires.mend();
    eventually("it has left", || leaver.end().is_some());
    assert_eq!(leaver.end(), Some(Ended::Left { drained: true }));
    eventually("the other one knows", || stays.view().members.len() == 1);
}
