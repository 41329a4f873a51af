//! Why a node has not joined yet: what was last seen of each seed. A seed that cannot open this
//! node's datagrams says nothing, so each is greeted over TCP as well, where a refusal names its
//! reason. Nothing is decided by what is learnt here: refusals are not authenticated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use super::join_state::{JoinState, SeedState};
use super::log_line::LogLine;
use super::repeats::Repeats;
use super::{Control, ControlSink, ControlTimer};
use crate::base::{LogKind, LogLimiter, MemberState, NodeRef, Time};
use crate::wire::datagram::DatagramError;

/// How long a node may take to join before its seeds are greeted; most need a round trip.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause between two rounds.
const LONGEST: Duration = Duration::from_secs(15);
/// Seeds greeted in one round.
const GREETED: usize = 8;
/// Seeds that one line of the log names.
const NAMED: usize = 4;

/// How each line begins that says what stands in the way.
pub(super) const NOBODY_YET: &str = "this node has met no other yet";
/// How it begins where others were met that are gone.
const ALONE_AGAIN: &str = "this node was with others and is alone again";

/// One seed, as far as it is known. What it says at different times and in different ways is kept
/// apart, so that what weighs more is not lost by what merely came later.
#[derive(Clone, Copy, Debug, Default)]
struct Seed {
    /// What is told of it: what weighs most of the rest.
    state: SeedState,
    /// When a datagram of it last came that opened.
    heard: Option<Time>,
    /// Why it does not let this node in, as it said so by a datagram, and when it last did.
    said: Option<(SeedState, Time)>,
    /// What was last seen of it otherwise.
    seen: SeedState,
}

impl Seed {
    fn is_unsent(&self) -> bool {
        matches!(self.said, Some((SeedState::NotSent(_), _)))
    }

    /// What weighs most: what it says of this node, for as long as it goes on saying so; that a
    /// connection to it is refused by name, until one is not; that it answers; and last how far one
    /// gets to it.
    fn weigh(&mut self, now: Time, lately: Duration) -> SeedState {
        let lately = |at: Time| now.since(at) < lately;
        self.said = self.said.filter(|(_, at)| lately(*at));
        match (self.said, self.seen) {
            (Some((said, _)), _) => said,
            (None, seen) if seen.is_refusal() => seen,
            (None, _) if self.heard.is_some_and(lately) => SeedState::Answers,
            (None, seen) => seen,
        }
    }
}

/// What is known of the seeds while nobody has been met.
#[derive(Debug, Default)]
pub(super) struct Joining {
    seeds: BTreeMap<SocketAddr, Seed>,
    /// For how long a datagram counts more than what a connection shows: until another must have
    /// come.
    lately: Duration,
    joined: bool,
    /// It was a member among others: when these are gone, it is the cluster, whatever its seeds are.
    met: bool,
    /// How often in a row it was seen that a seed keeps it out, though it has met others.
    kept_out: u32,
    /// How often that was told.
    told_again: Repeats,
    /// It leaves or stops, and joins nothing any more.
    over: bool,
    /// Why no seed has an address of use.
    no_address: Option<Arc<str>>,
    /// The next round is scheduled.
    waiting: bool,
    rounds: u32,
    /// Greetings of this round that are not over.
    greeting: usize,
    /// The address that was greeted last.
    last: Option<SocketAddr>,
    news: bool,
    log: LogLimiter,
}

impl Joining {
    /// What is known before the start.
    pub fn new(own: SocketAddr, seeds: &[SocketAddr], retry_max_ms: u64) -> Self {
        let others = seeds.iter().filter(|seed| **seed != own);
        let seeds = others.map(|seed| (*seed, Seed::default())).collect();
        let lately = FIRST.max(2 * Duration::from_millis(retry_max_ms));
        Self { seeds, lately, ..Self::default() }
    }

    /// The seeds besides this node itself, whether others are in view, and whether this node is up.
    /// Gives after which time a round is due, if none is scheduled.
    fn follow(
        &mut self,
        seeds: impl Iterator<Item = SocketAddr>,
        joined: bool,
        up: bool,
    ) -> Option<Duration> {
        let before = (self.joined, self.seeds.len());
        let known = std::mem::take(&mut self.seeds);
        self.seeds =
            seeds.map(|seed| (seed, known.get(&seed).copied().unwrap_or_default())).collect();
        self.joined = joined;
        if joined {
            self.met |= up;
            self.is_let_in();
            self.rounds = 0;
            self.seeds.values_mut().for_each(|known| *known = Seed::default());
        }
        self.news |= before != (joined, self.seeds.len()) || known.len() != self.seeds.len();
        let start = !joined && !self.over && !self.seeds.is_empty() && !self.waiting;
        self.waiting |= start;
        start.then_some(FIRST)
    }

