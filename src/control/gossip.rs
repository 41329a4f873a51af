//! Words that parts spread to all members. Each is short, belongs to one life of one node, a part
//! and a key of that part's, and has a version: the latest one counts, and goes with its node.
//! Versions go round, and no word is the last: one that is not within [`STEP`] of what is known
//! counts only if the speaker itself sends it, and a speaker that hears a later word of its own than
//! it has said says it again, as a later one still.
//!
//! A word that is news is passed on a few times, each time to random members, so that all have it
//! after about log(n) rounds. What a lost datagram kept from somebody comes later: once in a while
//! each node tells a random member some of what it knows, going round. Who joins, or answers again,
//! is told every node's own words by that node, and again in the next round. How often rounds come
//! is `membership.gossip_ms`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};

use crate::base::{MemberEvent, NodeRef, Rng, Time, View};
use crate::part::PartId;
use crate::wire::codec::{ReadResult, Reader, Unreadable, Writer};
use crate::wire::datagram::WHOLE_BYTES;

/// The longest word.
pub const WORD_BYTES: usize = 256;
/// How many words one part of one node may have. With [`WORD_BYTES`] and the most members there can
/// be, no more than 16 MiB a part are kept of what others say; a word of a node that is no member
/// is not kept at all.
pub const WORDS_PER_NODE: usize = 16;

/// How many members hear of news in a round.
const FAN_OUT: usize = 3;
/// Every how many rounds a random member is told what is no news.
const REMIND_EVERY: u32 = 5;
/// How much later a version may be at once to be taken from others than its speaker.
const STEP: u64 = 1 << 32;
/// How full a datagram is made.
const DATAGRAM_BYTES: usize = WHOLE_BYTES;
/// What one listener is told of news in a round, so that with five rounds a second a node sends no
/// more than some 10 KiB a second per listener however large the cluster: in a storm of words each
/// takes longer.
const ROUND_BYTES: usize = 2 * DATAGRAM_BYTES;
/// What a word takes beside its own bytes.
const HEAD_BYTES: usize = 8 + 8 + 4 + 8 + 2;

/// Names a word in the cluster.
type Name = (PartId, NodeRef, u32);

struct Word {
    version: u64,
    bytes: Vec<u8>,
    /// In how many rounds it still is news.
    rounds: u32,
}

/// A word that is news here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whose part says it.
    pub part: PartId,
    /// Who says it.
    pub from: NodeRef,
    /// What it is about, by the part's own number.
    pub key: u32,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was read.
    Taken,
    /// Its sender is no member, so it was left aside.
    Stranger,
    /// It cannot be read; what stood before the fault has been taken.
    Malformed,
}

/// How a version stands to the one that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Same,
    Later,
    Earlier,
    /// Too far away to tell.
    Unrelated,
}

fn age(version: u64, known: u64) -> Age {
    match version.wrapping_sub(known) {
        0 => Age::Same,
        1..=STEP => Age::Later,
        ahead if ahead.wrapping_neg() <= STEP => Age::Earlier,
        _ => Age::Unrelated,
    }
}

/// Where datagrams go.
pub trait GossipSink {
    /// Send this to a member's part.
    fn send(&mut self, to: SocketAddr, part: PartId, payload: &[u8]);
    /// Call [`Gossip::round`] then.
    fn schedule(&mut self, at: Time);
}

/// The decider.
pub struct Gossip {
    me: NodeRef,
    /// How often news is passed on, and news of the same word is not more often: a part may change
    /// its mind as often as it likes.
    every: Duration,
    words: BTreeMap<Name, Word>,
    rng: Rng,
    /// Others that answer.
    reachable: Vec<(NodeRef, SocketAddr)>,
    members: BTreeSet<NodeRef>,
    /// Which roster `members` is of.
    roster: Option<u64>,
    /// Who has been told this node's own words when it came, and is told them again in the next
    /// round: one that joins may be known here before it knows this node.
    greeted: BTreeSet<NodeRef>,
    running: bool,
    rounds: u32,
    /// Up to where the last reminder went.
    reminded: Option<Name>,
    datagram: Vec<u8>,
}

impl Gossip {
    /// Knows nothing, and will pass news on every `every`.
    pub fn new(me: NodeRef, every: Duration, seed: u64) -> Self {
        Self {
            me,
            every,
            words: BTreeMap::new(),
            rng: Rng::seed_from_u64(seed),
            reachable: Vec::new(),
            members: BTreeSet::new(),
            roster: None,
            greeted: BTreeSet::new(),
            running: false,
            rounds: 0,
            reminded: None,
            datagram: Vec::new(),
        }
    }

