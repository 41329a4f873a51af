//! Names, addresses and incarnations that are claimed again, by real nodes.

mod place;

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use keyway::member::MemberFault;
use keyway::{Context, Ended, Handler, JoinState, Message, Node, NodeBuilder, Routee, SeedState};
use place::place;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "identity.ask", key = key, reply = u64)]
struct Ask {
    key: u64,
}

#[derive(Routee)]
#[routee(handles(Ask))]
struct Echo;

impl Handler<Ask> for Echo {
    type Reply = u64;
    fn handle(&mut self, ask: &ArchivedAsk, _: &mut Context<'_>) -> u64 {
        ask.key.to_native()
    }
}

const LIMIT: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn builder() -> NodeBuilder {
    Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO)
}

/// Both nodes see each other as they are now.
fn met(a: &Node, b: &Node) -> bool {
    let sees = |from: &Node, whom: &Node| {
        let view = from.view();
        view.member(whom.id().node)
            .is_some_and(|member| member.incarnation == whom.id().incarnation && member.is_usable())
    };
    sees(a, b) && sees(b, a)
}

#[test]
fn a_clock_that_went_back_keeps_no_node_out() {
    let first = builder().start().unwrap();
    let start = |address: SocketAddr, behind| {
        let again = builder().bind(address).name("again").seed(first.address());
        again.clock_behind(behind).start().unwrap()
    };
    let address = place();
    let mut again = start(address, Duration::ZERO);
    eventually("the first life is a member", || met(&first, &again));
    for (behind, leaves) in [(HOUR, false), (2 * HOUR, true)] {
        let before = again.id().incarnation;
        if leaves {
            again.leave_and_wait().unwrap();
        } else {
            again.stop().unwrap();
        }
        again = start(address, behind);
        assert!(again.id().incarnation > before, "leaves: {leaves}");
        eventually("the next life is a member", || met(&first, &again));
        assert_eq!(again.end(), None);
    }
}

#[test]
fn a_start_waits_for_seeds_a_short_time_and_without_them_not_at_all() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let started = |builder: NodeBuilder| {
        let began = Instant::now();
        drop(builder.start().unwrap());
        began.elapsed()
    };
    let fastest = |make: &dyn Fn() -> NodeBuilder| (0..5).map(|_| started(make())).min().unwrap();
    let alone = fastest(&builder);
    let waited = fastest(&|| builder().seed(silent.local_addr().unwrap()));
    println!("a start takes {alone:?} without seeds and {waited:?} with a silent one");
    assert!(waited > Duration::from_millis(100), "{waited:?}");
    assert!(waited < alone + Duration::from_millis(150), "{waited:?} and {alone:?}");
    assert!(alone < Duration::from_millis(100), "{alone:?}");
}

#[test]
fn a_second_node_with_a_members_address_is_told_so_and_ends() {
    let first = builder().name("first").start().unwrap();
    first.serve("/echo", |_| Echo).unwrap();
    let asker = builder().name("asker").seed(first.address()).start().unwrap();
    let router = asker.router("/echo").consistent_hash().build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();

    let rival = builder().name("rival").advertise(first.address()).seed(asker.address());
    let rival = rival.start().unwrap();
    let mut key = 0;
    eventually("the rival ends", || {
        key += 1;
        assert_eq!(router.ask(&Ask { key }).within(Duration::from_secs(2)).wait(), Ok(key));
        assert!(met(&first, &asker), "the first was doubted");
        rival.end().is_some()
    });
    let fault = MemberFault::AddressTaken { address: first.address(), by: "first".into() };
    assert_eq!(rival.end(), Some(Ended::Fault(fault)));
    assert_eq!((first.end(), asker.end()), (None, None));
}

#[test]
fn a_node_whose_address_leads_nowhere_is_told_so_and_gets_no_keys() {
    let first = builder().name("first").start().unwrap();
    first.serve("/echo", |_| Echo).unwrap();
    let other = builder().name("other").seed(first.address()).start().unwrap();
    let router = other.router("/echo").consistent_hash().build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();

    // Somebody is there, and it is no node.
    let nowhere = place();
    let _somebody = UdpSocket::bind(nowhere).unwrap();
    let lost = builder().name("lost").advertise(nowhere).seed(first.address()).start().unwrap();
    lost.serve("/echo", |_| Echo).unwrap();
    let seeds = vec![(first.address(), SeedState::CannotReach(nowhere))];
    let why = JoinState::Joining { seeds };
    let began = Instant::now();
    let mut key = 0;
    while began.elapsed() < Duration::from_secs(4) || lost.join_state() != why {
        assert!(began.elapsed() < LIMIT, "{:?}, not {why:?}", lost.join_state());
        key += 1;
        assert_eq!(router.ask(&Ask { key }).within(Duration::from_secs(2)).wait(), Ok(key));
        assert_eq!((first.view().members.len(), other.view().members.len()), (2, 2));
        thread::sleep(Duration::from_millis(2));
    }
    assert!(met(&first, &other) && router.routee_count() == 1);
    assert_eq!((first.end(), other.end(), lost.end()), (None, None, None));
    let words = SeedState::CannotReach(nowhere).to_string();
    assert!(words.contains("set `advertise`") && words.contains(&nowhere.to_string()), "{words}");
}

#[test]
fn a_node_that_advertises_its_only_seeds_address_does_not_take_itself_for_the_seed() {
    let seed = builder().name("seed").cluster("one").start().unwrap();
    let start = |cluster: &str| {
        let builder = builder().cluster(cluster).advertise(seed.address()).seed(seed.address());
        builder.start().unwrap()
    };
    let rival = start("one");
    // Of another cluster it cannot be told, but it can see who is there.
    let stray = start("another");
    eventually("the rival ends", || rival.end().is_some());
    let fault = MemberFault::AddressTaken { address: seed.address(), by: "seed".into() };
    assert_eq!(rival.end(), Some(Ended::Fault(fault)));
    let why = JoinState::Joining { seeds: vec![(seed.address(), SeedState::OtherCluster)] };
    let deadline = Instant::now() + LIMIT;
    while stray.join_state() != why {
        assert!(Instant::now() < deadline, "{:?}, not {why:?}", stray.join_state());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((seed.end(), seed.view().members.len()), (None, 1));

    // Whoever is its own seed in truth is alone, as it should be.
    let place = place();
    let own = builder().bind(place).seed(place).start().unwrap();
    assert!(own.wait_members(1, LIMIT), "it is up");
    thread::sleep(Duration::from_millis(1_500));
    eventually("it knows itself", || own.join_state() == JoinState::Alone);
}
