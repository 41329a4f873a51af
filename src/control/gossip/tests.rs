//! Many nodes that gossip over a network which loses datagrams.

use super::*;
use crate::base::{Incarnation, Member, NodeId};
use crate::config::WORDS_BYTES;
use crate::part::{ControlHalves, PartSettings};

const PART: PartId = PartId(9);
const ROUND: Duration = Duration::from_millis(70);

fn node(number: usize) -> NodeRef {
    NodeRef { node: NodeId(number as u64), incarnation: Incarnation(1) }
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7_400))
}

fn member(number: usize) -> Member {
    Member { name: format!("n{number}").into(), ..Member::plain(node(number), address(number)) }
}

fn view(me: usize, members: std::ops::Range<usize>) -> View {
    View::new(node(me), 1, members.map(member).collect())
}

#[derive(Default)]
struct Sent {
    datagrams: Vec<(SocketAddr, PartId, Vec<u8>)>,
    scheduled: Option<Time>,
}

impl GossipSink for Sent {
    fn send(&mut self, to: SocketAddr, part: PartId, payload: &[u8]) {
        self.datagrams.push((to, part, payload.to_vec()));
    }
    fn schedule(&mut self, at: Time) {
        assert!(self.scheduled.replace(at).is_none(), "one round at a time");
    }
}

struct Net {
    nodes: Vec<(Gossip, Sent, Vec<News>)>,
    now: Time,
    rng: Rng,
    loss_percent: u32,
    datagrams: usize,
}

impl Net {
    fn new(count: usize, loss_percent: u32) -> Self {
        let mut nodes = Vec::new();
        for number in 0..count {
            let mut gossip = Gossip::new(node(number), ROUND, number as u64);
            let mut sent = Sent::default();
            gossip.follow(Time::ZERO, &view(number, 0..count), &[], &mut sent);
            nodes.push((gossip, sent, Vec::new()));
        }
        Self { nodes, now: Time::ZERO, rng: Rng::seed_from_u64(1), loss_percent, datagrams: 0 }
    }

    fn say(&mut self, number: usize, bytes: &[u8]) {
        let (gossip, sent, _) = &mut self.nodes[number];
        assert!(gossip.say(self.now, PART, 1, bytes, sent));
    }

    fn round(&mut self) {
        self.now = self.now.plus(ROUND);
        let mut flying = Vec::new();
        for (gossip, sent, _) in &mut self.nodes {
            if sent.scheduled.is_some_and(|at| at <= self.now) {
                sent.scheduled = None;
                gossip.round(self.now, sent);
            }
            let from = gossip.me;
            flying.extend(sent.datagrams.drain(..).map(|datagram| (from, datagram)));
        }
        self.datagrams += flying.len();
        for (from, (to, part, bytes)) in flying {
            assert!(bytes.len() <= DATAGRAM_BYTES);
            if self.rng.random_range(0..100) < self.loss_percent {
                continue;
            }
            let SocketAddr::V4(to) = to else { panic!("{to}") };
            let [_, _, high, low] = to.ip().octets();
            let (gossip, sent, news) = &mut self.nodes[usize::from(high) << 8 | usize::from(low)];
            let outcome = gossip.datagram(self.now, (from, part), &bytes, news, sent);
            assert_eq!(outcome, Outcome::Taken);
        }
    }

    /// Rounds until everybody has heard this node's word.
    fn rounds_until_heard(&mut self, number: usize, bytes: &[u8]) -> usize {
        for round in 0.. {
            let heard = |at: usize, news: &[News]| {
                let last = news.iter().rev().find(|word| word.from == node(number));
                at == number || last.is_some_and(|word| word.bytes == bytes)
            };
            if self.nodes.iter().enumerate().all(|(at, (_, _, news))| heard(at, news)) {
                return round;
            }
            assert!(round < 200, "it does not reach everybody");
            self.round();
        }
        unreachable!()
    }
}

#[test]
fn a_word_reaches_everybody_in_few_rounds_and_then_is_news_no_more() {
    for count in [2, 3, 10, 100] {
        let mut net = Net::new(count, 0);
        net.say(0, b"first");
        let rounds = net.rounds_until_heard(0, b"first");
        assert!(rounds <= 10, "{count} nodes: {rounds} rounds");
        for _ in 0..20 {
            net.round();
        }
        net.datagrams = 0;
        for _ in 0..2 * REMIND_EVERY {
            net.round();
        }
        assert!(net.datagrams <= 2 * count, "only reminders go on: {}", net.datagrams);
    }
}

#[test]
fn the_latest_word_wins_and_each_is_heard_once_although_half_of_all_is_lost() {
    let mut net = Net::new(30, 50);
    for number in 0..10_u8 {
        net.say(3, &[number]);
        net.round();
    }
    let rounds = net.rounds_until_heard(3, &[9]);
    assert!(rounds <= 60, "{rounds} rounds");
    for _ in 0..100 {
        net.round();
    }
    for (_, _, news) in &net.nodes {
        let heard: Vec<&[u8]> = news.iter().map(|word| &*word.bytes).collect();
        assert!(heard.is_sorted_by(|a, b| a < b), "an older word after a newer: {heard:?}");
    }
}

