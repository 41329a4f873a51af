//! Peers that run and cannot be sent to, and nodes that call and cannot be reached: what is said of
//! them, by real nodes, and that it ends.
#![cfg(feature = "admin")]

mod place;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use keyway::admin::report::{HealthReport, MembersReport};
use keyway::{
    Context, Handler, JoinState, Message, Node, NodeBuilder, PeerTrouble, Routee, Router, SeedState,
};
use place::place;
use rkyv::{Archive, Deserialize, Serialize};
use socket2::SockRef;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "troubles.ask", key = key, reply = u64)]
struct Ask {
    key: u64,
}

/// Holds its worker until that is over.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "troubles.hold", key = key)]
struct Hold {
    key: u64,
}

static HELD: AtomicBool = AtomicBool::new(false);

#[derive(Routee)]
#[routee(handles(Ask, Hold))]
struct Echo;

impl Handler<Hold> for Echo {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedHold, _: &mut Context<'_>) {
        while HELD.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Handler<Ask> for Echo {
    type Reply = u64;
    fn handle(&mut self, ask: &ArchivedAsk, _: &mut Context<'_>) -> u64 {
        ask.key.to_native()
    }
}

const LIMIT: Duration = Duration::from_secs(40);

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn builder(name: &str) -> NodeBuilder {
    let builder = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    builder.name(name).set("links.handshake_timeout_ms", "1000")
}

/// A port that passes datagrams on to a node, and what it answers back, as one that is forwarded
/// does. Which node that is, is said later. TCP is another matter.
fn datagrams_only() -> (SocketAddr, Arc<Mutex<Option<SocketAddr>>>) {
    let address = place();
    let (near, far) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind("127.0.0.1:0"));
    let (near, far) = (Arc::new(near), Arc::new(far.unwrap()));
    let (to, client) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let pass = |from: &Arc<UdpSocket>, on: &Arc<UdpSocket>, note: bool| {
        let (from, on, to) = (Arc::clone(from), Arc::clone(on), Arc::clone(&to));
        let client = Arc::clone(&client);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok((bytes, sender)) = from.recv_from(&mut buffer) {
                if note {
                    *client.lock().unwrap() = Some(sender);
                }
                let whom: Option<SocketAddr> =
                    if note { &to } else { &client }.lock().unwrap().to_owned();
                if let Some(whom) = whom {
                    let _ = on.send_to(&buffer[..bytes], whom);
                }
            }
        });
    };
    pass(&near, &far, true);
    pass(&far, &near, false);
    (address, to)
}

/// Passes connections on.
fn pass_connections(listener: TcpListener, to: SocketAddr) {
    thread::spawn(move || {
        for from in listener.incoming() {
            let (Ok(from), Ok(to)) = (from, TcpStream::connect(to)) else { continue };
            for (mut from, mut to) in
                [(from.try_clone().unwrap(), to.try_clone().unwrap()), (to, from)]
            {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                });
            }
        }
    });
}

/// Two members that know each other by datagrams, and what is sent from the first to the second goes
/// to a port of ours over TCP.
struct Scene {
    asker: Node,
    served: Node,
    router: Router,
    port: SocketAddr,
}

impl Scene {
    fn new() -> Self {
        let (port, to) = datagrams_only();
        let asker = builder("asker").start().unwrap();
        let served = builder("served").advertise(port).seed(asker.address()).start().unwrap();
        *to.lock().unwrap() = Some(served.bound());
        served.serve("/echo", |_| Echo).unwrap();
        let router = asker.router("/echo").consistent_hash().build().unwrap();
        router.wait_ready(1, LIMIT).unwrap();
        Self { asker, served, router, port }
    }

    fn ask(&self) -> bool {
        self.router.ask(&Ask { key: 1 }).within(Duration::from_millis(300)).wait() == Ok(1)
    }

    fn troubles(&self) -> Vec<PeerTrouble> {
        self.asker.troubles().iter().map(|trouble| trouble.what).collect()
    }

    /// Asks until this is said, wherever it is said.
    fn says(&self, what: PeerTrouble) {
        eventually(what.short(), || {
            assert!(!self.ask(), "there is no way");
            self.troubles() == [what]
        });
        let health = self.asker.health();
        assert!(health.is_healthy(), "the asker itself is well: {health:?}");
        let trouble = &health.troubles[0];
        assert_eq!((&*trouble.name, trouble.address), ("served", self.port));
        assert_eq!(HealthReport::of(&self.asker).troubles, [trouble.to_string()]);
        let members = MembersReport::of(&self.asker).members;
        let shown: Vec<_> = members.iter().map(|member| member.trouble.as_deref()).collect();
        assert_eq!(shown, [None, Some(what.short())], "asker, served");
        assert!(members.iter().all(|member| member.reachable), "its datagrams come");
    }