    /// Says something to everybody, instead of what was said under this key before. Returns false,
    /// and says nothing, when it is too long or the part has too many keys.
    pub fn say(
        &mut self,
        now: Time,
        part: PartId,
        key: u32,
        bytes: &[u8],
        sink: &mut dyn GossipSink,
    ) -> bool {
        let name = (part, self.me, key);
        let known = self.words.get(&name);
        if bytes.len() > WORD_BYTES || known.is_none() && self.is_full(part, self.me) {
            return false;
        }
        let version = known.map_or(0, |word| word.version).wrapping_add(1);
        let rounds = self.news_rounds();
        self.words.insert(name, Word { version, bytes: bytes.to_vec(), rounds });
        self.run(now, sink);
        true
    }

    /// A datagram of this sender for this part came in. What of it is news is added to `news`.
    pub fn datagram(
        &mut self,
        now: Time,
        (sender, part): (NodeRef, PartId),
        payload: &[u8],
        news: &mut Vec<News>,
        sink: &mut dyn GossipSink,
    ) -> Outcome {
        if !self.members.contains(&sender) {
            return Outcome::Stranger;
        }
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            let Ok((from, key, version, bytes)) = read(&mut reader) else {
                return Outcome::Malformed;
            };
            let name = (part, from, key);
            if from == self.me {
                self.overtake(name, version, bytes);
                continue;
            }
            let is_news = match self.words.get(&name).map(|known| age(version, known.version)) {
                _ if !self.members.contains(&from) => false,
                Some(Age::Later) => true,
                Some(Age::Unrelated) => sender == from,
                Some(Age::Same | Age::Earlier) => false,
                None => !self.is_full(part, from),
            };
            if !is_news {
                continue;
            }
            let rounds = self.news_rounds();
            self.words.insert(name, Word { version, bytes: bytes.to_vec(), rounds });
            news.push(News { part, from, key, bytes: bytes.to_vec() });
        }
        self.run(now, sink);
        Outcome::Taken
    }

    /// A word goes about as this node's own. It is the only one that says anything of its own, and
    /// says the right one again so that it is later than the wrong one.
    fn overtake(&mut self, name: Name, version: u64, bytes: &[u8]) {
        let rounds = self.news_rounds();
        let Some(own) = self.words.get_mut(&name) else { return };
        let wrong = match age(version, own.version) {
            Age::Later => true,
            Age::Same => own.bytes != bytes,
            Age::Earlier | Age::Unrelated => false,
        };
        if wrong {
            own.version = version.wrapping_add(1);
            own.rounds = rounds;
        }
    }

    /// Whose words are known, once for each word.
    pub fn speakers(&self) -> impl Iterator<Item = NodeRef> {
        self.words.keys().map(|(_, node, _)| *node)
    }

    /// The view is another one.
    pub fn follow(
        &mut self,
        now: Time,
        view: &View,
        events: &[MemberEvent],
        sink: &mut dyn GossipSink,
    ) {
        let others = view.members.iter().filter(|member| member.node_ref() != self.me);
        let reachable = others.filter(|member| member.reachable);
        self.reachable = reachable.map(|member| (member.node_ref(), member.address)).collect();
        if self.roster.replace(view.roster_digest) != Some(view.roster_digest) {
            self.members = view.members.iter().map(|member| member.node_ref()).collect();
            // Who has left may speak for a while still. If it forgot what it has said, its next words
            // were earlier ones to who knows these.
            let (members, me) = (&self.members, self.me);
            self.words.retain(|(_, node, _), _| *node == me || members.contains(node));
        }
        for event in events {
            if let MemberEvent::Joined(member) | MemberEvent::Reachable(member) = event
                && member.node_ref() != self.me
            {
                self.tell_own(member.address, sink);
                self.greeted.insert(member.node_ref());
            }
        }
        self.run(now, sink);
    }

    /// A round: news is passed on, and now and then somebody is reminded.
    pub fn round(&mut self, now: Time, sink: &mut dyn GossipSink) {
        self.running = false;
        let greeted = std::mem::take(&mut self.greeted);
        let again = self.reachable.iter().filter(|(node, _)| greeted.contains(node));
        for to in again.map(|(_, address)| *address).collect::<Vec<_>>() {
            self.tell_own(to, sink);
        }
        let news = self.freshest();
        if !news.is_empty() {
            for to in self.pick(FAN_OUT) {
                // Nobody is told what it says itself.
                let names = news.iter().filter(|(_, node, _)| *node != to.0);
                self.send(to.1, names.copied().collect::<Vec<_>>().iter(), sink);
            }
            for name in &news {
                if let Some(word) = self.words.get_mut(name) {
                    word.rounds -= 1;
                }
            }
        }
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(REMIND_EVERY) {
            self.remind(sink);
        }
        self.run(now, sink);
    }

    /// What is news, as much of it as goes into a round: what has been told least.
    fn freshest(&self) -> Vec<Name> {
        let news = self.words.iter().filter(|(_, word)| word.rounds > 0);
        let mut news: Vec<_> =
            news.map(|(name, word)| (u32::MAX - word.rounds, *name, word.bytes.len())).collect();
        news.sort_unstable();
        let mut bytes = 0;
        news.retain(|(_, _, length)| {
            bytes += HEAD_BYTES + length;
            bytes <= ROUND_BYTES
        });
        let mut news: Vec<Name> = news.into_iter().map(|(_, name, _)| name).collect();
        news.sort_unstable();
        news
    }

    /// Tells a random member as much as fits a datagram of each part, going round.
    fn remind(&mut self, sink: &mut dyn GossipSink) {
        let [to] = self.pick(1)[..] else { return };
        let mut bytes = 0;
        let mut names = Vec::new();
        let after = self.reminded.take();
        let begin = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let later = self.words.range((begin, std::ops::Bound::Unbounded));
        for (name, word) in later {
            bytes += HEAD_BYTES + word.bytes.len();
            if bytes > DATAGRAM_BYTES {
                break;
            }
            names.push(*name);
            self.reminded = Some(*name);
        }
        if self.words.last_key_value().map(|(name, _)| *name) == self.reminded {
            self.reminded = None; // From the beginning again.
        }
        self.send(to.1, names.iter(), sink);
    }

    fn tell_own(&mut self, to: SocketAddr, sink: &mut dyn GossipSink) {
        let own = self.words.keys().filter(|(_, node, _)| *node == self.me);
        let own: Vec<Name> = own.copied().collect();
        self.send(to, own.iter(), sink);
    }

    /// Packs words, which are sorted by part, into datagrams of one part each.
    fn send<'n>(
        &mut self,
        to: SocketAddr,
        names: impl Iterator<Item = &'n Name>,
        sink: &mut dyn GossipSink,
    ) {
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        let mut of = PartId(0);
        for (part, node, key) in names {
            let Some(word) = self.words.get(&(*part, *node, *key)) else { continue };
            let full = datagram.len() + HEAD_BYTES + word.bytes.len() > DATAGRAM_BYTES;
            if !datagram.is_empty() && (full || of != *part) {
                sink.send(to, of, &datagram);
                datagram.clear();
            }
            of = *part;
            put(&mut datagram, *node, *key, word);
        }
        if !datagram.is_empty() {
            sink.send(to, of, &datagram);
        }
        self.datagram = datagram;
    }

    /// A round comes as long as there is anything to say and anybody to say it to.
    fn run(&mut self, now: Time, sink: &mut dyn GossipSink) {
        if !self.running && !self.words.is_empty() && !self.reachable.is_empty() {
            self.running = true;
            sink.schedule(now.plus(self.every));
        }
    }

    fn is_full(&self, part: PartId, node: NodeRef) -> bool {
        let all = (part, node, 0)..=(part, node, u32::MAX);
        self.words.range(all).count() >= WORDS_PER_NODE
    }

    /// For how many rounds a word is news: with three listeners a round, log2(n) + 1 rounds leave
    /// hardly anybody out.
    fn news_rounds(&self) -> u32 {
        (self.reachable.len() as u32 + 1).ilog2() + 1
    }

    fn pick(&mut self, count: usize) -> Vec<(NodeRef, SocketAddr)> {
        let count = count.min(self.reachable.len());
        for index in 0..count {
            let other = self.rng.random_range(index..self.reachable.len());
            self.reachable.swap(index, other);
        }
        self.reachable[..count].to_vec()
    }
}

fn put(out: &mut Vec<u8>, node: NodeRef, key: u32, word: &Word) {
    // No word is longer than WORD_BYTES, which two bytes hold.
    Writer::new(out).node_ref(node).u32(key).u64(word.version).sized(|out| {
        out.bytes(&word.bytes);
    });
}

fn read<'b>(from: &mut Reader<'b>) -> ReadResult<(NodeRef, u32, u64, &'b [u8])> {
    let (node, key, version) = (from.node_ref()?, from.u32()?, from.u64()?);
    let length = usize::from(from.u16()?);
    if length > WORD_BYTES {
        return Err(Unreadable("a word is longer than any"));
    }
    Ok((node, key, version, from.bytes(length)?))
}
