//! Where parts meet control: what happens to the process is passed to their halves, and what they
//! want done is carried out at the end of each step.

use std::net::SocketAddr;

use super::gossip::{GossipSink, News, Outcome};
use super::{Control, ControlSink, ControlTimer};
use crate::base::{MemberEvent, NodeRef, Time, WorkerIndex};
use crate::part::{ControlEffect, ControlOrder, ControlReport, PartId};
use crate::wire::auth::ClusterKey;
use crate::wire::datagram::{self, Opened};
use crate::worker::Command;

impl Control {
    /// A face wants something of a part.
    pub fn part_order(&mut self, now: Time, order: ControlOrder, sink: &mut dyn ControlSink) {
        self.parts.order(order);
        self.carry_out_parts(now, sink);
    }

    /// A part's half on a worker said something.
    pub fn part_report(
        &mut self,
        now: Time,
        worker: WorkerIndex,
        report: ControlReport,
        sink: &mut dyn ControlSink,
    ) {
        self.parts.report(worker, report);
        self.carry_out_parts(now, sink);
    }

    pub(super) fn part_timer(
        &mut self,
        now: Time,
        part: PartId,
        token: u64,
        sink: &mut dyn ControlSink,
    ) {
        self.parts.timer(part, token);
        self.carry_out_parts(now, sink);
    }

    /// The view changed, and its snapshot is published: facts follow it.
    pub(super) fn parts_follow_view(
        &mut self,
        now: Time,
        events: &[MemberEvent],
        sink: &mut dyn ControlSink,
    ) {
        self.parts.view(self.membership.view(), events);
        self.carry_out_parts(now, sink);
        let mut sealing = Sealing::new(self.me, &self.key, &mut self.sealed, sink);
        self.gossip.follow(now, self.membership.view(), events, &mut sealing);
    }

    /// A datagram that is not membership's.
    pub(super) fn part_datagram(
        &mut self,
        now: Time,
        opened: Opened<'_>,
        sink: &mut dyn ControlSink,
    ) {
        let part = PartId(opened.part);
        if !self.parts.knows(part) {
            self.datagrams.skipped += 1;
            return;
        }
        let mut news = std::mem::take(&mut self.news);
        let mut sealing = Sealing::new(self.me, &self.key, &mut self.sealed, sink);
        let from = (opened.sender, part);
        match self.gossip.datagram(now, from, opened.payload, &mut news, &mut sealing) {
            Outcome::Taken => self.datagrams.taken += 1,
            Outcome::Stranger => self.datagrams.no_members += 1,
            Outcome::Malformed => self.datagrams.malformed += 1,
        }
        for News { part, from, key, bytes } in news.drain(..) {
            self.parts.heard(part, from, key, &bytes);
        }
        self.news = news;
        self.carry_out_parts(now, sink);
    }

    pub(super) fn gossip_round(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let mut sealing = Sealing::new(self.me, &self.key, &mut self.sealed, sink);
        self.gossip.round(now, &mut sealing);
    }

    /// Another node's half of a part said something.
    pub(super) fn part_message(
        &mut self,
        now: Time,
        from: NodeRef,
        (part, op): (PartId, u8),
        body: &[u8],
        sink: &mut dyn ControlSink,
    ) {
        if !self.parts.knows(part) {
            self.links.skip_frame();
            return;
        }
        self.parts.message(part, from, op, body);
        self.carry_out_parts(now, sink);
    }

    /// Some of what a part said to another node may be lost.
    pub(super) fn part_lost(
        &mut self,
        now: Time,
        to: NodeRef,
        part: PartId,
        sink: &mut dyn ControlSink,
    ) {
        self.parts.lost(part, to);
        self.carry_out_parts(now, sink);
    }

    /// Whose words are known.
    pub fn speakers(&self) -> impl Iterator<Item = NodeRef> {
        self.gossip.speakers()
    }

    /// To whom parts have channels.
    pub fn spoken_to(&self) -> impl Iterator<Item = NodeRef> {
        self.links.spoken_to()
    }

    /// Who has channels to the parts here.
    pub fn listened_to(&self) -> impl Iterator<Item = NodeRef> {
        self.links.listened_to()
    }

    fn carry_out_parts(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if std::mem::take(&mut self.parts.effects.published) {
            self.tell_all(sink, || Command::Facts(self.parts.facts().clone()));
        }
        // No part is called from in here: what cannot be done is told it later.
        let mut effects = std::mem::take(&mut self.parts.effects.list);
        for effect in effects.drain(..) {
            match effect {
                ControlEffect::After { part, after, token } => {
                    sink.schedule(now.plus(after), ControlTimer::Part { part, token });
                }
                ControlEffect::ToWorker(worker, order) => {
                    sink.command(worker, Command::Part(order));
                }
                ControlEffect::Gossip { part, key, bytes } => {
                    let mut sealing = Sealing::new(self.me, &self.key, &mut self.sealed, sink);
                    let said = self.gossip.say(now, part, key, &bytes, &mut sealing);
                    debug_assert!(said, "a part's word is too long, or it has too many");
                }
                ControlEffect::Send { part, to, op, bytes } => {
                    self.say_to(now, to, (part, op), &bytes, sink);
                }
            }
        }
        self.parts.effects.list = effects;
    }
}

/// Seals what gossip sends.
struct Sealing<'a> {
    me: NodeRef,
    key: &'a ClusterKey,
    sealed: &'a mut Vec<u8>,
    sink: &'a mut dyn ControlSink,
}

impl<'a> Sealing<'a> {
    fn new(
        me: NodeRef,
        key: &'a ClusterKey,
        sealed: &'a mut Vec<u8>,
        sink: &'a mut dyn ControlSink,
    ) -> Self {
        Self { me, key, sealed, sink }
    }
}

impl GossipSink for Sealing<'_> {
    fn send(&mut self, to: SocketAddr, part: PartId, payload: &[u8]) {
        // Gossip keeps its datagrams far below the cap.
        if datagram::seal(self.key, self.me, part.0, payload, self.sealed).is_ok() {
            // What the system says of it membership hears as well.
            let _ = self.sink.send(to, self.sealed);
        }
    }

    fn schedule(&mut self, at: Time) {
        self.sink.schedule(at, ControlTimer::Gossip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testnet::{Bench, WORKERS};
    use crate::part::load;

    #[test]
    fn workers_are_told_facts_when_they_are_published_and_not_at_each_step() {
        let mut bench = Bench::new();
        let told = |bench: &Bench| {
            let commands = bench.hands.commands.iter();
            commands.filter(|(_, command)| matches!(command, Command::Facts(_))).count()
        };
        assert_eq!(told(&bench), usize::from(WORKERS), "who is a member");
        for _ in 0..3 {
            bench.run(|control, hands| {
                let ask = load::Order::Ask { node: control.me(), answer: Box::new(|_| ()) };
                control.part_order(Time(1), ask.into(), hands);
            });
        }
        assert_eq!(told(&bench), usize::from(WORKERS));
    }
}