    /// Begins a round. Gives whom to greet, and when the next one is due.
    fn round(&mut self) -> (Vec<SocketAddr>, Option<Duration>) {
        if self.joined || self.over || self.seeds.is_empty() {
            self.waiting = false;
            return (Vec::new(), None);
        }
        let after = |seed: &&SocketAddr| self.last.is_none_or(|last| **seed > last);
        let (next, before): (Vec<_>, Vec<_>) = self.seeds.keys().partition(after);
        let greeted: Vec<_> = next.into_iter().chain(before).take(GREETED).copied().collect();
        self.last = greeted.last().copied();
        self.greeting = greeted.len();
        let pause = FIRST * (1 << self.rounds.min(4));
        self.rounds += 1;
        (greeted, Some(pause.min(LONGEST)))
    }

    /// A datagram of the seed came and opened: what it says of this node is certain.
    pub fn heard(&mut self, now: Time, seed: SocketAddr, state: SeedState) {
        self.note(now, seed, |known| {
            known.heard = Some(now);
            if state != SeedState::Answers {
                known.said = Some((state, now));
            }
        });
    }

    /// The system does not take what is sent to the seed, which is as certain as what it says itself,
    /// or takes it again.
    pub fn sending_told(&mut self, now: Time, seed: SocketAddr, told: Result<(), i32>) {
        self.note(now, seed, |known| match told {
            Err(code) => known.said = Some((SeedState::NotSent(code), now)),
            Ok(()) => known.said = known.said.filter(|_| !known.is_unsent()),
        });
    }

    /// Whether what was last sent to the seed was not taken.
    pub fn is_unsent(&self, seed: SocketAddr) -> bool {
        self.seeds.get(&seed).is_some_and(Seed::is_unsent)
    }

    /// Something else was seen of the seed: what a connection shows, or a datagram that did not
    /// open. That it has no time takes nothing back.
    pub fn saw(&mut self, now: Time, seed: SocketAddr, state: SeedState) {
        self.note(now, seed, |known| {
            if state != SeedState::Busy || !known.seen.is_refusal() {
                known.seen = state;
            }
        });
    }

    fn note(&mut self, now: Time, seed: SocketAddr, note: impl FnOnce(&mut Seed)) {
        let Some(known) = self.seeds.get_mut(&seed).filter(|_| !self.joined) else { return };
        note(known);
        let state = known.weigh(now, self.lately);
        self.news |= known.state != state;
        known.state = state;
    }

    /// A greeting is over. Gives the line to write when it was the last of its round.
    fn greeted(&mut self, now: Time, seed: SocketAddr, state: SeedState) -> Option<LogLine> {
        self.saw(now, seed, state);
        self.greeting = self.greeting.saturating_sub(1);
        if self.greeting > 0 { None } else { self.line(now) }
    }

    /// What stands in the way, for the log: the same words whenever it is the same.
    fn line(&mut self, now: Time) -> Option<LogLine> {
        if self.joined || self.seeds.is_empty() {
            return None;
        }
        // Soon it is known why, and that is worth a line.
        let nothing = |known: &Seed| matches!(known.state, SeedState::Called | SeedState::Answers);
        let is_worth = if self.met {
            self.tells_again(now)
        } else {
            self.rounds > 1 || !self.seeds.values().all(nothing)
        };
        if !is_worth {
            return None;
        }
        let mut text = if self.met { ALONE_AGAIN } else { NOBODY_YET }.to_owned();
        for (seed, known) in self.seeds.iter().take(NAMED) {
            text += &format!("; the seed {seed} {}", known.state);
        }
        if let Some(more) = self.seeds.len().checked_sub(NAMED + 1) {
            text += &format!("; and {} more", more + 1);
        }
        self.limited(now, text)
    }

    fn is_kept_out(&self) -> bool {
        self.seeds.values().any(|known| known.state.keeps_out())
    }

    fn is_let_in(&mut self) {
        self.kept_out = 0;
        self.told_again.renew();
    }

