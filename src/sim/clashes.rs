//! As whom processes start: also under a name that another one has, and on machines whose clocks went
//! back. These ask their seeds first what they have to exceed, or start once more above what they
//! are told, as the real driver does.

use rand::RngExt;

use super::events::{Event, LifeId, SlotId};
use super::names::Asking;
use super::network::address;
use super::renames::BACK_US;
use super::streams::{stream, within_us};
use super::world::World;
use crate::base::{Incarnation, NodeId, NodeRef, Rng};
use crate::member::{Hello, MemberFault};
use crate::wire::datagram;

/// After which time a process that was told that it is one too many starts again.
const AGAIN_US: (u64, u64) = (1_000_000, 6_000_000);

impl World {
    /// As whom the next process of a machine starts, with its name; not at once, if it asks first.
    pub(super) fn comes_as(&mut self, slot: SlotId) -> Option<(String, NodeRef)> {
        let now = self.net.now;
        if !self.clashes.asks(slot) {
            let (name, clock) = self.by_its_clock(slot);
            if self.plan.strange.back != Some(true) {
                return Some((name, clock));
            }
            let nonce = self.clashes_rng().random();
            let seeds = &self.plan.member.seeds;
            let hello = Hello::new(now, clock, address(slot), seeds, nonce);
            self.clashes.asking.insert(slot, Asking { name, clock, hello });
        }
        let asking = self.clashes.asking.get_mut(&slot)?;
        if let Some(wait) = asking.hello.wait(now) {
            let (clock, payload) = (asking.clock, asking.hello.to_send(now));
            let seeds = asking.hello.seeds().to_vec();
            self.net.queue.push(now.plus(wait), Event::Start(slot));
            if let Some(payload) = payload {
                let mut sealed = Vec::new();
                datagram::seal(&self.key, clock, datagram::MEMBERSHIP, &payload, &mut sealed)
                    .expect("a hello is short");
                for seed in seeds {
                    self.net.send(slot, seed, &sealed);
                }
            }
            return None;
        }
        let Asking { name, clock, hello } = self.clashes.asking.remove(&slot)?;
        self.clashes.raised += u64::from(hello.me() != clock);
        Some((name, hello.me()))
    }

    /// What its clock says, or more, if the last process there was told so.
    fn by_its_clock(&mut self, slot: SlotId) -> (String, NodeRef) {
        let (life, now) = (self.lives.len(), self.net.now);
        let (name, mut behind) = self.name(slot);
        if self.plan.strange.back.is_some() {
            behind = BACK_US * self.lives.iter().filter(|it| it.slot == slot).count() as u64;
        }
        // Microseconds of a calendar, as in the real driver.
        let calendar = 1_700_000_000_000_000 + now.0 / 1_000 - behind;
        let clock = Incarnation(calendar + life as u64);
        let told = self.clashes.above.remove(&slot);
        let told = told.map_or(clock, |known| known.above(self.clashes_rng().random()));
        let incarnation = clock.max(told);
        (name.clone(), NodeRef { node: NodeId::from_name(&name), incarnation })
    }

    fn clashes_rng(&mut self) -> &mut Rng {
        let seed = self.scenario.seed;
        self.clashes.rng.get_or_insert_with(|| stream(seed, "clashes"))
    }

    /// Something comes to a machine on which a process asks before it starts.
    pub(super) fn hello_came(&mut self, slot: SlotId, from: SlotId, bytes: &[u8]) {
        let Some(asking) = self.clashes.asking.get_mut(&slot) else { return };
        if self.net.walls.is_between(from, slot) {
            return;
        }
        if let Ok(opened) = datagram::open(&self.key, bytes)
            && opened.part == datagram::MEMBERSHIP
        {
            asking.hello.take(address(from), opened.payload);
            self.start(slot);
        }
    }

    /// A process has ended because of another one with its name, which may be an earlier life of its
    /// own. It is started again: at once, if it knows what to exceed.
    pub(super) fn clashed(&mut self, life: LifeId, fault: &MemberFault) {
        let slot = self.lives[life].slot;
        match fault {
            MemberFault::Superseded { by, incarnation }
                if *by == address(slot) && self.plan.strange.back.is_some() =>
            {
                self.clashes.above.insert(slot, *incarnation);
                self.clashes.raised += 1;
                self.start(slot);
            }
            MemberFault::Superseded { .. } | MemberFault::NameTaken { .. } => {
                let at = self.net.now.plus(within_us(self.clashes_rng(), AGAIN_US));
                self.net.queue.push(at, Event::Start(slot));
            }
            _ => {}
        }
    }
}