    /// Once connections are passed on nothing is said any more, whether or not anybody asks.
    fn is_over(&self, listener: TcpListener) {
        pass_connections(listener, self.served.bound());
        eventually("it is over", || self.troubles().is_empty());
        eventually("asks are replied to", || self.ask());
        assert!(self.troubles().is_empty());
        assert!(HealthReport::of(&self.asker).troubles.is_empty());
    }
}

#[test]
fn a_member_whose_connections_vanish_is_named_until_they_come_about() {
    let scene = Scene::new();
    // No room for one more: what asks for a connection is dropped, as by a firewall.
    let listener = TcpListener::bind(scene.port).unwrap();
    SockRef::from(&listener).listen(0).unwrap();
    let fill: Vec<_> = (0..8)
        .map(|_| {
            let socket = socket2::Socket::new(
                socket2::Domain::IPV4,
                socket2::Type::STREAM,
                Some(socket2::Protocol::TCP),
            );
            let socket = socket.unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&scene.port.into());
            socket
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    scene.says(PeerTrouble::Vanish);
    drop(fill);
    SockRef::from(&listener).listen(128).unwrap();
    scene.is_over(listener);
}

#[test]
fn a_member_that_refuses_connections_is_named_until_it_takes_them() {
    let scene = Scene::new();
    scene.says(PeerTrouble::Refuses);
    scene.is_over(TcpListener::bind(scene.port).unwrap());
}

#[test]
fn a_member_that_takes_connections_and_says_nothing_is_named() {
    let scene = Scene::new();
    let silent = TcpListener::bind(scene.port).unwrap();
    scene.says(PeerTrouble::Mute);
    drop(silent);
}

#[test]
fn a_member_that_closes_connections_without_a_word_is_named_after_the_first() {
    let scene = Scene::new();
    let listener = TcpListener::bind(scene.port).unwrap();
    let closes = listener.try_clone().unwrap();
    let stops = Arc::new(Mutex::new(false));
    let stopped = Arc::clone(&stops);
    let closer = thread::spawn(move || {
        while !*stopped.lock().unwrap() {
            drop(closes.accept());
        }
    });
    assert!(!scene.ask(), "there is no way");
    eventually("it is named", || scene.troubles() == [PeerTrouble::Mute]);
    scene.says(PeerTrouble::Mute);
    *stops.lock().unwrap() = true;
    drop(TcpStream::connect(scene.port));
    closer.join().unwrap();
    // Only a handshake shows that it is over.
    pass_connections(listener, scene.served.bound());
    eventually("asks are replied to", || scene.ask());
    eventually("it is over", || scene.troubles().is_empty());
}

#[test]
fn a_member_where_another_program_answers_connections_is_named_with_its_words() {
    let scene = Scene::new();
    let listener = TcpListener::bind(scene.port).unwrap();
    let answers = listener.try_clone().unwrap();
    let stops = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stops);
    let server = thread::spawn(move || {
        while let Ok((mut from, _)) = answers.accept()
            && !stopped.load(Ordering::Relaxed)
        {
            let _ = from.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    scene.says(PeerTrouble::NoHandshake);
    let words = scene.asker.troubles()[0].to_string();
    assert!(words.contains("it begins with \"HTTP/1.1\""), "{words}");
    stops.store(true, Ordering::Relaxed);
    drop(TcpStream::connect(scene.port));
    server.join().unwrap();
    pass_connections(listener, scene.served.bound());
    eventually("asks are replied to", || scene.ask());
    eventually("it is over", || scene.troubles().is_empty());
}

/// Both have both as seeds, and one advertises what leads nowhere: it sees the other, which answers
/// it, and is seen by nobody.
#[test]
fn a_node_that_advertises_a_wrong_address_is_not_healthy_on_either_side_until_it_is_right() {
    let [first, lost] = [place(), place()];
    let nowhere = place();
    let start = |name: &str, bind: SocketAddr| {
        let builder = builder(name).bind(bind).seed(first).seed(lost);
        builder.set("membership.seed_retry_max_ms", "1000")
    };
    let member = start("member", first).start().unwrap();
    let stray = start("stray", lost).advertise(nowhere).start().unwrap();
    let why = JoinState::Unreached { address: nowhere, by: vec![first] };
    eventually("it is told that nobody reaches it", || stray.join_state() == why);
    let health = stray.health();
    assert!(!health.is_healthy() && health.join == why, "{health:?}");
    let words = HealthReport::of(&stray).joining.unwrap();
    for word in [&*first.to_string(), &*nowhere.to_string(), "set `advertise`"] {
        assert!(words.contains(word), "{words}");
    }

    let what = PeerTrouble::NotThere { from: lost };
    eventually("the member says so too", || {
        member.troubles().iter().any(|trouble| trouble.what == what)
    });
    assert_eq!(member.view().members.len(), 1, "it is not let in");
    let trouble = &member.troubles()[0];
    assert_eq!((&*trouble.name, trouble.address), ("stray", nowhere));
    let words = trouble.to_string();
    assert!(words.contains(&lost.to_string()) && words.contains("`advertise`"), "{words}");
    // For as long as it is so.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(stray.join_state(), why);
        assert_eq!(member.troubles().len(), 1);
        thread::sleep(Duration::from_millis(10));
    }

    // The address leads to it from now on.
    let (near, there) = (UdpSocket::bind(nowhere).unwrap(), lost);
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((bytes, _)) = near.recv_from(&mut buffer) {
            let _ = near.send_to(&buffer[..bytes], there);
        }
    });
    eventually("all is well", || {
        let joined = [&member, &stray].iter().all(|node| node.join_state() == JoinState::Joined);
        joined && member.troubles().is_empty() && stray.health().is_healthy()
    });
    assert_eq!((member.end(), stray.end()), (None, None));
}