#[test]
fn who_joins_is_told_and_who_is_gone_is_forgotten() {
    let mut net = Net::new(3, 0);
    net.say(1, b"word");
    net.rounds_until_heard(1, b"word");
    // Node 3 joins: whoever sees it tells its own words.
    let (gossip, sent, _) = &mut net.nodes[1];
    let joined = MemberEvent::Joined(member(3).into());
    gossip.follow(net.now, &view(1, 0..4), &[joined], sent);
    assert_eq!(sent.datagrams.len(), 1);
    let (to, part, bytes) = sent.datagrams.pop().unwrap();
    assert_eq!((to, part), (address(3), PART));
    let mut fresh = Gossip::new(node(3), ROUND, 9);
    let (mut told, mut news) = (Sent::default(), Vec::new());
    // Before it knows who speaks, it keeps nothing.
    let from = (node(1), PART);
    let outcome = fresh.datagram(net.now, from, &bytes, &mut news, &mut told);
    assert_eq!(outcome, Outcome::Stranger);
    assert!(news.is_empty());
    fresh.follow(net.now, &view(3, 0..4), &[], &mut told);
    // It is told once more in the next round, and not in the one after it.
    let (gossip, sent, _) = &mut net.nodes[1];
    let of_round = |gossip: &mut Gossip, sent: &mut Sent| {
        sent.scheduled = None;
        gossip.words.values_mut().for_each(|word| word.rounds = 0);
        gossip.rounds = 0;
        gossip.round(net.now, sent);
        std::mem::take(&mut sent.datagrams)
    };
    assert_eq!(of_round(gossip, sent), [(address(3), PART, bytes.clone())]);
    assert_eq!(of_round(gossip, sent), []);
    let outcome = fresh.datagram(net.now, from, &bytes, &mut news, &mut told);
    assert_eq!(outcome, Outcome::Taken);
    assert_eq!(news, [News { part: PART, from: node(1), key: 1, bytes: b"word".to_vec() }]);
    // Node 1 is gone, and its word with it.
    fresh.follow(net.now, &view(3, 2..4), &[], &mut told);
    assert!(fresh.words.is_empty());
}

#[test]
fn what_a_node_says_once_it_has_left_comes_after_what_it_said_before() {
    let mut net = Net::new(2, 0);
    net.say(1, b"before");
    net.rounds_until_heard(1, b"before");
    let (gossip, sent, _) = &mut net.nodes[1];
    gossip.follow(net.now, &view(1, 0..1), &[], sent);
    net.say(1, b"after");
    let versions: Vec<u64> = net.nodes[1].0.words.values().map(|word| word.version).collect();
    assert_eq!(versions, [2]);
}

#[test]
fn words_are_bounded_and_garbage_is_told_apart() {
    let mut sent = Sent::default();
    let mut gossip = Gossip::new(node(0), ROUND, 1);
    gossip.follow(Time::ZERO, &view(0, 0..2), &[], &mut sent);
    assert!(!gossip.say(Time::ZERO, PART, 0, &[0; WORD_BYTES + 1], &mut sent));
    for key in 0..WORDS_PER_NODE as u32 {
        assert!(gossip.say(Time::ZERO, PART, key, &[0; WORD_BYTES], &mut sent));
    }
    assert!(!gossip.say(Time::ZERO, PART, 99, &[], &mut sent));
    assert!(gossip.say(Time::ZERO, PART, 3, &[], &mut sent), "a known key is replaced");

    let word = Word { version: 1, bytes: vec![5; 20], rounds: 0 };
    let mut news = Vec::new();
    for key in 0..100 {
        let mut datagram = Vec::new();
        put(&mut datagram, node(1), key, &word);
        let from = (node(1), PART);
        let taken = gossip.datagram(Time::ZERO, from, &datagram, &mut news, &mut sent);
        assert_eq!(taken, Outcome::Taken);
        // Its own words are nobody else's to say.
        datagram.clear();
        put(&mut datagram, node(0), key, &Word { version: 99, bytes: vec![6], rounds: 0 });
        let taken = gossip.datagram(Time::ZERO, from, &datagram, &mut news, &mut sent);
        assert_eq!(taken, Outcome::Taken);
    }
    assert_eq!(news.len(), WORDS_PER_NODE);
    let mut datagram = Vec::new();
    put(&mut datagram, node(1), 0, &word);
    for cut in 1..datagram.len() {
        let from = (node(1), PART);
        let read = gossip.datagram(Time::ZERO, from, &datagram[..cut], &mut news, &mut sent);
        assert_eq!(read, Outcome::Malformed);
    }
}

fn datagram(from: usize, version: u64, bytes: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    put(&mut datagram, node(from), 1, &Word { version, bytes: bytes.to_vec(), rounds: 0 });
    datagram
}

