//! A member whose advertised address works only sometimes, by real nodes and a relay.

mod place;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyway::base::{MemberEvent, NodeId};
use keyway::{Context, EventGap, Events, Handler, Message, Node, NodeBuilder, Routee};
use place::place;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "flapping.ask", key = key, reply = u64)]
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

const LIMIT: Duration = Duration::from_secs(40);

fn builder(name: &str) -> NodeBuilder {
    let builder = Node::builder().bind("127.0.0.1:0").name(name).workers(1).spin(Duration::ZERO);
    builder.set("membership.damp_max_ms", "8000")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// An address that leads to a node while it is open: connections always, datagrams only then.
struct Relay {
    address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Relay {
    fn to(node: SocketAddr, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let datagrams = Arc::new(UdpSocket::bind(address).unwrap());
        let is_open = Arc::clone(&open);
        thread::spawn(move || pass_datagrams(&datagrams, node, &is_open));
        thread::spawn(move || pass_connections(&listener, node));
        Self { address, open }
    }
}

/// Each sender has a socket of its own towards the node, so that answers find their way back.
fn pass_datagrams(at: &Arc<UdpSocket>, node: SocketAddr, open: &Arc<AtomicBool>) {
    let mut senders: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((length, from)) = at.recv_from(&mut buffer) {
        let own = senders.entry(from).or_insert_with(|| {
            let own = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
            own.connect(node).unwrap();
            let (back, at, open) = (Arc::clone(&own), Arc::clone(at), Arc::clone(open));
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                // The node's port is shut once it is gone.
                while let Ok(length) = back.recv(&mut buffer) {
                    if open.load(Ordering::Relaxed) {
                        let _ = at.send_to(&buffer[..length], from);
                    }
                }
            });
            own
        });
        if open.load(Ordering::Relaxed) {
            let _ = own.send(&buffer[..length]);
        }
    }
}

fn pass_connections(listener: &TcpListener, node: SocketAddr) {
    for from in listener.incoming() {
        let (Ok(from), Ok(to)) = (from, TcpStream::connect(node)) else { continue };
        let back = (to.try_clone().unwrap(), from.try_clone().unwrap());
        for (mut from, mut to) in [(from, to), back] {
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    }
}

/// How often keys moved to or from a member since the last look, if it was used before.
fn moves(events: &mut Events, whom: NodeId, used: &mut bool) -> u32 {
    let mut moves = 0;
    loop {
        match events.try_next() {
            Ok(Some(
                MemberEvent::Unreachable(member)
                | MemberEvent::Reachable(member)
                | MemberEvent::Damped(member)
                | MemberEvent::Settled(member),
            )) if member.id == whom => {
                moves += u32::from(member.is_usable() != *used);
                *used = member.is_usable();
            }
            Ok(Some(_)) | Err(EventGap::Missed(_)) => {}
            Ok(None) | Err(EventGap::Stopped | EventGap::WouldBlock) => return moves,
        }
    }
}

#[test]
fn an_address_that_works_every_other_moment_gets_no_keys_until_it_always_does() {
    let first = builder("first").start().unwrap();
    let second = builder("second").seed(first.address()).start().unwrap();
    let listener = TcpListener::bind(place()).unwrap();
    let place = place();
    let relay = Relay::to(place, listener);
    let flapping = builder("flapping").bind(place).advertise(relay.address);
    let flapping = flapping.seed(first.address()).start().unwrap();
    let nodes = [&first, &second, &flapping];
    nodes.iter().for_each(|node| node.serve("/echo", |_| Echo).unwrap());
    let router = first.router("/echo").consistent_hash().build().unwrap();
    router.wait_ready(3, LIMIT).unwrap();
    eventually("all have met", || {
        nodes.iter().all(|node| node.view().members.iter().filter(|m| m.is_usable()).count() == 3)
    });

    let whom = flapping.id().node;
    let (mut events, mut used) = (second.events(), true);
    let mut moved = Vec::new();
    let mut key = 0;
    for cycle in 0..9 {
        for open in [false, true] {
            relay.open.store(open, Ordering::Relaxed);
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until {
                key += 1;
                let answer = router.ask(&Ask { key }).within(Duration::from_secs(2)).wait();
                if cycle >= 5 {
                    assert_eq!(answer, Ok(key), "in cycle {cycle} its keys are elsewhere");
                    assert_eq!(router.routee_count(), 2, "in cycle {cycle}");
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        moved.push(moves(&mut events, whom, &mut used));
    }
    println!("keys moved so often per cycle: {moved:?}");
    assert!(moved.iter().sum::<u32>() <= 7 && moved[5..] == [0; 4], "{moved:?}");
    let view = second.view();
    let member = view.member(whom).unwrap();
    assert!(member.reachable, "it answers, and counts as a member that does");
    let left = second.damped_for(member).expect("it is damped");
    assert!(left <= Duration::from_secs(8), "{left:?}");

    let steady = Instant::now();
    eventually("it is used again by all", || {
        let usable = |node: &&Node| node.view().member(whom).is_some_and(|m| m.is_usable());
        nodes.iter().all(usable) && router.routee_count() == 3
    });
    println!("used again {:?} after its address worked all the time", steady.elapsed());
    assert_eq!((first.end(), second.end(), flapping.end()), (None, None, None));
}
