//! What a forger does to the cluster: see [`forger`](super::forger).

use std::time::Duration;

use rand::RngExt;

use super::events::{ConnId, Event, LifeId, Side};
use super::forger::{Forger, Says};
use super::forgery::{ForgedDatagram, Forgery};
use super::network::{Owner, address};
use super::world::World;
use crate::base::{Incarnation, NodeId, NodeRef, Rng, Time};
use crate::control::DATAGRAM_BYTES;

/// What its chance and that of others differ by.
const STREAM: u64 = 0x0066_6f72_6765_7200;
/// The pause between two things that it does.
const EVERY_US: std::ops::Range<u64> = 5_000..100_000;
/// How long its datagrams take.
const LATE_US: std::ops::Range<u64> = 30..20_000;

impl World {
    /// There is a forger from now on.
    pub(super) fn begin_forging(&mut self) {
        let seed = self.scenario.seed ^ STREAM;
        let forger = Forger::new(seed, self.plan.slots, self.key.clone());
        self.net.forger = Some(Box::new(forger));
        self.net.queue.push(Time::ZERO.plus(Duration::from_secs(1)), Event::Forge(None));
    }

    /// It says nothing more.
    pub(super) fn end_forging(&mut self) {
        let conns = self.net.forger.as_mut().map(|forger| forger.gives_up());
        for conn in conns.unwrap_or_default() {
            self.forger_closes(conn);
        }
    }

    /// The forger does something, or a datagram of its comes.
    pub(super) fn forge(&mut self, came: Option<Box<ForgedDatagram>>) {
        if let Some(datagram) = came {
            return self.forged_datagram_came(&datagram);
        }
        if self.healed_at.is_some() {
            return;
        }
        let Some(mut forger) = self.net.forger.take() else { return };
        let again = Duration::from_micros(forger.rng.random_range(EVERY_US));
        self.net.queue.push(self.net.now.plus(again), Event::Forge(None));
        let how = forger.kind();
        match forger.rng.random_range(0..3) {
            0 => self.forge_handshake(&mut forger, how),
            _ => self.forge_datagram(&mut forger, how),
        }
        self.net.forger = Some(forger);
    }

    fn forge_datagram(&mut self, forger: &mut Forger, how: Forgery) {
        let Some((bytes, from, to)) = forger.datagram(how) else { return };
        let to = to.unwrap_or_else(|| forger.rng.random_range(0..self.plan.slots));
        let late = Duration::from_micros(forger.rng.random_range(LATE_US));
        let datagram = Box::new(ForgedDatagram { to, from, how, bytes });
        self.net.queue.push(self.net.now.plus(late), Event::Forge(Some(datagram)));
    }

    fn forge_handshake(&mut self, forger: &mut Forger, how: Forgery) {
        if let Some(conn) = forger.tires_of() {
            self.forger_closes(conn);
        }
        let living = self.living();
        let again = if how == Forgery::Replayed { forger.dials_again() } else { None };
        let any = |rng: &mut Rng| living.get(rng.random_range(0..living.len().max(1))).copied();
        let Some(life) = any(&mut forger.rng) else { return };
        let slot = again.unwrap_or(self.lives[life].slot);
        let made_up = NodeRef { node: NodeId::from_name("forger"), incarnation: Incarnation(1) };
        let another = any(&mut forger.rng).filter(|another| *another != life);
        let me = another.map_or(made_up, |another| self.lives[another].me);
        let conn = self.net.connect(Owner::Forger, forger.slot, address(slot));
        forger.dials(conn, how, self.lives[life].me, me);
    }

    /// A machine took the forger's connection, or did not.
    pub(super) fn forger_connected(&mut self, conn: ConnId, listens: bool) {
        if !listens {
            return self.forger_closes(conn);
        }
        let says = self.net.forger.as_mut().map(|forger| forger.connected(conn));
        self.forger_says((conn, 0), says.unwrap_or_default());
    }

    /// Whether the forger listens for a machine that is not there.
    pub(super) fn forger_listens(&mut self, conn: ConnId) {
        let Some(forger) = &mut self.net.forger else { return };
        let how = forger.kind();
        let says = forger.listens(conn, how);
        self.forger_says((conn, 1), says);
    }

    /// Something came to the forger.
    pub(super) fn forger_hears(&mut self, conn: ConnId, side: Side) {
        let mut room = [0; 1_024];
        let count = match self.net.read(conn, side, &mut room) {
            Ok(0) => return self.forger_closes(conn),
            Ok(count) => count,
            Err(_) => return,
        };
        let says = self.net.forger.as_mut().map(|forger| forger.receives(conn, &room[..count]));
        self.forger_says((conn, side), says.unwrap_or_default());
    }

    fn forger_says(&mut self, (conn, side): (ConnId, Side), Says { bytes, closes }: Says) {
        if !bytes.is_empty() {
            self.net.write(conn, side, std::iter::once(bytes.as_slice()));
        }
        if closes {
            self.forger_closes(conn);
        }
    }

    fn forger_closes(&mut self, conn: ConnId) {
        for side in [0, 1] {
            if self.net.owner(conn, side) == Owner::Forger {
                self.net.close(conn, side);
            }
        }
    }

    /// A machine whose process is paused loses it.
    fn forged_datagram_came(&mut self, datagram: &ForgedDatagram) {
        let ForgedDatagram { to, from, how, ref bytes } = *datagram;
        let life = self.slots.get(to).copied().flatten();
        let runs = |life: &LifeId| {
            self.lives[*life]
                .body
                .as_deref()
                .is_some_and(|body| !body.paused && body.left.is_none())
        };
        let Some(life) = life.filter(runs) else { return };
        self.net.trace.note(self.net.now, life, "forged", bytes.len() as u64);
        let before = self.taken_in(life);
        let read = &bytes[..bytes.len().min(DATAGRAM_BYTES)];
        self.control(life, |control, now, sink| control.datagram(now, address(from), read, sink));
        self.check_forged(life, how, before);
        self.check_kept(life);
    }
}