    /// Whether it is to be told that a seed keeps out who was with others before: a seed that has just
    /// started is about to let it in.
    fn tells_again(&mut self, now: Time) -> bool {
        if !self.is_kept_out() {
            self.is_let_in();
            return false;
        }
        self.kept_out += 1;
        self.told_again.count();
        let tells = self.kept_out > 1 && self.told_again.is_due(now) && self.has_room(now);
        if tells {
            self.told_again.tell(now);
        }
        tells
    }

    /// Whether the log takes a line of why this node has not joined.
    pub(super) fn has_room(&self, now: Time) -> bool {
        self.log.has_room(now, LogKind::Joining)
    }

    /// The line of this text. All that say why this node has not joined have one limit together.
    pub(super) fn limited(&mut self, now: Time, text: String) -> Option<LogLine> {
        if self.over {
            return None;
        }
        let kind = LogKind::Joining;
        self.log.line(now, kind).map(|left_out| LogLine { kind, left_out, text })
    }

    /// This node leaves or stops: that it has met nobody is nothing to look into, or to say.
    pub fn give_up(&mut self) {
        self.over = true;
    }

    /// There are seeds to call, or there are to be none.
    pub fn has_address(&mut self) {
        self.news |= self.no_address.take().is_some();
    }

    /// Whether [`Joining::state`] may be another one than when this was last asked.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    pub fn state(&self) -> JoinState {
        if self.joined {
            JoinState::Joined
        } else if self.met && !self.is_kept_out() {
            JoinState::Alone
        } else if let (true, Some(why)) = (self.seeds.is_empty(), &self.no_address) {
            JoinState::NoAddress { why: Arc::clone(why) }
        } else if self.seeds.is_empty() {
            JoinState::Alone
        } else {
            let seeds = self.seeds.iter().map(|(seed, known)| (*seed, known.state)).collect();
            JoinState::Joining { seeds }
        }
    }
}

impl Control {
    /// There are seeds, and none has an address that is of use: this node waits for one.
    pub fn await_seeds(&mut self, why: &str) {
        self.membership.await_seeds();
        let why = Some(why.into());
        self.joining.news |= self.joining.no_address != why;
        self.joining.no_address = why;
    }

    /// Whether it waits for a seed with an address.
    pub(super) fn awaits_seeds(&self) -> bool {
        self.joining.no_address.is_some()
    }

    /// The view or the seeds are others.
    pub(super) fn joining_follows(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let view = self.membership.view();
        let joined = view.members.iter().any(|member| member.id != self.me.node);
        let up = view.member(self.me.node).is_some_and(|own| own.state == MemberState::Up);
        let seeds = self.membership.seeds().iter().copied();
        let seeds = seeds.filter(|seed| !self.membership.is_itself(*seed));
        if let Some(pause) = self.joining.follow(seeds, joined, up) {
            sink.schedule(now.plus(pause), ControlTimer::Join);
        }
        self.listing_follows(now, sink);
    }

    /// A round of greetings is due.
    pub(super) fn join_round(&mut self, now: Time, sink: &mut dyn ControlSink) {
        // By now this node knows which of them it is itself.
        self.joining_follows(now, sink);
        let (seeds, pause) = self.joining.round();
        for seed in seeds {
            self.greet(now, seed, sink);
        }
        if let Some(pause) = pause {
            sink.schedule(now.plus(pause), ControlTimer::Join);
        }
    }

    /// A greeting is over.
    pub(super) fn seed_greeted(
        &mut self,
        now: Time,
        seed: SocketAddr,
        state: SeedState,
        sink: &mut dyn ControlSink,
    ) {
        if let Some(line) = self.joining.greeted(now, seed, state) {
            sink.log(line);
        }
    }

    /// A member says that this node does not answer at its address.
    pub(super) fn not_reached(
        &mut self,
        now: Time,
        from: SocketAddr,
        address: SocketAddr,
        sink: &mut dyn ControlSink,
    ) {
        self.joining.heard(now, from, SeedState::CannotReach(address));
        if let Some(line) = self.joining.line(now) {
            sink.log(line);
        }
        if self.joining.joined {
            self.unreached(now, from, address, sink);
        }
    }

    /// A datagram did not open.
    pub(super) fn not_opened(&mut self, now: Time, from: SocketAddr, error: DatagramError) {
        if let Some(state) = SeedState::of_datagram(error) {
            self.joining.saw(now, from, state);
        }
    }
}