#[test]
fn who_is_no_member_is_not_listened_to() {
    let mut net = Net::new(3, 0);
    let (gossip, sent, news) = &mut net.nodes[0];
    let outlaws = [node(7), NodeRef { incarnation: Incarnation(2), ..node(2) }];
    for outlaw in outlaws {
        let about = datagram(1, 1, b"not its to say");
        let outcome = gossip.datagram(net.now, (outlaw, PART), &about, news, sent);
        assert_eq!((outcome, news.len()), (Outcome::Stranger, 0));
    }
    let about = datagram(7, 1, b"of nobody");
    assert_eq!(gossip.datagram(net.now, (node(2), PART), &about, news, sent), Outcome::Taken);
    assert!(news.is_empty());
}

#[test]
fn no_version_silences_a_speaker() {
    let forged = [u64::MAX, u64::MAX - 1, u64::MAX / 2, u64::MAX / 2 + 1, STEP, STEP + 1, 2, 1];
    for version in forged {
        let mut net = Net::new(6, 0);
        net.say(0, b"true");
        net.rounds_until_heard(0, b"true");
        // One who knows the word, and one who has just come and knows none, are told a wrong one.
        net.nodes[5].0.words.clear();
        for to in [4, 5] {
            let (gossip, sent, news) = &mut net.nodes[to];
            let from = (node(3), PART);
            let wrong = datagram(0, version, b"wrong");
            assert_eq!(gossip.datagram(net.now, from, &wrong, news, sent), Outcome::Taken);
        }
        net.say(0, b"newer");
        let rounds = net.rounds_until_heard(0, b"newer");
        println!("version {version}: {rounds} rounds");
        // It stays so.
        for _ in 0..100 {
            net.round();
        }
        assert_eq!(net.rounds_until_heard(0, b"newer"), 0, "version {version}");
    }
}

#[test]
fn a_word_is_these_bytes() {
    let mut bytes = Vec::new();
    put(&mut bytes, node(2), 0x0102_0304, &Word { version: 5, bytes: vec![6, 7], rounds: 0 });
    let expected = [
        [2, 0, 0, 0, 0, 0, 0, 0].as_slice(),
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[4, 3, 2, 1],
        &[5, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 6, 7],
    ];
    assert_eq!(bytes, expected.concat());
    let mut reader = Reader::new(&bytes);
    assert_eq!(read(&mut reader), Ok((node(2), 0x0102_0304, 5, &[6, 7][..])));
    assert!(reader.is_empty());
}

/// `NodeConfig::memory_bound` reckons with this, by the number of members.
#[test]
fn what_a_node_says_takes_no_more_than_is_reckoned_for_it() {
    let halves = ControlHalves::new(node(0), 1, &PartSettings::default());
    let parts = (0..=u8::MAX).filter(|part| halves.knows(PartId(*part))).count();
    // A map's nodes are five elevenths full at least; an allocation takes 16 bytes for itself.
    let place = 11 * (size_of::<Name>() + size_of::<Word>()) / 5;
    let words = parts * WORDS_PER_NODE * (place + WORD_BYTES + 16);
    assert!(words as u64 <= WORDS_BYTES, "{words} of {WORDS_BYTES} bytes");
}

#[test]
fn members_that_say_the_most_there_is_are_kept_within_what_each_may_say() {
    let (mut gossip, mut sent, mut news) =
        (Gossip::new(node(0), ROUND, 1), Sent::default(), Vec::new());
    gossip.follow(Time::ZERO, &view(0, 0..5), &[], &mut sent);
    let longest = [7; WORD_BYTES];
    for version in 1..=3 {
        for key in 0..100 {
            for speaker in 1..5 {
                // Each speaks of all, and of one who is no member.
                let mut payload = Vec::new();
                for of in 1..6 {
                    let word = Word { version, bytes: longest.to_vec(), rounds: 0 };
                    put(&mut payload, node(of), key, &word);
                }
                let from = (node(speaker), PART);
                let taken = gossip.datagram(Time::ZERO, from, &payload, &mut news, &mut sent);
                assert_eq!(taken, Outcome::Taken);
                sent.scheduled = None;
                gossip.running = false;
            }
        }
    }
    let bytes: usize = gossip.words.values().map(|word| word.bytes.capacity()).sum();
    assert_eq!(gossip.words.len(), 4 * WORDS_PER_NODE);
    assert_eq!(bytes, 4 * WORDS_PER_NODE * WORD_BYTES);
    gossip.follow(Time::ZERO, &view(0, 0..2), &[], &mut sent);
    assert_eq!(gossip.words.len(), WORDS_PER_NODE, "what is said goes with its speaker");
}

#[test]
fn rounds_come_at_the_pace_that_was_set() {
    let (gossip, sent, _) = &mut Net::new(2, 0).nodes[0];
    let start = Time::ZERO.plus(Duration::from_secs(1));
    assert!(gossip.say(start, PART, 1, b"word", sent));
    assert_eq!(sent.scheduled.take(), Some(start.plus(ROUND)));
    gossip.round(start.plus(ROUND), sent);
    assert_eq!(sent.scheduled.take(), Some(start.plus(ROUND).plus(ROUND)));
}
