//! Many strangers at a node's port: they compete for places with each other, and a peer that holds
//! the secret gets in as if they were not there.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyway::base::{NodeRef, WorkerIndex};
use keyway::wire::handshake::{DialParams, DialStep, Dialer, Purpose};
use keyway::wire::{ClusterKey, VersionRange};
use keyway::{Context, Handler, MemberEvent, Message, Node, PeerTrouble, Routee};
use rkyv::{Archive, Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

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
    /// Says nothing, and connects anew before it would be thrown out for that.
    Silent,
    /// Says nothing, and connects again as soon as it was thrown out.
    Stubborn,
    /// Says a byte every 400 ms, and connects again when it was thrown out.
    Slow,
}

/// How long a silent one stays at the most: not so long that it is thrown out.
const RENEWED_MS: u64 = 400;

struct Stranger {
    stream: TcpStream,
    said: Instant,
    /// When a silent one comes anew: never all at once, so that their places are never free.
    renewed: Instant,
}

impl Stranger {
    /// Number `number`, from one of so many addresses of this machine.
    fn connect(to: SocketAddr, number: usize, addresses: usize) -> Option<Self> {
        let from = SocketAddr::from(([127, 0, 0, 1 + (number % addresses) as u8], 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&to.into()).ok()?;
        socket.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let stays = Duration::from_millis(RENEWED_MS - number as u64);
        Some(Self { stream: socket.into(), said: now, renewed: now + stays })
    }

    /// Does what its kind does; whether it goes on.
    fn goes_on(&mut self, kind: Kind) -> bool {
        if kind == Kind::Silent {
            return Instant::now() < self.renewed;
        }
        if kind == Kind::Slow && self.said.elapsed() >= Duration::from_millis(400) {
            self.said = Instant::now();
            if self.stream.write(b"K").is_err() {
                return false;
            }
        }
        match self.stream.read(&mut [0; 64]) {
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Two hundred strangers of one kind that have just connected; gives their thread, which ends when
/// told to and says how often they connected.
fn besiege(
    to: SocketAddr,
    (kind, addresses): (Kind, usize),
    stop: &Arc<AtomicBool>,
) -> JoinHandle<usize> {
    let connect = move |number| Stranger::connect(to, number, addresses);
    let mut strangers: Vec<_> = (0..STRANGERS).map(connect).collect();
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut connected = STRANGERS;
        while !stop.load(Ordering::Relaxed) {
            for (number, stranger) in strangers.iter_mut().enumerate() {
                if stranger.as_mut().is_none_or(|stranger| !stranger.goes_on(kind)) {
                    drop(stranger.take());
                    *stranger = connect(number);
                    connected += usize::from(stranger.is_some());
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        connected
    })
}

/// Strangers of one address share a part of the places; from eight, they have all that are not
/// members'.
fn a_member_links_beside(kind: Kind) {
    for addresses in [1, 8] {
        links_beside(kind, addresses);
    }
}

fn links_beside(kind: Kind, addresses: usize) {
    let besieged = node(None);
    besieged.serve("/user/counter", |_| Counter).unwrap();
    let stop = Arc::default();
    let strangers = besiege(besieged.address(), (kind, addresses), &stop);
    // One that comes with them; and one that comes when their address is known as a member's, and
    // they have had the time to take each place there is.
    let mut newcomers = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        let newcomer = node(Some(besieged.address()));
        let among = format!("{kind:?} strangers of {addresses} addresses");
        assert!(newcomer.wait_members(2, LIMIT), "no membership beside {among}");
        let joined = start.elapsed();
        let router = newcomer.router("/user/counter").round_robin().build().unwrap();
        while router.ask(&Count { number: 1 }).within(Duration::from_millis(250)).wait().is_err() {
            assert!(start.elapsed() < LIMIT, "no link beside {among}");
        }
        let linked = start.elapsed();
        println!("beside {among}: joined after {joined:?}, linked after {linked:?}");
        assert!(linked < LIMIT, "linked after {linked:?} beside {among}");
        newcomers.push(newcomer);
        thread::sleep(Duration::from_millis(600));
    }
    stop.store(true, Ordering::Relaxed);
    let connected = strangers.join().unwrap();
    let turned_away = besieged.strangers().turned_away;
    println!("they connected {connected} times, and {turned_away} had to give way");
    assert!(connected > 2 * STRANGERS, "they did not come back: {connected}");
    assert!(turned_away > 0, "they took all places there are for them");
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

/// What a flood must be to count: so many datagrams in a second that were sent and taken.
const FLOOD: u64 = 40_000;

/// Datagrams that the system dropped because this port's node had not taken those before them.
fn dropped(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let local = format!(":{port:04X}");
    let line = table.lines().find(|line| {
        line.split_whitespace().nth(1).is_some_and(|address| address.ends_with(&local))
    });
    line.unwrap().split_whitespace().last().unwrap().parse().unwrap()
}

/// Sends wrong datagrams for a second, some 60,000 if the machine is not busy; gives how many.
fn flood(socket: &UdpSocket) -> u64 {
    let (start, mut sent, mut due) = (Instant::now(), 0, 0);
    while start.elapsed() < Duration::from_secs(1) {
        while due < start.elapsed().as_micros() as u64 * 60 / 1_000 {
            sent += u64::from(socket.send(&[0x4b; 200]).is_ok());
            due += 1;
        }
        thread::sleep(Duration::from_micros(200));
    }
    sent
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
    let taken = || besieged.strangers().datagrams.not_ours;
    let lost_before = dropped(besieged.address().port());
    // Five seconds, and more on a busy machine: until so many were sent and taken in three of them.
    let (mut all, mut floods, mut seconds) = (0, 0, 0);
    while seconds < 5 || floods < 3 {
        assert!(seconds < 60, "{floods} times in a minute were {FLOOD} taken in a second");
        let before = taken();
        let sent = flood(&socket);
        let came = taken() - before;
        println!("{sent} sent in a second, {came} taken");
        (all, seconds) = (all + sent, seconds + 1);
        floods += u32::from(came >= FLOOD);
    }
    // Each of them was taken, or dropped by the system.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (taken, lost) = (taken(), dropped(besieged.address().port()) - lost_before);
        if taken + lost >= all {
            println!("{all} sent, {taken} taken, {lost} dropped by the system");
            assert!(taken <= all);
            break;
        }
        assert!(Instant::now() < deadline, "{all} sent, {taken} taken, {lost} dropped");
        thread::sleep(Duration::from_millis(10));
    }
    for events in &mut events {
        while let Some(event) = events.try_next().unwrap() {
            let lost = matches!(event, MemberEvent::Unreachable(_));
            assert!(!lost, "a live member was called unreachable");
        }
    }
}

/// Opens a link in a member's name, with a link epoch that this never exceeds.
fn impersonate(member: NodeRef, to: &Node, cluster: &str) -> TcpStream {
    let params = DialParams {
        key: ClusterKey::new(cluster, None).unwrap(),
        me: member,
        purpose: Purpose::Workers,
        from_worker: WorkerIndex(0),
        to: to.id(),
        to_worker: WorkerIndex(0),
        link_epoch: u64::MAX,
        versions: VersionRange::SUPPORTED,
    };
    let (mut dialer, hello) = Dialer::new(params, [1; 32]);
    let mut stream = TcpStream::connect(to.address()).unwrap();
    stream.write_all(&hello).unwrap();
    loop {
        let mut bytes = vec![0; dialer.expects()];
        stream.read_exact(&mut bytes).unwrap();
        match dialer.receive(&bytes).unwrap() {
            DialStep::More => {}
            DialStep::Send(answer) => stream.write_all(&answer).unwrap(),
            DialStep::Done(_) => return stream,
        }
    }
}

/// Without a secret anybody can.
#[test]
fn who_opens_a_link_in_a_members_name_keeps_it_out_for_seconds_and_not_in_silence() {
    let start = || {
        let builder = Node::builder().bind("127.0.0.1:0").cluster("open").workers(1);
        builder.spin(Duration::ZERO)
    };
    let called = start().start().unwrap();
    called.serve("/counter", |_| Counter).unwrap();
    let caller = start().seed(called.address()).start().unwrap();
    let router = caller.router("/counter").round_robin().build().unwrap();
    router.wait_ready(1, Duration::from_secs(20)).unwrap();
    let held = impersonate(caller.id(), &called, "open");
    let ask = || router.ask(&Count { number: 1 }).within(Duration::from_millis(200)).wait();
    let (start, mut named) = (Instant::now(), false);
    while ask().is_err() {
        let troubles = caller.troubles();
        named |= troubles.iter().any(|trouble| trouble.what == PeerTrouble::ClosesLinks);
        assert!(start.elapsed() < Duration::from_secs(20), "it is kept out: {troubles:?}");
        thread::sleep(Duration::from_millis(5));
    }
    println!("let in after {:?}", start.elapsed());
    assert!(named && start.elapsed() > Duration::from_secs(2), "{:?}", caller.troubles());
    drop(held);
}
