//! Seeds: which of them are called, and where their addresses lead. That may be a member that
//! advertises another address, or this node itself under another one than it advertises: many
//! machines know their own name as 127.0.1.1.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::Time;

use super::door::Asked;
use super::messages::{FLAG_JOIN, Numbers};
use super::start::usable;
use super::timer::TimerKind;
use super::{Entry, MemberSink, Membership, Stage, schedule};

impl Membership {
    /// Replaces the seeds, for discovery that finds others than at the start, and calls those that
    /// are not in view. Of more than [`MAX_SEEDS`](crate::config::MAX_SEEDS) the first are used.
    pub fn set_seeds(&mut self, now: Time, seeds: Vec<SocketAddr>, sink: &mut dyn MemberSink) {
        let seeds = usable(seeds);
        // In another order they are no others: name servers turn their answers round.
        let same =
            seeds.len() == self.seeds.len() && seeds.iter().all(|it| self.seeds.contains(it));
        if same && !self.awaits_seeds {
            return;
        }
        self.awaits_seeds = false;
        self.replace_seeds(seeds);
        if self.stage == Stage::Running {
            self.seed_retry_ms = self.config.seed_retry_min_ms;
            self.call_seeds(now, sink);
            self.go_up_if_ready(now, sink);
            self.settle(now, sink);
        }
    }

    /// There are seeds, but no address of theirs is of use: this node waits for one.
    pub fn await_seeds(&mut self) {
        self.replace_seeds(Vec::new());
        self.awaits_seeds = true;
    }

    fn replace_seeds(&mut self, seeds: Vec<SocketAddr>) {
        let own = self.own_address();
        self.seed_aliases.retain(|seed, _| seeds.contains(seed));
        self.led_here.retain(|address| *address == own || seeds.contains(address));
        self.seeds = seeds;
    }

    /// The addresses to join through.
    pub fn seeds(&self) -> &[SocketAddr] {
        &self.seeds
    }

    /// Whether a seed's address, or the one that this node advertises, is known to lead to this node.
    pub fn is_itself(&self, address: SocketAddr) -> bool {
        self.led_here.contains(&address)
    }

    pub(super) fn own_address(&self) -> SocketAddr {
        self.directory.own().member.address
    }

    /// Calls every seed that is not in view, for ever and ever more rarely: a seed may come up
    /// last, and two clusters that formed apart find each other this way.
    pub(super) fn call_seeds(&mut self, now: Time, sink: &mut dyn MemberSink) {
        let own = self.own_address();
        let mut missing = self.missing_seeds();
        if self.seed_token == 0 {
            // Most likely it is this node itself: that can wait until the others are called.
            missing.retain(|seed| *seed != own);
        }
        self.joined_alone = self.directory.others().next().is_none();
        missing.iter().for_each(|seed| self.call(now, FLAG_JOIN, *seed, sink));
        if self.seeds.iter().all(|seed| *seed == own && self.is_itself(own)) {
            return;
        }
        self.look_behind_aliases(now, &missing, sink);
        self.seed_token = self.seed_token.wrapping_add(1);
        let kind = TimerKind::Seeds { token: self.seed_token };
        if missing.is_empty() {
            self.seed_retry_ms = self.config.seed_retry_min_ms;
            let unsure = self.seeds.contains(&own) && !self.is_itself(own);
            let pause = if unsure { self.seed_retry_ms } else { self.config.seed_retry_max_ms };
            let look_again = Duration::from_millis(pause.min(1_000));
            schedule(now, look_again, kind, sink);
        } else {
            let retry = self.jitter(self.seed_retry_ms);
            self.seed_retry_ms = (self.seed_retry_ms * 2).min(self.config.seed_retry_max_ms);
            schedule(now, retry, kind, sink);
        }
    }

    /// Shows this node at an address, with a number by which it knows its own call if that comes
    /// back.
    pub(super) fn call(&self, now: Time, flags: u8, to: SocketAddr, sink: &mut dyn MemberSink) {
        let numbers = Numbers { answers: None, asks: Some(self.door.number(now, Asked::Call, to)) };
        sink.send(to, &self.own_datagram(flags, numbers));
    }

    /// What this node itself sent has come back, with this number.
    pub(super) fn came_back(&mut self, now: Time, number: u64, sink: &mut dyn MemberSink) {
        let mut called = self.seeds.iter().copied().chain([self.own_address()]);
        if let Some(address) = called.find(|it| self.door.has_asked(now, Asked::Call, *it, number))
            && self.led_here.insert(address)
        {
            self.go_up_if_ready(now, sink);
        }
    }

    /// Addresses that nobody advertises may lead elsewhere tomorrow. Who knows this node says
    /// nothing to that.
    fn look_behind_aliases(
        &mut self,
        now: Time,
        missing: &[SocketAddr],
        sink: &mut dyn MemberSink,
    ) {
        if now.since(self.aliases_called) < Duration::from_millis(self.config.seed_retry_max_ms) {
            return;
        }
        self.aliases_called = now;
        let advertised =
            |seed: &SocketAddr| self.directory.live().any(|it| it.record.member.address == *seed);
        let aliases = self.seeds.iter().filter(|seed| !missing.contains(seed) && !advertised(seed));
        aliases.for_each(|seed| self.call(now, 0, *seed, sink));
    }

    fn missing_seeds(&self) -> Vec<SocketAddr> {
        let reachable = |entry: &&Entry| entry.record.member.reachable;
        let present = |seed: SocketAddr| {
            let alias = self.seed_aliases.get(&seed).copied();
            self.directory
                .others()
                .filter(reachable)
                .any(|entry| entry.record.member.address == seed || alias == Some(entry.node_ref()))
        };
        let seeds = self.seeds.iter().copied();
        seeds.filter(|seed| !self.is_itself(*seed) && !present(*seed)).collect()
    }

    /// Whether this node may form a cluster alone.
    pub(super) fn may_form(&self) -> bool {
        let own = self.own_address();
        let wants_none = self.seeds.is_empty() && !self.awaits_seeds;
        wants_none || self.seeds.iter().any(|seed| *seed == own || self.is_itself(*seed))
    }
}
