//! What a node says while it cannot join, and what it does while it starts, by real nodes.

mod place;
#[path = "binary/process.rs"]
#[allow(dead_code, reason = "few of its helpers are needed")]
mod process;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{self as this, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use keyway::base::{Incarnation, MemberState};
use keyway::member::MemberFault;
use keyway::{Discovery, Ended, JoinState, Node, NodeBuilder, NodeError, NodeId, SeedState};
use place::place;
use process::{Process, ReadyNode, run};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(20);

fn builder() -> NodeBuilder {
    Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the node says this of its only seed.
fn says(node: &Node, seed: SocketAddr, state: SeedState) {
    let wanted = JoinState::Joining { seeds: vec![(seed, state)] };
    let deadline = Instant::now() + LIMIT;
    while node.join_state() != wanted {
        assert!(Instant::now() < deadline, "{:?}, not {wanted:?}", node.join_state());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_node_that_a_seed_does_not_let_in_says_why() {
    let open = builder().start().unwrap();
    assert_eq!(open.join_state(), JoinState::Alone);
    let closed = builder().secret("sixteen bytes ok").start().unwrap();
    let cases = [
        (&open, builder().cluster("another"), SeedState::OtherCluster),
        (&open, builder().secret("sixteen bytes ok"), SeedState::SecretOnlyHere),
        (&closed, builder(), SeedState::SecretOnlyThere),
        (&closed, builder().secret("sixteen other ones"), SeedState::OtherSecret),
        (&open, builder().name(open.name()), SeedState::NameTaken),
    ];
    let began = cases.map(|(seed, joiner, state)| {
        let seed = seed.address();
        (joiner.seed(seed).start().unwrap(), seed, state)
    });
    for (joiner, seed, state) in began {
        if state == SeedState::NameTaken {
            // Membership is told as well, and ends the node.
            eventually("it ends", || joiner.end().is_some());
        } else {
            says(&joiner, seed, state);
            assert_eq!(joiner.end(), None);
        }
    }
    // Whoever was greeted has no members and no links more than before.
    assert_eq!((open.view().members.len(), closed.view().members.len()), (1, 1));
    assert_eq!((open.strangers().accepted, closed.strangers().accepted), (0, 0));
    assert_eq!((open.join_state(), closed.join_state()), (JoinState::Alone, JoinState::Alone));
}

#[test]
fn a_seed_that_is_down_is_named_and_joined_through_once_it_is_up() {
    let seed = place();
    let silent = TcpListener::bind(seed).unwrap();
    let joiner = builder().seed(seed).start().unwrap();
    assert_eq!(
        joiner.join_state(),
        JoinState::Joining { seeds: vec![(seed, SeedState::Called)] },
        "before it has looked"
    );
    // Something takes connections there and says nothing.
    says(&joiner, seed, SeedState::Silent);
    drop(silent);
    says(&joiner, seed, SeedState::Down);
    let seed = builder().bind(seed).start().unwrap();
    eventually("both have met", || {
        [&joiner, &seed].iter().all(|node| node.join_state() == JoinState::Joined)
    });
    seed.leave_and_wait().unwrap();
    eventually("it is alone again", || joiner.view().members.len() == 1);
    // Its last words may still come, and for two rounds nobody listens there.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_eq!(
            joiner.join_state(),
            JoinState::Alone,
            "all others have left: it is the cluster"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Passes connections on to a node, and no datagrams.
fn without_datagrams(to: SocketAddr) -> SocketAddr {
    let address = place();
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for from in listener.incoming() {
            let (from, to) = (from.unwrap(), TcpStream::connect(to).unwrap());
            for (mut from, mut to) in
                [(from.try_clone().unwrap(), to.try_clone().unwrap()), (to, from)]
            {
                thread::spawn(move || io::copy(&mut from, &mut to));
            }
        }
    });
    address
}

#[test]
fn a_seed_whose_datagrams_are_lost_is_told_from_one_that_is_down() {
    let seed = builder().start().unwrap();
    let through = without_datagrams(seed.address());
    let joiner = builder().seed(through).start().unwrap();
    says(&joiner, through, SeedState::NoDatagrams);
    assert_eq!(seed.strangers().accepted, 0, "a greeting leaves no link");
}

#[test]
fn a_start_of_many_nodes_greets_nobody() {
    let first = builder().start().unwrap();
    let others: Vec<_> = (0..4).map(|_| builder().seed(first.address()).start().unwrap()).collect();
    for node in &others {
        eventually("it has met others", || node.join_state() == JoinState::Joined);
    }
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(first.strangers().refused, 0);
}

/// Waits until the node says that no seed has an address, with this in its words.
fn has_no_address(node: &Node, word: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let state = node.join_state();
        if matches!(&state, JoinState::NoAddress { why } if why.contains(word)) {
            return;
        }
        assert!(Instant::now() < deadline, "{state:?} does not name {word}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_seed_without_an_address_is_waited_for_like_one_that_is_down() {
    let unknown = builder().seed("no-such-host.invalid:7400").start().unwrap();
    has_no_address(&unknown, "no-such-host.invalid:7400");
    let other_family = Arc::new(Mutex::new(Some("[::1]:7400".parse().unwrap())));
    let other_family = builder().discovery(Later(other_family, unknown_yet)).start().unwrap();
    has_no_address(&other_family, "[::1]:7400");
    let silent = place();
    let _silent = TcpListener::bind(silent).unwrap();
    let down = builder().seed(silent).start().unwrap();
    thread::sleep(Duration::from_millis(300));
    for node in [&unknown, &other_family, &down] {
        assert_eq!(node.view().members[0].state, MemberState::Joining);
        assert!(!node.wait_members(1, Duration::ZERO));
    }
}

/// Knows no address until it is told one; until then it does this.
struct Later(Arc<Mutex<Option<SocketAddr>>>, fn() -> io::Error);

impl Discovery for Later {
    fn name(&self) -> &str {
        "later"
    }

    fn discover(&mut self) -> io::Result<Vec<SocketAddr>> {
        let known = *self.0.lock().unwrap();
        known.map(|seed| vec![seed]).ok_or_else(self.1)
    }
}

fn unknown_yet() -> io::Error {
    io::Error::other("the name is not known yet")
}

/// Does not join before the address is known, which is after so long, and then does.
fn joins_later(otherwise: fn() -> io::Error, says: &str, after: Duration) {
    let seed = builder().start().unwrap();
    let address = Arc::new(Mutex::new(None));
    let joiner = builder().discovery(Later(Arc::clone(&address), otherwise)).start().unwrap();
    has_no_address(&joiner, says);
    thread::sleep(after);
    has_no_address(&joiner, says);
    *address.lock().unwrap() = Some(seed.address());
    eventually("both have met", || {
        [&joiner, &seed].iter().all(|node| node.join_state() == JoinState::Joined)
    });
}

#[test]
fn a_name_that_resolves_later_is_joined_through() {
    joins_later(unknown_yet, "the name is not known yet", Duration::ZERO);
}

#[test]
fn a_discovery_that_panics_is_asked_again() {
    // Long enough for a look where it may block, behind the first, which is the start's own.
    joins_later(|| panic!("there is no address"), "it panicked", Duration::from_secs(4));
}

/// Passes a node's datagrams on to a seed and what it answers back, as a port that is forwarded
/// does; what a connection meets there is another thing.
fn datagrams_only(to: SocketAddr) -> SocketAddr {
    let address = place();
    let (near, far) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind("127.0.0.1:0"));
    let far = far.unwrap();
    far.connect(to).unwrap();
    let client = Arc::new(Mutex::new(None));
    let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let known = Arc::clone(&client);
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((bytes, from)) = near.recv_from(&mut buffer) {
            *known.lock().unwrap() = Some(from);
            let _ = far.send(&buffer[..bytes]);
        }
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(bytes) = far_too.recv(&mut buffer) {
            let client = client.lock().unwrap().unwrap();
            let _ = near_too.send_to(&buffer[..bytes], client);
        }
    });
    address
}

/// A joiner's log from the first line that says why it is kept waiting, without dates.
fn reasons(joiner: &Process) -> Vec<String> {
    let log = joiner.stderr();
    let warnings = log.lines().filter_map(|line| line.split_once("WARN ")).map(|(_, text)| text);
    let texts = warnings.map(|text| text.split(" left_out=").next().unwrap().trim().to_owned());
    texts.collect()
}

/// What `keyway health` says of a joiner's seeds.
fn obstacle(joiner: &Process) -> Option<String> {
    let log = joiner.stderr();
    let admin = log.split_once("admin=")?.1.split_whitespace().next()?.to_owned();
    let (code, report, _) = run(&["health", "--json", "--admin", &admin]);
    assert_eq!(code, 1, "it is not up: {report}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    report["joining"].as_str().map(str::to_owned)
}

#[test]
fn a_node_that_advertises_a_wrong_address_says_so_and_nothing_else() {
    let seed = ReadyNode::start("seed", &[]);
    let direct: SocketAddr = seed.address.parse().unwrap();
    let place = place();
    let _somebody = UdpSocket::bind(place).unwrap();
    let nowhere = place.to_string();
    // Connections to its seed are refused by name, refused by the system, or not answered.
    let (refused, silent) = (datagrams_only(direct), datagrams_only(direct));
    let _silent = TcpListener::bind(silent).unwrap();
    let joiners = [("lost-1", direct), ("lost-2", refused), ("lost-3", silent)];
    let joiners = joiners.map(|(name, seed)| {
        let why = SeedState::CannotReach(place);
        let seed_text = seed.to_string();
        let joiner = Process::node(name, &["--seed", &seed_text, "--advertise", &nowhere]);
        (joiner, format!("the seed {seed} {why}"))
    });
    for (joiner, why) in &joiners {
        eventually("it says why", || obstacle(joiner).as_ref() == Some(why));
    }
    let mut told = BTreeSet::new();
    eventually("it has said so again and again", || {
        told.extend(joiners.iter().map(|(joiner, why)| (why, obstacle(joiner))));
        joiners.iter().all(|(joiner, _)| reasons(joiner).len() >= 4)
    });
    for (why, obstacle) in told {
        assert_eq!(obstacle.as_ref(), Some(why));
        assert!(why.contains("set `advertise`") && why.contains(&nowhere), "{why}");
    }
    for ((joiner, why), seed) in joiners.iter().zip([direct, refused, silent]) {
        // A machine that is slow may take more than a round to learn of it. Until then there is only
        // one other thing to say of a seed that answers.
        let line = |why: &str| format!("this node has met no other yet; {why}");
        let before = line(&format!("the seed {seed} {}", SeedState::Answers));
        let said: Vec<String> = reasons(joiner);
        let said: BTreeSet<&String> = said.iter().skip_while(|said| **said == before).collect();
        assert_eq!(said, [&line(why)].into());
    }
}

#[test]
fn a_seed_whose_name_is_unknown_is_told_at_once_as_what_keeps_the_node_waiting() {
    let joiner = Process::node("lost", &["--seed", "no-such-host.invalid:7400"]);
    let told = || {
        let begins = "this node has met no other yet; no seed has an address: ";
        let told = |said: &String| said.starts_with(begins) && said.contains("no-such-host");
        reasons(&joiner).iter().filter(|said| told(said)).count()
    };
    eventually("it says so", || told() > 0);
    // Discovery looks again, and finds the same.
    thread::sleep(Duration::from_secs(6));
    assert_eq!((told(), joiner.stderr().matches("discovery by").count()), (1, 0));
}

/// It has nothing to join any more.
#[test]
fn a_node_that_leaves_does_not_say_that_it_has_met_nobody() {
    let seed = place().to_string();
    // It waits three times as long until the others know, and so past the first look at its seed.
    let slow = ["--seed", &seed, "--set", "membership.gossip_ms=1000"];
    let mut leaver = Process::node("leaver", &slow);
    eventually("it runs", || leaver.stderr().contains("listening"));
    leaver.signal(Signal::TERM);
    assert_eq!(leaver.exit_code(), 0);
    assert_eq!(reasons(&leaver), [""; 0]);
}

/// The first words of a node were lost once, in its own process, and it was silent until it tried
/// again.
#[test]
fn the_first_call_to_a_seed_is_sent() {
    let seed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let never = |bound: &str| format!("membership.seed_retry_{bound}_ms");
    let node = builder().set(&never("max"), "60000").set(&never("min"), "60000");
    let node = node.seed(seed.local_addr().unwrap()).start().unwrap();
    seed.set_read_timeout(Some(LIMIT)).unwrap();
    // Two only ask which life to begin with; the third calls.
    for _ in 0..3 {
        let (_, from) = seed.recv_from(&mut [0; 2_000]).expect("it is called");
        assert_eq!(from, node.address());
    }
    assert_eq!(node.strangers().unsent, 0);
}

/// Starts at an address that was used a moment ago: a process that another test starts has this one's
/// sockets until it runs its own program.
fn start(builder: impl Fn() -> NodeBuilder) -> Node {
    let deadline = Instant::now() + LIMIT;
    loop {
        match builder().start() {
            Err(error) if error.to_string().contains("in use") && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            started => return started.unwrap(),
        }
    }
}

/// A node without seeds knows nothing of its last life. A member does.
#[test]
fn a_node_without_seeds_whose_clock_went_back_comes_up_again() {
    let place = place();
    let named = || builder().name("first").bind(place);
    let ahead = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let ahead = ahead.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
    // The clock was an hour ahead.
    let before = start(|| named().incarnation_above(Incarnation(ahead)));
    let member = builder().seed(place).start().unwrap();
    eventually("they meet", || member.view().member(before.id().node).is_some());
    let known = before.id().incarnation;
    let is_back = |above: Incarnation| {
        let view = member.view();
        let first = view.member(NodeId::from_name("first"));
        first.is_some_and(|first| first.incarnation > above && first.is_usable())
    };
    before.stop().unwrap();
    // A program is told what to exceed.
    let again = start(named);
    eventually("it ends", || again.end().is_some());
    let fault = MemberFault::Superseded { by: place, incarnation: known };
    assert_eq!(again.end(), Some(Ended::Fault(fault)));
    drop(again);
    let again = start(|| named().incarnation_above(known));
    eventually("it is a member again", || is_back(known));
    let known = again.id().incarnation;
    again.stop().unwrap();
    // The command sees to it itself.
    let place = place.to_string();
    let small = ["--workers", "1", "--set", "workers.spin_us=0", "--admin", "127.0.0.1:0"];
    let command = ["node", "--name", "first", "--bind", &place];
    let command = Process::start(&[&command[..], &small].concat(), &[]);
    eventually("it is a member again", || is_back(known));
    assert!(command.stderr().contains("clock of this machine has gone back"));
}

/// A node on all addresses of this machine, and one of them. The port is of this process, and none
/// that the system gives away.
fn everywhere() -> (NodeBuilder, SocketAddr) {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let own = this::id() % 2_000 * 10;
    let port = 10_000 + u16::try_from(own).unwrap() + GIVEN.fetch_add(1, Ordering::Relaxed);
    let own_name = SocketAddr::from(([127, 0, 1, 1], port));
    let everywhere = SocketAddr::from(([0, 0, 0, 0], port));
    (builder().bind(everywhere).secret("sixteen bytes ok"), own_name)
}

/// As many machines map their own name.
#[test]
fn a_seed_that_leads_to_this_node_under_another_address_is_known_as_itself() {
    let (first, own_name) = everywhere();
    let address = SocketAddr::from(([127, 0, 0, 1], own_name.port()));
    let first = first.advertise(address).seed(own_name).start().unwrap();
    assert!(first.wait_members(1, LIMIT), "it may form a cluster");
    eventually("it calls nobody", || first.join_state() == JoinState::Alone);
    let (second, own_name) = everywhere();
    let other = SocketAddr::from(([127, 0, 0, 1], own_name.port()));
    let second = second.advertise(other).seed(own_name).seed(address).start().unwrap();
    eventually("both have met", || {
        [&first, &second].iter().all(|node| node.join_state() == JoinState::Joined)
    });
}

#[test]
fn a_seed_that_is_this_node_does_not_show_that_its_address_is_right() {
    let secret = |builder: NodeBuilder| builder.secret("sixteen bytes ok");
    let seed = secret(builder()).start().unwrap();
    let member = secret(builder()).seed(seed.address()).start().unwrap();
    eventually("they meet", || member.join_state() == JoinState::Joined);
    let (misled, own_name) = everywhere();
    let misled = misled.name("misled").set("membership.seed_retry_max_ms", "300");
    let misled =
        misled.advertise(member.address()).seed(own_name).seed(seed.address()).start().unwrap();
    eventually("it ends", || misled.end().is_some());
    let fault = MemberFault::AddressTaken { address: member.address(), by: member.name().into() };
    assert_eq!(misled.end(), Some(Ended::Fault(fault)));
    assert_eq!((seed.view().members.len(), member.view().members.len()), (2, 2));
}

/// What a node says of its joining is never behind the members that it shows.
#[test]
fn whoever_sees_a_member_is_told_that_it_has_joined() {
    let seed = builder().start().unwrap();
    for _ in 0..5 {
        let newcomer = builder().seed(seed.address()).start().unwrap();
        let joined = || newcomer.view().members.len() > 1;
        let deadline = Instant::now() + LIMIT;
        // Without a pause: what is looked for lasts for less than a millisecond.
        while !joined() {
            assert!(Instant::now() < deadline, "not within {LIMIT:?}: it joins");
            std::hint::spin_loop();
        }
        assert_eq!(newcomer.join_state(), JoinState::Joined);
        newcomer.leave_and_wait().unwrap();
    }
}

#[test]
fn a_node_that_has_ended_says_so_whatever_it_said_before() {
    let seed = builder().start().unwrap();
    let newcomer = || builder().seed(seed.address());
    let left = newcomer().start().unwrap();
    eventually("it has joined", || left.join_state() == JoinState::Joined);
    left.begin_leave().unwrap();
    eventually("it has left", || left.end().is_some());
    let same_name = newcomer().name(seed.name()).start().unwrap();
    eventually("it ends", || same_name.end().is_some());
    for node in [&left, &same_name] {
        let health = node.health();
        assert!(health.ended.is_some(), "{health:?}");
        assert_eq!((health.join, health.state), (JoinState::Ended, None), "{:?}", health.ended);
        assert_eq!((node.join_state(), node.join_state().obstacle()), (JoinState::Ended, None));
        let refused = node.down(node.id().node).unwrap_err();
        assert!(matches!(refused, NodeError::Stopped), "{refused}");
        for said in [refused.to_string(), node.join_state().to_string()] {
            assert!(said.contains("`Node::end`"), "it says where the reason is: {said}");
        }
    }
}

/// A secret on a file system that does not answer takes as long as names that do not resolve.
#[test]
fn a_signal_ends_a_node_that_is_still_starting() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    assert!(Command::new("mkfifo").arg(&secret).status().unwrap().success());
    let setting = format!("secret_file={}", secret.display());
    let mut starting = Process::node("starting", &["--set", &setting]);
    let writer = thread::spawn(move || File::options().write(true).open(secret).unwrap());
    eventually("it reads the secret", || writer.is_finished());
    starting.signal(Signal::INT);
    assert_eq!(starting.exit_code(), 0, "{}", starting.stderr());
    assert!(starting.stdout().starts_with("ended by SIGINT"), "{}", starting.stdout());
}
