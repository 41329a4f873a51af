//! A member of a later version: whatever else it says, it says on every way that there is what this
//! version does not know, whole, and between its other words.

use std::net::SocketAddr;

use rand::{Rng as _, RngExt};

use super::events::{ConnId, Event, LifeId};
use super::network::address;
use super::newer::{frame, frame_of_kind, part, refuse_anew};
use super::socket::Socket;
use super::streams::within_us;
use super::world::World;
use crate::base::NodeRef;
use crate::part::PartId;
use crate::wire::datagram;
use crate::wire::handshake::TurnAway;

/// The pause between two such words.
const EVERY_US: (u64, u64) = (10_000, 150_000);

impl World {
    /// A newer process turns some connections away, for a reason of its own.
    pub(super) fn turns_away_anew(&mut self, conn: ConnId) -> bool {
        let turns = self.net.is_newer(conn, 1) && self.streams.news.random_range(0..6) == 0;
        if turns {
            let mut refusal = TurnAway::Busy.refusal();
            refuse_anew(&mut refusal);
            self.net.write(conn, 1, std::iter::once(refusal.as_slice()));
            self.net.close(conn, 1);
        }
        turns
    }

    /// Plans the next word of a newer process.
    pub(super) fn next_news(&mut self, life: LifeId) {
        let pause = within_us(&mut self.streams.news, EVERY_US);
        self.net.queue.push(self.net.now.plus(pause), Event::News(life));
    }

    /// A newer process says something.
    pub(super) fn news(&mut self, life: LifeId) {
        if self.ledger.lock().quiet {
            return;
        }
        self.net.trace.note(self.net.now, life, "news", 0);
        match self.streams.news.random_range(0..4) {
            0 => self.datagram_news(life),
            1 => self.letter_news(life),
            2 => self.channel_news(life),
            _ => self.link_news(life),
        }
        self.next_news(life);
    }

    fn datagram_news(&mut self, life: LifeId) {
        let to: Vec<SocketAddr> = (0..self.slots.len()).map(address).collect();
        let rng = &mut self.streams.news;
        let to = to[rng.random_range(0..to.len() as u64) as usize];
        let mut payload = vec![0; rng.random_range(0..300)];
        rng.fill_bytes(&mut payload);
        let (part, me, slot) = (part(rng), self.lives[life].me, self.lives[life].slot);
        let mut sealed = Vec::new();
        datagram::seal(&self.key, me, part, &payload, &mut sealed).expect("it is short");
        self.net.send(slot, to, &sealed);
    }

    fn letter_news(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let members = &body.control.view().members;
        let members: Vec<NodeRef> = members.iter().map(|member| member.node_ref()).collect();
        if members.is_empty() {
            return;
        }
        let rng = &mut self.streams.news;
        let to = members[rng.random_range(0..members.len() as u64) as usize];
        let word = (PartId(part(rng)), rng.random());
        self.control(life, |control, now, sink| control.say_to(now, to, word, &[7; 40], sink));
    }

    fn channel_news(&mut self, life: LifeId) {
        let frame = frame_of_kind(&mut self.streams.news);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let kept = body.jobs.kept();
        if !kept.is_empty() {
            let place = self.streams.news.random_range(0..kept.len() as u64) as usize;
            body.jobs.write(kept[place], (&mut self.net, life), &frame);
        }
    }

    fn link_news(&mut self, life: LifeId) {
        let frame = frame(&mut self.streams.news);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let cores = body.workers.iter_mut();
        let sockets = cores.flat_map(|core| core.ends.sockets.iter_mut().flatten());
        let mut sockets: Vec<&mut Socket> = sockets.collect();
        if sockets.is_empty() {
            return;
        }
        let place = self.streams.news.random_range(0..sockets.len() as u64) as usize;
        sockets[place].say_more(frame);
    }
}
