//! Many strangers at a node's port: they compete for places with each other, and a peer that holds
//! the secret gets in as if they were not there.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyway::{Context, Handler, MemberEvent, Message, Node, Routee};
use rkyv::{Archive, Deserialize, Serialize};

const STRANGERS: usize = 200;
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "strangers.count", reply = u64)]
struct Count {
    number: u64,
}

#[derive(Routee)]
#[routee(handles(Count))]
struct Counter;

impl Handler<Count> for Counter {
    type Reply = u64;
    fn handle(&mut self, count: &ArchivedCount, _: &mut Context<'_>) -> u64 {
        count.number.to_native() + 1
    }
}

fn node(seed: Option<SocketAddr>) -> Node {
    let builder = Node::builder()
        .bind("127.0.0.1:0")
        .cluster("besieged")
        .secret("a secret of enough bytes")
        .workers(1)
        .spin(Duration::ZERO);
    match seed {
        Some(seed) => builder.seed(seed).start().unwrap(),
        None => builder.start().unwrap(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Connects and waits to be thrown out.
    Silent,
    /// Connects again as soon as it was.
    Stubborn,
    /// Says a byte every 400 ms, and connects again when it was thrown out.
    Slow,
}

/// Two hundred strangers of one kind; gives their thread, which ends when told to.
fn besiege(to: SocketAddr, kind: Kind, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let connect = move || {
        let stream = TcpStream::connect(to).ok()?;
        stream.set_nonblocking(true).unwrap();
        Some((stream, Instant::now()))
    };
    let mut strangers: Vec<_> = (0..STRANGERS).map(|_| connect()).collect();
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            for stranger in &mut strangers {
                let Some((stream, said)) = stranger else {
                    if kind != Kind::Silent {
                        *stranger = connect();
                    }
                    continue;
                };
                let mut over = match stream.read(&mut [0; 64]) {
                    Ok(bytes) => bytes == 0,
                    Err(error) => error.kind() != ErrorKind::WouldBlock,
                };
                if kind == Kind::Slow && said.elapsed() >= Duration::from_millis(400) {
                    *said = Instant::now();
                    over |= stream.write(b"K").is_err();
                }
                if over {
                    *stranger = None;
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    })
}

fn a_member_links_beside(kind: Kind) {
    let besieged = node(None);
    besieged.serve("/user/counter", |_| Counter).unwrap();
    let stop = Arc::default();
    let strangers = besiege(besieged.address(), kind, &stop);
    thread::sleep(Duration::from_millis(600));

    let start = Instant::now();
    let newcomer = node(Some(besieged.address()));
    assert!(newcomer.wait_members(2, LIMIT), "no membership beside {kind:?} strangers");
    let joined = start.elapsed();
    let router = newcomer.router("/user/counter").round_robin().build().unwrap();
    while router.ask(&Count { number: 1 }).within(Duration::from_millis(250)).wait().is_err() {
        assert!(start.elapsed() < LIMIT, "no link beside {kind:?} strangers");
    }
    let linked = start.elapsed();
    println!("{kind:?}: joined after {joined:?}, linked after {linked:?}");
    stop.store(true, Ordering::Relaxed);
    strangers.join().unwrap();
    assert!(linked < LIMIT, "linked after {linked:?} beside {kind:?} strangers");
}

#[test]
fn silent_strangers_keep_nobody_out() {
    a_member_links_beside(Kind::Silent);
}

#[test]
fn strangers_that_come_back_at_once_keep_nobody_out() {
    a_member_links_beside(Kind::Stubborn);
}

#[test]
fn strangers_that_say_a_byte_now_and_then_keep_nobody_out() {
    a_member_links_beside(Kind::Slow);
}

#[test]
fn a_flood_of_wrong_datagrams_makes_nobody_unreachable() {
    let besieged = node(None);
    let other = node(Some(besieged.address()));
    assert!(besieged.wait_members(2, Duration::from_secs(20)));
    // Both: one that is too busy to answer is called unreachable by the other.
    let mut events = [besieged.events(), other.events()];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(besieged.address()).unwrap();
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < Duration::from_secs(5) {
        // About 50,000 a second.
        let due = start.elapsed().as_micros() as u64 / 20;
        while sent < due {
            let _ = socket.send(&[0x4b; 200]);
            sent += 1;
        }
        thread::sleep(Duration::from_micros(200));
    }
    let datagrams = besieged.strangers().datagrams;
    println!("{sent} datagrams, {datagrams:?}");
    assert!(datagrams.not_ours > 10_000, "no flood came: {datagrams:?}");
    for events in &mut events {
        while let Some(event) = events.try_next().unwrap() {
            let lost = matches!(event, MemberEvent::Unreachable(_));
            assert!(!lost, "a live member was called unreachable");
        }
    }
}