/// The seed lets the newcomer in, which cannot take it for a member: it would never reach it.
#[test]
fn a_newcomer_is_told_that_its_seed_advertises_what_it_cannot_reach() {
    let (bound, nowhere) = (place(), place());
    let retry = |builder: NodeBuilder| builder.set("membership.seed_retry_max_ms", "500");
    let seed = retry(builder("seed")).bind(bound).advertise(nowhere).start().unwrap();
    let newcomer = retry(builder("newcomer")).seed(bound).start().unwrap();
    let why = JoinState::Joining { seeds: vec![(bound, SeedState::Elsewhere(nowhere))] };
    eventually("it is told so", || newcomer.join_state() == why);
    let words = why.obstacle().unwrap();
    let named =
        format!("the seed {bound} answers, but advertises {nowhere}, which cannot be reached");
    assert!(words.starts_with(&named), "{words}");
    // The seed is told the same of itself, and gives the newcomer nothing to do.
    let by = vec![newcomer.address()];
    let said = JoinState::Unreached { address: nowhere, by };
    eventually("the seed is told so", || seed.join_state() == said);
    assert!(!seed.health().is_healthy() && !newcomer.health().is_healthy());
    assert_eq!(seed.health().usable_members, 1, "{:?}", seed.view());
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(newcomer.join_state(), why);
        thread::sleep(Duration::from_millis(10));
    }
}

/// The peer's worker lets 16 links in. Of the 17 workers that dial it, one is told so by name.
#[test]
fn a_peer_that_has_no_place_for_more_links_is_named_by_its_dialer() {
    let full = builder("full").set("links.max_accepted", "16").start().unwrap();
    full.serve("/echo", |_| Echo).unwrap();
    let asker = builder("asker").workers(17).seed(full.address()).start().unwrap();
    let routers = [(); 17].map(|()| asker.router("/echo").round_robin().build().unwrap());
    routers[0].wait_ready(1, LIMIT).unwrap();
    let ask = |router: &Router| {
        router.ask(&Ask { key: 1 }).within(Duration::from_millis(300)).wait() == Ok(1)
    };
    eventually("one is named", || {
        let replied = routers.iter().filter(|router| ask(router)).count();
        assert!(replied <= 16, "there are 16 places");
        asker.troubles().iter().any(|trouble| trouble.what == PeerTrouble::NoPlace)
    });
    let trouble = asker.troubles()[0].to_string();
    assert!(trouble.starts_with("full at ") && trouble.contains("links.max_accepted"), "{trouble}");
    assert!(asker.health().is_healthy());
}

/// Its system acknowledges, and its control answers.
#[test]
fn a_member_whose_worker_is_held_is_named_by_who_sends_to_it_while_that_lasts() {
    let scene = Scene::new();
    pass_connections(TcpListener::bind(scene.port).unwrap(), scene.served.bound());
    eventually("asks are replied to", || scene.ask());
    let hold = || {
        HELD.store(true, Ordering::Relaxed);
        scene.router.tell(&Hold { key: 1 }).unwrap();
        Instant::now()
    };
    // A slow handler is no trouble.
    let start = hold();
    while start.elapsed() < Duration::from_secs(3) {
        assert_eq!(scene.troubles(), []);
        thread::sleep(Duration::from_millis(5));
    }
    HELD.store(false, Ordering::Relaxed);
    eventually("asks are replied to", || scene.ask());

    let start = hold();
    scene.says(PeerTrouble::TakesNothing);
    assert!(start.elapsed() > Duration::from_secs(5), "after {:?}", start.elapsed());
    let words = scene.asker.troubles()[0].to_string();
    let named = "its worker 0 has acknowledged nothing for 5 s, and ";
    assert!(words.contains(named) && words.contains(" messages wait for it"), "{words}");
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until {
        assert_eq!(scene.troubles(), [PeerTrouble::TakesNothing], "for as long as it is so");
        thread::sleep(Duration::from_millis(5));
    }
    HELD.store(false, Ordering::Relaxed);
    eventually("it is over", || scene.troubles().is_empty());
    eventually("asks are replied to", || scene.ask());
}