/// Whom a greeting asks for: whichever node is there.
pub(super) const ANYONE: NodeRef = NodeRef {
    node: crate::wire::handshake::ANY_NODE,
    incarnation: crate::wire::handshake::ANY_INCARNATION,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn joining() -> Joining {
        Joining::new(seed(0), &[], 5_000)
    }

    #[test]
    fn a_line_names_what_is_wrong_with_each_seed_once_a_round() {
        let mut joining = joining();
        assert_eq!(joining.follow([seed(1), seed(2)].into_iter(), false, false), Some(FIRST));
        assert_eq!(joining.follow([seed(1), seed(2)].into_iter(), false, false), None);
        let (greeted, pause) = joining.round();
        assert_eq!((greeted, pause), (vec![seed(1), seed(2)], Some(FIRST)));
        // That a seed answers, and what it says, is more than that a connection can be made.
        for state in [SeedState::Answers, SeedState::Full] {
            joining.heard(at(0), seed(1), state);
            joining.saw(at(0), seed(1), SeedState::NoDatagrams);
            assert_eq!(joining.seeds[&seed(1)].state, state);
        }
        // It is heard no more.
        assert_eq!(joining.greeted(at(10_000), seed(1), SeedState::Down), None);
        let line = joining.greeted(at(10_000), seed(2), SeedState::OtherSecret).unwrap();
        assert_eq!(
            line.text,
            "this node has met no other yet; the seed 127.0.0.1:1 refuses connections: no process listens there; start \
             it, or correct the address; the seed 127.0.0.1:2 has another secret: configure the \
             same on both"
        );
        assert_eq!(
            joining.state(),
            JoinState::Joining {
                seeds: vec![(seed(1), SeedState::Down), (seed(2), SeedState::OtherSecret)]
            }
        );
        let mut pauses = Vec::new();
        for _ in 0..5 {
            pauses.push(joining.round().1.unwrap().as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 15, 15]);

        // Who has met others has no more to ask, and begins anew when it is alone again.
        assert_eq!(joining.follow([seed(1)].into_iter(), true, true), None);
        assert_eq!(joining.state(), JoinState::Joined);
        assert_eq!(joining.round(), (Vec::new(), None));
        assert_eq!(joining.follow([seed(1)].into_iter(), false, true), Some(FIRST));
        assert_eq!(joining.seeds[&seed(1)].state, SeedState::Called);
    }

    /// A node that is up, was with others and is alone again.
    fn alone_again() -> Joining {
        let mut joining = joining();
        joining.follow([seed(1), seed(2)].into_iter(), true, true);
        joining.follow([seed(1), seed(2)].into_iter(), false, true);
        joining
    }

    #[test]
    fn who_is_alone_again_says_nothing_of_seeds_that_do_not_run() {
        let mut joining = alone_again();
        let gone = [SeedState::Down, SeedState::Silent, SeedState::Busy, SeedState::NotKeyway];
        for (state, second) in gone.into_iter().chain([SeedState::OtherCluster]).zip(1..) {
            assert_eq!(joining.state(), JoinState::Alone);
            assert_eq!(joining.round().0.len(), 2, "they are looked for");
            for number in 1..=2 {
                assert_eq!(joining.greeted(at(second * 15_000), seed(number), state), None);
            }
        }
        assert_eq!(joining.state(), JoinState::Alone);
        // Who was not let in before they were gone is no cluster.
        let mut joining = super::tests::joining();
        joining.follow([seed(1)].into_iter(), true, false);
        joining.follow([seed(1)].into_iter(), false, false);
        assert!(matches!(joining.state(), JoinState::Joining { .. }));
    }

    #[test]
    fn who_is_alone_again_tells_of_a_seed_that_keeps_it_out_for_a_while_and_then_ever_more_seldom()
    {
        let mut joining = alone_again();
        let mut told = Vec::new();
        for second in (0..600).step_by(15) {
            joining.round();
            let now = at(second * 1_000);
            joining.heard(now, seed(2), SeedState::Answers);
            let lines = [(1, SeedState::Down), (2, SeedState::NoDatagrams)]
                .map(|(number, state)| joining.greeted(now, seed(number), state));
            told.extend(lines.into_iter().flatten().map(|line| (second, line.text)));
        }
        let words = format!(
            "this node was with others and is alone again; the seed {} {}; the seed {} {}",
            seed(1),
            SeedState::Down,
            seed(2),
            SeedState::Answers
        );
        assert_eq!(told, [15, 75, 195, 435].map(|second| (second, words.clone())));
        let seeds = vec![(seed(1), SeedState::Down), (seed(2), SeedState::Answers)];
        assert_eq!(joining.state(), JoinState::Joining { seeds });
    }

    #[test]
    fn what_a_seed_says_is_told_steadily_whatever_a_connection_to_it_shows() {
        let mut joining = joining();
        joining.follow([seed(1)].into_iter(), false, false);
        let shown = [SeedState::NoDatagrams, SeedState::Busy, SeedState::Silent, SeedState::Down];
        let shown = shown.into_iter().chain([SeedState::NameTaken, SeedState::OtherSecret]);
        let mut now_ms = 0;
        for said in [SeedState::Full, SeedState::CannotReach(seed(9))] {
            let mut told = Vec::new();
            for shown in shown.clone() {
                // It is called about every 5 s, and answers.
                joining.heard(at(now_ms), seed(1), SeedState::Answers);
                joining.heard(at(now_ms), seed(1), said);
                joining.round();
                let line = joining.greeted(at(now_ms + 4_000), seed(1), shown);
                told.push(line.unwrap().text);
                now_ms += 5_000;
            }
            told.dedup();
            let seed = seed(1);
            assert_eq!(told, [format!("this node has met no other yet; the seed {seed} {said}")]);
        }
        // One that answers, and refuses for a reason.
        let mut joining = super::tests::joining();
        joining.follow([seed(1)].into_iter(), false, false);
        joining.heard(at(0), seed(1), SeedState::Answers);
        joining.saw(at(1), seed(1), SeedState::Silent);
        assert_eq!(joining.seeds[&seed(1)].state, SeedState::Answers);
        joining.saw(at(2), seed(1), SeedState::NameTaken);
        assert_eq!(joining.seeds[&seed(1)].state, SeedState::NameTaken);
    }

    #[test]
    fn why_a_seed_refuses_stays_until_it_is_over() {
        let refusals = [
            SeedState::NotKeyway,
            SeedState::OtherVersion,
            SeedState::OtherCluster,
            SeedState::OtherSecret,
            SeedState::SecretOnlyHere,
            SeedState::SecretOnlyThere,
            SeedState::NameTaken,
            SeedState::Itself,
        ];
        for refusal in refusals {
            let mut joining = joining();
            joining.follow([seed(1)].into_iter(), false, false);
            let state = |joining: &Joining| joining.seeds[&seed(1)].state;
            joining.saw(at(0), seed(1), refusal);
            joining.news = false;
            for ms in 1..100 {
                joining.heard(at(ms * 100), seed(1), SeedState::Answers);
                assert_eq!(state(&joining), refusal, "it answers all the time");
                joining.saw(at(ms * 100), seed(1), SeedState::Busy);
                assert_eq!(state(&joining), refusal, "it does not say more every time");
            }
            assert!(!joining.news, "nothing else is told meanwhile");
            // What it says of this node weighs more, as long as it says so.
            joining.heard(at(10_000), seed(1), SeedState::Full);
            joining.heard(at(19_000), seed(1), SeedState::Answers);
            assert_eq!(state(&joining), SeedState::Full);
            joining.heard(at(20_000), seed(1), SeedState::Answers);
            assert_eq!(state(&joining), refusal);
            // A connection is not refused any more.
            joining.saw(at(20_001), seed(1), SeedState::NoDatagrams);
            assert_eq!(state(&joining), SeedState::Answers);
        }
    }

    #[test]
    fn many_seeds_are_greeted_in_turn() {
        let mut joining = Joining::default();
        joining.follow((1..=12).map(seed), false, false);
        assert_eq!(joining.round().0, (1..=8).map(seed).collect::<Vec<_>>());
        let second: Vec<_> = (9..=12).chain(1..=4).map(seed).collect();
        assert_eq!(joining.round().0, second);
    }

    #[test]
    fn a_node_without_other_seeds_is_alone() {
        let mut joining = Joining::default();
        assert_eq!(joining.follow([].into_iter(), false, false), None);
        assert_eq!(joining.state(), JoinState::Alone);
    }
}
